"""CLIP features: words, sentences and frames equal open_clip's own, whatever the batches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import tiny_backbones as tiny
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from lab.backbones import load_clip
from lab.backbones.clip import ClipBackbone
from lab.backbones.words import tokens_to_words
from lab.errors import LabError
from lab.preprocess import fit

TEXTS = [
    "a photo of a cat",
    "",
    "Otherworldly dogs aren't playing the THEREMIN!! on a stage",
    "word " * 100,
    "!",
    "two\n\tdogs  &amp; a caf\u00e9",
    "a",
]


@pytest.fixture(scope="module", params=["CLIP", "CustomTextCLIP", "projection with bias"])
def clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ClipBackbone:
    folder = tmp_path_factory.mktemp("clip")
    changes = {"custom_text": True} if request.param == "CustomTextCLIP" else {}
    if request.param == "projection with bias":
        changes = {"text_cfg": {**tiny.CLIP["text_cfg"], "proj_bias": True}}
    return load_clip(f"{tiny.config(folder, tiny.CLIP, **changes)}:random", batch=5, text_batch=3)


@pytest.fixture(scope="module")
def pictures(clip: ClipBackbone) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (13, clip.image.size, clip.image.size, 3), dtype=np.uint8)


def full_pass(clip: ClipBackbone, texts: list[str]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Sentences and words from open_clip's supported paths, over all 77 positions and one caption at a time."""
    sentences, words = [], []
    for ids in open_clip.tokenize(texts, context_length=77):
        with torch.no_grad():
            end = int(ids.argmax())
            hidden = clip._model.forward_intermediates(
                text=ids[None], text_indices=1, text_output_fmt="NLC", normalize_intermediates=True, normalize=False
            )["text_intermediates"][-1][0]
            words.append(clip._text._project(hidden)[1:end])
            sentences.append(clip._model.encode_text(ids[None])[0])
            # The word path at the end token is the sentence: both sides of the check mean the same thing.
            assert torch.allclose(clip._text._project(hidden)[end], sentences[-1], atol=1e-5)
    return torch.stack(sentences), words


def test_words_and_sentences_equal_the_padded_pass(clip: ClipBackbone) -> None:
    encoded = clip.encode_texts(TEXTS)
    sentences, words = full_pass(clip, TEXTS)
    assert encoded.sentences.dtype == encoded.words.dtype == np.float32
    np.testing.assert_allclose(encoded.sentences, sentences.numpy(), atol=1e-4)
    np.testing.assert_allclose(encoded.words, torch.cat(words).numpy(), atol=1e-4)
    assert encoded.tokens.counts.tolist() == [len(word) for word in words]
    assert encoded.words.std() > 0.01


def test_the_text_tower_asks_its_device_for_nothing(clip: ClipBackbone) -> None:
    """Its words are those that a mask would choose, to the bit; a tensor without values has none to tell of."""
    counts = torch.tensor([3, 0, 5, 1])
    ids = torch.randint(1, 1000, (4, 7), generator=torch.Generator().manual_seed(0))
    tower, outputs = clip._text, []
    hook = tower._tower.ln_final.register_forward_hook(lambda module, given, hidden: outputs.append(hidden))
    with hook, torch.no_grad():
        sentences, words = tower(ids, counts, total=9)
        inside = (torch.arange(7) >= 1) & (torch.arange(7) <= counts[:, None])
        assert torch.equal(words, tower._project(outputs[0][inside]))
        for mine, other in zip(tower(ids, counts), (sentences, words), strict=True):
            assert torch.equal(mine, other)
    with FakeTensorMode(allow_non_fake_inputs=True) as fake, torch.no_grad():
        given = fake.from_tensor(ids), fake.from_tensor(counts)
        assert [each.shape for each in tower(*given, total=9)] == [sentences.shape, words.shape]
        with pytest.raises(DataDependentOutputException):
            tower(*given)


def test_tokens_are_open_clips_without_specials_and_padding(clip: ClipBackbone) -> None:
    tokens = clip.tokenize(TEXTS)
    assert tokens.truncated.tolist() == [False, False, False, True, False, False, False]
    for row, ids in enumerate(open_clip.tokenize(TEXTS, context_length=77)):
        own = tokens.ids[tokens.offsets[row] : tokens.offsets[row + 1]]
        assert own.tolist() == ids[1 : int(ids.argmax())].tolist()
    assert tokens.counts.tolist()[1] == 0
    assert tokens.counts[3] == 75
    exclamation = slice(tokens.offsets[4], tokens.offsets[5])
    assert tokens.ids[exclamation].tolist() == [256], "a lone ! closes a word"
    assert clip.tokenize(["a photo of a cat"]).ids.tolist() == [320, 1125, 539, 320, 2368]  # facts, section 11


def test_pieces_merge_into_words(clip: ClipBackbone) -> None:
    tokens = clip.tokenize(TEXTS)
    for row, expected in (
        (0, ["a", "photo", "of", "a", "cat"]),
        (1, []),
        (2, ["otherworldly", "dogs", "aren", "'t", "playing", "the", "theremin", "!!", "on", "a", "stage"]),
        (5, ["two", "dogs", "&", "a", "caf\u00e9"]),
    ):
        own = slice(tokens.offsets[row], tokens.offsets[row + 1])
        assert tokens_to_words(tokens.ids[own]) == expected
        assert tokens.words()[row] == expected
        numbers = tokens.word_index[own]
        assert sorted(set(numbers.tolist())) == list(range(len(expected)))
        assert (np.diff(numbers) >= 0).all()
    assert tokens.counts[2] > 11, "theremin is several pieces"


def test_a_caption_that_spells_the_end_token_ends_there(clip: ClipBackbone) -> None:
    texts = ["a dog <end_of_text> and a cat", "a dog <start_of_text> runs"]
    encoded = clip.encode_texts(texts)
    np.testing.assert_allclose(encoded.sentences, full_pass(clip, texts)[0].numpy(), atol=1e-4)
    assert encoded.tokens.counts.tolist() == [2, 4]
    assert tokens_to_words(encoded.tokens.ids[2:]) == ["a", "dog", "<start_of_text>", "runs"]


def test_no_captions_and_no_pictures(clip: ClipBackbone) -> None:
    encoded = clip.encode_texts([])
    assert encoded.sentences.shape == encoded.words.shape == (0, 29)
    assert encoded.tokens.offsets.tolist() == [0]
    assert clip.encode_frames(np.empty((0, 40, 40, 3), np.uint8)).shape == (0, 29)
    assert clip.encode_texts(["", ""]).words.shape == (0, 29)
    assert clip.tokenize([]).words() == []
    assert clip.tokenize(["", ""]).words() == [[], []]


def test_captions_of_any_bytes_are_read(clip: ClipBackbone) -> None:
    texts = ["\ud83d lone", "\x00\x07", "\u200b", "\U0001f600" * 200, "\u0645\u0631\u062d\u0628\u0627", "&lt;b&gt;"]
    encoded = clip.encode_texts(texts)
    assert np.isfinite(encoded.sentences).all()
    assert encoded.tokens.truncated.tolist() == [False, False, False, True, False, False]
    assert len(encoded.tokens.words()) == 6


@pytest.mark.parametrize("name", ["batch", "text_batch"])
def test_a_batch_holds_something(name: str, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=f"1 <= {name} must hold, got {name}=0"):
        load_clip(f"{tiny.config(tmp_path, tiny.CLIP)}:random", **{name: 0})


def test_frames_equal_open_clips_transform_and_tower(clip: ClipBackbone) -> None:
    rng = np.random.default_rng(1)
    wild = [
        rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in ((71, 53), (40, 97), (41, 41))
    ]
    transform = image_transform_v2(PreprocessCfg(size=40), is_train=False)
    with torch.no_grad():
        expected = clip._model.encode_image(torch.stack([transform(Image.fromarray(picture)) for picture in wild]))
    encoded = clip.encode_frames(np.stack([fit(picture, clip.image) for picture in wild]))
    assert encoded.dtype == np.float32
    np.testing.assert_allclose(encoded, expected.numpy(), atol=1e-6)


def test_batches_change_nothing_that_matters(clip: ClipBackbone, pictures: np.ndarray) -> None:
    first, again = clip.encode_frames(pictures), clip.encode_frames(pictures)
    assert np.array_equal(first, again), "same input, same batches: the same bits"
    texts = clip.encode_texts(TEXTS)
    assert np.array_equal(texts.words, clip.encode_texts(TEXTS).words)
    clip.pictures.size, clip.captions.size = 13, 7
    try:
        other, other_texts = clip.encode_frames(pictures), clip.encode_texts(TEXTS)
    finally:
        clip.pictures.size, clip.captions.size = 5, 3
    for one, two in ((first, other), (texts.sentences, other_texts.sentences), (texts.words, other_texts.words)):
        cosine = (one * two).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)
        assert cosine.min() >= 0.9999


@pytest.mark.parametrize("wrong", [np.zeros((2, 40, 40, 3), np.float32), np.zeros((2, 224, 224, 3), np.uint8)])
def test_pictures_must_be_fitted_uint8(clip: ClipBackbone, wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"pictures must be uint8 \(N, 40, 40, 3\), got .*preprocess.fit"):
        clip.encode_frames(wrong)


def test_the_passport_is_json_and_says_all(clip: ClipBackbone) -> None:
    assert json.loads(json.dumps(clip.passport)) == clip.passport
    assert clip.passport["random"] is clip.is_random is True
    assert clip.passport["activation"] == "quickgelu"
    assert clip.passport["precision"] == "fp32"
    assert clip.passport["image"]["size"] == clip.image.size == 40
    assert clip.passport["context_length"] == 77
    assert clip.dim == clip.passport["dim"] == 29
    assert clip.logit_scale == clip.passport["logit_scale"] == pytest.approx(1 / 0.07, abs=1e-4)
    assert set(clip.passport["versions"]) == {"open_clip_torch", "torch"}


def test_random_weights_come_from_the_seed_alone(tmp_path: Path) -> None:
    spec = f"{tiny.config(tmp_path, tiny.CLIP)}:random"
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = load_clip(spec)
    assert torch.equal(before, torch.get_rng_state()), "the caller's random numbers are the caller's"
    torch.manual_seed(6)
    assert load_clip(spec).passport == one.passport
    assert load_clip(spec, seed=1).passport["weights_sha256"] != one.passport["weights_sha256"]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_comes_back_as_float32(tmp_path: Path, precision: str) -> None:
    spec = f"{tiny.config(tmp_path, tiny.CLIP)}:random"
    full, half = load_clip(spec), load_clip(spec, precision=precision)
    pictures = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)
    for one, two in (
        (full.encode_frames(pictures), half.encode_frames(pictures)),
        (full.encode_texts(TEXTS).words, half.encode_texts(TEXTS).words),
    ):
        assert two.dtype == np.float32
        cosine = (one * two).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)
        assert cosine.min() > 0.99
        assert not np.array_equal(one, two)
    assert half.passport["precision"] == precision
    assert half.passport["weights_sha256"] == full.passport["weights_sha256"]


@pytest.mark.parametrize(
    "text",
    [{"no_causal_mask": True}, {"pool_type": "last"}, {"proj_type": "none"}],
    ids=["bidirectional", "other pooling", "no projection"],
)
def test_a_tower_without_word_features_is_refused(tmp_path: Path, text: dict[str, object]) -> None:
    path = tiny.config(tmp_path, tiny.CLIP, text_cfg={**tiny.CLIP["text_cfg"], **text})
    with pytest.raises(LabError, match=r"need a causal text tower .* use a model like ViT-B-32-quickgelu"):
        load_clip(f"{path}:random")


def test_a_text_tower_of_transformers_is_refused_before_any_download() -> None:
    for model in ("roberta-ViT-B-32", "ViT-B-16-SigLIP", "coca_ViT-B-32"):
        with pytest.raises(LabError, match="word features need CLIP's own text tower"):
            load_clip(f"{model}:random")


def test_another_vocabulary_is_refused(tmp_path: Path) -> None:
    path = tiny.config(tmp_path, tiny.CLIP, text_cfg={**tiny.CLIP["text_cfg"], "vocab_size": 101})
    with pytest.raises(LabError, match="must have CLIP's 49408 tokens, and tiny:random has 101"):
        load_clip(f"{path}:random")


def test_the_default_architecture_at_full_size() -> None:
    clip = load_clip("random")
    assert (clip.name, clip.dim, clip.image.size) == ("ViT-B-32-quickgelu:random", 512, 224)
    assert clip.passport["activation"] == "quickgelu"
    encoded = clip.encode_texts(["a photo of a cat"])
    assert (encoded.sentences.shape, encoded.words.shape) == ((1, 512), (5, 512))
    assert clip.encode_frames(np.zeros((1, 224, 224, 3), np.uint8)).shape == (1, 512)


class Small(torch.nn.Module):
    """An image tower on a GPU that holds so many pictures."""

    def __init__(self, inside: torch.nn.Module, most: int) -> None:
        super().__init__()
        self.inside, self.most, self.asked = inside, most, []

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.asked.append(len(pixels))
        if len(pixels) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has more to say.")
        return self.inside(pixels)


def test_a_batch_that_a_gpu_does_not_hold_is_halved_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clip = load_clip(f"{tiny.config(tmp_path, tiny.CLIP)}:random", batch=5)
    pictures = np.random.default_rng(0).integers(0, 256, (7, 40, 40, 3), dtype=np.uint8)
    wanted = clip.encode_frames(pictures)
    clip._visual = Small(clip._visual, 1)
    np.testing.assert_allclose(clip.encode_frames(pictures), wanted, atol=1e-5)
    np.testing.assert_allclose(clip.encode_frames(pictures[:2]), wanted[:2], atol=1e-5)
    assert clip._visual.asked == [5, 2, *[1] * 9]
    said = "the GPU's memory does not hold 5 pictures at once: 2 at a time from here on"
    assert [record.getMessage() for record in caplog.records if record.name == "lab.device"] == [said]
    clip._visual.most = 0
    with pytest.raises(LabError, match=r"the GPU's memory does not hold one picture \(CUDA .*\): use --device cpu"):
        clip.encode_frames(pictures)


def test_a_compiled_tower_is_another_passport(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[torch.nn.Module] = []
    monkeypatch.setattr(torch, "compile", lambda module: compiled.append(module) or module)
    spec = f"{tiny.config(tmp_path, tiny.CLIP)}:random"
    plain, other = load_clip(spec), load_clip(spec, compiled=True)
    assert len(compiled) == 1
    assert other.passport == {**plain.passport, "compiled": True}

"""The matrix by tiles: memory, modes, and features that cannot be scored."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest
import torch
from feature_pairs import FRAMES, VARIANTS, A, D, F, S, T, V, W, head_of, pairs, ragged
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import lab
from lab.embeddings import Texts, Videos
from lab.errors import LabError
from lab.heads import HEADS, build_head
from lab.heads.mgfi import MGFI
from lab.needs import check_inputs
from lab.pairs import slices
from lab.similarity import evaluating, index_videos, score_texts, similarity_matrix
from lab.tiles import GPU_TILE, TILE, plan, side_by_side


class Watched(nn.Module):
    """A head that needs what it says for each video and pair, and notes what it is asked for."""

    def __init__(self, per_video: int, per_pair: int) -> None:
        super().__init__()
        self.needs, self.indexed, self.tiles = (per_video, per_pair), [], []
        self.mode = nn.Dropout()

    def floats(self, frames: int, words: int, segments: int) -> tuple[int, int]:
        return self.needs

    def index(self, videos: Videos) -> Tensor:
        self.indexed.append(len(videos))
        return videos.frames.mean(1)

    def score(self, texts: Texts, index: Tensor) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.tiles.append((len(texts), len(index)))
        return texts.sentences @ index.T


@pytest.fixture
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """So many threads of torch's, and that many again afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    assert torch.get_num_threads() == request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("memory_mb", [0.005, 0.05, 0.5, 5])
@pytest.mark.parametrize("needs", [(10, 3), (3000, 3), (10, 4000), (40_000, 4000)])
@pytest.mark.parametrize("threads", [1, 3], indirect=True)
def test_index_and_scratch_stay_below_the_cap(needs: tuple[int, int], memory_mb: float, threads: int) -> None:
    torch.manual_seed(0)
    texts, videos = Texts(torch.randn(307, D)), Videos(torch.randn(31, F, D))
    head = Watched(*needs)
    found = similarity_matrix(head, texts, videos, memory_mb=memory_mb)
    assert torch.allclose(found, texts.sentences @ videos.frames.mean(1).T, atol=1e-5)
    assert sum(head.indexed) == 31  # each video once
    for texts_here, videos_here in head.tiles:
        held = 4 * (needs[0] * videos_here + threads * needs[1] * videos_here * texts_here)
        assert held <= memory_mb * 2**20 or (texts_here, videos_here) == (1, 1)
    assert max(texts_here for texts_here, _ in head.tiles) <= TILE


def numbers(index: Any) -> int:
    """How many numbers an index holds."""
    if isinstance(index, Tensor):
        return index.numel()
    return sum(numbers(getattr(index, field.name)) for field in dataclasses.fields(index))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_head_says_of_its_index_no_less_than_it_holds(variant: str) -> None:
    """With the frames that it is made of, which are there in float32 meanwhile."""
    head, (_, videos) = head_of(variant), pairs()
    per_video, per_pair = head.floats(F, W, S)  # type: ignore[operator]
    assert numbers(head.index(videos)) + V * F * D <= V * per_video  # type: ignore[operator]
    assert per_pair >= 2  # the similarity itself, and what it is divided by


@pytest.mark.parametrize("threads", [1, 2], indirect=True)
def test_what_fits_is_one_index_and_full_tiles(threads: int) -> None:
    head = Watched(100, 10)
    similarity_matrix(head, Texts(torch.randn(2 * TILE + 3, D)), Videos(torch.randn(211, F, D)))
    assert head.indexed == [211]
    assert sorted(head.tiles) == [(3, 211), (TILE, 211), (TILE, 211)]
    head.tiles.clear()
    similarity_matrix(head, Texts(torch.randn(5, D)), Videos(torch.randn(211, F, D)), tile=2)
    assert sorted(head.tiles) == [(1, 211), (2, 211), (2, 211)]


def test_the_mode_of_every_module_is_restored_also_after_an_error() -> None:
    head, (texts, videos) = build_head("cmfi", D, audio_dim=A), pairs()
    head.train()
    head.video.eval()  # the paper's second stage
    modes = {name: module.training for name, module in head.named_modules()}
    assert len(set(modes.values())) == 2
    similarity_matrix(head, texts, videos)
    assert {name: module.training for name, module in head.named_modules()} == modes
    with pytest.raises(LabError), evaluating(head):
        build_head("no such head")
    assert {name: module.training for name, module in head.named_modules()} == modes
    assert torch.is_grad_enabled()


def test_the_matrix_is_plain_float32() -> None:
    found = similarity_matrix(head_of("xpool").train(), *pairs())
    assert (found.dtype, found.device.type, found.requires_grad, tuple(found.shape)) == (
        torch.float32, "cpu", False, (T, V),
    )  # fmt: skip
    assert lab.similarity_matrix is similarity_matrix


def test_tiles_of_words_have_little_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of 1, 4 and 6 words in tiles of two: the longest stands apart, and rows come back in their order."""
    seen: list[list[int]] = []
    before = MGFI.score

    def score(self: MGFI, texts: Texts, index: Any) -> Tensor:
        seen.append(texts.padded_words()[1].sum(1).tolist())
        return before(self, texts, index)

    monkeypatch.setattr(MGFI, "score", score)
    head, (texts, videos) = head_of("mgfi"), pairs()
    found = similarity_matrix(head, ragged(texts), videos, tile=2)
    assert sorted(seen) == [[1, 4], [6]]
    assert torch.allclose(found, head(texts, videos), atol=1e-5)


def test_an_index_serves_many_queries() -> None:
    head, (texts, videos) = head_of("mgfi"), pairs()
    with evaluating(head):
        index = index_videos(head, videos)
        rows = [score_texts(head, texts.select(torch.tensor([t])), index) for t in range(T)]
    assert torch.allclose(torch.cat(rows), head(texts, videos), atol=1e-5)


@pytest.mark.parametrize("threads", [2, 4], indirect=True)
@pytest.mark.parametrize("variant", ["topk", "xpool", "mgfi", "cmfi over xpool"])
def test_tiles_side_by_side_are_tiles_in_a_row(variant: str, threads: int) -> None:
    torch.manual_seed(0)
    head, texts = head_of(variant), Texts(torch.randn(97, D), torch.randn(97, 3, D))
    videos = Videos(torch.randn(61, F, D), audio=torch.randn(61, 1, A))
    torch.set_num_threads(1)
    wanted = similarity_matrix(head, texts, videos, tile=7)
    torch.set_num_threads(threads)
    assert torch.equal(similarity_matrix(head, texts, videos, tile=7), wanted)
    assert torch.allclose(similarity_matrix(head, texts, videos), wanted, atol=1e-6)  # shared out in other tiles


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_side_by_side(threads: int) -> None:
    def work(item: int) -> tuple[int, int, bool]:
        if item < 0:
            raise LabError("less than nothing")
        return item, torch.get_num_threads(), torch.is_grad_enabled()

    with side_by_side(2) as share_out:
        assert share_out(work, range(5)) == [(item, 1, False) for item in range(5)]
    with pytest.raises(LabError, match="less than nothing"), side_by_side(2) as share_out:
        share_out(work, [1, -1])
    with side_by_side(1) as share_out:
        assert share_out(work, [7]) == [(7, 2, True)]
    found: list[int] = []
    later = Thread(target=lambda: found.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert found == [2]  # a thread of someone else's begins as it would have


@pytest.mark.parametrize(
    ("texts", "most", "wanted"),
    [(3, 6, [(0, 2), (2, 4), (4, 6), (6, 8)]), (5, 20, [(0, 4), (4, 8)]), (9, 8, [(v, v + 1) for v in range(7)]),
     (0, 7, [(0, 7)])],
)  # fmt: skip
def test_a_part_has_so_many_pairs_and_a_video_at_least(texts: int, most: int, wanted: list[tuple[int, int]]) -> None:
    assert [(rows.start, rows.stop) for rows in slices(torch.empty(7, 2), texts, most)] == wanted


def test_no_texts_make_no_rows() -> None:
    texts, videos = pairs()
    none = texts.select(torch.zeros(0, dtype=torch.int64))
    assert tuple(similarity_matrix(head_of("mean"), none, videos).shape) == (0, V)


@pytest.mark.parametrize(("keywords", "said"), [({"tile": 0}, "tile=0"), ({"memory_mb": 0}, "memory_mb=0")])
def test_a_tile_and_a_cap_are_positive(keywords: dict[str, Any], said: str) -> None:
    with pytest.raises(LabError, match=rf"memory_mb > 0 and tile >= 1 must hold, got .*{said}"):
        similarity_matrix(head_of("mean"), *pairs(), **keywords)


def spoiled(values: Tensor, *place: int, by: float = float("nan")) -> Tensor:
    copy = values.clone()
    copy[place] = by
    return copy


@pytest.mark.parametrize("by", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("sentences", r"1 texts have sentence features that are not, first rows \[2\]"),
        ("words", r"1 texts have word features that are not, first rows \[2\]"),
        ("ragged", r"1 texts have word features that are not, first rows \[2\]"),
        ("frames", r"1 videos have frame features that are not, first rows \[2\]"),
        ("audio", r"1 videos have audio features that are not, first rows \[0\]"),
    ],
)
def test_features_that_are_not_finite(field: str, said: str, by: float) -> None:
    head, (texts, videos) = head_of("cmfi"), pairs()
    assert isinstance(texts.words, Tensor)
    assert videos.audio is not None
    if field == "sentences":
        texts = dataclasses.replace(texts, sentences=spoiled(texts.sentences, 2, 3, by=by))
    if field in ("words", "ragged"):
        texts = dataclasses.replace(texts, words=spoiled(texts.words, 2, 3, 1, by=by))
        texts = ragged(texts) if field == "ragged" else texts
    if field == "frames":
        videos = dataclasses.replace(videos, frames=spoiled(videos.frames, 2, 1, 0, by=by))
    if field == "audio":
        videos = dataclasses.replace(videos, audio=spoiled(videos.audio, 0, 1, 0, by=by))
    with pytest.raises(LabError, match=f"features must be finite where they are not masked: {said}: mask them"):
        similarity_matrix(head, texts, videos)


def test_what_a_head_does_not_read_is_not_judged() -> None:
    texts, videos = pairs()
    assert isinstance(texts.words, Tensor)
    assert videos.audio is not None
    nan = float("nan")
    check_inputs(
        head_of("xpool"),
        dataclasses.replace(texts, words=torch.full_like(texts.words, nan)),
        dataclasses.replace(videos, audio=torch.full_like(videos.audio, nan)),
    )


def test_texts_and_videos_the_other_way_round() -> None:
    texts, videos = pairs()
    with pytest.raises(LabError, match="texts come first, then videos, got Videos and Texts"):
        similarity_matrix(head_of("mean"), videos, texts)  # type: ignore[arg-type]


def test_a_mask_with_an_empty_row() -> None:
    mask = FRAMES.clone()
    mask[3] = False
    with pytest.raises(ValueError, match=r"every video needs at least one real frame in frame_mask, videos \[3\]"):
        Videos(torch.randn(V, F, D), mask)


# -- a GPU: what it would be asked, and its memory -------------------------------------------------------------------


@pytest.mark.parametrize("needs", [(), ("words",), ("words", "audio")])
def test_a_head_is_handed_what_it_says_it_reads_and_no_more(needs: tuple[str, ...]) -> None:
    handed: set[str] = set()

    def forward(texts: Texts, videos: Videos) -> Tensor:
        handed.update(["words"] * (texts.words is not None) + ["audio"] * (videos.audio is not None))
        return torch.zeros(len(texts), len(videos))

    head = nn.Identity()
    head.forward = forward  # type: ignore[method-assign,assignment]
    for name in needs:
        setattr(head, f"needs_{name}", True)
    texts, videos = (
        Texts(torch.randn(3, 2), torch.randn(3, 4, 2)),
        Videos(torch.randn(2, 2, 2), None, torch.randn(2, 1, 5)),
    )
    similarity_matrix(head, texts, videos)
    assert handed == set(needs)


@pytest.mark.parametrize("half", ["index", "score"])
def test_a_head_with_half_of_the_two_steps_is_called_directly(half: str) -> None:
    """An attribute of a head of one's own may be called so for another reason."""
    head = nn.Identity()
    head.forward = lambda texts, videos: torch.full((len(texts), len(videos)), 0.5)  # type: ignore[method-assign,assignment]
    setattr(head, half, lambda *_: pytest.fail(f"{half} is no step of scoring here"))
    found = similarity_matrix(head, Texts(torch.randn(3, 2)), Videos(torch.randn(4, 2, 2)))
    assert torch.equal(found, torch.full((3, 4), 0.5))


class Small(nn.Module):
    """A head on a device that holds so many videos' indexes, and so many pairs."""

    def __init__(self, videos: int, pairs: int) -> None:
        super().__init__()
        self.limits, self.asked = (videos, pairs), []

    def index(self, videos: Videos) -> Tensor:
        if len(videos) > self.limits[0]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has more to say.")
        return videos.frames.mean(1)

    def score(self, texts: Texts, index: Tensor) -> Tensor:
        self.asked.append((len(texts), len(index)))
        if len(texts) * len(index) > self.limits[1]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 4.00 GiB. GPU 0 has more to say.")
        return texts.sentences @ index.T


@pytest.mark.parametrize("threads", [1], indirect=True)
@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ((31, 31 * 256), []),
        ((31, 31 * 100), ["256 texts at once: 128"]),
        ((31, 31 * 3), ["256 texts at once: 128"]),  # halved on and on, said once
        ((9, 31 * 256), ["31 videos at once: 15"]),
        ((31, 20), ["256 texts at once: 128", "31 videos at once: 15"]),
    ],
)
def test_a_gpu_that_runs_out_of_memory_gets_less_at_once(
    limits: tuple[int, int], said: list[str], threads: int, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    texts, videos = Texts(torch.randn(307, D)), Videos(torch.randn(31, F, D))
    head = Small(*limits)
    with caplog.at_level("WARNING"):
        found = similarity_matrix(head, texts, videos)
    assert torch.allclose(found, texts.sentences @ videos.frames.mean(1).T, atol=1e-5)
    told = [record.getMessage() for record in caplog.records]
    assert told == [f"the GPU's memory does not hold {each} at a time from here on" for each in said]
    refused = [asked for asked in head.asked if asked[0] * asked[1] > limits[1]]
    assert len(refused) <= 9  # 256, 128, ..., 1: what did not fit is not tried again


def test_a_gpu_that_holds_nothing_is_one_line() -> None:
    with pytest.raises(LabError) as error:
        similarity_matrix(Small(1, 0), *pairs())
    assert str(error.value) == (
        "the GPU's memory does not hold one text and one video at a time (CUDA out of memory. Tried to allocate 4.00 "
        "GiB): use --device cpu"
    )


@pytest.mark.parametrize("name", [name for name in HEADS if name != "seqlstm"])  # cuDNN has no fake of its own
def test_on_a_gpu_a_tile_is_scored_without_asking_for_a_value(name: str) -> None:
    """Tensors that have a GPU for a device and no values: to ask for one is an error."""
    with FakeTensorMode(), torch.device("cuda"), torch.no_grad():
        head = build_head(name, D, **({"audio_dim": A} if name == "cmfi" else {})).eval()
        videos = Videos(torch.randn(V, F, D), audio=torch.randn(V, 1, A))
        found = score_texts(head, Texts(torch.randn(T, D), torch.randn(T, 4, D)), index_videos(head, videos))
        assert (found.device.type, found.shape) == ("cuda", (T, V))


def test_memory_decides_how_large_a_tile_is_on_a_gpu() -> None:
    texts, videos = Texts(torch.randn(9000, 1)), Videos(torch.randn(31, 1, 1))
    head = Watched(10, 3)
    assert plan(head, texts, videos, 1e9, 1, None, GPU_TILE) == (31, GPU_TILE)
    assert plan(head, texts, videos, 310 + 31 * 3 * 700, 1, None, GPU_TILE) == (31, 700)
    assert plan(head, texts, videos, 1e9, 1, None) == (31, TILE)

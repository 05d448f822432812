"""Weight files: every form that people have loads to the same bits, and nothing in a file is ever run."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_backbones as tiny
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lab.backbones import load_clip, load_panns
from lab.backbones.checkpoints import load_state, read_state, sha256_of_file, sha256_of_state
from lab.errors import LabError

State = dict[str, Tensor]


@pytest.fixture
def clip_config(tmp_path: Path) -> Path:
    return tiny.config(tmp_path, tiny.CLIP)


@pytest.fixture
def clip_state(clip_config: Path) -> State:
    return dict(load_clip(f"{clip_config}:random", seed=7)._model.state_dict())


def saved(content: Any, path: Path, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def safe(content: State, path: Path) -> Path:
    save_file(content, path)
    return path


FORMS: dict[str, Callable[[State, Path], Path]] = {
    "safetensors": lambda state, folder: safe(state, folder / "w.safetensors"),
    "bare": lambda state, folder: saved(state, folder / "w.bin"),
    "training": lambda state, folder: saved(
        {"epoch": 3, "name": "x", "state_dict": {f"module.{key}": value for key, value in state.items()}},
        folder / "w.pt",
    ),
    "old format": lambda state, folder: saved(state, folder / "w.pth", _use_new_zipfile_serialization=False),
    "fp16 scale": lambda state, folder: saved(
        {**state, "logit_scale": state["logit_scale"].reshape(1)}, folder / "w.pt"
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_clip_comes_back_from_every_form(form: str, tmp_path: Path, clip_config: Path, clip_state: State) -> None:
    path = FORMS[form](clip_state, tmp_path)
    clip = load_clip(f"{clip_config}:{path}")
    assert clip.name == f"tiny:{path.name}"
    assert not clip.is_random
    assert clip.passport["random"] is False
    assert clip.passport["weights"] == path.name
    assert clip.passport["weights_sha256"] == sha256_of_file(path)
    assert clip.passport["activation"] == "quickgelu"
    texts = ["a dog runs", "cats"]
    expected = load_clip(f"{clip_config}:random", seed=7).encode_texts(texts)
    assert np.array_equal(clip.encode_texts(texts).words, expected.words)


def test_the_text_tower_may_lie_on_the_model_or_beside_it(tmp_path: Path, clip_state: State) -> None:
    custom = tiny.config(tmp_path, tiny.CLIP, name="custom", custom_text=True)
    clip = load_clip(f"{custom}:{safe(clip_state, tmp_path / 'w.safetensors')}")
    plain = load_clip(f"{tiny.config(tmp_path, tiny.CLIP)}:{tmp_path / 'w.safetensors'}")
    assert np.array_equal(clip.encode_texts(["a dog"]).words, plain.encode_texts(["a dog"]).words)


def as_torchscript(model: nn.Module, path: Path) -> Path:
    """A TorchScript archive of ``model`` with the three numbers that OpenAI's own carry, in half precision."""
    scripted = nn.Module()
    for name, child in model.named_children():
        scripted.add_module(name, child)
    for name, parameter in model.named_parameters(recurse=False):
        scripted.register_parameter(name, parameter)
    for name, number in (("input_resolution", 40), ("context_length", 77), ("vocab_size", 49408)):
        scripted.register_buffer(name, torch.tensor(number))
    # What no state dict of the model has: scripting keeps plain tensor attributes, and nothing marks them as such.
    model.get_submodule("transformer.resblocks.0").register_buffer("attn_mask", torch.ones(3, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, its files are not going away
        torch.jit.save(torch.jit.trace_module(scripted.half(), {}), path)
    return path


def test_openais_torchscript_archives_are_read_without_running_them(
    tmp_path: Path, clip_config: Path, clip_state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = as_torchscript(load_clip(f"{clip_config}:random", seed=7)._model, tmp_path / "ViT-tiny.pt")
    monkeypatch.setattr(torch.jit, "load", None)
    state = read_state(path)
    extra = {"input_resolution", "context_length", "vocab_size", "transformer.resblocks.0.attn_mask"}
    assert state.keys() == clip_state.keys() | extra
    for key, value in clip_state.items():
        assert state[key].dtype == torch.float16
        assert torch.equal(state[key], value.half()), key
    clip = load_clip(f"{clip_config}:{path}")
    expected = load_clip(f"{clip_config}:random", seed=7).encode_texts(["a dog"])
    assert clip.encode_texts(["a dog"]).words == pytest.approx(expected.words, abs=1e-2)


class Hostile:
    """What a pickle does when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def torchscript_like(content: bytes, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/constants.pkl", pickle.dumps(()))
        archive.writestr("x/data.pkl", content)
    return path


@pytest.mark.parametrize("form", ["zip", "old format", "bare pickle", "TorchScript"])
@pytest.mark.parametrize("load", [load_clip, load_panns])
def test_a_file_that_wants_to_run_something_is_refused(tmp_path: Path, form: str, load: Callable[..., Any]) -> None:
    mark, path = tmp_path / "ran", tmp_path / "evil.pt"
    content = {"model": Hostile(mark)}
    if form == "TorchScript":
        torchscript_like(pickle.dumps(content), path)
    elif form == "bare pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    name = "ViT-B-32" if load is load_clip else "cnn14"
    with pytest.raises(LabError) as caught:
        load(f"{name}:{path}")
    assert not mark.exists()
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value), "torch recommends to switch the protection off"
    assert "wants to run or build" in str(caught.value)
    assert "save its state dict as .safetensors" in str(caught.value)


def test_a_newer_pickle_is_refused_without_running_it(tmp_path: Path) -> None:
    mark, path = tmp_path / "ran", tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps({"model": Hostile(mark)}, protocol=5))
    with pytest.raises(LabError, match="it is no pickle of tensors: the file is damaged or of another kind"):
        read_state(path)
    assert not mark.exists()


def damaged(name: str, content: bytes) -> Any:
    return pytest.param(name, content, id=f"{name} {len(content)}")


def whole_file() -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": torch.ones(997)}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        damaged("w.pt", b""),
        damaged("w.pt", b"<html>404</html>"),
        damaged("w.pt", whole_file()[:1500]),
        damaged("w.pt", whole_file()[:-200]),
        damaged("w.safetensors", b""),
        damaged("w.safetensors", b"\xff" * 100),
        damaged("w.safetensors", whole_file()),
        damaged("w.bin", b"PK\x03\x04" + b"\0" * 50),
    ],
)
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(
        LabError, match=r"cannot read the weights in .*: the file is damaged or of another kind"
    ) as caught:
        read_state(path)
    assert "\n" not in str(caught.value)


def rebuilt(size: tuple[int, ...], stride: tuple[int, ...], count: int = 4) -> bytes:
    """A data.pkl whose one tensor claims more than its bytes hold, in pickle's own text protocol."""
    numbers = lambda values: "(" + "".join(f"I{value}\n" for value in values) + "t"  # noqa: E731
    storage = f"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI{count}\ntQ"
    tensor = f"ctorch._utils\n_rebuild_tensor_v2\n({storage}I0\n{numbers(size)}{numbers(stride)}I00\nNtR"
    return f"c__torch__\nModule\n)\x81}}S'w'\n{tensor}sb.".encode("latin-1")


@pytest.mark.parametrize(
    ("content", "good"),
    [
        (rebuilt((2, 2), (2, 1)), True),
        (rebuilt((2, 3), (3, 1)), False),
        (rebuilt((2, 2), (2, 1), count=9), False),
        (b"c__torch__\nModule\n)\x81}S'w'\n.", False),
    ],
    ids=["whole", "size beyond its bytes", "storage beyond its bytes", "no module"],
)
def test_an_archive_cannot_read_beyond_its_bytes(tmp_path: Path, content: bytes, good: bool) -> None:
    path = torchscript_like(b"\x80\x02" + content, tmp_path / "w.pt")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x/data/0", np.arange(4, dtype=np.float32).tobytes())
    if good:
        assert read_state(path)["w"].tolist() == [[0, 1], [2, 3]]
        return
    with pytest.raises(LabError, match="cannot read the weights in"):
        read_state(path)


def test_an_archive_with_compressed_members_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/constants.pkl", b"")
        archive.writestr("x/data.pkl", b"\0" * 10_000)
    with pytest.raises(LabError, match="must be stored, not compressed"):
        read_state(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "must hold a state dict, and .* holds a dict"),
        ([torch.ones(2)], "must hold a state dict, and .* holds a list"),
        ({"a": torch.ones(2), "b": 3}, "must map names to tensors, and .* has 'b': int"),
    ],
)
def test_a_file_without_a_state_dict_says_what_it_holds(tmp_path: Path, content: Any, said: str) -> None:
    with pytest.raises(LabError, match=said):
        read_state(saved(content, tmp_path / "w.pt"))


def test_what_does_not_fit_is_named(tmp_path: Path, clip_config: Path, clip_state: State) -> None:
    wrong = {key: value for key, value in clip_state.items() if not key.startswith("visual.ln")}
    wrong["text_projection"] = torch.ones(3, 5)
    wrong["extra.weight"] = torch.ones(2)
    with pytest.raises(LabError) as caught:
        load_clip(f"{clip_config}:{safe(wrong, tmp_path / 'w.safetensors')}")
    message = str(caught.value)
    assert "4 missing (visual.ln_pre.weight, visual.ln_pre.bias, visual.ln_post.weight and 1 more)" in message
    assert "1 unexpected (extra.weight)" in message
    assert "1 of another shape (text_projection is (3, 5), not (34, 29))" in message
    assert "Name the model that the file was trained as" in message


def test_weights_that_are_not_finite_are_named(tmp_path: Path, clip_config: Path, clip_state: State) -> None:
    clip_state["ln_final.bias"] = torch.full((34,), torch.nan)
    with pytest.raises(LabError, match=r"weights must be finite, and ln_final.bias in .* is not"):
        load_clip(f"{clip_config}:{safe(clip_state, tmp_path / 'w.safetensors')}")


def test_a_failed_load_changes_nothing(clip_state: State) -> None:
    model = nn.Linear(3, 2)
    before = sha256_of_state(model.state_dict())
    with pytest.raises(LabError):
        load_state(model, {"weight": torch.zeros(2, 3), "bias": torch.zeros(5)}, "here")
    assert sha256_of_state(model.state_dict()) == before


def test_the_hash_of_a_state_sees_names_and_bytes_and_not_order() -> None:
    one, two = torch.arange(3.0), torch.arange(5.0)
    digest = sha256_of_state({"a": one, "b": two})
    assert digest == sha256_of_state({"b": two, "a": one})
    assert len({digest, sha256_of_state({"a": two, "b": one}), sha256_of_state({"a": one, "c": two})}) == 3

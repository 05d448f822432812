"""Where a network computes: names, a GPU that is not there, and one whose memory is full."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lab import Texts, Videos, cli, similarity_matrix
from lab.backbones.devices import exact_numerics
from lab.device import Room, free_bytes, full_float32, memory_told, pick_device
from lab.errors import LabError
from lab.similarity import evaluating
from lab.training.loop import train
from lab.training.recipe import Recipe

NO_GPU = "--device cuda needs a GPU that torch can use, and it sees 0"


def gpus(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(0, monkeypatch)
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
    gpus(2, monkeypatch)
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda")
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(LabError, match="--device cuda:2 needs a GPU that torch can use, and it sees 2"):
        pick_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "mps", "cuda:x", ""])
def test_unknown_names(name: str) -> None:
    with pytest.raises(LabError, match="known: auto, cpu, cuda"):
        pick_device(name)


def test_a_torch_without_cuda_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(0, monkeypatch)
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(LabError) as error:
        pick_device("cuda")
    assert str(error.value) == f"{NO_GPU}, being built without CUDA: use --device cpu"
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    with pytest.raises(LabError) as error:
        pick_device("cuda")
    assert str(error.value) == f"{NO_GPU}: use --device cpu"


@pytest.mark.parametrize("command", ["cache", "train", "evaluate", "study"])
def test_a_gpu_that_is_not_there_is_one_line_of_every_command(
    command: str, full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpus(0, monkeypatch)
    runs = ["--store", str(full), "--runs", str(tmp_path / "runs")]
    study = tmp_path / "quick.toml"
    study.write_text('kind = "grid"\n[[rows]]\nhead = "mean"\n')
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "captions.csv").write_text("video,caption\na.mp4,a clip\n")
    (tmp_path / "clips" / "a.mp4").write_bytes(b"no clip")
    random = ["--only", "audio", "--panns", "random"]  # without open_clip, whose import takes seconds
    folder = [
        "--dataset",
        "folder",
        "--root",
        str(tmp_path / "clips"),
        "--features",
        str(tmp_path / "features"),
        *random,
    ]
    given = {
        "cache": folder,
        "train": ["xpool", *runs],
        "evaluate": ["topk", *runs, "--split", "val"],
        "study": [str(study), *runs],
    }[command]
    main = importlib.import_module(f"lab.{command}").main
    assert cli.run(main, [*given, "--device", "cuda"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"lab.{command}: error: {NO_GPU}")
    assert line.endswith(": use --device cpu")
    assert not list(tmp_path.glob("features/*.zarr"))  # nothing was begun
    assert not list(tmp_path.glob("runs/*/run.json"))


# -- memory ----------------------------------------------------------------------------------------------------------


def full_memory(size: int, most: int) -> None:
    if size > most:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total of 79 GiB.")


@pytest.mark.parametrize("most", [100, 7, 3, 1])
def test_room_does_all_once_and_in_order(most: int, caplog: pytest.LogCaptureFixture) -> None:
    done: list[int] = []

    def work(first: int, last: int) -> None:
        full_memory(last - first, most)
        done.extend(range(first, last))

    room = Room(8, "pictures")
    room.share_out(work, 21)
    room.share_out(work, 2)
    assert done == [*range(21), 0, 1]
    assert room.size == {100: 8, 7: 4, 3: 2, 1: 1}[most]
    told = [record.getMessage() for record in caplog.records]
    said = "the GPU's memory does not hold 8 pictures at once: 4 at a time from here on"
    assert told == ([] if most == 100 else [said])


def test_a_batch_smaller_than_the_room_that_does_not_fit_halves_the_batch() -> None:
    room, sizes = Room(512, "pictures"), []

    def work(first: int, last: int) -> None:
        sizes.append(last - first)
        full_memory(last - first, 5)

    room.share_out(work, 16)
    assert sizes == [16, 8, 4, 4, 4, 4]


def test_one_item_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        Room(4, "pictures").share_out(lambda first, last: full_memory(1, 0), 3)
    with pytest.raises(LabError) as error, memory_told("one picture", "--device cpu"):
        full_memory(1, 0)
    assert str(error.value) == (
        "the GPU's memory does not hold one picture (CUDA out of memory. Tried to allocate 20.00 MiB): use --device cpu"
    )
    with pytest.raises(ValueError, match="another"), memory_told("one picture", "--device cpu"):
        raise ValueError("another")


def test_memory_that_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_bytes(torch.device("cpu")) is None
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (700, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 50)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 20)
    assert free_bytes(torch.device("cuda")) == 730


# -- how exactly -----------------------------------------------------------------------------------------------------


@pytest.fixture
def precision() -> Iterator[Callable[[], tuple[str, str]]]:
    """Reads what CUDA and the CPU make of float32 products; afterwards they are as torch has them by itself."""
    kinds: tuple[Any, ...] = (torch.backends.cuda, torch.backends.mkldnn)
    matmuls = [each.matmul for each in kinds]
    yield lambda: (matmuls[0].fp32_precision, matmuls[1].fp32_precision)
    torch.set_float32_matmul_precision("highest")
    for each in matmuls:
        each.fp32_precision = "none"


@pytest.mark.parametrize("host", ["high", "medium"])
def test_products_are_of_float32_whatever_a_program_asks_for(
    host: str, precision: Callable[[], tuple[str, str]]
) -> None:
    torch.set_float32_matmul_precision(host)
    outside, seen = precision(), []
    assert outside[0] == "tf32"

    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, texts: Texts, videos: Videos) -> Tensor:
            seen.append((precision(), torch.get_float32_matmul_precision()))
            return (texts.sentences * self.weight) @ videos.frames[:, 0].T

    texts, videos = Texts(torch.randn(5, 3), video=torch.arange(5)), Videos(torch.randn(5, 2, 3))
    similarity_matrix(Looks(), texts, videos)
    with evaluating(looks := Looks()):  # whose weights are looked at, or that is asked by a search
        looks(texts, videos)
    train(Looks(), texts, videos, Recipe(epochs=1, batch=5))
    with exact_numerics(torch.device("cpu")):
        Looks()(texts, videos)
    assert seen == [(("ieee", "ieee"), "highest")] * 4
    assert (precision(), torch.get_float32_matmul_precision()) == (outside, host)


def test_torchs_newer_names_are_put_back_as_well(precision: Callable[[], tuple[str, str]]) -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    with full_float32():
        assert precision()[0] == "ieee"
    assert precision() == ("tf32", "none")


@pytest.mark.parametrize("asked", ["tf32", "ieee"])
def test_a_gpus_convolutions_are_exact_by_torchs_newer_names(
    asked: str, precision: Callable[[], tuple[str, str]]
) -> None:
    backends: Any = torch.backends
    if not hasattr(backends.cudnn, "conv"):
        pytest.skip("torch before 2.9")
    cudnn, before = backends.cudnn, backends.cudnn.conv.fp32_precision
    try:
        backends.fp32_precision = cudnn.conv.fp32_precision = asked  # after which cudnn.flags is an error
        with exact_numerics(torch.device("cuda")):
            assert (cudnn.conv.fp32_precision, cudnn.deterministic) == ("ieee", True)
        assert (cudnn.conv.fp32_precision, cudnn.deterministic) == (asked, False)
    finally:
        cudnn.conv.fp32_precision, backends.fp32_precision = before, "none"


def test_where_nothing_was_asked_for_nothing_is_set(
    precision: Callable[[], tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "set_float32_matmul_precision", lambda _: pytest.fail("set"))
    before = precision()
    with full_float32():
        assert precision() == before
    monkeypatch.undo()

"""Notebooks are kept without outputs and run from top to bottom on a small toy world; what is made for them alone."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from jupyter_core.utils import run_sync
from matplotlib.figure import Figure
from matplotlib.text import Text
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

from lab import cli, notebook
from lab.cache import main as cache
from lab.errors import LabError
from lab.figures import NoData, strips, style, words
from lab.figures.asked import Asked
from lab.figures.material import Material
from lab.figures.truth import sound
from lab.study import main as study
from lab.toy.example import example_folder
from lab.toy.render import render_world

FOLDER = Path(__file__).parent.parent / "notebooks"
#: Name → how many of its cells draw.
DRAWING = {
    "attention_explorer": 7,
    "topk_histograms": 5,
    "audio_fusion": 4,
    "compare_studies": 7,
    "your_own_videos": 2,
}
#: A world whose first clips of validation have several scenes each, and captions that need the sound.
WORLD, SIZES = 9, {"train": 6, "val": 5, "test": 2}
#: What the last line of a cell that draws begins with.
DRAWS = re.compile(r"(strips|words|asked)\.\w+\(|(STUDY_)?FIGURES\[|Asked\(")
QUICK = "seeds = 1\n[train]\nepochs = 1\naudio_epochs = 1\nbatch = 32\n"
GRID = 'kind = "grid"\n' + QUICK + "".join(
    f'[[rows]]\nhead = "{head}"\n' for head in ("mean", "topk", "xpool", "mgfi")
) + '[[rows]]\nhead = "cmfi"\nkeywords.video = "mgfi"\n'  # fmt: skip
SEARCH = 'kind = "search"\nhead = "xpool"\ntrials = 2\n' + QUICK + "[search]\nlr = { log = [1e-4, 1e-2] }\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a small toy world: its store ``small.zarr``, and two studies in ``runs``."""
    path = tmp_path_factory.mktemp("place")
    render_world(path / "world", WORLD, SIZES, workers=1)
    command = ["--dataset", "toy", "--root", str(path / "world"), "--features", str(path), "--name", "small"]
    assert cli.run(cache, command) == 0
    for name, text in (("heads", GRID), ("xpool_head", SEARCH)):
        (path / f"{name}.toml").write_text(text)
        options = ["--store", str(path / "small.zarr"), "--runs", str(path / "runs")]
        assert cli.run(study, [str(path / f"{name}.toml"), *options]) == 0
    return path


@pytest.fixture(scope="module")
def material(place: Path) -> Material:
    return notebook.begin(place / "small.zarr", place / "runs" / "heads-toy" / "runs")


def environment(place: Path) -> dict[str, str]:
    """What points the notebooks to a place."""
    return {
        "STORE": str(place / "small.zarr"),
        "RUNS": str(place / "runs" / "heads-toy" / "runs"),
        "STUDIES": str(place / "runs"),
        "FOLDER": str(place / "videos"),
        "FEATURES": str(place / "features"),
    }


@pytest.fixture(scope="module")
def execute(place: Path) -> Iterator[Callable[[list[Any]], None]]:
    """Runs cells in the directory of notebooks, with nothing left of what ran before but the imports, which take time.

    Raises ``CellExecutionError`` where a cell does.
    """
    manager = NotebookClient(nbformat.v4.new_notebook(), kernel_name="python3").create_kernel_manager()

    def run(cells: list[Any]) -> None:
        fresh = nbformat.v4.new_code_cell("%reset -f")
        client = NotebookClient(
            nbformat.v4.new_notebook(cells=[fresh, *cells]), km=manager, timeout=800, startup_timeout=240
        )
        try:
            client.execute(env={**os.environ, **environment(place)}, cwd=str(FOLDER))
        finally:
            client.kc.stop_channels()

    yield run
    run_sync(manager.shutdown_kernel)(now=True)


def code_cells(name: str) -> list[Any]:
    return [cell for cell in nbformat.read(FOLDER / f"{name}.ipynb", 4).cells if cell.cell_type == "code"]


def test_these_are_all_of_them() -> None:
    assert {file.stem for file in FOLDER.iterdir() if not file.name.startswith(".")} == set(DRAWING)


@pytest.mark.parametrize("name", DRAWING)
def test_a_notebook_is_kept_without_outputs_and_with_short_cells(name: str) -> None:
    whole = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    for cell in whole["cells"]:
        assert not cell.get("outputs"), "strip the outputs: nbstripout"
        assert cell.get("execution_count") is None
        assert len(cell["source"]) <= 15
    assert "os.environ" in code_cells(name)[0].source


@pytest.mark.parametrize("name", DRAWING)
def test_a_notebook_runs_and_every_cell_that_draws_shows_its_figure(
    name: str, place: Path, execute: Callable[[list[Any]], None]
) -> None:
    if name == "your_own_videos":
        example_folder(place / "videos", clips=3)
    cells = code_cells(name)
    execute(cells)
    drew = []
    for cell in cells:
        pictures = [output for output in cell.outputs if "image/png" in output.get("data", {})]
        draws = DRAWS.match(cell.source.splitlines()[-1]) is not None
        assert len(pictures) == draws, cell.source
        drew += pictures
        said = "".join(output.get("text", "") for output in cell.outputs)
        assert "Warning" not in said, said
    assert len(drew) == DRAWING[name]
    assert all(len(output.data["image/png"]) > 5000 for output in drew)


def test_an_error_of_the_user_is_one_line_in_a_notebook(tmp_path: Path, execute: Callable[[list[Any]], None]) -> None:
    cell = code_cells("topk_histograms")[0]
    cell.source = cell.source.replace('os.environ.get("STORE", ', f'str("{tmp_path}/none.zarr" or ')
    with pytest.raises(CellExecutionError):
        execute([cell])
    (shown,) = (output for output in cell.outputs if output.output_type == "error")
    assert shown.traceback == [
        f"error: there is no store {tmp_path / 'none.zarr'}: `make demo` leaves one, "
        "`python -m lab.cache --dataset toy` makes it; or name one of yours in STORE"
    ]


@pytest.mark.parametrize(
    ("name", "cells", "told"),
    [
        ("attention_explorer", 1, "there is no store .*none/small.zarr: `make demo` leaves one"),
        ("audio_fusion", 1, "there is no store .*none/small.zarr: `make demo` leaves one"),
        ("compare_studies", 1, "no study in .*none/runs has a result: `make demo` leaves two"),
        ("your_own_videos", 2, "--root must be .*none/videos does not exist"),
    ],
)
def test_what_is_missing_is_named_with_the_command_that_makes_it(
    name: str, cells: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in environment(tmp_path / "none").items():
        monkeypatch.setenv(key, value)
    with pytest.raises(LabError, match=told):
        exec("\n".join(cell.source for cell in code_cells(name)[:cells]), {})  # noqa: S102


# -- what notebooks begin with -------------------------------------------------------------------------------------


def test_begin_takes_validation_and_says_what_it_found(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = notebook.begin(place / "small.zarr", place / "runs" / "heads-toy" / "runs")
    assert found.split == "val"
    assert list(found.heads) == ["mean", "topk k=3", "softmax t=0.01", "xpool", "mgfi", "cmfi"]
    assert "small.zarr, toy val: 25 captions, 5 videos\n" in capsys.readouterr().out
    bare = notebook.begin(place / "small.zarr", tmp_path)
    assert list(bare.heads) == ["mean", "topk k=3", "softmax t=0.01"]
    assert f"no trained head of toy in {tmp_path}: python -m lab.train xpool" in capsys.readouterr().out


def test_changed_lists_what_rises_most_and_then_what_falls_most(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {"mean": np.full(25, 8.0), "xpool": np.full(25, 8.0)}
    made["xpool"][[3, 5, 7, 11, 13]] = [4.0, 1.0, 9.0, 2.0, 16.0]
    monkeypatch.setattr(material, "ranks", made.__getitem__)
    shown = notebook.changed(material, "mean", "xpool", most=2)
    assert shown.header == ["TEXT", "caption", "rank under mean", "rank under xpool"]
    assert [(row[0], row[2], row[3]) for row in shown.rows] == [
        (5, "8", "1"), (11, "8", "2"), (7, "8", "9"), (13, "8", "16")
    ]  # fmt: skip
    assert shown.rows[0][1] == material.captions[5]["text"]
    with pytest.raises(NoData, match="no caption changes its rank from mean to mean"):
        notebook.changed(material, "mean", "mean")
    with pytest.raises(LabError, match=r"'seqtransf' is not among mean, .*: python -m lab.train seqtransf"):
        notebook.changed(material, "mean", "seqtransf")


def test_a_table_in_a_notebook_shows_markup_as_text() -> None:
    table = notebook.Table(["a"], [["<script>alert(1)</script>"]])
    assert "<script>" not in table._repr_html_()
    assert "&lt;script&gt;" in table._repr_html_()
    assert str(table).splitlines()[0] == "a"


def test_fusion_weights_leave_the_trained_head_as_it_was(material: Material) -> None:
    before = material.heads["cmfi"].head.fusion_weight
    fused = notebook.fusion_weights(material, 0, before, 3.0)
    assert list(fused.heads) == ["cmfi w=0", f"cmfi w={before:g}", "cmfi w=3"]
    assert material.heads["cmfi"].head.fusion_weight == before
    assert np.array_equal(fused.similarity(f"cmfi w={before:g}"), material.similarity("cmfi"))
    assert not np.allclose(fused.similarity("cmfi w=3"), fused.similarity("cmfi w=0"))


# -- texts of one's own ----------------------------------------------------------------------------------------------


def test_a_caption_that_is_typed_is_as_good_as_the_stored_one(material: Material) -> None:
    some = [3, 17]
    asked = Asked(material, [material.captions[text]["text"] for text in some])
    for label in material.heads:
        assert np.allclose(asked.similarity(label), material.similarity(label)[some], atol=2e-3), label
    for row, text in enumerate(some):
        (typed, numbers), (stored, same) = asked.words_of(row), material.words_of(text)
        assert np.array_equal(numbers, same)
        assert list(typed) == stored
    first, last = material.similarity("cmfi")[some].argmax(1)
    assert asked.target.tolist() == [first, last]


def test_a_text_of_ones_own_is_drawn_on_a_chosen_video(material: Material) -> None:
    video = int(material.target[3])
    asked = Asked(material, [material.captions[3]["text"], "a whale in the snow"], video)
    assert asked.target.tolist() == [video, video]
    strip = strips.strip_of(asked, video, [0, 1], ["topk k=3", "mgfi"])
    own = strips.strip_of(material, video, [3], ["topk k=3", "mgfi"])
    assert [one.caption for one in strip.readings][1] == "a whale in the snow"
    assert np.allclose(strip.readings[0].weights["mgfi"], own.readings[0].weights["mgfi"], atol=2e-3)
    assert not np.allclose(strip.readings[1].weights["mgfi"], own.readings[0].weights["mgfi"], atol=2e-2)
    assert "asked with a text of one's own" in asked.source()
    with pytest.raises(NoData):
        sound(asked)
    with pytest.raises(LabError, match="at least one word"):
        Asked(material, ["  "])


def test_a_folder_without_captions_can_be_asked(tmp_path: Path) -> None:
    (example_folder(tmp_path / "videos", clips=2) / "captions.csv").unlink()
    command = ["--dataset", "folder", "--root", str(tmp_path / "videos"), "--clip", "toy", "--panns", "none"]
    assert cli.run(cache, [*command, "--features", str(tmp_path), "--name", "bare"]) == 0
    bare = notebook.begin(tmp_path / "bare.zarr")
    asked = Asked(bare, ["a dog"])
    assert asked.source().startswith("bare.zarr, all all: 0 captions, 2 videos\n")
    told = [text.get_text() for text in asked.strips(2).findobj(Text)]
    assert "topk k=3" in told
    assert "mean" not in told
    assert words.words(asked, 0).axes


def test_an_example_folder_is_made_once(tmp_path: Path) -> None:
    example_folder(tmp_path, clips=2, lines=2)
    before = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert set(before) == {"captions.csv", "clip01.mp4", "clip02.mp4"}
    assert len((tmp_path / "captions.csv").read_text().splitlines()) == 5
    example_folder(tmp_path, clips=2, lines=2)
    assert before == {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}


def test_small_print_fits_at_the_resolution_of_a_notebook() -> None:
    @style.styled
    def narrow() -> Figure:
        return style.new(style.COLUMN, 1.0, "54 captions that need the sound, 446 captions that do not; lines: 95 %")

    figure = narrow()
    with Image.open(io.BytesIO(figure._repr_png_())) as picture:  # type: ignore[attr-defined]
        pixels = np.asarray(picture.convert("L"))
    assert (pixels < 200).any()
    assert (pixels[:, -3:] > 250).all()

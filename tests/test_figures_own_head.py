"""A head of one's own in figures and notebooks: among the runs found there once its name is trusted, and not before."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pictured import A, leaving, make, texts_of
from searchable import save_heads

from lab import cli, notebook
from lab.choose import Candidate
from lab.figures import Material, heads, strips, truth
from lab.figures.__main__ import main
from lab.runs.fitting import newest_runs
from lab.store import open_store

PAGE = Path(__file__).parent.parent / "docs" / "heads.md"
NAME, PART = "my_head:MyHead", "my_part:MyHead"
#: What begins each label where nothing is trained.
PLAIN = ["mean", "topk k=3", "softmax t=0.01"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made") / "made.zarr")


@pytest.fixture(autouse=True)
def forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The head of docs/heads.md as two modules that can be imported and, when a test begins, were not."""
    found = re.search(r"```python\n# my_head\.py\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    for name in ("my_head", "my_part"):
        (tmp_path / f"{name}.py").write_text(found[1])
    monkeypatch.syspath_prepend(tmp_path)
    forget()
    yield
    forget()


def forget() -> None:
    for name in ("my_head", "my_part"):
        sys.modules.pop(name, None)


@pytest.fixture
def runs(path: Path, tmp_path: Path) -> Path:
    """Of the lab's heads X-Pool alone; MyHead twice, and CMFI over MyHead."""
    folder = tmp_path / "runs"
    cmfi = {"video": PART, "audio_dim": A, "fusion_weight": 0.1}
    save_heads(path, folder / "some", {NAME: {}, "xpool": {}, "cmfi": cmfi})
    save_heads(path, folder / "more", {NAME: {}})
    forget()
    return folder


def figures(*arguments: object) -> int:
    return cli.run(main, [str(argument) for argument in arguments])


def test_code_that_is_not_trusted_is_left_out_with_a_line_and_not_imported(
    path: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert figures("heads", "--store", path, "--runs", runs, "--out", tmp_path / "out") == 0
    out, err = capsys.readouterr()
    assert "of mean, topk k=3, softmax t=0.01, xpool on the split" in out
    for name in (NAME, PART):
        assert err.count(f"left out, code that the lab does not know: add --trust {name} if you know it") == 1
    assert not {"my_head", "my_part"} & sys.modules.keys()


def test_a_head_that_is_trusted_stands_last_and_is_drawn(
    path: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--store", path, "--runs", runs, "--trust", NAME, "--out", tmp_path / "out", "--page"]
    assert figures("heads", "strips", "attention_truth", *command) == 0
    out, err = capsys.readouterr()
    assert f"3 figures of mean, topk k=3, softmax t=0.01, xpool, {NAME} on the split 'val'" in out
    assert f"--trust {PART}" in err
    assert f"--trust {NAME} " not in err
    assert "my_head" in sys.modules
    assert "my_part" not in sys.modules


def test_its_name_stays_on_the_paper(path: Path, runs: Path) -> None:
    material = notebook.begin(path, runs, trust=[NAME])
    one = material.heads[NAME]
    labels = [NAME, "mine:WeighedByMoreWords", "topk k=3 trained"]
    several = Material(material.store, [Candidate(one.head, label, one.run) for label in labels])
    for draw in (heads.heads, strips.examples, truth.attention_truth):
        figure = draw(several)
        shown = list(texts_of(figure))
        assert not leaving(figure, shown)
        assert any("MyHead" in text.get_text() for text in shown)


def test_a_head_is_trusted_as_a_part_of_another(path: Path, runs: Path) -> None:
    found = newest_runs(open_store(path), runs, trust=[PART, NAME])
    assert [f"{run.parent.name}/{run.name}" for run in found] == [
        "some/xpool-s0",
        "some/cmfi-s0",
        "some/my_head-MyHead-s0",
    ]


def test_classes_of_the_lab_itself_need_no_trust(path: Path, tmp_path: Path) -> None:
    save_heads(path, tmp_path / "runs", {"lab.studies.classic:Ridge": {}, "mean": {}})
    found = newest_runs(open_store(path), tmp_path / "runs")
    assert [run.name for run in found] == ["mean-s0", "lab.studies.classic-Ridge-s0"]


def test_a_trusted_head_that_cannot_be_imported_is_said(
    path: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_head.py").unlink()
    assert figures("heads", "--store", path, "--runs", runs, "--trust", NAME, "--out", tmp_path / "out") == 0
    out, err = capsys.readouterr()
    assert NAME not in out
    assert f"left out: no head '{NAME}' (No module named 'my_head')" in err


def test_a_notebook_trusts_what_it_names(path: Path, runs: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert list(notebook.begin(path, runs).heads) == [*PLAIN, "xpool"]
    assert f"add --trust {NAME}" in caplog.text
    material = notebook.begin(path, runs, trust=[NAME])
    assert list(material.heads) == [*PLAIN, "xpool", NAME]
    assert material.own_weights(NAME).sum(1) == pytest.approx(1)

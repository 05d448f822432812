"""A study from its command: what it prints, and what it says of a mistake."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from synthetic import SECTIONS, D, F, World

from lab import cli
from lab.study import main

QUICK = 'head = "xpool"\n[train]\nepochs = 1\nbatch = 64\n'


@pytest.fixture
def quick(tmp_path: Path) -> str:
    (tmp_path / "quick.toml").write_text(QUICK)
    return str(tmp_path / "quick.toml")


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a command that is refused."""
    assert cli.run(main, list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith("lab.study: error: ")
    return err.removeprefix("lab.study: error: ").removesuffix("\n")


def test_a_study_prints_its_table_and_what_must_be_said(
    full: Path, quick: str, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(main, [quick, "--store", str(full)]) == 0
    header, row, where, reads, few, random = capsys.readouterr().out.splitlines()
    assert header.split() == ["head", "R@1", "R@5", "R@10", "MdR", "MnR", "queries", "videos"]
    queries = sum(caption.splits["whole"] == "test" for caption in world.collection.captions)
    cells = row.split()
    assert cells[0] == "xpool"
    assert cells[-2:] == [str(queries), "8"]
    assert float(cells[3]) == 100  # of 8 videos every rank is among the first 10
    assert 1 <= float(cells[5]) <= 8
    assert where.startswith(f"test split of {full}, trained and scored in ")
    assert reads.startswith(f"reads of the split 'test' of {full} so far: ")
    assert few == "! 8 test videos: this shows that the head runs, and tells nothing about it"
    assert random.startswith("! RANDOM WEIGHTS")


def test_the_store_is_found(full: Path, quick: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features = tmp_path / "features"
    for path in (features, tmp_path / "nowhere"):
        assert told(capsys, quick, "--features", str(path)) == (
            f"no store in {path}: make one with python -m lab.cache --dataset NAME"
        )
    features.mkdir()
    shutil.copytree(full, features / "a.zarr")
    (features / "a.zarr.new-1234").mkdir()  # a pass that was killed while it made a store
    assert cli.run(main, [quick, "--features", str(features)]) == 0
    capsys.readouterr()
    assert told(capsys, quick, "--features", str(features), "--dataset", "msvd") == (
        f"no store of msvd in {features}: make one with python -m lab.cache --dataset msvd"
    )
    shutil.copytree(full, features / "b.zarr")
    assert told(capsys, quick, "--features", str(features)) == (
        f"2 stores fit, choose one with --store PATH: {features / 'a.zarr'}, {features / 'b.zarr'}"
    )


def test_a_split_that_the_protocol_lacks(full: Path, quick: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = told(capsys, quick, "--store", str(full), "--protocol", "few")
    assert line.startswith("there is no split 'train'")
    assert "has test: give captions.csv a split column" in line


def test_a_store_without_captions(world: World, quick: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.zarr"
    writer = world.create(path)
    writer.add_frames(SECTIONS["frames"], F, D)
    for first, rows in world.units():
        writer.write_frames(first, [world.frames[row] for row in rows])
    line = told(capsys, quick, "--store", str(path))
    assert line == f"{path} holds no captions: add them with python -m lab.cache --only text"
    world.add_text(writer)
    assert cli.run(main, [quick, "--store", str(path)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith(f"no caption of split 'train' has features in {path}: run the pass on it first")


def test_an_unknown_study_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "xpool_haed").startswith("unknown study 'xpool_haed': did you mean 'xpool_head'? known: ")
    assert told(capsys, "nowhere/mine.toml").startswith("unknown study 'nowhere/mine.toml'")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"head = ", "is not valid TOML: "),
        (b'head = "\xff"', "is not valid TOML: "),
        (b"", "unknown head 'None'; known: mean"),
        (b'head = "x-pool"', "unknown head 'x-pool': did you mean 'xpool'? known: mean"),
        (b'head = ["xpool"]', "unknown head '['xpool']'"),
        (b'head = "xpool"\n[trian]', "unknown key 'trian': did you mean 'train'? known: head, train, keywords"),
        (b'head = "xpool"\ntrain = 5', "[train] must be a table, got 5"),
        (
            b'head = "xpool"\n[train]\nepoch = 5',
            "unknown key of [train] 'epoch': did you mean 'epochs'? known: epochs, ",
        ),
        (
            b'head = "xpool"\n[keywords]\ndropuot = 0.1',
            "unknown key of [keywords] 'dropuot': did you mean 'dropout'? known: dropout",
        ),
        (b'head = "xpool"\n[train]\nepoch = 5\n[mode]\n', "; unknown key 'mode'"),  # all that is wrong, in one go
    ],
)
def test_a_mistake_in_the_file_is_one_line(
    tmp_path: Path, content: bytes, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(content)
    line = told(capsys, str(file))
    assert line.startswith(str(file))
    assert said in line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[train]\nepochs = 0", "1 <= epochs must hold, got epochs=0"),
        ('[train]\nlr = "fast"', "lr must be a number, got lr='fast'"),
        (
            "[keywords]\ndropout = 2",
            "head 'xpool' refuses its keywords: dropout probability has to be between 0 and 1",
        ),
        ('[keywords]\ndropout = "x"', "head 'xpool' refuses its keywords: "),
    ],
)
def test_a_value_out_of_range_is_one_line(
    full: Path, tmp_path: Path, content: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.toml").write_text(f'head = "xpool"\n{content}\n')
    assert cli.run(main, [str(tmp_path / "mine.toml"), "--store", str(full)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"lab.study: error: {said}")

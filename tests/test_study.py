"""A study from its command: what it prints and leaves behind, and what it says of a mistake."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from synthetic import SECTIONS, D, F, World

from lab import cli, notebook
from lab.figures.finished import newest
from lab.reads import log_file
from lab.store import open_store
from lab.store.find import pass_command
from lab.studies import report
from lab.studies.files import STUDIES
from lab.studies.final import read_test
from lab.studies.rows import train_all
from lab.study import main

SEARCH = """
kind = "search"
head = "xpool"
trials = 4
seeds = 2
[train]
epochs = 1
batch = 256
[search]
lr = { log = [1e-4, 1e-1] }
"""
GRID = """
kind = "grid"
seeds = 2
[train]
epochs = 1
batch = 256
[[rows]]
head = "mean"
[[rows]]
head = "topk"
search.top_k = { int = [1, 5] }
[[rows]]
head = "xpool"
"""


@pytest.fixture
def store(full: Path, tmp_path: Path) -> Path:
    """A copy, because reads of its test split are logged beside it."""
    return Path(shutil.copytree(full, tmp_path / "toy.zarr"))


def write(folder: Path, text: str, name: str = "mine") -> str:
    file = folder / f"{name}.toml"
    file.write_text(text)
    return str(file)


def study(file: str, store: Path, *more: str) -> int:
    return cli.run(main, [file, "--store", str(store), "--runs", str(store.parent / "runs"), *more])


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a command that is refused."""
    capsys.readouterr()
    assert cli.run(main, list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if not re.match(r"(\r|search|training|warning)", line)]
    assert len(lines) == 1, err
    return lines[0].removeprefix("lab.study: error: ")


def reads(store: Path) -> list[dict[str, object]]:
    file = log_file(open_store(store))
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_a_search_from_end_to_end(store: Path, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(store.parent, SEARCH)
    assert study(file, store) == 0
    header, mean, xpool, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:6] == ["head", "R@1", "R@5", "R@10", "MdR", "MnR"]
    assert mean.split()[0] == "mean"
    assert xpool.split()[0] == "xpool"
    assert lines[0].startswith("xpool is ")
    assert any(line.startswith("4 trials (0 pruned, 0 diverged); the best on validation is number ") for line in lines)
    assert "! 8 test videos: this shows that the head runs, and tells nothing about it" in lines

    home = store.parent / "runs" / "mine-toy-whole"
    result = json.loads((home / "result.json").read_text())
    baseline, best = result["rows"]
    assert result["command"] == f"python -m lab.study {file} --store {store} --runs {store.parent / 'runs'}"
    assert not result["resumed"]
    assert best["seeds"] == [1, 2]  # others than the search's, whose luck they would share
    assert len(best["test"]["R@1"]["seeds"]) == 2
    assert best["test"]["R@1"]["low"] <= best["test"]["R@1"]["mean"] <= best["test"]["R@1"]["high"]
    assert 0 < best["against_baseline"]["R@1"]["p_value"] <= 1
    assert baseline["against_baseline"] == {}
    assert result["search"]["best"]["params"]["lr"] == best["recipe"]["lr"]
    assert all((Path(run) / "head.safetensors").is_file() for run in best["runs"])

    trials = pl.read_parquet(home / "trials.parquet")
    assert trials["state"].to_list() == ["complete"] * 4
    assert trials["value"].max() == pytest.approx(result["search"]["best"]["value"])
    assert set(trials.columns) >= {"number", "value", "seconds", "setting.lr", "val.R@1", "epoch"}

    queries = [row for row, caption in enumerate(world.collection.captions) if caption.splits["whole"] == "test"]
    with np.load(home / "ranks.npz") as ranks:
        assert ranks["t2v_1"].shape == (2, len(queries))
        assert ranks["caption"].tolist() == queries
        hits = (ranks["t2v_1"] <= 1).mean(1) * 100
    assert hits.tolist() == pytest.approx(best["test"]["R@1"]["seeds"])
    assert "| xpool |" in (home / "result.md").read_text()
    assert r"\toprule" in (home / "result.tex").read_text()

    one = reads(store)
    assert len(one) == 1
    assert one[0]["head"] == "mean, xpool"
    assert str(one[0]["command"]).startswith("python -m lab.study ")


def test_a_second_run_goes_on_and_says_that_test_was_read_before(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(store.parent, SEARCH)
    assert study(file, store, "--trials", "1") == 0
    first = capsys.readouterr()
    assert study(file, store, "--trials", "1") == 0
    second = capsys.readouterr()
    assert second.out == first.out
    assert "the test split is not read again" in second.err
    assert len(reads(store)) == 1
    assert study(file, store, "--trials", "2", "--set", "seeds=3") == 0
    third = capsys.readouterr().out
    assert "! the test split was read once before this" in third
    assert "\n2 trials (0 pruned" in third
    assert len(reads(store)) == 2
    result = json.loads((store.parent / "runs" / "mine-toy-whole" / "result.json").read_text())
    assert result["resumed"]  # its seconds are those of the last start


def test_verdicts_of_a_result_that_is_there_are_passed_anew(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It may be of a lab that judged otherwise; its files say what is printed."""
    file = write(store.parent, GRID)
    assert study(file, store) == 0
    first = capsys.readouterr().out
    files = [store.parent / "runs" / "mine-toy-whole" / f"result.{kind}" for kind in ("json", "md", "tex")]
    before = [file.read_bytes() for file in files]
    result = json.loads(before[0])
    report.write_result(files[0].parent, result | {"verdicts": ["xpool is a gain larger than the noise."]})
    assert files[1].read_bytes() != before[1]
    assert study(file, store) == 0
    assert capsys.readouterr().out == first
    assert [file.read_bytes() for file in files] == before
    written = [file.stat().st_ino for file in files]
    assert study(file, store) == 0
    assert [file.stat().st_ino for file in files] == written
    assert len(reads(store)) == 1


def test_a_value_at_an_end_is_told_also_of_a_result_that_is_there(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(store.parent, """
kind = "grid"
[[rows]]
head = "mean"
[[rows]]
head = "softmax"
search.temperature = { choice = [0.003, 0.3] }
""")  # fmt: skip
    assert study(file, store, "--no-test") == 0
    said = next(line for line in capsys.readouterr().out.splitlines() if line.endswith("better ones may lie beyond"))
    assert re.match(r"softmax: temperature = \S+ is the end of what was tried \(0.003 to 0.3\): ", said)
    assert study(file, store) == 0
    first = capsys.readouterr().out
    assert first.splitlines().count(said) == 1
    home = store.parent / "runs" / "mine-toy-whole"
    files = [home / f"result.{kind}" for kind in ("json", "md", "tex")]
    before, result = [file.read_bytes() for file in files], json.loads(files[0].read_bytes())
    assert said in result["caveats"]
    assert all(said.replace("_", r"\_") in each.decode() for each in before[1:])
    report.write_result(home, result | {"caveats": [line for line in result["caveats"] if line != said]})
    assert [file.read_bytes() for file in files] != before
    assert study(file, store) == 0
    assert capsys.readouterr().out == first
    assert [file.read_bytes() for file in files] == before
    assert len(reads(store)) == 1


def test_a_result_is_of_the_time_at_which_test_was_read(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of its start, which can be days before; figures take the newest."""
    now = [datetime(2001, 1, 1, tzinfo=UTC)]

    def taking_a_day(call: Callable[..., Any]) -> Callable[..., Any]:
        def last(*given: Any) -> Any:
            done = call(*given)
            now.append(now[-1] + timedelta(days=1))
            return done

        return last

    monkeypatch.setattr("lab.studies.result.datetime", SimpleNamespace(now=lambda _: now[-1]))
    monkeypatch.setattr("lab.study.train_all", taking_a_day(train_all))
    monkeypatch.setattr("lab.study.read_test", taking_a_day(read_test))
    assert study(write(store.parent, GRID), store) == 0
    result = json.loads((store.parent / "runs" / "mine-toy-whole" / "result.json").read_text())
    assert (len(now), result["time"]) == (3, "2001-01-02T00:00:00+00:00")


def test_without_the_final_step_nothing_of_test_is_read(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert study(write(store.parent, SEARCH), store, "--no-test") == 0
    assert capsys.readouterr().out.startswith("4 trials (0 pruned, 0 diverged); the best")
    assert reads(store) == []


def test_a_grid_chooses_on_validation_and_reads_test_once(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert study(write(store.parent, GRID), store) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in out[1:4]] == ["mean", "topk", "xpool"]
    result = json.loads((store.parent / "runs" / "mine-toy-whole" / "result.json").read_text())
    tried = result["choices"]["topk"]
    assert [each["point"]["top_k"] for each in tried] == [1, 2, 3, 4, 5]
    best = max(each["value"] for each in tried)
    chosen = next(each["point"]["top_k"] for each in tried if each["value"] == best)
    assert result["rows"][1]["keywords"]["top_k"] == chosen
    assert f"topk: top_k = {chosen} was chosen on validation among 5" in out
    assert len(reads(store)) == 1


def test_a_finished_result_is_not_lost_to_other_settings(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, home = write(store.parent, GRID), store.parent / "runs" / "mine-toy-whole"
    assert study(file, store) == 0
    before = {name: (home / name).read_bytes() for name in ("result.json", "result.md", "ranks.npz")}
    assert study(file, store, "--set", "seeds=3") == 0  # more of the same
    assert not list(home.glob("before-*"))
    before = {name: (home / name).read_bytes() for name in before}
    time = json.loads(before["result.json"])["time"][:19].replace(":", "")
    assert study(file, store, "--set", "seeds=1") == 0
    assert f"of other settings and lies in {home / f'before-{time}'} now" in capsys.readouterr().err
    assert {name: (home / f"before-{time}" / name).read_bytes() for name in before} == before
    assert json.loads((home / "result.json").read_text())["seeds"] == 1


def test_a_grid_without_its_final_step_says_what_it_chose(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert study(write(store.parent, GRID), store, "--no-test") == 0
    chose, left_out = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"topk: top_k = \d was chosen on validation among 5", chose)
    assert left_out.startswith("the test split was not read; rows are trained in the final step")
    assert reads(store) == []


def test_the_same_seed_gives_the_same_result(store: Path) -> None:
    file = write(store.parent, SEARCH)
    found = []
    for name in ("one", "two"):
        assert study(file, store, "--name", name) == 0
        result = json.loads((store.parent / "runs" / name / "result.json").read_text())
        trials = pl.read_parquet(store.parent / "runs" / name / "trials.parquet")
        numbers = [(row["test"], row["val"], row["against_baseline"], row["recipe"]) for row in result["rows"]]
        found.append((numbers, trials.drop("seconds").rows()))
    assert found[0] == found[1]


def test_settings_of_the_command_line(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["--set", "lr=1e-3", "--set", "dropout={choice=[0.1, 0.2]}", "--set", "seeds=1", "--trials", "7"]
    assert cli.run(main, [write(store.parent, SEARCH), *settings, "--dry-run"]) == 0
    resolved = json.loads(capsys.readouterr().out)
    row = resolved["rows"][-1]
    assert (resolved["seeds"], resolved["trials"], row["recipe"]["lr"]) == (1, 7, 1e-3)
    assert row["search"] == {"dropout": "one of 0.1, 0.2"}
    assert cli.run(main, [write(store.parent, GRID), "--set", "topk.top_k=2", "--set", "epochs=3", "--dry-run"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert rows[1]["keywords"] == {"top_k": 2}
    assert rows[1]["search"] == {}
    assert [each["recipe"]["epochs"] for each in rows] == [3, 3, 3]


def test_the_store_is_found(full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features, file = tmp_path / "features", write(tmp_path, GRID)
    for path in (features, tmp_path / "nowhere"):
        assert told(capsys, file, "--features", str(path)) == (
            f"no store in {path}: make one with python -m lab.cache --dataset NAME"
        )
    features.mkdir()
    shutil.copytree(full, features / "a.zarr")
    (features / "a.zarr.new-1234").mkdir()  # a pass that was killed while it made a store
    assert cli.run(main, [file, "--features", str(features), "--runs", str(tmp_path / "runs"), "--no-test"]) == 0
    assert told(capsys, file, "--features", str(features), "--dataset", "msvd") == (
        f"no store of msvd in {features}: make one with python -m lab.cache --dataset msvd"
    )


def test_a_store_that_lacks_what_a_study_needs(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, file = tmp_path / "s.zarr", write(tmp_path, GRID)
    writer = world.create(path)
    writer.add_frames(SECTIONS["frames"], F, D)
    for first, rows in world.units():
        writer.write_frames(first, [world.frames[row] for row in rows])
    command = pass_command(open_store(path), "text")
    assert told(capsys, file, "--store", str(path)) == f"{path} has captions without features: add those with {command}"
    world.add_text(writer)
    world.write_text(writer, np.arange(512))
    fused = write(tmp_path, 'kind = "grid"\n[[rows]]\nname = "all of it"\nhead = "cmfi"\n', "fused")
    line = told(capsys, fused, "--store", str(path))
    assert line.startswith(f"{path} holds no audio, which 'all of it' reads: add them with python -m lab.cache")
    line = told(capsys, file, "--store", str(path), "--protocol", "few")
    assert "there is no split 'val'" in line


def test_a_study_that_was_changed_is_not_gone_on_with(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(store.parent, SEARCH)
    assert study(file, store, "--no-test") == 0
    line = told(
        capsys, file, "--store", str(store), "--runs", str(store.parent / "runs"), "--set", "batch=128",
        "--set", "lr={log=[1e-4, 1e-2]}",
    )  # fmt: skip
    assert "was begun with other settings" in line
    assert "rows.1.recipe.batch was 256, is 128" in line
    assert "rows.1.search.lr was log 0.0001 .. 0.1, is log 0.0001 .. 0.01" in line
    assert "Start a new one with --name NAME" in line


@pytest.mark.parametrize(
    ("section", "field"), [("dataset", "version"), ("frames", "model")], ids=["collection", "features"]
)
def test_a_grid_does_not_take_the_place_of_one_on_other_features(
    section: str, field: str, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(store.parent, 'kind = "grid"\nseeds = 1\n[train]\nepochs = 1\n[[rows]]\nhead = "mean"\n'
                 '[[rows]]\nhead = "xpool"\n')  # fmt: skip
    assert study(file, store) == 0
    home, other = store.parent / "runs" / "mine-toy-whole", store.parent / "other.zarr"
    shutil.copytree(store, other)
    group = json.loads((other / "zarr.json").read_text())
    was = group["attributes"]["passport"][section][field]
    group["attributes"]["passport"][section][field] = "new"
    (other / "zarr.json").write_text(json.dumps(group))
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    for left in ("result and runs", "runs alone"):
        line = told(capsys, file, "--store", str(other), "--runs", str(home.parent))
        assert line.startswith(f"{home} holds a study on {store}, and {other} has another collection or other features")
        assert line.endswith(f"{section}.{field}: 'new' in the store, '{was}' wanted. Start a new one with --name NAME")
        assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before, left
        before.pop(home / "result.json", None)
        (home / "result.json").unlink(missing_ok=True)  # as if it had been killed before its end
    assert reads(other) == []
    assert study(file, other, "--name", "another") == 0


@pytest.mark.parametrize("dataset", ["folder", "imported"])
def test_two_folders_have_a_place_each(dataset: str, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(store.parent, 'kind = "grid"\nseeds = 1\n[[rows]]\nhead = "mean"\n')
    runs = store.parent / "runs"
    for name in ("folder-cats", "folder-dogs"):
        path = store.parent / f"{name}.zarr"
        shutil.copytree(store, path)
        group = json.loads((path / "zarr.json").read_text())
        group["attributes"]["name"] = dataset
        group["attributes"]["passport"]["dataset"]["version"] = name
        (path / "zarr.json").write_text(json.dumps(group))
        assert study(file, path) == 0
    assert sorted(each.name for each in runs.iterdir()) == ["mine-folder-cats-whole", "mine-folder-dogs-whole"]


@pytest.mark.parametrize("workers", ["0", "-1", "1000000000"])
def test_workers_beyond_reason_are_refused(workers: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "topk", "--workers", workers) == f"1 <= workers <= 256 must hold, got --workers {workers}"


def test_an_unknown_study_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "xpool_haed").startswith("unknown study 'xpool_haed': did you mean 'xpool_head'? known: ")
    assert told(capsys, "nowhere/mine.toml").startswith("unknown study 'nowhere/mine.toml'")


def test_a_range_that_the_head_refuses_is_told_before_the_first_trial(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(store.parent, 'head = "topk"\n[search]\ntop_k = { int = [1, 9] }\n')
    assert told(capsys, file, "--store", str(store), "--runs", str(store.parent / "runs")) == (
        "'topk' does not work at top_k=9: 1 <= top_k <= 5 frames must hold, got top_k=9"
    )
    assert not (store.parent / "runs").exists()


def test_a_protocol_with_slashes_names_no_directories(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shares = "70/10/20-seed0"

    def renamed(row: Any) -> Any:
        return replace(row, splits={shares if name == "whole" else name: split for name, split in row.splits.items()})

    parts = {name: tuple(map(renamed, getattr(world.collection, name))) for name in ("videos", "captions")}
    divided = replace(world, collection=replace(world.collection, protocols=(shares, "few"), **parts))
    path, runs = tmp_path / "divided.zarr", tmp_path / "runs"
    divided.fill(divided.create(path))
    journal = ["--storage", str(tmp_path / "shared.log")]
    for name, top in (("one", 3), ("two", 5)):  # trials of both in one place, told apart by the studies' names
        file = write(tmp_path, f'head = "topk"\nbaseline = "mean"\n[search]\ntop_k = {{ int = [1, {top}] }}\n', name)
        assert study(file, path, *journal) == 0
    assert sorted(each.name for each in runs.iterdir()) == ["one-toy-70-10-20-seed0", "two-toy-70-10-20-seed0"]
    assert len(newest(open_store(path), shares, runs).found) == len(notebook.studies(runs)) == 2
    capsys.readouterr()
    assert cli.run(main, ["compare", "nothing", "--runs", str(runs)]) == 2
    assert "one-toy-70-10-20-seed0, two-toy-70-10-20-seed0" in capsys.readouterr().err


@pytest.mark.parametrize("file", sorted(STUDIES.glob("*.toml")), ids=lambda file: file.stem)
def test_a_header_is_an_entry_of_a_lab_book(file: Path) -> None:
    lines = file.read_text().split("\n\n")[0].splitlines()
    assert all(line.startswith("#") for line in lines)
    assert lines[0].rstrip().endswith(("?", "."))
    assert any(re.match(rf"# command +python -m lab\.study {file.stem}( |$)", line) for line in lines)
    assert any(re.match(r"# time +\S", line) for line in lines)
    assert any(re.match(r"# result +\S", line) for line in lines)

"""Rows and seeds that train together end as those that train one by one, however their process ends."""

from __future__ import annotations

import json
import shutil
import time
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import start_study
from safetensors.torch import load_file

from lab import cli
from lab.errors import LabError
from lab.store import open_store
from lab.studies import saved, trainings
from lab.studies.guard import SealedStore
from lab.studies.rows import Chosen, choose, take_part, train_all
from lab.studies.saved import claimed
from lab.studies.setups import Setup, Study
from lab.studies.space import Range
from lab.studies.splits import Fitted, Splits
from lab.study import main

HOW = {"epochs": 2, "audio_epochs": 2, "batch": 256, "lr": 1e-2, "audio_lr": 1e-2}
SEEN = Setup("seen", "xpool", HOW)
HEARD = Setup("heard", "cmfi", HOW, {"video": "xpool"}, choose={"fusion_weight": (0.3, 1.0)})
MEAN = Setup("mean", "mean")


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of the stacks that train."""
    done: list[int] = []
    train = trainings.train_stack

    def counted(members: Any, *given: Any, **options: Any) -> Any:
        done.append(len(members))
        return train(members, *given, **options)

    monkeypatch.setattr(trainings, "train_stack", counted)
    return done


def grid(full: Path, stack: int, *setups: Setup, seeds: int = 3) -> Splits:
    study = Study("g", "grid", setups, setups[0].name, seeds=seeds, stack=stack)
    return Splits(SealedStore(open_store(full)), study, "cpu")


def train_rows(full: Path, stack: int, runs: Path, *setups: Setup, seeds: int = 3) -> list[list[str]]:
    """The final trainings of a grid; the names of their runs, by row."""
    splits = grid(full, stack, *setups, seeds=seeds)
    done = train_all([Chosen(setup) for setup in setups], splits, runs)[1]
    return [["" if fitted.path is None else fitted.path.name for fitted in row] for row in done]


@pytest.mark.parametrize("stack", [1, 3])
def test_weights_that_have_no_room_are_told_before_a_row_trains(
    full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int], stack: int
) -> None:
    """An untrained head has none to save."""

    def none_left(head: Any, runs: Path, heads: int) -> None:
        assert heads == stack
        raise OSError(28, "No space left on device", str(runs))

    monkeypatch.setattr("lab.studies.rows.require_room", none_left)
    assert train_rows(full, stack, tmp_path / "runs", MEAN, seeds=1) == [[""]]
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path / 'runs'}'"):
        train_rows(full, stack, tmp_path / "runs", SEEN)
    assert sizes == []
    monkeypatch.undo()
    made = train_rows(full, stack, tmp_path / "runs", SEEN)
    monkeypatch.setattr("lab.studies.rows.require_room", none_left)
    assert train_rows(full, stack, tmp_path / "runs", SEEN) == made  # what is read needs none


def require_same(one: Path, other: Path) -> None:
    """The runs below two directories: what they say, epoch by epoch, and their weights."""
    assert {path.name for path in one.iterdir()} == {path.name for path in other.iterdir()}
    for mine in one.iterdir():
        theirs = other / mine.name
        said, told = (json.loads((path / "run.json").read_text()) for path in (mine, theirs))
        assert said.pop("seconds") > 0
        assert told.pop("seconds") > 0
        kept = [each.pop("kept") for each in (said, told)]
        assert {**said, "time": ""} == {**told, "time": ""}
        logs = [[json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()] for path in (mine, theirs)]
        assert len(logs[0]) == len(logs[1])
        for epoch, same in zip([kept[0], *logs[0]], [kept[1], *logs[1]], strict=True):
            assert (epoch["epoch"], epoch["stage"]) == (same["epoch"], same["stage"])
            assert epoch["metrics"] == pytest.approx(same["metrics"])
            assert [epoch[key] for key in ("loss", "logit_scale")] == pytest.approx(
                [same[key] for key in ("loss", "logit_scale")], rel=2e-4
            )
        weights, others = (load_file(path / "head.safetensors") for path in (mine, theirs))
        assert weights.keys() == others.keys()
        assert all(weights[name].allclose(others[name], atol=1e-3) for name in weights)


def test_seeds_of_a_row_come_out_as_they_would_one_by_one(
    full: Path, tmp_path: Path, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more than a stack holds. CMFI's video sides are those of the row before it, from memory or from disk."""
    rows, bars, bar = (MEAN, SEEN, HEARD), [], cli.bar

    def kept(*given: Any) -> Any:
        bars.append(bar(*given))
        return bars[-1]

    monkeypatch.setattr(cli, "bar", kept)
    names = train_rows(full, 2, tmp_path / "together", *rows)
    assert names == [[""], ["seen-s1", "seen-s2", "seen-s3"], ["heard-s1", "heard-s2", "heard-s3"]]
    assert sizes == [2, 1, 2, 1]
    assert (bars[0].n, bars[0].total) == (9, 9)
    sizes.clear()
    assert train_rows(full, 1, tmp_path / "alone", *rows) == names
    assert sizes == [1] * 6
    require_same(tmp_path / "together", tmp_path / "alone")

    side = json.loads((tmp_path / "alone" / "seen-s3" / "run.json").read_text())
    assert side["kept"]["epoch"] == 1  # and is all that is known of it from disk
    sizes.clear()
    for stack, runs in ((3, tmp_path / "together"), (1, tmp_path / "alone")):
        for seed in (1, 3):
            shutil.rmtree(runs / f"heard-s{seed}")
        before = {file: file.read_bytes() for file in runs.glob("*/run.json")}
        train_rows(full, stack, runs, *rows)
        assert {file: file.read_bytes() for file in before} == before
    assert sizes == [2, 1, 1]
    require_same(tmp_path / "together", tmp_path / "alone")


def test_rows_of_one_build_train_together(full: Path, tmp_path: Path, sizes: list[int]) -> None:
    """Those that differ in rates alone; of CMFI both stages."""
    quick = {"lr": 1e-3, "audio_lr": 1e-3}
    seen, heard = (replace(row, name=f"{row.name}, less", recipe=HOW | quick) for row in (SEEN, HEARD))
    rows = (SEEN, HEARD, MEAN, heard, seen)
    names = train_rows(full, 4, tmp_path / "together", *rows, seeds=2)
    assert names[3:] == [["heard--less-s1", "heard--less-s2"], ["seen--less-s1", "seen--less-s2"]]
    assert sizes == [4, 4]
    assert train_rows(full, 1, tmp_path / "alone", *rows, seeds=2) == names
    assert sizes == [4, 4] + [1] * 8
    require_same(tmp_path / "together", tmp_path / "alone")


def test_one_by_one_rows_keep_their_order_and_a_head_lives_as_long_as_its_row(
    full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is compared with another one, which could be of a kind that refuses it."""
    build, save = Splits.build, saved.save
    heads: list[weakref.ref[Any]] = []
    order: list[tuple[str, int]] = []

    def built(*given: Any) -> Any:
        made = build(*given)
        made[0].held = np.ones(3)
        heads.append(weakref.ref(made[0]))
        return made

    def noted(made: Fitted, path: Path) -> Fitted:
        done = save(made, path)
        order.append((path.name, sum(each() is not None for each in heads)))
        return done

    rows = [SEEN, replace(SEEN, name="kept", recipe=HOW | {"batch": 8}), replace(SEEN, name="less", recipe=HOW)]
    splits = grid(full, 1, *rows, seeds=1)
    monkeypatch.setattr(Splits, "build", built)
    monkeypatch.setattr(saved, "save", noted)
    train_all([Chosen(row) for row in rows], splits, tmp_path / "g" / "runs")
    assert order == [("seen-s1", 1), ("kept-s1", 2), ("less-s1", 3)]


def test_a_row_chooses_among_trainings_that_are_done_together(full: Path, sizes: list[int]) -> None:
    rates = (1e-4, 1e-3, 1e-2)
    row = Setup("tried", "xpool", HOW, search={"lr": Range("choice", choices=rates)})
    together, alone = (choose(grid(full, stack, row)) for stack in (2, 1))
    assert sizes == [2, 1, 1, 1, 1]
    assert [point for point, _ in together[0].tried] == [{"lr": rate} for rate in rates]
    assert [value for _, value in together[0].tried] == pytest.approx([value for _, value in alone[0].tried])
    assert together[0].setup == alone[0].setup
    wild = replace(row, search={"lr": Range("choice", choices=(1e-3, 1e30))})
    with pytest.raises(LabError, match=r"^row 'tried' at {'lr': 1e\+30}: "):
        choose(grid(full, 2, wild))


def test_a_video_side_that_trains_first_is_not_trained_again(full: Path, tmp_path: Path, sizes: list[int]) -> None:
    """And a setting that takes effect after the training is in the run of each seed."""
    weighed = replace(HEARD.with_after({"fusion_weight": 0.5}), name="weighed")
    train_rows(full, 3, tmp_path / "together", weighed, SEEN)
    assert sizes == [3, 3]
    train_rows(full, 1, tmp_path / "alone", weighed, SEEN)
    require_same(tmp_path / "together", tmp_path / "alone")
    assert json.loads((tmp_path / "together" / "weighed-s2" / "run.json").read_text())["after"] == {
        "fusion_weight": 0.5
    }


def test_a_seed_that_diverges_is_the_error_that_it_is_alone(
    full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wild = Setup("wild", "xpool", HOW | {"lr": 1e30})
    with pytest.raises(LabError, match="'wild' with seed 1: ") as alone:
        train_rows(full, 1, tmp_path / "alone", wild)
    with pytest.raises(LabError) as together:
        train_rows(full, 3, tmp_path / "together", wild)
    assert str(together.value) == str(alone.value)

    train = trainings.train_stack

    def second(*given: Any, **options: Any) -> Any:
        for place, outcome in train(*given, **options):
            yield place, LabError("it diverges") if place == 1 else outcome

    monkeypatch.setattr(trainings, "train_stack", second)
    with pytest.raises(LabError, match=r"^'seen' with seed 2: it diverges$"):
        train_rows(full, 3, tmp_path / "g" / "runs", SEEN)
    assert sorted(path.name for path in (tmp_path / "g" / "runs").iterdir()) == ["seen-s1", "seen-s3"]
    monkeypatch.undo()
    with claimed(tmp_path / "g" / "runs" / "seen-s2", wait=False) as free:
        assert free


def test_a_row_that_diverges_leaves_the_trainings_of_the_others(full: Path, tmp_path: Path) -> None:
    wild = replace(SEEN, name="wild", recipe=HOW | {"lr": 1e30})
    with pytest.raises(LabError, match=r"^'wild' with seed 1: "):
        train_rows(full, 4, tmp_path / "g" / "runs", wild, SEEN, seeds=2)
    assert sorted(path.name for path in (tmp_path / "g" / "runs").iterdir()) == ["seen-s1", "seen-s2"]


def test_what_another_process_trains_is_left_to_it(full: Path, tmp_path: Path, sizes: list[int]) -> None:
    splits = grid(full, 4, SEEN)
    runs = tmp_path / "g" / "runs"
    with claimed(runs / "seen-s2"):
        take_part(splits, runs)
        assert sorted(path.name for path in runs.iterdir()) == ["seen-s1", "seen-s3"]
        take_part(splits, runs)
    assert sizes == [2]
    assert train_rows(full, 4, runs, SEEN) == [["seen-s1", "seen-s2", "seen-s3"]]
    assert sizes == [2, 1]


def test_a_helper_trains_the_video_sides_of_a_stack_at_once(full: Path, tmp_path: Path, sizes: list[int]) -> None:
    splits = grid(full, 3, HEARD, SEEN)
    runs = tmp_path / "g" / "runs"
    take_part(splits, runs)
    assert sizes == [3, 3]
    assert sorted(path.name for path in runs.iterdir()) == [
        f"{row}-s{seed}" for row in ("heard", "seen") for seed in (1, 2, 3)
    ]


def test_heads_that_cannot_be_stacked_train_one_by_one(
    full: Path, tmp_path: Path, sizes: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    lstm = Setup("lstm", "seqlstm", {"epochs": 1, "batch": 256})
    assert train_rows(full, 2, tmp_path / "runs", lstm, MEAN, seeds=2) == [["lstm-s1", "lstm-s2"], [""]]
    assert sizes == [1, 1]
    said = [record.getMessage() for record in caplog.records if record.name == "lab.studies.rows"]
    assert said == ["the heads of 'lstm' train one by one: torch.vmap knows no recurrent layers"]


GRID = """
kind = "grid"
seeds = 4
stack = 2
train = { epochs = 4, batch = 256 }
[[rows]]
head = "xpool"
"""


def test_a_kill_loses_no_more_than_a_stack(full: Path, tmp_path: Path) -> None:
    """And whoever goes on may have help."""
    shutil.copytree(full, tmp_path / "toy.zarr")
    (tmp_path / "mine.toml").write_text(GRID)
    own = ["--store", str(tmp_path / "toy.zarr"), "--runs", str(tmp_path / "runs"), "--name", "g"]
    command, runs = [str(tmp_path / "mine.toml"), *own], tmp_path / "runs" / "g" / "runs"
    process = start_study(command, tmp_path / "told.txt")
    end = time.monotonic() + 240
    while not list(runs.glob("xpool-*/run.json")):
        assert process.is_alive(), (tmp_path / "told.txt").read_text()
        assert time.monotonic() < end
        time.sleep(0.01)
    process.kill()
    process.join()
    before = {file: file.read_bytes() for file in runs.glob("xpool-*/run.json")}
    assert before
    helper = start_study([*command, "--join"], tmp_path / "joined.txt")
    assert cli.run(main, command) == 0
    helper.join(240)
    assert helper.exitcode == 0, (tmp_path / "joined.txt").read_text()
    assert {path.name for path in runs.glob("xpool-*")} == {f"xpool-s{seed}" for seed in (1, 2, 3, 4)}
    assert {file: file.read_bytes() for file in before} == before
    assert json.loads((tmp_path / "runs" / "g" / "result.json").read_text())["rows"][0]["seeds"] == [1, 2, 3, 4]


def test_epochs_are_numbered_as_they_would_be_alone(full: Path) -> None:
    """The second stage of what trains together goes on where its own first stage ended."""
    setups = [replace(HEARD, recipe=HOW | {"epochs": epochs, "audio_epochs": 1}) for epochs in (1, 2)]
    splits = grid(full, 2, *setups)
    seen: list[tuple[int, int]] = []

    def on_epoch(epoch: int, told: dict[int, Any]) -> list[int]:
        seen.extend((number, epoch) for number in told)
        return []

    ended = dict(splits.fit_all(dict(enumerate((setup, None) for setup in setups)), on_epoch))
    assert sorted(seen) == [(0, 1), (0, 2), (1, 1), (1, 2), (1, 3)]
    for number, fitted in ended.items():
        assert isinstance(fitted, Fitted)
        assert [epoch.epoch for epoch in fitted.epochs] == [told for each, told in sorted(seen) if each == number]

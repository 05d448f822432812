"""A search whose trials train together ends as one whose trials train one by one, however its process ends."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
from forked import start_study

from lab import cli
from lab.errors import LabError
from lab.studies import trainings
from lab.studies.splits import Splits
from lab.studies.storage import open_storage
from lab.study import main

STUDY = """
kind = "search"
head = "xpool"
pruner = "none"
sampler = "random"
stack = 3
[train]
epochs = 2
batch = 256
[search]
lr = { log = [1e-5, 1e-3] }
dropout = { float = [0.0, 0.5] }
"""
SOUND = """
kind = "search"
head = "cmfi"
pruner = "none"
sampler = "random"
stack = 4
[train]
epochs = 2
audio_epochs = 2
batch = 256
lr = 1e-3
[keywords]
video = "sf"
[search]
audio_lr = { log = [1e-4, 1e-1] }
video_keywords.dropout = { choice = [0.0, 0.3] }
"""


@pytest.fixture
def folder(full: Path, tmp_path: Path) -> Path:
    shutil.copytree(full, tmp_path / "toy.zarr")
    (tmp_path / "mine.toml").write_text(STUDY)
    return tmp_path


def arguments(folder: Path, trials: int, *more: str, name: str = "s") -> list[str]:
    own = ["--store", str(folder / "toy.zarr"), "--runs", str(folder / "runs"), "--name", name, "--no-test"]
    return [str(folder / "mine.toml"), *own, "--trials", str(trials), *more]


def run(folder: Path, trials: int, *more: str, name: str = "s") -> int:
    return cli.run(main, arguments(folder, trials, *more, name=name))


def trials(folder: Path, name: str = "s") -> list[optuna.trial.FrozenTrial]:
    storage = open_storage(folder / "runs" / name / "journal.log")
    return optuna.load_study(study_name=name, storage=storage.optuna).trials


def states(folder: Path) -> Counter[str]:
    return Counter(trial.state.name for trial in trials(folder))


@pytest.mark.parametrize(("text", "asked"), [(STUDY, 4), (SOUND, 5)])
def test_trials_come_out_as_they_would_one_by_one(
    folder: Path, text: str, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more than a stack holds; and with CMFI, video sides that several trials have in common are trained once."""
    (folder / "mine.toml").write_text(text)
    sizes: list[int] = []
    train = trainings.train_stack

    def counted(members: Any, *given: Any, **options: Any) -> Any:
        sizes.append(len(members))
        return train(members, *given, **options)

    monkeypatch.setattr(trainings, "train_stack", counted)
    assert run(folder, asked) == 0
    assert sizes == ([3, 1] if text is STUDY else [2, 4, 1])
    assert run(folder, asked, "--set", "stack=1", name="alone") == 0
    one, other = trials(folder), trials(folder, "alone")
    assert [trial.state.name for trial in one] == ["COMPLETE"] * asked
    for mine, theirs in zip(one, other, strict=True):
        assert mine.params == theirs.params
        assert mine.user_attrs["epoch"] == theirs.user_attrs["epoch"]
        assert mine.intermediate_values == pytest.approx(theirs.intermediate_values)
        assert mine.value == pytest.approx(theirs.value)
        assert mine.user_attrs["metrics"] == pytest.approx(theirs.user_attrs["metrics"])


def test_how_many_train_together_is_no_part_of_what_a_study_is(folder: Path) -> None:
    assert run(folder, 3) == 0
    assert run(folder, 5, "--set", "stack=2") == 0
    assert states(folder) == {"COMPLETE": 5}


def test_pruned_and_diverged_ones_end_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended: list[int] = []

    def prune(trial: optuna.Trial) -> bool:
        return trial.number == 1

    train = trainings.train_stack

    def noted(*given: Any, **options: Any) -> Any:
        for number, outcome in train(*given, **options):
            ended.append(number)
            yield (number, LabError("it diverges")) if number == 0 else (number, outcome)

    monkeypatch.setattr(optuna.Trial, "should_prune", prune)
    monkeypatch.setattr(trainings, "train_stack", noted)
    assert run(folder, 3) == 0
    assert ended == [1, 0, 2]
    assert [trial.state.name for trial in trials(folder)] == ["PRUNED", "PRUNED", "COMPLETE"]
    assert list(trials(folder)[1].intermediate_values) == [1]
    assert "3 trials (2 pruned, 1 diverged); the best on validation is number 2 " in capsys.readouterr().out


def test_what_a_head_refuses_is_one_trial(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, calls = Splits.task, [0]

    def refuses(*given: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            raise LabError("head 'xpool' refuses its keywords")
        return task(*given)

    monkeypatch.setattr(Splits, "task", refuses)
    assert run(folder, 3) == 0
    assert [trial.state.name for trial in trials(folder)] == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert trials(folder)[1].user_attrs["diverged"] == "head 'xpool' refuses its keywords"


def test_a_kill_loses_no_more_than_the_trials_in_flight(folder: Path) -> None:
    """Which are put back with their settings; the number of finished ones is what was asked for."""
    more = ("--set", "epochs=4")
    process = start_study(arguments(folder, 6, *more), folder / "told.txt")
    journal = folder / "runs" / "s" / "journal.log"
    end = time.monotonic() + 240
    while not (journal.exists() and b'"intermediate_value":' in journal.read_bytes()):
        assert process.is_alive(), (folder / "told.txt").read_text()
        assert time.monotonic() < end
        time.sleep(0.01)
    process.kill()
    process.join()
    lost = [trial.params for trial in trials(folder) if trial.state.name == "RUNNING"]
    assert len(lost) == 3
    assert run(folder, 6, *more) == 0
    assert states(folder) == {"COMPLETE": 6, "FAIL": 3}
    again = [trial.params for trial in trials(folder) if trial.state.name == "COMPLETE"]
    assert all(params in again for params in lost)

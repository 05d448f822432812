"""A search ends with exactly the trials that were asked for, however its processes end."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from forked import start_study
from optuna.trial import TrialState

from lab import cli
from lab.errors import LabError
from lab.studies import queue as queues
from lab.studies import workers
from lab.studies.cached import settle
from lab.studies.queue import Queue
from lab.studies.sampling import sampler_for
from lab.studies.space import Range
from lab.studies.splits import Splits
from lab.studies.storage import open_storage
from lab.studies.workers import alive, helpers, me
from lab.study import main

STUDY = """
kind = "search"
head = "xpool"
pruner = "none"
[train]
epochs = 1
batch = 64
[search]
lr = { log = [1e-4, 1e-1] }
dropout = { float = [0.0, 0.5] }
"""
UNTRAINED = """
kind = "search"
head = "softmax"
sampler = "random"
[search]
temperature = { log = [1e-3, 1.0] }
"""
SPACE = {"x": Range("float", 0.0, 1.0)}


@pytest.fixture
def folder(full: Path, tmp_path: Path) -> Path:
    shutil.copytree(full, tmp_path / "toy.zarr")
    (tmp_path / "mine.toml").write_text(STUDY)
    return tmp_path


def arguments(folder: Path, trials: int, *more: str) -> list[str]:
    own = ["--store", str(folder / "toy.zarr"), "--runs", str(folder / "runs"), "--name", "s", "--no-test"]
    return [str(folder / "mine.toml"), *own, "--trials", str(trials), *more]


def start(folder: Path, trials: int, *more: str) -> ForkServerProcess:
    return start_study(arguments(folder, trials, *more), folder / "told.txt")


def trials(where: str | Path, name: str = "s") -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=name, storage=open_storage(where).optuna).trials


def states(where: str | Path) -> Counter[str]:
    return Counter(trial.state.name for trial in trials(where))


def queue_on(file: Path, target: int, seed: int = 0, space: dict[str, Range] = SPACE, sampler: str = "auto") -> Queue:
    storage = open_storage(file)
    study = optuna.create_study(storage=storage.optuna, study_name="s", load_if_exists=True)
    return Queue(study, storage, space, sampler=sampler, seed=seed, target=target)


# -- what optuna is asked for ------------------------------------------------------------------------------------------


def test_tpe_sees_settings_together_and_counts_what_still_runs() -> None:
    sampler = sampler_for("auto", SPACE, False, 0, 0)
    assert isinstance(sampler, optuna.samplers.TPESampler)
    assert (sampler._multivariate, sampler._constant_liar) == (True, True)  # optuna has no other way to ask


def test_a_study_remembers_the_optuna_that_began_it(folder: Path) -> None:
    (folder / "mine.toml").write_text(UNTRAINED)
    assert cli.run(main, arguments(folder, 1)) == 0
    begun = optuna.load_study(study_name="s", storage=open_storage(folder / "runs" / "s" / "journal.log").optuna)
    assert begun.user_attrs["versions"] == {"optuna": optuna.__version__}
    assert int(optuna.__version__.split(".")[0]) >= 5


# -- the queue -------------------------------------------------------------------------------------------------------


def test_no_more_trials_are_taken_than_are_missing(tmp_path: Path) -> None:
    one, other = queue_on(tmp_path / "j", 5), queue_on(tmp_path / "j", 5)
    mine, theirs = one.take(3), other.take(3)
    assert (len(mine), len(theirs)) == (3, 2)
    assert one.take(1) == []
    for queue, taken in ((one, mine), (other, theirs)):
        for trial in taken:
            queue.finish(trial, 0.5, {})
    assert one.take(1) == []
    assert one.counts() == queues.Counts(5, 0)
    assert [t.number for t in queue_on(tmp_path / "j", 6).take(3)] == [5]  # asked to go on


@pytest.mark.parametrize("owner", ["dead", "foreign and silent", "killed inside the gate"])
def test_trials_of_a_dead_process_are_put_back(tmp_path: Path, owner: str) -> None:
    lost = queue_on(tmp_path / "j", 2).take(1)[0]
    if owner == "dead":
        lost.set_user_attr("owner", {**me(), "pid": 2**22 + 1})
    elif owner == "killed inside the gate":
        lost.set_user_attr("owner", None)
    else:
        lost.set_user_attr("owner", {**me(), "machine": "another"})
        lost.set_user_attr("beat", time.time() - 2 * workers.DEAD_S)
    queue = queue_on(tmp_path / "j", 2)
    again, fresh = queue.take(2)
    assert again.params == lost.params
    assert fresh.params != lost.params
    for trial in (again, fresh):
        queue.finish(trial, 0.5, {})
    assert states(tmp_path / "j") == {"COMPLETE": 2, "FAIL": 1}


@pytest.mark.parametrize("owner", ["here", "elsewhere"])
def test_trials_of_a_living_process_are_left_alone(tmp_path: Path, owner: str) -> None:
    trial = queue_on(tmp_path / "j", 1).take(1)[0]
    if owner == "elsewhere":
        trial.set_user_attr("owner", {**me(), "machine": "another"})
    assert queue_on(tmp_path / "j", 1).take(1) == []


def test_who_was_taken_for_dead_and_returns_is_not_counted(tmp_path: Path) -> None:
    slow = queue_on(tmp_path / "j", 1)
    trial = slow.take(1)[0]
    trial.set_user_attr("owner", {**me(), "pid": 2**22 + 1})
    other = queue_on(tmp_path / "j", 1)
    other.finish(other.take(1)[0], 0.1, {})
    slow.finish(trial, 0.9, {"seconds": 1.0})
    assert [t.value for t in trials(tmp_path / "j") if t.state == TrialState.COMPLETE] == [0.1]


def test_a_process_number_that_was_given_again_is_not_the_same_process(tmp_path: Path) -> None:
    assert alive(me(), 0)
    assert not alive({**me(), "start": "1"}, time.time())


def test_an_interrupted_search_gives_the_same_trials(tmp_path: Path) -> None:
    def settings(file: Path, stops: tuple[int, ...]) -> list[dict[str, Any]]:
        for stop in stops:
            queue = queue_on(file, stop)
            while taken := queue.take(1):
                queue.finish(taken[0], taken[0].params["x"] ** 2, {})
        return [trial.params for trial in trials(file)]

    assert settings(tmp_path / "a", (14,)) == settings(tmp_path / "b", (3, 11, 14))


SMALL = {"k": Range("int", 1, 4), "p": Range("choice", choices=("a", "b", True))}


def work_off(queue: Queue) -> set[tuple[Any, ...]]:
    """Finishes all trials of a queue; which different points they were at."""
    while taken := queue.take(5):
        for trial in taken:
            queue.finish(trial, 0.0, {})
    return {tuple(trial.params.values()) for trial in queue.trials()}


@pytest.mark.parametrize(("sampler", "asked"), [("auto", 100), ("auto", 12), ("each", 100)])
def test_each_point_of_a_small_space_is_tried_once(tmp_path: Path, sampler: str, asked: int) -> None:
    queue = queue_on(tmp_path / "j", asked, space=SMALL, sampler=sampler)
    assert (queue.target, queue.exhausted) == (12, False)
    assert len(work_off(queue)) == len(trials(tmp_path / "j")) == 12
    assert queue.exhausted


@pytest.mark.parametrize(("sampler", "asked"), [("random", 12), ("tpe", 12), ("each", 11), ("auto", 11)])
def test_points_that_were_left_out_are_not_claimed(tmp_path: Path, sampler: str, asked: int) -> None:
    queue = queue_on(tmp_path / "j", asked, space=SMALL, sampler=sampler)
    assert len(work_off(queue)) < 12
    assert len(trials(tmp_path / "j")) == asked
    assert not queue.exhausted


def test_who_draws_with_replacement_makes_all_trials_that_were_asked_for(tmp_path: Path) -> None:
    queue = queue_on(tmp_path / "j", 100, space=SMALL, sampler="random")
    assert queue.target == 100
    assert len(work_off(queue)) == 12
    assert len(trials(tmp_path / "j")) == 100
    assert queue.exhausted


def test_a_point_at_which_a_trial_was_pruned_has_no_value(tmp_path: Path) -> None:
    queue = queue_on(tmp_path / "j", 100, space=SMALL)
    queue.finish(queue.take(1)[0], None, {"diverged": "the loss is nan"})
    assert len(work_off(queue)) == 12
    assert queue.counts() == queues.Counts(12, 0)
    assert not queue.exhausted


def test_an_endless_space_cannot_be_tried_point_by_point(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"sampler=each must have ranges .*got x: float 0 \.\. 1: take sampler=auto"):
        queue_on(tmp_path / "j", 3, sampler="each")


# -- the journal -----------------------------------------------------------------------------------------------------


def test_a_line_that_a_killed_writer_left_is_cut_off(tmp_path: Path) -> None:
    queue = queue_on(tmp_path / "j", 3)
    queue.finish(queue.take(1)[0], 0.5, {})
    with (tmp_path / "j").open("ab") as stream:
        stream.write(b'{"op_code":4,"worker_id":"x","study')
    going_on = queue.take(1)[0]  # also one who has the file open goes on
    queue.finish(going_on, 0.5, {})
    again = queue_on(tmp_path / "j", 3)
    assert again.counts() == queues.Counts(2, 0)


@pytest.mark.parametrize(
    "content",
    [b"no journal\n", b'{"op_code": 99}\n', b'{"op_code": 0}\n', b"[1]\n", b"\xff\n{}\n", b"[" * 10**5 + b"\n"],
)
def test_a_damaged_journal_is_one_line(folder: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "journal").write_bytes(content)
    assert cli.run(main, arguments(folder, 1, "--storage", str(folder / "journal"))) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"lab.study: error: {folder / 'journal'} is damaged, or no journal of Optuna (")
    assert "delete it and the search begins anew" in line


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("postgresql+psycopg://nobody:secret@127.0.0.1:1/none", "cannot be reached"),
        ("nodatabase://x/y", "cannot be reached"),
        ("mysql+nodriver://x/y", "cannot be reached"),
    ],
)
def test_a_storage_that_cannot_be_reached(where: str, said: str) -> None:
    with pytest.raises(LabError, match=said) as told:
        open_storage(where)
    assert "secret" not in str(told.value)
    assert "\n" not in str(told.value)


# -- whole processes -------------------------------------------------------------------------------------------------


def test_killed_five_times_it_ends_with_what_was_asked(folder: Path) -> None:
    (folder / "mine.toml").write_text(UNTRAINED)
    journal, asked = folder / "runs" / "s" / "journal.log", 150
    for kill in range(5):
        process = start(folder, asked)
        _wait(lambda: _lines(journal) >= 100 + 100 * kill, process)  # noqa: B023 - called within the turn
        process.kill()  # SIGKILL
        process.join()
        assert process.exitcode == -signal.SIGKILL
    before = states(journal)
    assert 0 < before["COMPLETE"] < asked
    assert cli.run(main, arguments(folder, asked)) == 0
    found = states(journal)
    assert found["COMPLETE"] == asked
    assert not found["RUNNING"]
    assert not found["WAITING"]
    told = Counter(line["trial_id"] for line in _told(journal) if line["op_code"] == 6 and line["state"] == 1)
    assert set(told.values()) == {1}  # none is counted twice


@pytest.mark.parametrize("processes", [2, 4])
def test_the_same_command_many_times_ends_with_what_was_asked(folder: Path, processes: int) -> None:
    (folder / "mine.toml").write_text(UNTRAINED)
    running = [start_study(arguments(folder, 60), folder / "told.txt", processes) for _ in range(processes)]
    for process in running:
        process.join(240)
        assert process.exitcode == 0, (folder / "told.txt").read_text()
    found = trials(folder / "runs" / "s" / "journal.log")
    assert [trial.state.name for trial in found] == ["COMPLETE"] * 60
    assert len({trial.user_attrs["owner"]["pid"] for trial in found}) > 1


def test_workers_are_the_same_command_told_to_join(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    class Process:
        def __init__(self, command: list[str], **options: Any) -> None:
            started.append((command, options))

        def wait(self) -> int:
            return 0

    monkeypatch.setattr(subprocess, "Popen", Process)
    with helpers(["xpool_head", "--trials", "3"], 3):
        assert [command[1:] for command, _ in started] == [
            ["-m", "lab.study", "xpool_head", "--trials", "3", "--join"]
        ] * 2  # fmt: skip
    with helpers([], 1):
        assert len(started) == 2


def test_a_helper_takes_part_and_leaves_the_final_step(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = [argument for argument in arguments(folder, 2) if argument != "--no-test"]
    assert cli.run(main, [*whole, "--join"]) == 0
    assert capsys.readouterr().out == ""
    assert states(folder / "runs" / "s" / "journal.log") == {"COMPLETE": 2}
    assert not (folder / "runs" / "s" / "result.json").exists()
    assert not list(folder.glob("*.reads.jsonl"))


def _wait(holds: Any, process: ForkServerProcess) -> None:
    end = time.monotonic() + 240
    while not holds():
        assert process.exitcode is None, "it ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.01)


def _lines(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def _told(journal: Path) -> Iterator[dict[str, Any]]:
    for line in journal.read_text().splitlines():
        yield json.loads(line)


# -- within a process ------------------------------------------------------------------------------------------------


def run(folder: Path, asked: int, *more: str) -> int:
    return cli.run(main, arguments(folder, asked, *more))


def test_ctrl_c_loses_the_trial_in_flight_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit, calls = Splits.fit_all, [0]

    def interrupted(*args: Any, **keywords: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt
        return fit(*args, **keywords)

    monkeypatch.setattr(Splits, "fit_all", interrupted)
    assert run(folder, 4) == 130
    journal = folder / "runs" / "s" / "journal.log"
    assert states(journal) == {"COMPLETE": 2, "FAIL": 1, "WAITING": 1}
    lost = trials(journal)[2].params
    assert run(folder, 4) == 0
    assert states(journal) == {"COMPLETE": 4, "FAIL": 1}
    assert trials(journal)[3].params == lost


def test_a_trial_that_diverges_is_finished_and_never_the_best(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, calls = Splits.fit_all, [0]

    def diverges(self: Splits, asked: Any, on_epoch: Any) -> Any:
        calls[0] += 1
        error = LabError("the loss is nan at step 3: lower the rate, lr=0.1 diverges")
        return fit(self, asked, on_epoch) if calls[0] == 2 else [(number, error) for number in asked]

    monkeypatch.setattr(Splits, "fit_all", diverges)
    assert run(folder, 1) == 2
    err = capsys.readouterr().err
    assert "none of 1 trials was completed: the last said: the loss is nan at step 3" in err
    assert run(folder, 3) == 0
    assert "3 trials (2 pruned, 2 diverged); the best on validation is number 1 " in capsys.readouterr().out


def test_a_trial_whose_settings_after_the_training_cannot_be_chosen_is_one_that_diverged(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [0]

    def breaks(*given: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            raise LabError("features must be finite where they are not masked")
        return settle(*given)

    monkeypatch.setattr("lab.studies.search.settle", breaks)
    text = 'kind = "search"\nhead = "cmfi"\nkeywords.video = "xpool"\n[train]\nepochs = 1\naudio_epochs = 1\n'
    text += "batch = 256\n[choose]\nfusion_weight = [0.0, 1.0]\n[search]\naudio_lr = { log = [1e-3, 1e-2] }\n"
    (folder / "mine.toml").write_text(text)
    assert run(folder, 3) == 0
    assert "3 trials (1 pruned, 1 diverged); the best on validation is number " in capsys.readouterr().out
    told = [trial.user_attrs for trial in trials(folder / "runs" / "s" / "journal.log")]
    assert [("diverged" in each, "after" in each) for each in told] == [(False, True), (True, False), (False, True)]


def test_trials_that_fall_behind_are_pruned(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reached: list[int] = []

    def worse_each_time(self: Splits, asked: Any, on_epoch: Any) -> Any:
        reached.append(0)
        ((number, (setup, _)),) = asked.items()
        metrics = dict.fromkeys(("R@1", "R@5", "R@10"), 50.0 - len(reached))
        for epoch in (1, 2, 3):
            reached[-1] = epoch
            if on_epoch(epoch, {number: metrics}):
                yield number, None
                return
        yield number, SimpleNamespace(metrics=metrics, setup=setup, run=SimpleNamespace(kept={"epoch": 3}))

    monkeypatch.setattr(Splits, "fit_all", worse_each_time)
    assert run(folder, 8, "--set", "pruner=median") == 0
    assert reached == [3] * 5 + [1] * 3  # five to compare with
    assert "8 trials (3 pruned, 0 diverged); the best on validation is number 0 " in capsys.readouterr().out


def test_the_time_ends_a_search(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, 10_000, "--set", "seconds=2") == 0
    found = len(trials(folder / "runs" / "s" / "journal.log"))
    assert 1 <= found < 1000
    assert f"the time is over: {found} of 10000 trials are finished" in capsys.readouterr().err


@pytest.mark.parametrize("objective", ["MnR", "R@5"])
def test_the_best_trial_is_so_in_the_direction_of_its_objective(folder: Path, objective: str) -> None:
    assert run(folder, 5, "--set", f"objective={objective}") == 0
    study = optuna.load_study(study_name="s", storage=open_storage(folder / "runs" / "s" / "journal.log").optuna)
    values = [trial.user_attrs["metrics"][objective] for trial in study.trials]
    assert study.best_value == (min if objective == "MnR" else max)(values)


def test_one_process_does_the_final_step(tmp_path: Path) -> None:
    one, other = queue_on(tmp_path / "j", 1), queue_on(tmp_path / "j", 1)
    with one.final() as mine:
        assert mine is None
        one.study.set_user_attr("final", {"owner": {**me(), "machine": "another"}, "beat": time.time()})
        with other.final() as theirs:
            assert theirs is not None
            assert theirs["machine"] == "another"
        one.study.set_user_attr("final", {"owner": {**me(), "pid": 2**22 + 1}, "beat": time.time()})
        with other.final() as dead:
            assert dead is None


def test_a_final_step_that_was_killed_goes_on_with_the_runs_that_it_has(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = [argument for argument in arguments(folder, 2) if argument != "--no-test"]
    fit, seeds = Splits.fit_all, []

    def watched(self: Splits, asked: Any, *given: Any) -> Any:
        for setup, seed in asked.values():
            if seed is not None and setup.head == "xpool":
                seeds.append(seed)
                if len(seeds) == 2:
                    raise KeyboardInterrupt
        return fit(self, asked, *given)

    monkeypatch.setattr(Splits, "fit_all", watched)
    assert cli.run(main, whole) == 130
    assert cli.run(main, whole) == 0
    assert seeds == [1, 2, 2, 3]
    result = json.loads((folder / "runs" / "s" / "result.json").read_text())
    assert result["rows"][1]["seeds"] == [1, 2, 3]
    for run_ in result["rows"][1]["runs"]:
        assert (Path(run_) / "run.json").is_file()

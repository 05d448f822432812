"""Trainings of a study that are done together: trials of its search, and seeds of a row of its final step.

Trials are asked for in a batch, told of after each epoch, and ended one by one. What of a batch can be stacked is
(``lab.training.stacked``), the rest is trained one by one. CMFI's stages are two trainings, as in
``lab.studies.trainings``, and those that share a video side train it once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lab.errors import LabError
from lab.heads import head_class
from lab.studies.cached import settle
from lab.studies.setups import Setup, Study, quality
from lab.studies.splits import Splits
from lab.studies.trainings import key_of, side_of, two_stages
from lab.training.stacked import Member, OnEpoch, Outcome, train_stack
from lab.training.stages import History
from lab.training.task import Task, Trained, run_of

if TYPE_CHECKING:
    from optuna.trial import Trial

log = logging.getLogger(__name__)

Finish = Callable[["Trial", float | None, Mapping[str, Any]], None]


def batch_of(study: Study) -> int:
    """How many trials are trained together: the study's ``stack``, one for a head that is not trained by gradients."""
    return 1 if hasattr(head_class(study.searched.head), "fit") else study.stack


def train_batch(study: Study, splits: Splits, trials: Sequence[Trial], finish: Finish) -> None:
    """Trains trials and finishes each as it ends: with its value, or None where it was pruned or diverged.

    ``seconds`` of a trial are its share of the time that had passed.
    """
    begun = time.perf_counter()
    tasks: dict[int, tuple[Trial, Setup, Task]] = {}
    for trial in trials:
        setup = study.searched.at(trial.params)
        try:
            tasks[trial.number] = (trial, setup, splits.task(setup))
        except LabError as error:
            log.warning("trial %d: %s", trial.number, error)
            finish(trial, None, {"seconds": 0.0, "diverged": str(error)})

    def on_epoch(epoch: int, told: dict[int, dict[str, float]]) -> Collection[int]:
        return _report({number: tasks[number][0] for number in told}, study, epoch, told)

    for number, outcome in train_together(splits, {number: task for number, (_, _, task) in tasks.items()}, on_epoch):
        trial, setup, _ = tasks[number]
        told: dict[str, Any] = {"seconds": (time.perf_counter() - begun) / len(trials)}
        value: float | None = None
        if isinstance(outcome, LabError):
            log.warning("trial %d: %s", number, outcome)
            told["diverged"] = str(outcome)
        elif outcome is not None:
            made = splits.fitted(setup, outcome)
            if setup.choose:
                made = settle(setup, splits, [made], study.objective)[0][0]
            told |= {"metrics": made.metrics, "epoch": made.run.kept["epoch"]}
            told |= {"after": made.setup.after} if made.setup.after else {}
            value = quality(made.metrics, study.objective)
        finish(trial, value, told)


def _report(trials: Mapping[int, Trial], study: Study, epoch: int, told: dict[int, dict[str, float]]) -> set[int]:
    """Tells Optuna of an epoch of several trials, and which of them are to end."""
    from optuna.exceptions import UpdateFinishedTrialError

    ended = set()
    for number, trial in trials.items():
        try:
            trial.report(quality(told[number], study.objective), epoch)
        except UpdateFinishedTrialError:  # it was put back, as this process seemed dead
            ended.add(number)
    return ended | {number for number, trial in trials.items() if number not in ended and trial.should_prune()}


# -- a batch of trainings --------------------------------------------------------------------------------------------


def train_together(
    splits: Splits, tasks: Mapping[int, Task], on_epoch: OnEpoch
) -> Iterator[tuple[int, Trained | LabError | None]]:
    """Trains tasks of one study, and gives each one's number and what ``Trainings.train`` would give when it ends.

    Or why it diverged, or None where ``on_epoch`` ended it. ``seconds`` are a task's share of the time that had passed,
    with those of its video side where that was trained before.
    """
    begun = time.perf_counter()
    before = {number: splits.trainings.seconds_of(side_of(task)) for number, task in tasks.items() if two_stages(task)}
    for number, outcome in train_tasks(splits, tasks, on_epoch):
        if not isinstance(outcome, History):
            yield number, outcome
            continue
        task, seconds = tasks[number], (time.perf_counter() - begun) / len(tasks)
        yield number, Trained(task.head, outcome, run_of(task, outcome, seconds + before.get(number, 0.0)))


# -- tasks -----------------------------------------------------------------------------------------------------------


def train_tasks(splits: Splits, tasks: Mapping[int, Task], on_epoch: OnEpoch) -> Iterator[tuple[int, Outcome]]:
    """Trains tasks of one study, and gives each one's number and outcome when it ends."""
    two = {number: task for number, task in tasks.items() if two_stages(task)}
    yield from _stacked({number: task for number, task in tasks.items() if number not in two}, on_epoch)
    if two:
        yield from _in_two_stages(splits, two, on_epoch)


def _in_two_stages(splits: Splits, tasks: Mapping[int, Task], on_epoch: OnEpoch) -> Iterator[tuple[int, Outcome]]:
    """What ``Trainings`` does for one task: the video sides, then with those fixed the audio sides."""
    first = {}
    for number, outcome in _shared(splits, {number: side_of(task) for number, task in tasks.items()}, on_epoch):
        if isinstance(outcome, History):
            first[number] = outcome
        else:
            yield number, outcome
    yield from _stacked({number: tasks[number] for number in first}, on_epoch, first)


def _shared(splits: Splits, tasks: Mapping[int, Task], on_epoch: OnEpoch) -> Iterator[tuple[int, Outcome]]:
    """``_stacked``, with tasks that are the same trained once, or not at all where an earlier batch did."""
    groups: dict[str, list[int]] = {}
    for number, task in tasks.items():
        groups.setdefault(key_of(task), []).append(number)
    same = {numbers[0]: numbers for numbers in groups.values()}
    ended: set[int] = set()

    def follow(epoch: int, told: dict[int, dict[str, float]]) -> Collection[int]:
        every = {number: each for first, each in told.items() for number in same[first] if number not in ended}
        ended.update(on_epoch(epoch, every))
        return [first for first in told if ended.issuperset(same[first])]

    def hand_on(first: int, outcome: Outcome) -> Iterator[tuple[int, Outcome]]:
        for number in same[first]:
            if number != first and isinstance(outcome, History):
                tasks[number].head.to(splits.device).load_state_dict(tasks[first].head.state_dict())
            yield number, None if number in ended else outcome

    known = [first for first in same if splits.trainings.knows(tasks[first])]
    for first in known:
        history = splits.trainings.train(tasks[first]).history
        for epoch in history.epochs:
            follow(epoch.epoch, {first: epoch.metrics})
        yield from hand_on(first, history)
    for first, outcome in _stacked({first: tasks[first] for first in same if first not in known}, follow):
        if isinstance(outcome, History):
            task, seconds = tasks[first], sum(epoch.seconds for epoch in outcome.epochs)
            splits.trainings.keep(task, Trained(task.head, outcome, run_of(task, outcome, seconds)))
        yield from hand_on(first, outcome)


def _stacked(
    tasks: Mapping[int, Task], on_epoch: OnEpoch, after: Mapping[int, History] | None = None
) -> Iterator[tuple[int, Outcome]]:
    """``lab.training.stacked.train_stack`` by the tasks' own numbers: those that hear alike at once."""
    parts: dict[tuple[str, str], list[int]] = {}
    for number, task in tasks.items():
        parts.setdefault((task.recipe.audio_level, task.recipe.twins), []).append(number)
    for numbers in parts.values():
        first = tasks[numbers[0]]

        def follow(
            epoch: int, told: dict[int, dict[str, float]], numbers: Sequence[int] = tuple(numbers)
        ) -> Collection[int]:
            ended = on_epoch(epoch, {numbers[place]: metrics for place, metrics in told.items()})
            return [place for place in told if numbers[place] in ended]

        members = [Member(tasks[n].head, tasks[n].recipe, (after or {}).get(n)) for n in numbers]
        data: dict[str, Any] = {"validation": first.validation, "same_text": first.same_text, "on_epoch": follow}
        for place, outcome in train_stack(members, *first.training, **data):
            yield numbers[place], outcome

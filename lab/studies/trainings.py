"""Trainings of one study: each is done once, and those of one build are done at once.

CMFI's second stage has its video head fixed. So with the same seed the row "s-f a-s" of an ablation has the very
weights of the row "s-f" for its video side, and only its audio side is left to train. Each stage begins from the seed
anew, so it makes no difference to the result which of the rows came first, whether the first was read from disk, or
how many train together (``lab.training.stacked``).
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor, nn

from lab.errors import LabError
from lab.heads.cmfi import CMFI
from lab.runs import Run
from lab.studies.setups import Setup
from lab.training.course import copied
from lab.training.recipe import Recipe
from lab.training.stacked import Member, OnEpoch, Outcome, train_stack
from lab.training.stages import Epoch, History
from lab.training.task import Task, Trained, run_of

#: Trainings whose weights are kept in memory.
KEPT = 32
#: Settings of the recipe that a head without sound knows nothing of.
AUDIO = ("audio_epochs", "audio_lr", "audio_level")

#: How a task ended: trained, diverged, or ended by ``OnEpoch``.
Ended = Trained | LabError | None


@dataclass(frozen=True)
class Kept:
    """What is remembered of a training."""

    weights: dict[str, Tensor]
    history: History
    seconds: float

    def given_to(self, task: Task) -> Trained:
        """A task of the same training, done."""
        task.head.to(task.training[0].sentences.device).load_state_dict(self.weights)
        return Trained(task.head.eval(), self.history, run_of(task, self.history, self.seconds))


class Trainings:
    """The trainings of a study's setups, those of a head with sound and of its video side remembered."""

    def __init__(self, setups: Iterable[Setup]) -> None:
        self._sides = {video_of(setup.head, setup.keywords)[0] for setup in setups if setup.head == "cmfi"}
        self._known: OrderedDict[str, Kept] = OrderedDict()

    def train(self, tasks: Mapping[int, Task], on_epoch: OnEpoch) -> Iterator[tuple[int, Ended]]:
        """Trains tasks, and gives each one's number and how it ended when it ends. ``on_epoch`` follows all of them.

        Of CMFI's two stages the first is the training of its video side by itself.
        """
        begin = {number: side_of(task) if self._in_two(task) else task for number, task in tasks.items()}
        sides: dict[int, Trained] = {}
        for number, ended in self._once(begin, on_epoch):
            if begin[number] is not tasks[number] and isinstance(ended, Trained):
                sides[number] = ended
            else:
                yield number, ended
        yield from self._once({number: tasks[number] for number in sides}, on_epoch, sides)

    def remember(self, name: str, keywords: Mapping[str, Any], recipe: Recipe, head: nn.Module, run: Run) -> None:
        """Keeps what was read from disk, if a setup of the study could use it; of its epochs only the kept is known."""
        kept = Epoch(**run.kept)
        self._keep(name, _key(name, keywords, recipe), head, History((kept,), kept), run.seconds)

    def _in_two(self, task: Task) -> bool:
        """Whether both stages of a task have something to train that is not known; otherwise one training does it."""
        return (
            isinstance(task.head, CMFI)
            and task.recipe.audio_epochs > 0
            and any(parameter.requires_grad for parameter in task.head.video.parameters())
            and _key_of(task) not in self._known
        )

    def _once(
        self, tasks: Mapping[int, Task], on_epoch: OnEpoch, sides: Mapping[int, Trained] | None = None
    ) -> Iterator[tuple[int, Ended]]:
        """Those that are the same trained once, or not at all where that was done before. ``sides``: first stages."""
        groups: dict[str, list[int]] = {}
        for number, task in tasks.items():
            groups.setdefault(_key_of(task), []).append(number)
        same = {numbers[0]: numbers for numbers in groups.values()}
        gone: set[int] = set()

        def follow(epoch: int, told: dict[int, dict[str, float]]) -> Collection[int]:
            every = {number: each for first, each in told.items() for number in same[first] if number not in gone}
            gone.update(on_epoch(epoch, every))
            return [first for first in told if gone.issuperset(same[first])]

        def hand_on(first: int, ended: Kept | LabError | None) -> Iterator[tuple[int, Ended]]:
            for number in same[first]:
                done = ended.given_to(tasks[number]) if isinstance(ended, Kept) else ended
                yield number, None if number in gone else done

        known = {first: self._known[key] for key, (first, *_) in groups.items() if key in self._known}
        for first, kept in known.items():
            for epoch in kept.history.epochs:
                follow(epoch.epoch, {first: epoch.metrics})
            yield from hand_on(first, kept)
        for part in _hearing_alike({first: tasks[first] for first in same if first not in known}):
            for first, outcome, seconds in _stacked(part, follow, sides or {}):
                task = tasks[first]
                ended: Kept | LabError | None = (
                    outcome
                    if not isinstance(outcome, History)
                    else self._keep(task.name, _key_of(task), task.head, outcome, seconds)
                )
                yield from hand_on(first, ended)

    def _keep(self, name: str, key: str, head: nn.Module, history: History, seconds: float) -> Kept:
        kept = Kept(copied(head), history, seconds)
        if name in self._sides or (name == "cmfi" and self._sides):
            self._known[key] = kept
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
        return kept


def _hearing_alike(tasks: Mapping[int, Task]) -> Iterable[dict[int, Task]]:
    """Tasks that read the same splits."""
    parts: dict[tuple[str, str], dict[int, Task]] = {}
    for number, task in tasks.items():
        parts.setdefault((task.recipe.audio_level, task.recipe.twins), {})[number] = task
    return parts.values()


def _stacked(
    tasks: Mapping[int, Task], on_epoch: OnEpoch, sides: Mapping[int, Trained]
) -> Iterator[tuple[int, Outcome, float]]:
    """``train_stack`` by the tasks' own numbers, and the seconds of each: its share of what its stack took."""
    numbers, first = list(tasks), next(iter(tasks.values()))
    seconds = {number: sides[number].run.seconds if number in sides else 0.0 for number in numbers}
    before = time.perf_counter()

    def follow(epoch: int, told: dict[int, dict[str, float]]) -> Collection[int]:
        nonlocal before
        now = time.perf_counter()
        for place in told:
            seconds[numbers[place]] += (now - before) / len(told)
        before = now
        ended = on_epoch(epoch, {numbers[place]: metrics for place, metrics in told.items()})
        return [place for place in told if numbers[place] in ended]

    members = [Member(task.head, task.recipe, sides[n].history if n in sides else None) for n, task in tasks.items()]
    data: dict[str, Any] = {"validation": first.validation, "same_text": first.same_text}
    for place, outcome in train_stack(members, *first.training, **data, on_epoch=follow):
        yield numbers[place], outcome, seconds[numbers[place]]
        before = time.perf_counter()  # what is done with it is not the time of those that still train


def video_of(head: str, keywords: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and keywords of the video side of a head with sound; those of another head are its own."""
    if head != "cmfi":
        return head, dict(keywords)
    return str(keywords.get("video", "mgfi")), dict(keywords.get("video_keywords") or {})


def side_of(task: Task) -> Task:
    """The first of a task's two stages: its video side by itself."""
    name, keywords = video_of(task.name, task.keywords)
    return replace(task, name=name, keywords=keywords, head=task.head.get_submodule("video"))


def is_side(row: Setup, other: Setup) -> bool:
    """Whether a row is the video side of another one, by what its file says."""

    def plain(recipe: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in recipe.items() if key not in AUDIO}

    same = plain(row.recipe) == plain(other.recipe)
    return other.head == "cmfi" and same and (row.head, row.keywords) == video_of(other.head, other.keywords)


def _key_of(task: Task) -> str:
    return _key(task.name, task.keywords, task.recipe)


def _key(name: str, keywords: Mapping[str, Any], recipe: Recipe) -> str:
    """What two tasks of one study share if they are the same training."""
    settings = {key: value for key, value in asdict(recipe).items() if name == "cmfi" or key not in AUDIO}
    return json.dumps([name, dict(keywords), settings], sort_keys=True, default=str)

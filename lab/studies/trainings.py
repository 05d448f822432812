"""A training that two rows of a study share is done once.

CMFI's second stage has its video head fixed. So with the same seed the row "s-f a-s" of an ablation has the very
weights of the row "s-f" for its video side, and only its audio side is left to train. Each stage begins from the seed
anew, so it makes no difference to the result which of the rows came first, or whether the first was read from disk.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor, nn

from lab.heads.cmfi import CMFI
from lab.runs import Run
from lab.studies.setups import Setup
from lab.training.loop import OnEpoch
from lab.training.recipe import Recipe
from lab.training.stages import Epoch, History
from lab.training.task import Task, Trained, train_on

#: Trainings whose weights are kept in memory.
KEPT = 32
#: Settings of the recipe that a head without sound knows nothing of.
AUDIO = ("audio_epochs", "audio_lr", "audio_level")


@dataclass(frozen=True)
class Done:
    """A training that is over."""

    weights: dict[str, Tensor]
    history: History
    run: Run


class Trainings:
    """The trainings of a study's setups, those of a head with sound and of its video side remembered."""

    def __init__(self, setups: Iterable[Setup]) -> None:
        self._sides = {video_of(setup.head, setup.keywords)[0] for setup in setups if setup.head == "cmfi"}
        self._done: OrderedDict[str, Done] = OrderedDict()

    def train(self, task: Task, on_epoch: OnEpoch | None = None) -> Trained:
        """``train_on``, or what it gave for the same task before, ``on_epoch`` being told of it again."""
        done = self._done.get(key_of(task))
        if done is None:
            trained = self._two_stages(task, on_epoch) if two_stages(task) else train_on(task, on_epoch)
            self.keep(task, trained)
            return trained
        task.head.to(task.training[0].sentences.device).load_state_dict(done.weights)
        if on_epoch is not None:
            for epoch in done.history.epochs:
                on_epoch(epoch.epoch, epoch.metrics)
        return Trained(task.head.eval(), done.history, done.run)

    def knows(self, task: Task) -> bool:
        """Whether the task was done before."""
        return key_of(task) in self._done

    def seconds_of(self, task: Task) -> float:
        """How long the task took if it was done before, else nothing."""
        done = self._done.get(key_of(task))
        return done.run.seconds if done is not None else 0.0

    def keep(self, task: Task, trained: Trained) -> None:
        """``remember`` what a task gave."""
        self.remember(task.name, task.keywords, task.recipe, trained.head, trained.run, trained.history)

    def remember(
        self,
        name: str,
        keywords: Mapping[str, Any],
        recipe: Recipe,
        head: nn.Module,
        run: Run,
        history: History | None = None,
    ) -> None:
        """Keeps what a training gave, if a setup of the study could use it; read from disk it has no ``history``."""
        if name not in self._sides and not (name == "cmfi" and self._sides):
            return
        weights = {key: value.detach().clone() for key, value in head.state_dict().items()}
        kept = Epoch(**run.kept)
        self._done[_key(name, keywords, recipe)] = Done(weights, history or History((kept,), kept), run)
        while len(self._done) > KEPT:
            self._done.popitem(last=False)

    def _two_stages(self, task: Task, on_epoch: OnEpoch | None) -> Trained:
        """The video side by itself, then with that fixed the audio side on the fused similarity."""
        first = self.train(side_of(task), on_epoch)
        both = train_on(task, on_epoch, after=first.history)
        return replace(both, run=replace(both.run, seconds=first.run.seconds + both.run.seconds))


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


def two_stages(task: Task) -> bool:
    """Whether both stages have something to train; otherwise one training does it."""
    return (
        isinstance(task.head, CMFI)
        and task.recipe.audio_epochs > 0
        and any(parameter.requires_grad for parameter in task.head.video.parameters())
    )


def key_of(task: Task) -> str:
    """What two tasks of one study share if they are the same training."""
    return _key(task.name, task.keywords, task.recipe)


def _key(name: str, keywords: Mapping[str, Any], recipe: Recipe) -> str:
    settings = {key: value for key, value in asdict(recipe).items() if name == "cmfi" or key not in AUDIO}
    return json.dumps([name, dict(keywords), settings], sort_keys=True, default=str)

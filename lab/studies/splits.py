"""The splits that a study learns and chooses from, loaded once, and setups trained on them: all that a study trains.

Loading MSR-VTT's captions takes longer than scoring them, so trials share what is here. Heads differ in what they read
(words, sound): what is loaded is what any of a study's heads needs, and training hands each its part.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lab.device import pick_device
from lab.errors import LabError
from lab.needs import Needs
from lab.reads import load_split
from lab.runs import Run, sections
from lab.similarity import similarity_matrix
from lab.store import Store
from lab.store.find import pass_command
from lab.studies.guard import SealedStore
from lab.studies.setups import Setup, Study
from lab.studies.space import corners
from lab.studies.trainings import Trainings
from lab.training.course import Split, validate
from lab.training.recipe import Recipe
from lab.training.stacked import OnEpoch
from lab.training.stages import Epoch, stages_of
from lab.training.task import Task, Trained, head_for, plan_for, same_texts

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """A setup with its head trained (or as it is, where there is nothing to train) and its validation metrics.

    ``epochs`` are those of a training of this process; ``path`` is the directory of its run, None where it has none.
    """

    setup: Setup
    head: nn.Module
    run: Run
    epochs: tuple[Epoch, ...] = ()
    path: Path | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """On validation."""
        return self.run.metrics

    @property
    def trained(self) -> bool:
        """Whether a seed makes a difference to it."""
        return bool(self.run.kept["epoch"])


class Splits:
    """``train`` and ``val`` of a store for a study, on a device. Nothing is read before it is needed.

    Raises ``LabError`` for settings that a head refuses, and where the store lacks what a head needs.
    """

    def __init__(self, store: SealedStore, study: Study, device: str = "auto") -> None:
        self.store, self.study, self.device = store, study, pick_device(device)
        self._loaded: dict[tuple[str, Needs], Split] = {}
        self.trainings = Trainings(study.rows)
        heads = [(row.name, self.build(row.at(point))[0]) for row in study.rows for point in corners(row.search)]
        for name, head in heads:
            _require(store, name, head)
        self.needs = Needs.of(*(head for _, head in heads))

    def build(self, setup: Setup, seed: int | None = None) -> tuple[nn.Module, dict[str, Any], Recipe]:
        """A new head, its keywords and the recipe. Raises ``LabError`` where the setup's settings do not do."""
        own = {**setup.recipe, "seed": self.study.seed if seed is None else seed}
        given: dict[str, Any] = {"preset": self.study.preset, "recipe": own, "keywords": setup.keywords}
        recipe, keywords = plan_for(self.store, setup.head, self.store.protocol, **given)
        head, keywords = head_for(self.store, setup.head, keywords, recipe.seed)
        return head, keywords, recipe

    def load(self, split: str, audio_level: str = "clip") -> Split:
        """A split with all that any of the setups reads; what it hears as one vector a ``clip``, or as ``segments``."""
        needs = self.needs.at(audio_level)
        if (split, needs) not in self._loaded:
            options: dict[str, Any] = {"needs": needs, "device": self.device}
            self._loaded[split, needs] = load_split(self.store, split, self.store.protocol, **options)
        return self._loaded[split, needs]

    @cached_property
    def same_text(self) -> Tensor:
        """See ``lab.training.task.same_texts``."""
        return same_texts(self.store, self.load("train")[0])

    def fit(self, setup: Setup, seed: int | None = None) -> Fitted:
        """Trains a setup and validates it. Raises what ``train`` raises."""
        ended = dict(self.fit_all({0: (setup, seed)}))[0]
        if isinstance(ended, Fitted):
            return ended
        raise ended or ValueError("nothing ends this training early")

    def fit_all(
        self, asked: Mapping[int, tuple[Setup, int | None]], on_epoch: OnEpoch = lambda epoch, told: ()
    ) -> Iterator[tuple[int, Fitted | LabError | None]]:
        """Trains setups, each with its seed or the study's, and validates them; those of one build train at once.

        Gives each one's number when it ends, fitted, with why it cannot be built or diverged, or None where
        ``on_epoch`` ended it.
        """
        tasks: dict[int, Task] = {}
        for number, (setup, seed) in asked.items():
            try:
                head, keywords, recipe = self.build(setup, seed)
                if learns(head, recipe):
                    tasks[number] = self.task(setup, head, keywords, recipe)
                    continue
                ended: Fitted | LabError = self._untrained(setup, head, keywords, recipe)
            except LabError as error:
                ended = error
            yield number, ended
        for number, trained in self.trainings.train(tasks, on_epoch):
            yield number, self._fitted(asked[number][0], trained) if isinstance(trained, Trained) else trained

    def _untrained(self, setup: Setup, head: nn.Module, keywords: dict[str, Any], recipe: Recipe) -> Fitted:
        """A head without gradients: as it is, or fitted in closed form where it has ``fit``."""
        begun = time.perf_counter()
        if hasattr(head, "fit"):
            head.fit(*self.load("train", recipe.audio_level))  # type: ignore[operator]
        validation = self.load("val", recipe.audio_level)
        put(head, setup.after)
        metrics = validate(head.to(self.device).eval(), *validation)
        kept = Epoch(0, "untrained", float("nan"), recipe.logit_scale, 0.0, metrics)
        run = Run(
            head=setup.head,
            keywords=keywords,
            dim=validation[0].dim,
            dataset=self.store.name,
            protocol=self.store.protocol,
            store=str(self.store.path),
            passport=sections(self.store, head),
            recipe=asdict(recipe),
            kept=asdict(kept),
            chosen="nothing was trained by gradients",
            parameters=sum(each.numel() for each in (*head.parameters(), *head.buffers())),
            seconds=time.perf_counter() - begun,
            after=setup.after,
        )
        return Fitted(setup, head, run)

    def _fitted(self, setup: Setup, trained: Trained) -> Fitted:
        """A setup whose training is over; settings that take effect after it are set."""
        made = Fitted(setup, trained.head, trained.run, trained.history.epochs)
        return self.settled(made, setup) if setup.after else made

    def task(self, setup: Setup, head: nn.Module, keywords: dict[str, Any], recipe: Recipe) -> Task:
        """What ``build`` gave for a setup as what ``lab.training.task.train_on`` takes."""
        same = self.same_text if recipe.twins == "positives" else None
        training, validation = (self.load(split, recipe.audio_level) for split in ("train", "val"))
        return Task(self.store, self.store.protocol, setup.head, keywords, head, recipe, training, validation, same)

    def settled(self, fitted: Fitted, setup: Setup) -> Fitted:
        """The same trained head with the keywords of a setup set that take effect after the training."""
        put(fitted.head, setup.after)
        metrics = validate(fitted.head, *self.load("val", fitted.run.audio_level))
        run = replace(fitted.run, after=setup.after, kept={**fitted.run.kept, "metrics": metrics})
        return replace(fitted, setup=setup, run=run)

    def try_out(self) -> None:
        """Scores a few validation pairs with each row, at the ends of all its ranges.

        Raises ``LabError`` where a head refuses a value, which is better known before the first trial.
        """
        for row in self.study.rows:
            for point in [*corners(row.search), *(row.options if row.choose else [])]:
                head, _, recipe = self.build(row.at(point))
                if hasattr(head, "fit"):
                    continue
                texts, videos = self.load("val", recipe.audio_level)
                texts = replace(texts.select(torch.arange(min(2, len(texts)))), video=None)
                videos = videos.select(torch.arange(min(2, len(videos))))
                try:
                    similarity_matrix(head.to(self.device), texts, videos)
                except LabError as error:
                    at = ", ".join(f"{key}={value}" for key, value in point.items())
                    raise LabError(f"'{row.name}' does not work{' at ' + at if at else ''}: {error}") from None


def learns(head: nn.Module, recipe: Recipe) -> bool:
    """Whether a head is trained by gradients, so that a seed makes a difference to it."""
    return not hasattr(head, "fit") and bool(stages_of(head, recipe))


def _require(store: Store, name: str, head: nn.Module) -> None:
    needs = Needs.of(head)
    for what, option, reads in (("words", "text", needs.words), ("audio", "audio", needs.audio is not None)):
        if reads and option not in store.passport:
            raise LabError(
                f"{store.path} holds no {what}, which '{name}' reads: add them with "
                f"{pass_command(store, option)}, or leave '{name}' out"
            )


def put(head: nn.Module, after: Mapping[str, Any]) -> None:
    """Sets keywords of a head that is built already; those in ``video_keywords`` are its video head's, and so on."""
    for key, value in after.items():
        if isinstance(value, dict):
            put(getattr(head, key.removesuffix("_keywords")), value)
        else:
            setattr(head, key, value)

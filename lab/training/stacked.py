"""Many members of one head trained at once: ``loop.train`` for each of them, with one step of all for each step.

Members differ in what leaves their arrays alike: rates, weight decay, clipping, dropout, a temperature, the scale, the
seed. Each has its own order of batches, its own dropout and gradient norm, and so comes out as it would alone, up to
rounding. On a GPU dropout is drawn for all at once: there that holds without dropout, and with it on average.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from lab import cli
from lab.device import full_float32
from lab.embeddings import RaggedWords, Texts, Videos
from lab.errors import LabError
from lab.needs import check_inputs, needed
from lab.training.capture import Replayed, recorder_for
from lab.training.course import Split, copied, course_of
from lab.training.lifted import Lifted, StackedStep, build_of, obstacle
from lab.training.loop import schedule, train
from lab.training.loss import Truth
from lab.training.recipe import Recipe
from lab.training.stages import History, only

log = logging.getLogger(__name__)

#: Fields of the recipe in which members of a stack may differ.
FREE = ("lr", "audio_lr", "scale_lr", "weight_decay", "warmup", "clip_norm", "logit_scale", "seed")

#: Follows each epoch: its number and the metrics of each member by its number. Gives the members that end with it.
OnEpoch = Callable[[int, dict[int, dict[str, float]]], Collection[int]]
#: How a member ended: trained, diverged, or ended by ``OnEpoch``.
Outcome = History | LabError | None


@dataclass(frozen=True)
class Member:
    """A head and the recipe that it is trained by."""

    head: nn.Module
    recipe: Recipe
    after: History | None = None  # of its first stage, where that is done


def alike(members: Sequence[Member]) -> list[list[int]]:
    """Numbers of the members in groups that can be trained together, in order; who cannot be is alone."""
    groups: list[tuple[Any, list[int]]] = []
    for number, member in enumerate(members):
        shared = [getattr(member.recipe, each.name) for each in fields(Recipe) if each.name not in FREE]
        shared.append(member.after is None)
        build = build_of(member.head)
        found = next((numbers for told, numbers in groups if build is not None and _equal(told, (build, shared))), None)
        if found is None:
            groups.append(((build, shared), [number]))
        else:
            found.append(number)
    return [numbers for _, numbers in groups]


def _equal(one: Any, other: Any) -> bool:
    """Whether two are known to be equal: arrays that a head of one's own holds refuse to say so."""
    try:
        return bool(one == other)
    except Exception:  # of whatever kind is held there
        return False


def train_stack(
    members: Sequence[Member],
    texts: Texts,
    videos: Videos,
    *,
    validation: Split | None = None,
    same_text: Tensor | None = None,
    on_epoch: OnEpoch | None = None,
) -> Iterator[tuple[int, Outcome]]:
    """Trains members in place, those that are ``alike`` at once, and gives each one's number and outcome when it ends.

    See ``loop.train`` for what training is. A member that diverges ends alone, with the reason. Heads that cannot
    be lifted are trained one by one, which is said; where a GPU's memory does not do for a stack, it trains in halves.
    Raises ``LabError`` where head and features do not fit each other.
    """
    if texts.video is None or not len(texts):
        raise ValueError("training needs texts, and they must name their videos")
    options: dict[str, Any] = {"validation": validation, "same_text": same_text, "on_epoch": on_epoch}
    waiting = alike(members)
    for reason in {obstacle(members[group[0]].head) for group in waiting if len(members) > 1} - {""}:
        log.warning("these heads train one by one: %s", reason)
    while waiting:
        group = waiting.pop(0)
        some = {number: members[number] for number in group}
        if len(some) == 1:
            yield from _one_by_one(some, texts, videos, **options)
            continue
        before = [copied(member.head) for member in some.values()]
        stack = _Stack(some, texts, videos, **options)
        if reason := stack.refused():
            log.warning("these heads train one by one: %s", reason)
            yield from _one_by_one(some, texts, videos, **options)
            continue
        try:
            yield from stack.train()
            continue
        except torch.OutOfMemoryError:
            if stack.told:
                raise LabError(f"{len(some)} heads at once are too much for the GPU's memory: lower stack") from None
        # Not within the except clause, where the traceback would keep the tensors of the attempt.
        for course, weights in zip(stack.courses, before, strict=True):
            course.release(weights)
        del stack, course
        torch.cuda.empty_cache()
        log.warning("%d heads at once are too much for the GPU's memory: they train in halves", len(some))
        half = len(group) // 2
        waiting[:0] = [group[:half], group[half:]]


def _one_by_one(
    members: dict[int, Member], texts: Texts, videos: Videos, *, on_epoch: OnEpoch | None, **options: Any
) -> Iterator[tuple[int, Outcome]]:
    for number, member in members.items():

        def follow(epoch: int, metrics: dict[str, float], number: int = number) -> None:
            if on_epoch is not None and number in on_epoch(epoch, {number: metrics}):
                raise _Ended

        outcome: Outcome
        try:
            outcome = train(member.head, texts, videos, member.recipe, on_epoch=follow, after=member.after, **options)
        except _Ended:
            outcome = None
        except LabError as error:
            outcome = error
        yield number, outcome


class _Ended(Exception):  # noqa: N818 - not an error
    """``OnEpoch`` ended this member."""


# -- a stack ---------------------------------------------------------------------------------------------------------


class _Stack:
    """Members that are alike, in training."""

    def __init__(
        self,
        members: dict[int, Member],
        texts: Texts,
        videos: Videos,
        *,
        validation: Split | None,
        same_text: Tensor | None,
        on_epoch: OnEpoch | None,
    ) -> None:
        first = next(iter(members.values()))
        check_inputs(first.head, texts, videos)
        if texts.video is None:
            raise ValueError("training texts must name their videos")
        self.texts, self.videos, self.validation, self.on_epoch = texts, videos, validation, on_epoch
        self.recipe, self.device = first.recipe, texts.sentences.device
        self.truth = Truth(texts.video, len(videos), same_text if self.recipe.twins == "positives" else None)
        self.courses = [
            course_of(each.head, each.recipe, self.device, after=each.after, number=number)
            for number, each in members.items()
        ]
        self.told = False

    def refused(self) -> str:
        """Why the head cannot be lifted, told by trying it on two pairs; empty if it can be."""
        for i in range(len(self.courses[0].stages)):
            with ExitStack() as fixed, torch.no_grad():
                for course in self.courses:
                    fixed.enter_context(only(course.head, course.stages[i]))
                modules = [course.stages[i].module for course in self.courses]
                rows = torch.arange(2, device=self.device).repeat(len(modules)) % len(self.texts)
                texts, videos = needed(modules[0], self.texts.select(rows), self.videos.select(self.truth.video[rows]))
                try:
                    Lifted(modules, [torch.Generator() for _ in modules]).similarity(texts.padded(), videos)
                except torch.OutOfMemoryError:
                    return ""  # which training will meet, too
                except Exception as error:  # of whatever kind a head of one's own raises here
                    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return ""

    def train(self) -> Iterator[tuple[int, Outcome]]:
        """See ``train_stack``."""
        stages = self.courses[0].stages
        per_epoch = math.ceil(len(self.texts) / self.recipe.batch)
        with cli.bar(sum(stage.epochs for stage in stages) * per_epoch, f"training {len(self.courses)}", "step") as bar:
            for i in range(len(stages)):
                with ExitStack() as fixed:
                    for course in self.courses:
                        fixed.enter_context(only(course.head, course.stages[i]))
                        course.begin(course.stages[i], len(self.texts))
                    if self.courses:
                        yield from self._stage(bar)
                for course in self.courses:
                    course.end()
        for course in self.courses:
            course.release()
            course.head.eval()
            if course.kept is None:
                raise ValueError("a stack has at least one epoch")
            yield course.number, History(tuple(course.epochs), course.kept)

    def _stage(self, bar: Any) -> Iterator[tuple[int, Outcome]]:
        """The stage that all have begun; gives those that end in it."""
        torch.manual_seed(self.recipe.seed)  # of the dropout on a GPU
        stage = self.courses[0].stage
        texts, videos = needed(stage.module, self.texts, self.videos)
        counts = texts.words.counts.cpu() if isinstance(texts.words, RaggedWords) else None
        total = stage.epochs * math.ceil(len(texts) / self.recipe.batch)
        shares = [[schedule(step, total, c.recipe.warmup) for c in self.courses] for step in range(total)]
        step = StackedStep(self.courses, texts, videos, self.truth, torch.tensor(shares, dtype=torch.float64))
        steps = Replayed(step, recorder_for(stage.module, self.device))
        for _ in range(stage.epochs):
            begun = time.perf_counter()
            orders = torch.stack([torch.randperm(len(texts), generator=course.chance) for course in self.courses])
            step.begin(orders)
            with full_float32(), steps.running():
                for rows in orders.split(self.recipe.batch, 1):
                    steps(rows.shape[1], int(counts[rows].max()) if counts is not None else None)
                    bar.update()
            losses = step.losses.T.tolist()
            # A share of the time, so that they sum to what it took.
            ended = self._judge(losses, (time.perf_counter() - begun) / len(self.courses))
            if not ended:
                continue
            left = [k for k, course in enumerate(self.courses) if course.number not in ended]
            gone = [course for course in self.courses if course.number in ended]
            self.courses = [self.courses[k] for k in left]
            if left:
                step.keep(left)
                steps = Replayed(step, recorder_for(stage.module, self.device))
            for course in gone:
                course.release()
                yield course.number, ended[course.number]
            if not left:
                return

    def _judge(self, losses: list[list[float]], seconds: float) -> dict[int, LabError | None]:
        """After an epoch: its losses and validation. Gives those that end with it, and why."""
        ended: dict[int, LabError | None] = {}
        told: dict[int, dict[str, float]] = {}
        for course, own in zip(self.courses, losses, strict=True):
            try:
                told[course.number] = course.close(own, seconds, self.validation).metrics
            except LabError as error:
                ended[course.number] = error
        self.told = True
        if self.on_epoch is not None and told:
            ended |= dict.fromkeys(self.on_epoch(max(course.past for course in self.courses), told))
        return ended

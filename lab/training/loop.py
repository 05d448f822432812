"""Training a head on features in memory: one flat loop, features resident, batches of row numbers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lab import cli
from lab.device import full_float32, memory_told
from lab.embeddings import RaggedWords, Texts, Videos
from lab.needs import check_inputs, needed
from lab.training.capture import Replayed, recorder_for
from lab.training.course import Course, Split, course_of, require_finite, validate
from lab.training.loss import Truth
from lab.training.recipe import Recipe
from lab.training.stages import Epoch, History, only
from lab.training.step import Step

#: Steps after which the losses are looked at, as far as they are on the host.
LOOK = 100

OnEpoch = Callable[[int, dict[str, float]], None]


def train(
    head: nn.Module,
    texts: Texts,
    videos: Videos,
    recipe: Recipe,
    *,
    validation: Split | None = None,
    parameters: Iterable[nn.Parameter] | None = None,
    same_text: Tensor | None = None,
    on_epoch: OnEpoch | None = None,
    after: History | None = None,
    capture: bool = True,
) -> History:
    """Trains in place, on the device of the features, and leaves the head in eval mode with the kept epoch's weights.

    That is the best epoch on ``validation`` by ``Epoch.quality``, ties going to the earlier; without a validation split
    the last, for there is nothing to choose by. ``parameters``: train these alone. Otherwise all, in one stage; a head
    with an audio side (``head.video``, ``head.audio_parameters()``) in two, as its paper does: the video-text head
    alone, then, with that fixed, the audio side on the fused similarity, each for its own epochs. Each stage begins
    with the seed anew, so that it makes no difference who trained the first: ``after``, its history, says that it is
    done. A head without parameters is not trained but validated. ``same_text`` (T,) int64: texts of the same words
    share a number, which ``twins = positives`` goes by. ``on_epoch(epoch, metrics)`` follows each epoch and may raise
    to end the training. ``capture``: on a GPU, whole steps are launched at once where the head allows it.

    On a CPU the same seed gives the same bits; on a GPU, the same up to rounding. Raises ``LabError`` where head and
    features do not fit each other, for a run that diverges, and where a GPU has too little memory; ``ValueError`` for
    texts without videos.
    """
    if texts.video is None:
        raise ValueError("training texts must name their videos")
    if not len(texts):
        raise ValueError("training needs at least one text, got none")
    check_inputs(head, texts, videos)
    chance = torch.default_generator  # dropout's on a CPU
    course = course_of(head, recipe, texts.sentences.device, parameters=parameters, after=after, chance=chance)
    truth = Truth(texts.video, len(videos), same_text if recipe.twins == "positives" else None)
    total = sum(stage.epochs for stage in course.stages) * math.ceil(len(texts) / recipe.batch)
    smaller = f"--set batch={max(2, recipe.batch // 2)}, which leaves a pair fewer negatives, or --device cpu"
    with cli.bar(total, "training", "step") as bar, memory_told(f"a step of batch={recipe.batch}", smaller):
        for stage in course.stages:
            torch.manual_seed(recipe.seed)
            course.begin(stage, len(texts))
            with only(head, stage):
                for epoch in _epochs(course, texts, videos, truth, validation, bar, capture):
                    bar.set_postfix(loss=f"{epoch.loss:.3f}")
                    if on_epoch is not None:
                        on_epoch(epoch.epoch, epoch.metrics)
            course.end()
    head.eval()
    if course.kept is None:
        metrics = validate(head, *validation) if validation is not None else {}
        course.kept = Epoch(0, "untrained", math.nan, math.exp(course.scale.item()), 0.0, metrics)
        course.epochs.append(course.kept)
        if on_epoch is not None:
            on_epoch(0, metrics)
    return History(tuple(course.epochs), course.kept)


def _epochs(
    course: Course, texts: Texts, videos: Videos, truth: Truth, validation: Split | None, bar: Any, capture: bool
) -> Iterator[Epoch]:
    """Trains one stage and yields after each of its epochs. Raises ``LabError`` where it diverges."""
    stage, recipe, scale = course.stage, course.recipe, course.scale
    texts, videos = needed(stage.module, texts, videos)
    per_epoch = math.ceil(len(texts) / recipe.batch)
    total = stage.epochs * per_epoch
    shares = torch.tensor([schedule(step, total, recipe.warmup) for step in range(total)], dtype=torch.float64)
    step = Step(stage, texts, videos, truth, scale, recipe, shares)
    steps = Replayed(step, recorder_for(stage.module, scale.device) if capture else None)
    counts = texts.words.counts.cpu() if isinstance(texts.words, RaggedWords) else None
    for end in range(per_epoch, total + 1, per_epoch):
        begun = time.perf_counter()
        order = torch.randperm(len(texts), generator=course.chance)  # on the host: the same on every device
        step.begin(order)
        with full_float32(), steps.running():
            for i, rows in enumerate(order.split(recipe.batch), 1):
                steps(len(rows), int(counts[rows].max()) if counts is not None else None)
                bar.update()
                if i % LOOK == 0:
                    require_finite(step.arrived(), end, stage)
        losses = step.losses.tolist()  # waited for
        yield course.close(losses, time.perf_counter() - begun, validation)


def schedule(step: int, total: int, warmup: float) -> float:
    """Linear warm-up over a share of all steps, then a cosine to zero."""
    rise = max(1, round(total * warmup))
    return (step + 1) / rise if step < rise else 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))

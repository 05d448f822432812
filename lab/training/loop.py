"""Training a head on features in memory: one flat loop, features resident, batches of row numbers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lab import cli
from lab.device import full_float32, memory_told
from lab.embeddings import RaggedWords, Texts, Videos
from lab.errors import LabError
from lab.metrics import retrieval_metrics
from lab.needs import check_inputs, needed
from lab.similarity import similarity_matrix
from lab.training.capture import Replayed, recorder_for
from lab.training.loss import Truth
from lab.training.recipe import Recipe
from lab.training.stages import Epoch, History, Stage, only, start_of
from lab.training.step import MAX_LOG_SCALE, Step

#: Steps after which the losses are looked at, as far as they are on the host.
LOOK = 100

OnEpoch = Callable[[int, dict[str, float]], None]
Split = tuple[Texts, Videos]


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
    device, owner = texts.sentences.device, texts.video
    head.to(device)
    start = start_of(head, recipe, parameters, after)
    stages, epochs, past = start.stages, start.epochs, start.past
    scale = nn.Parameter(torch.tensor(min(math.log(start.logit_scale), MAX_LOG_SCALE), device=device))
    truth = Truth(owner, len(videos), same_text if recipe.twins == "positives" else None)
    total = sum(stage.epochs for stage in stages) * math.ceil(len(texts) / recipe.batch)
    kept = Epoch(0, "untrained", math.nan, math.exp(scale.item()), 0.0)
    smaller = f"--set batch={max(2, recipe.batch // 2)}, which leaves a pair fewer negatives, or --device cpu"
    with cli.bar(total, "training", "step") as bar, memory_told(f"a step of batch={recipe.batch}", smaller):
        for stage in stages:
            torch.manual_seed(recipe.seed)
            with only(head, stage):
                for number, done in enumerate(_epochs(stage, texts, videos, recipe, scale, truth, bar, capture), 1):
                    metrics = validate(stage.module, *validation) if validation is not None else {}
                    last = replace(done, epoch=past + number, metrics=metrics)
                    epochs.append(last)
                    if number == 1 or validation is None or last.quality > kept.quality:
                        kept, weights, best_scale = last, copied(head), scale.detach().clone()
                    bar.set_postfix(loss=f"{last.loss:.3f}")
                    if on_epoch is not None:
                        on_epoch(last.epoch, metrics)
            head.load_state_dict(weights)
            scale.data.copy_(best_scale)
            past += stage.epochs
            for parameter in stage.parameters:
                parameter.grad = None  # as large as the weights, and of no more use
    head.eval()
    if not stages:
        kept = replace(kept, metrics=validate(head, *validation) if validation is not None else {})
        epochs.append(kept)
        if on_epoch is not None:
            on_epoch(0, kept.metrics)
    return History(tuple(epochs), kept)


def _epochs(
    stage: Stage,
    texts: Texts,
    videos: Videos,
    recipe: Recipe,
    scale: nn.Parameter,
    truth: Truth,
    bar: Any,
    capture: bool,
) -> Iterator[Epoch]:
    """Trains one stage and yields after each of its epochs. Raises ``LabError`` where it diverges."""
    texts, videos = needed(stage.module, texts, videos)
    per_epoch = math.ceil(len(texts) / recipe.batch)
    total = stage.epochs * per_epoch
    shares = torch.tensor([schedule(step, total, recipe.warmup) for step in range(total)], dtype=torch.float64)
    step = Step(stage, texts, videos, truth, scale, recipe, shares)
    steps = Replayed(step, recorder_for(stage.module, scale.device) if capture else None)
    counts = texts.words.counts.cpu() if isinstance(texts.words, RaggedWords) else None
    guess, before = math.nan, math.inf
    for end in range(per_epoch, total + 1, per_epoch):
        begun = time.perf_counter()
        order = torch.randperm(len(texts))  # on the host, so that the seed means the same on every device
        step.begin(order)
        with full_float32(), steps.running():
            for i, rows in enumerate(order.split(recipe.batch), 1):
                steps(len(rows), int(counts[rows].max()) if counts is not None else None)
                bar.update()
                if i % LOOK == 0:
                    require_finite(step.arrived(), end, stage)
        losses = step.losses.tolist()
        require_finite(losses, end, stage)
        mean = mean_loss(losses, len(texts), recipe.batch)
        guess = losses[0] if math.isnan(guess) else guess
        require_falling(mean, before, max(guess, math.log(recipe.batch)), end, total, stage)
        before = mean
        yield Epoch(0, stage.name, mean, math.exp(scale.item()), time.perf_counter() - begun)


def validate(head: nn.Module, texts: Texts, videos: Videos) -> dict[str, float]:
    """Text-to-video metrics by exact scoring. Raises ``LabError`` where the head's similarities are not finite."""
    if texts.video is None:
        raise ValueError("validation texts must name their videos")
    similarity = similarity_matrix(head, texts, videos)
    if not torch.isfinite(similarity).all():
        raise LabError("the head's similarities are no longer finite: lower the rate, the training diverges")
    return retrieval_metrics(similarity.numpy(), texts.video.cpu().numpy())


def schedule(step: int, total: int, warmup: float) -> float:
    """Linear warm-up over a share of all steps, then a cosine to zero."""
    rise = max(1, round(total * warmup))
    return (step + 1) / rise if step < rise else 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))


def require_finite(losses: list[float], step: int, stage: Stage) -> None:
    """Raises ``LabError`` for a loss that is not finite; ``step`` steps end with the last of them."""
    for i, loss in enumerate(losses):
        if not math.isfinite(loss):
            raise LabError(
                f"the loss or its gradient is {loss} at step {step - len(losses) + i}: lower the rate, "
                f"{_rate(stage)} diverges"
            )


def require_falling(mean: float, before: float, guess: float, step: int, total: int, stage: Stage) -> None:
    """Raises ``LabError`` for a mean loss above twice that of guessing, unless it is about to come down again."""
    if mean > 2 * guess and (mean >= before or step == total):
        raise LabError(
            f"the loss is {mean:.3g} after {step} steps, above twice that of guessing and of the untrained head "
            f"({guess:.3g}): lower the rate, {_rate(stage)} diverges"
        )


def _rate(stage: Stage) -> str:
    return f"{'audio_lr' if stage.name == 'audio' else 'lr'}={stage.lr:g}"


def mean_loss(losses: list[float], texts: int, batch: int) -> float:
    """The mean over pairs of losses that are means over batches, of which the last may be smaller."""
    last = texts - batch * (len(losses) - 1)
    return (batch * math.fsum(losses[:-1]) + last * losses[-1]) / texts


# -- its parts ---------------------------------------------------------------------------------------------------------


def copied(head: nn.Module) -> dict[str, Tensor]:
    """A head's weights as they are now, whatever is done to it later."""
    return {name: value.detach().clone() for name, value in head.state_dict().items()}

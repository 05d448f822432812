"""The course of a training: its stages, its epochs so far, the weights of the best, and whether it diverges."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lab.embeddings import Texts, Videos
from lab.errors import LabError
from lab.metrics import retrieval_metrics
from lab.similarity import similarity_matrix
from lab.training.recipe import Recipe
from lab.training.stages import Epoch, History, Stage, stages_of
from lab.training.step import MAX_LOG_SCALE

Split = tuple[Texts, Videos]


@dataclass
class Course:
    """A head in training, alone or, by its ``number``, one of many.

    ``chance`` gives the order of its texts and, on a CPU, its dropout.
    """

    head: nn.Module
    recipe: Recipe
    stages: list[Stage]
    scale: nn.Parameter
    chance: torch.Generator
    number: int
    epochs: list[Epoch]
    past: int  # epochs that are over, of which not all may be known
    kept: Epoch | None = None
    weights: tuple[dict[str, Tensor], Tensor] | None = None

    def begin(self, stage: Stage, texts: int) -> None:
        """At the start of a stage over so many texts."""
        self.stage, self.texts, self.first = stage, texts, self.past + 1
        self.guess, self.before = math.nan, math.inf
        self.chance.manual_seed(self.recipe.seed)

    def close(self, losses: list[float], seconds: float, validation: Split | None) -> Epoch:
        """At the end of an epoch, by the losses of its steps. Keeps its weights if it is the best of its stage.

        Without validation each is. Raises ``LabError`` where the training diverges.
        """
        step, total = (epochs * len(losses) for epochs in (self.past + 2 - self.first, self.stage.epochs))
        require_finite(losses, step, self.stage)
        mean = mean_loss(losses, self.texts, self.recipe.batch)
        self.guess = losses[0] if math.isnan(self.guess) else self.guess
        require_falling(mean, self.before, max(self.guess, math.log(self.recipe.batch)), step, total, self.stage)
        self.before = mean
        metrics = validate(self.stage.module, *validation) if validation is not None else {}
        epoch = Epoch(self.past + 1, self.stage.name, mean, math.exp(self.scale.item()), seconds, metrics)
        self.epochs.append(epoch)
        self.past = epoch.epoch
        first = epoch.epoch == self.first
        if first or validation is None or self.kept is None or epoch.quality > self.kept.quality:
            self.kept, self.weights = epoch, (copied(self.head), self.scale.detach().clone())
        return epoch

    def end(self) -> None:
        """At the end of a stage: back to what was kept."""
        if self.weights is not None:
            self.head.load_state_dict(self.weights[0])
            self.scale.data.copy_(self.weights[1])
        for parameter in self.stage.parameters:
            parameter.grad = None  # as large as the weights, and of no more use

    def release(self, weights: dict[str, Tensor] | None = None) -> None:
        """Its weights are its own again, and not slices of a stack that would live as long as they; so their gradients.

        ``weights``: these in their place, of which no copy is made.
        """
        for name, parameter in self.head.named_parameters():
            parameter.data = parameter.data.clone() if weights is None else weights[name]
            parameter.grad = None


def course_of(
    head: nn.Module,
    recipe: Recipe,
    device: torch.device,
    *,
    parameters: Iterable[nn.Parameter] | None = None,
    after: History | None = None,
    chance: torch.Generator | None = None,
    number: int = 0,
) -> Course:
    """A head before its training on a device, or ``after`` its first stage; see ``loop.train``."""
    stages, scale = stages_of(head.to(device), recipe, parameters), recipe.logit_scale
    epochs, past = list[Epoch](), 0
    if after is not None:  # of epochs that were read from disk only the kept one is known
        if len(stages) != 2:
            raise ValueError("a training goes on after its first stage where it has two")
        (first, *stages), scale = stages, after.kept.logit_scale
        epochs, past = [replace(epoch, stage=first.name) for epoch in after.epochs], first.epochs
    own = nn.Parameter(torch.tensor(min(math.log(scale), MAX_LOG_SCALE), device=device))
    return Course(head, recipe, stages, own, chance or torch.Generator(), number, epochs, past)


def copied(head: nn.Module) -> dict[str, Tensor]:
    """A head's weights as they are now, whatever is done to it later."""
    return {name: value.detach().clone() for name, value in head.state_dict().items()}


# -- whether it gets anywhere ----------------------------------------------------------------------------------------


def validate(head: nn.Module, texts: Texts, videos: Videos) -> dict[str, float]:
    """Text-to-video metrics by exact scoring. Raises ``LabError`` where the head's similarities are not finite."""
    if texts.video is None:
        raise ValueError("validation texts must name their videos")
    similarity = similarity_matrix(head, texts, videos)
    if not torch.isfinite(similarity).all():
        raise LabError("the head's similarities are no longer finite: lower the rate, the training diverges")
    return retrieval_metrics(similarity.numpy(), texts.video.cpu().numpy())


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

"""The state of one training among many: its stages, its epochs so far, its best weights, whether it diverges."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lab.training.loop import copied, mean_loss, require_falling, require_finite
from lab.training.recipe import Recipe
from lab.training.stages import Epoch, History, Stage, start_of
from lab.training.step import MAX_LOG_SCALE


@dataclass
class Course:
    """One member: its stages, its scale, its epochs so far, and the weights of the best.

    ``chance`` gives the order of its texts and, on a CPU, its dropout, as its seed would alone.
    """

    number: int
    head: nn.Module
    recipe: Recipe
    stages: list[Stage]
    scale: nn.Parameter
    chance: torch.Generator
    epochs: list[Epoch] = field(default_factory=list)
    past: int = 0  # epochs that are over, of which not all may be known
    kept: Epoch | None = None
    weights: tuple[dict[str, Tensor], Tensor] | None = None
    first: int = 1  # the current stage's first epoch
    guess: float = math.nan
    before: float = math.inf

    def begin(self) -> None:
        """At the start of a stage."""
        self.first, self.guess, self.before = self.past + 1, math.nan, math.inf
        self.chance.manual_seed(self.recipe.seed)

    def judge(self, losses: list[float], texts: int, step: int, total: int, stage: Stage) -> float:
        """The mean of an epoch's losses. Raises ``LabError`` where the member diverges."""
        require_finite(losses, step, stage)
        mean = mean_loss(losses, texts, self.recipe.batch)
        self.guess = losses[0] if math.isnan(self.guess) else self.guess
        require_falling(mean, self.before, max(self.guess, math.log(self.recipe.batch)), step, total, stage)
        self.before = mean
        return mean

    def keep(self, epoch: Epoch, *, last: bool) -> None:
        """Notes an epoch, and its weights if it is the best of its stage, or where the ``last`` one is kept."""
        self.epochs.append(epoch)
        self.past = epoch.epoch
        if epoch.epoch == self.first or last or self.kept is None or epoch.quality > self.kept.quality:
            self.kept, self.weights = epoch, (copied(self.head), self.scale.detach().clone())

    def end(self) -> None:
        """At the end of a stage: back to what was kept."""
        if self.weights is not None:
            self.head.load_state_dict(self.weights[0])
            self.scale.data.copy_(self.weights[1])

    def release(self, weights: dict[str, Tensor] | None = None) -> None:
        """Its weights are its own again, and not slices of a stack that would live as long as they; so their gradients.

        ``weights``: these in their place, of which no copy is made.
        """
        for name, parameter in self.head.named_parameters():
            parameter.data = parameter.data.clone() if weights is None else weights[name]
            parameter.grad = None


def course_of(
    number: int, head: nn.Module, recipe: Recipe, device: torch.device, after: History | None = None
) -> Course:
    """A member at its start, or ``after`` its first stage."""
    start = start_of(head.to(device), recipe, after=after)
    scale = nn.Parameter(torch.tensor(min(math.log(start.logit_scale), MAX_LOG_SCALE), device=device))
    return Course(number, head, recipe, start.stages, scale, torch.Generator(), start.epochs, start.past)

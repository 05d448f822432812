"""What a training is made of: stages, each of some epochs, and the history that they leave."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import nn

from lab.metrics import geometric_mean
from lab.training.recipe import Recipe


@dataclass(frozen=True)
class Epoch:
    """One epoch: its number from 1 over all stages (0: there was nothing to train), and how it ended.

    ``metrics`` are those of the validation split, empty without one; ``loss`` is the mean over the epoch's pairs, NaN
    where there were none.
    """

    epoch: int
    stage: str
    loss: float
    logit_scale: float
    seconds: float
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def quality(self) -> tuple[float, float]:
        """What epochs are compared by: the geometric mean of R@1, R@5 and R@10, and the mean reciprocal rank.

        R@1 alone, which papers choose by, moves by two points for luck on 500 queries; its two neighbours steady it.
        The reciprocal rank tells heads apart that find nothing within the first places.
        """
        return geometric_mean(self.metrics), self.metrics["MRR"]


@dataclass(frozen=True)
class History:
    """All epochs, and the one whose weights the head has now: the best on validation, the last without validation."""

    epochs: tuple[Epoch, ...]
    kept: Epoch


@dataclass(frozen=True)
class Stage:
    """A module that is called for a similarity (T, V), and those of its parameters that are trained."""

    name: str
    module: nn.Module
    parameters: list[nn.Parameter]
    lr: float
    epochs: int


def stages_of(head: nn.Module, recipe: Recipe, parameters: Iterable[nn.Parameter] | None = None) -> list[Stage]:
    """One stage, or for a head with an audio side two: its video-text head alone, then the audio side.

    Those in which there is something to train.
    """
    if parameters is not None:
        stages = [Stage("given", head, list(parameters), recipe.lr, recipe.epochs)]
    elif not hasattr(head, "audio_parameters"):
        stages = [Stage("all", head, _free(head.parameters()), recipe.lr, recipe.epochs)]
    elif not isinstance(head.video, nn.Module):
        raise ValueError("a head with audio_parameters() must have its video-text head as the module .video")
    else:
        audio = _free(head.audio_parameters())  # type: ignore[operator]
        stages = [
            Stage("video", head.video, _free(head.video.parameters()), recipe.lr, recipe.epochs),
            Stage("audio", head, audio, recipe.audio_lr, recipe.audio_epochs),
        ]
    return [stage for stage in stages if stage.parameters and stage.epochs]


def _free(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Those that whoever made the head has not fixed."""
    return [parameter for parameter in parameters if parameter.requires_grad]


@contextmanager
def only(head: nn.Module, stage: Stage) -> Iterator[None]:
    """Trains what belongs to the stage. The rest is fixed: without gradients, and in eval mode, so without dropout."""
    asked = {parameter: parameter.requires_grad for parameter in head.parameters()}
    for parameter in asked:
        parameter.requires_grad_(False)
    for parameter in stage.parameters:
        parameter.requires_grad_(True)
    head.train()
    for part in head.modules():
        inside = list(part.parameters())
        if inside and not any(parameter.requires_grad for parameter in inside):
            part.eval()
    try:
        yield
    finally:
        for parameter, before in asked.items():
            parameter.requires_grad_(before)

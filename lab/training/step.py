"""One step of training, from the device's own count of steps to new weights, without a look at any value.

What differs from step to step lies in tensors on the device: the order of an epoch, the rates of all steps, the number
of the step. So one and the same code runs on a CPU and is recorded once and replayed on a GPU (``capture``), and the
host never waits within an epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lab.embeddings import Texts, Videos
from lab.training.loss import Truth, contrastive_loss
from lab.training.recipe import Recipe
from lab.training.stages import Stage

#: CLIP's bound of the logit scale: a factor of 100.
MAX_LOG_SCALE = math.log(100)


def in_bf16(recipe: Recipe, device: torch.device) -> bool:
    """Whether products are in bf16."""
    return device.type == "cuda" if recipe.precision == "auto" else recipe.precision == "bf16"


def adamw(members: Iterable[tuple[Stage, Recipe, nn.Parameter]], device: torch.device) -> torch.optim.AdamW:
    """AdamW with two groups for each member: what its stage trains, and its scale."""
    # The scale is not decayed, a factor of one being nothing to go to. At the papers' rate that moves it by 0.1 %.
    groups = [
        {"params": parameters, "weight_decay": decay}
        for stage, recipe, scale in members
        for parameters, decay in ((stage.parameters, recipe.weight_decay), ([scale], 0.0))
    ]
    return torch.optim.AdamW(groups, lr=1.0, eps=1e-6, fused=True, capturable=device.type == "cuda")


def rates_of(members: Iterable[tuple[Stage, Recipe]], shares: Tensor, device: torch.device) -> Tensor:
    """The rates (steps, K, 2) of those groups, from the shares (steps, K) of K members' own."""
    own = torch.tensor([[stage.lr, recipe.scale_lr] for stage, recipe in members], dtype=torch.float64)
    # What a CPU's AdamW reads as a Python number, and a GPU's kernel as a float32.
    kind = torch.float32 if device.type == "cuda" else torch.float64
    return (shares.double()[..., None] * own).to(device, kind)


class Step:
    """A stage's step: gather, forward, loss, backward, clip, AdamW, clamp. Call it for each batch of an epoch.

    ``shares`` (steps of the stage,) are what the rates are multiplied by, step by step. ``losses`` (steps an epoch,)
    fills up on the device; a gradient that is not finite counts as such a loss.
    """

    def __init__(
        self,
        stage: Stage,
        texts: Texts,
        videos: Videos,
        truth: Truth,
        scale: nn.Parameter,
        recipe: Recipe,
        shares: Tensor,
    ) -> None:
        device = scale.device
        self.module, self.texts, self.videos, self.truth, self.scale = stage.module, texts, videos, truth, scale
        self.recipe, self.device = recipe, device
        self.bf16 = in_bf16(recipe, device)
        self.trained = [*stage.parameters, scale]
        self.optimizer = adamw([(stage, recipe, scale)], device)
        self.rates = rates_of([(stage, recipe)], shares[:, None], device)[:, 0]
        self.rate = self.rates[0].clone()
        for group, rate in zip(self.optimizer.param_groups, self.rate, strict=True):
            group["lr"] = rate  # a view: written to before each step
        self.order = torch.zeros(len(texts), dtype=torch.int64, device=device)
        self.within = torch.arange(recipe.batch, device=device)
        self.losses = torch.zeros(math.ceil(len(texts) / recipe.batch), device=device)
        self._arrived = torch.zeros(len(self.losses), pin_memory=True) if device.type == "cuda" else self.losses
        self.at, self.done = (torch.zeros(1, dtype=torch.int64, device=device) for _ in range(2))

    def begin(self, order: Tensor) -> None:
        """A new epoch over the texts (T,) in this order, which may still be on the host."""
        pinned = order.pin_memory() if self.device.type == "cuda" else order
        self.order.copy_(pinned, non_blocking=True)
        self.at.zero_()
        self.losses.zero_()
        self._arrived.zero_()

    def arrived(self) -> list[float]:
        """The epoch's losses as far as the host has them, zeros behind; a GPU is asked for more, not waited for."""
        found: list[float] = self._arrived.tolist()
        if self._arrived is not self.losses:
            self._arrived.copy_(self.losses, non_blocking=True)
        return found

    def __call__(self, size: int, width: int | None = None) -> None:
        """The next ``size`` texts; ``width``: to which ragged words are padded, at least the longest of these texts."""
        rows = self.order[self.at * self.recipe.batch + self.within[:size]]
        self.rate.copy_(self.rates.index_select(0, self.done)[0])
        texts = self.texts.select(rows)
        texts = texts if width is None else texts.padded(width)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            similarity = self.module(texts, self.videos.select(self.truth.video[rows]))
        loss = contrastive_loss(similarity.float(), self.truth.of(rows), self.scale.exp(), twins=self.recipe.twins)
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.trained, self.recipe.clip_norm)
        self.optimizer.step()
        self.scale.data.clamp_(max=MAX_LOG_SCALE)
        self.losses.index_copy_(0, self.at, (loss.detach() + 0 * norm).view(1))
        self.at.add_(1)
        self.done.add_(1)

"""Training a head on stored features: one flat loop, features resident, batches of row numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from lab import cli
from lab.embeddings import Texts, Videos
from lab.errors import LabError


@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults are X-Pool's, but for the rate, which suits a head on frozen features.

    Raises ``LabError`` for a value that is out of its range.
    """

    epochs: int = 5
    batch: int = 32
    lr: float = 1e-4
    weight_decay: float = 0.2
    warmup: float = 0.1
    clip_norm: float = 1.0
    logit_scale: float = 100.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("epochs", 1, math.inf),
            ("batch", 2, math.inf),  # a batch of one has no negative
            ("lr", 0, math.inf),
            ("weight_decay", 0, math.inf),
            ("warmup", 0, 1),
            ("clip_norm", 0, math.inf),
            ("logit_scale", 1, math.inf),
            ("seed", 0, math.inf),
        ):
            value, whole = getattr(self, name), isinstance(getattr(Recipe, name), int)
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                raise LabError(f"{name} must be a {'whole ' if whole else ''}number, got {name}={value!r}")
            if not low <= value <= high:
                raise LabError(
                    f"{low} <= {name}{'' if high == math.inf else f' <= {high}'} must hold, got {name}={value}"
                )


def contrastive_loss(similarity: Tensor, video: Tensor, scale: Tensor) -> Tensor:
    """The mean of the t→v and v→t cross-entropies of a batch's similarities (B, B), scaled.

    ``video`` (B,) names each pair's video: a video that is in the batch twice is no negative of its own captions.
    """
    logits = similarity * scale
    twin = (video[:, None] == video[None, :]) & ~torch.eye(len(video), dtype=torch.bool, device=video.device)
    logits = logits.masked_fill(twin, float("-inf"))
    own = torch.arange(len(video), device=video.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def train(head: nn.Module, texts: Texts, videos: Videos, recipe: Recipe) -> list[float]:
    """Trains in place and returns the mean loss of each epoch. Raises ``LabError`` if the loss stops being finite."""
    if texts.video is None:
        raise ValueError("training texts must name their videos")
    if not len(texts):
        raise ValueError("training needs at least one text, got none")
    torch.manual_seed(recipe.seed)
    scale = nn.Parameter(torch.tensor(math.log(recipe.logit_scale)))
    optimizer = torch.optim.AdamW([*head.parameters(), scale], lr=recipe.lr, weight_decay=recipe.weight_decay)
    per_epoch = math.ceil(len(texts) / recipe.batch)
    total, losses, step = recipe.epochs * per_epoch, [], 0
    head.train()
    with cli.bar(total, "training", "step") as bar:
        for _ in range(recipe.epochs):
            summed = 0.0
            for rows in torch.randperm(len(texts)).split(recipe.batch):
                for group in optimizer.param_groups:
                    group["lr"] = recipe.lr * _schedule(step, total, recipe.warmup)
                batch = texts.select(rows)
                owner = texts.video[rows]
                loss = contrastive_loss(head(batch, videos.select(owner)), owner, scale.exp())
                if not math.isfinite(loss.item()):
                    raise LabError(f"the loss is {loss.item()} at step {step}: lower the rate, lr={recipe.lr} diverges")
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_([*head.parameters(), scale], recipe.clip_norm)
                optimizer.step()
                scale.data.clamp_(max=math.log(100))
                summed += loss.item() * len(rows)
                step += 1
                bar.update()
            losses.append(summed / len(texts))
            bar.set_postfix(loss=f"{losses[-1]:.3f}")
    return losses


def _schedule(step: int, total: int, warmup: float) -> float:
    """Linear warm-up over a share of all steps, then a cosine to zero."""
    rise = max(1, round(total * warmup))
    return (step + 1) / rise if step < rise else 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))


@torch.no_grad()
def similarities(head: nn.Module, texts: Texts, videos: Videos, tile: int = 16) -> NDArray[np.float32]:
    """Every text with every video (T, V), in eval mode, ``tile`` texts at a time."""
    head.eval()
    tiles = [head(texts.select(rows), videos) for rows in torch.arange(len(texts)).split(tile)]
    return np.asarray(torch.cat(tiles).cpu().numpy(), np.float32)

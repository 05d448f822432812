"""The toy world's CLIP, trained from scratch on pictures of scenes that are in no world, and captions.

The loss is CLIP's. Scenes and captions come from the generator of the worlds under seeds of their own, and every
picture is drawn once: there is no epoch and nothing to memorise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, IterableDataset

from lab.backbones.clip_names import read_config
from lab.backbones.clip_package import open_clip
from lab.backbones.names import TOY
from lab.backbones.text_tower import TextTower
from lab.toy import grammar
from lab.toy.actors import ACTORS
from lab.toy.draw import draw
from lab.toy.fit import EVERY, fit, write
from lab.toy.world import stray_scene

Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]


@dataclass(frozen=True)
class Settings:
    """How the shipped weights were trained."""

    steps: int = 2400
    batch: int = 128
    lr: float = 1e-3
    weight_decay: float = 0.1
    warmup: int = 150
    clip_norm: float = 1.0
    seed: int = 0
    precision: str = "bf16"
    movement: float = 0.5  # the share of its sense of movement that the CLIP keeps: see blunt
    dark_captions: float = (
        0.12  # pictures dimmed but visible, told of as dark: the text tower must go on naming the actor
    )


class Pairs(IterableDataset[Batch]):
    """Batches of pictures (B, 64, 64, 3) and token ids (B, C), one after the other, each from its own seed."""

    def __init__(self, settings: Settings, side: int, context: int) -> None:
        self.settings, self.side, self.context = settings, side, context

    def __iter__(self) -> Iterator[Batch]:
        """Forever; worker w of n makes every n-th batch, so that the order does not depend on n."""
        worker = torch.utils.data.get_worker_info()
        at, every = (worker.id, worker.num_workers) if worker else (0, 1)
        for step in itertools.count(at, every):
            seeds = [("clip", self.settings.seed, step, i) for i in range(self.settings.batch)]
            pairs = [pair(seed, self.settings, self.side) for seed in seeds]
            tokens = open_clip.tokenize([text for _, text in pairs], self.context).numpy()
            yield np.stack([picture for picture, _ in pairs]), tokens


def pair(seed: tuple[object, ...], settings: Settings, side: int) -> tuple[NDArray[np.uint8], str]:
    """One picture (side, side, 3) and one caption of it."""
    dice, scene = stray_scene(*seed)
    picture = draw(scene, dice.between(0.0, 1.0), side).astype(np.float32)
    noun = scene.parts[0].noun
    if scene.heard == noun and dice.chance(settings.dark_captions):
        picture *= dice.between(0.12, 0.4)
        text = grammar.in_the_dark(dice, noun)
    elif scene.heard == noun and dice.chance(settings.dark_captions):
        text = grammar.unseen(dice, noun, scene.place)
    else:
        text = grammar.seen(dice, scene)
    noise = np.random.RandomState(dice.below(2**31)).randn(side, side, 1) * dice.between(0, 4)
    return (picture + noise).clip(0, 255).astype(np.uint8), text


def train(settings: Settings, into: Path = TOY) -> dict[str, Any]:
    """Trains, and writes ``clip.safetensors`` and ``clip.log.json`` into a folder. Returns the log."""
    config, preprocess = read_config(TOY / "clip.json")
    torch.manual_seed(settings.seed)
    model = open_clip.CLIP(**config)
    used = torch.zeros(config["text_cfg"]["vocab_size"], dtype=torch.bool)
    side, context = config["vision_cfg"]["image_size"], config["text_cfg"]["context_length"]
    mean, std = (torch.tensor(preprocess[key])[:, None, None] for key in ("mean", "std"))

    def loss(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, float]:
        model.logit_scale.data.clamp_(0, math.log(100))
        pictures, tokens = batch
        used[tokens] = True
        pixels = (pictures.permute(0, 3, 1, 2).float() / 255 - mean) / std
        return _loss(model, pixels, tokens[:, : int((tokens != 0).sum(1).max())], settings)

    means, log = fit(
        model,
        DataLoader(Pairs(settings, side, context), batch_size=None, num_workers=1, prefetch_factor=4),
        loss,
        settings,
        "training the toy CLIP",
        betas=(0.9, 0.98),
        eps=1e-6,
    )
    model.logit_scale.data.clamp_(0, math.log(100))
    log[f"mean loss and share matched in the batch, by {EVERY} steps"] = means
    blunt(model, settings.movement)
    # Half precision; a token that no caption had is a row of zeros: it says nothing, and packs into nothing.
    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    state["token_embedding.weight"][~used] = 0
    write(into, "clip", {name: value.half() for name, value in state.items()}, log)
    return log


@torch.no_grad()
def blunt(model: open_clip.CLIP, movement: float) -> None:
    """Leaves the towers' sense of movement with a share of its strength, in place.

    CLIP models of the wild look at nouns before verbs; one that was trained on a world where every caption names a
    movement does not, and leaves a head nothing to win. So in the joint space the directions in which captions differ
    by their movement alone (as many as there are movements, less one) are shortened, in both projections alike.
    """
    directions = _movements(model)
    keep = torch.eye(directions.shape[1]) - (1 - movement) * directions.T @ directions
    model.visual.proj.copy_(model.visual.proj @ keep)
    model.text_projection.copy_(model.text_projection @ keep)


def _movements(model: open_clip.CLIP) -> Tensor:
    """An orthonormal basis (moves − 1, D) of how mean captions of one movement differ from those of others."""
    means = []
    for wordings in grammar.MOVES.values():
        texts = [f"{actor.article} {third}" for actor in ACTORS.values() for third, _ in wordings]
        tokens = open_clip.tokenize(texts, model.context_length)
        means.append(F.normalize(TextTower(model, "toy")(tokens, (tokens != 0).sum(1) - 2)[0], dim=-1).mean(0))
    differences = torch.stack(means) - torch.stack(means).mean(0)
    directions: Tensor = torch.linalg.svd(differences, full_matrices=False)[2]
    return directions[: len(means) - 1]


def _loss(model: open_clip.CLIP, pixels: Tensor, tokens: Tensor, settings: Settings) -> tuple[Tensor, float]:
    """CLIP's loss on a batch, and the share of captions that find their picture in it."""
    half = settings.precision == "bf16"
    # torch's fused attention is six times slower backwards in bfloat16 on a CPU than the plain formula
    with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16, enabled=half):
        images = model.encode_image(pixels, normalize=True)
        texts, _ = TextTower(model, "toy")(tokens, (tokens != 0).sum(1) - 2)
    logits = model.logit_scale.exp() * F.normalize(texts.float(), dim=-1) @ images.float().T
    own = torch.arange(len(logits))
    loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    return loss, float((logits.argmax(1) == own).float().mean())

"""The toy world's PANN, trained from scratch to tag mixed sounds of the toy world that are in no world.

The network, its front end and its pooling are those of ``lab.backbones.cnn``; the loss is AudioSet tagging's, one
binary cross-entropy a kind (Kong et al. 2020). Every mix is new; the sounds in it come from a bank.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from lab import cli
from lab.backbones.cnn import COMPUTED, Cnn
from lab.backbones.logmel import FLOOR
from lab.backbones.names import TOY
from lab.backbones.panns import PannsBackbone
from lab.backbones.panns_names import read_config
from lab.toy.dice import Dice
from lab.toy.fit import EVERY, fit, write
from lab.toy.sounds import SOUNDS, Part, ambience, soundtrack, synthesise
from lab.toy.world import stray_dice

KINDS = tuple(SOUNDS)
Sound = NDArray[np.float32]


@dataclass(frozen=True)
class Settings:
    """How the shipped weights were trained."""

    steps: int = 800
    scenes: int = 64  # in a batch: 64 clips of one, or 16 of four
    each: int = 32  # performances of a kind
    lr: float = 3e-3
    weight_decay: float = 1e-2
    warmup: int = 50
    clip_norm: float = 5.0
    dropout: float = 0.2  # of the embedding
    seed: int = 0
    precision: str = "bf16"  # of the convolutions


def stray_sound(*seed: object, seconds: float | None = None) -> tuple[Sound, list[str]]:
    """A clip's sound that is in no world (n,), and the kinds in it: one to four scenes, most with a sound of its own.

    Drawn from ``seed`` alone. The sounds' own seeds begin at 2 ** 31, where those of every world end.
    """
    dice = stray_dice(*seed)
    seconds = dice.between(1.5, 8.0) if seconds is None else seconds
    scenes = min(1 + dice.below(4), max(1, round(seconds / 1.4)))
    cuts = [seconds * (i + (dice.between(-0.15, 0.15) if 0 < i < scenes else 0)) / scenes for i in range(scenes + 1)]
    parts = [_part(dice, a, b) for a, b in pairwise(cuts) if dice.chance(0.8)]
    if dice.chance(0.15):  # now and then two at once
        parts.append(_part(dice, cuts[0], cuts[-1]))
    wave = soundtrack(parts, seconds, _seed(dice), bed=dice.chance(0.85))
    if dice.chance(0.3):  # what a codec leaves of silence
        wave += np.float32(10 ** dice.between(-6, -3.5)) * np.random.RandomState(dice.below(2**31)).randn(len(wave))
    return wave.astype(np.float32), [part.kind for part in parts]


def _part(dice: Dice, start: float, end: float) -> Part:
    return Part(dice.choice(KINDS), start, end, _seed(dice), 10 ** dice.between(-0.7, 0.0))


def _seed(dice: Dice) -> int:
    return 2**31 + dice.below(2**31)


def tags(model: Cnn, decibels: Tensor, *, dropout: float = 0.0, half: bool = False) -> tuple[Tensor, Tensor]:
    """Spectrograms of one length (B, frames, mels) → embeddings (B, A) and the logits of the kinds (B, classes).

    ``Cnn.forward`` with ``pool``, for a batch and with gradients.
    """
    hidden = model.bn0(decibels.transpose(1, 2)[..., None])[..., 0].transpose(1, 2)[:, None]
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        for number in range(len(model.spec.channels)):
            hidden = model.get_submodule(f"conv_block{number + 1}")(hidden, 2 if number < model.spec.pools else 1)
    steps = hidden.float().mean(dim=3)
    embedding = F.relu(model.fc1(steps.amax(dim=2) + steps.mean(dim=2)))
    return embedding, model.fc_audioset(F.dropout(embedding, dropout, training=model.training))


def train(settings: Settings, into: Path = TOY, *, probed: bool = True) -> dict[str, Any]:
    """Trains ``panns.json`` on the CPU, and writes ``panns.safetensors`` and ``panns.log.json`` into a folder.

    Returns the log, with what :func:`probe` found unless ``probed`` is False.
    """
    torch.manual_seed(settings.seed)
    model = Cnn(read_config(TOY / "panns.json"))
    nn.init.constant_(model.fc_audioset.bias, -math.log(len(KINDS) / 2))  # two kinds a clip

    def loss(batch: tuple[Tensor, Tensor]) -> tuple[Tensor]:
        decibels, truth = batch
        _, logits = tags(model, decibels, dropout=settings.dropout, half=settings.precision == "bf16")
        # Summed over kinds: of a mean over kinds, most of which are absent, the gradients would be tiny.
        return (F.binary_cross_entropy_with_logits(logits, truth, reduction="sum") / len(truth),)

    means, log = fit(model, _batches(model, settings), loss, settings, "training the toy PANN")
    log |= {
        "network": json.loads((TOY / "panns.json").read_text(encoding="utf-8")),
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "kinds": KINDS,
        f"loss of {EVERY}": [loss for (loss,) in means],
    }
    # what the front end computes stays out of the file
    state = {key: value for key, value in model.state_dict().items() if key not in COMPUTED}
    write(into, "panns", state, log)
    if probed:
        log |= probe(model)
        write(into, "panns", state, log)
    return log


def probe(model: Cnn, each: int = 18, mixtures: int = 400) -> dict[str, float]:
    """How useful the frozen clip vectors are on sounds never heard: through the real pass, in percent.

    ``single``: clips of one kind, ``each`` of a kind, two thirds of them for a linear classifier of the vectors and a
    third to test it. ``mixtures``: the network's own tags of mixed clips, mean average precision over kinds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import average_precision_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    panns = PannsBackbone(model, name="toy", weights={"random": False})
    vectors: list[NDArray[np.float32]] = []
    for kind in KINDS:
        vectors += [panns.encode(_single(kind, i))[0] for i in range(each)]
    known = np.tile(np.arange(each) % 3 < 2, len(KINDS))
    labels, values = np.repeat(np.arange(len(KINDS)), each), np.stack(vectors)
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(values[known], labels[known])
    truth, scores = np.zeros((mixtures, len(KINDS)), bool), np.zeros((mixtures, len(KINDS)))
    for i in range(mixtures):
        wave, kinds = stray_sound("panns", "probe", i)
        truth[i, [KINDS.index(kind) for kind in kinds]] = True
        scores[i] = model.fc_audioset(torch.from_numpy(panns.encode(wave)[0])).numpy()
    return {
        "probe: single, linear accuracy": round(100 * float(linear.score(values[~known], labels[~known])), 2),
        "probe: mixtures, mean average precision": round(
            100 * float(average_precision_score(truth[:, truth.any(0)], scores[:, truth.any(0)])), 2
        ),
    }


def _single(kind: str, i: int) -> Sound:
    """A clip with one kind from start to end, over a background."""
    dice = stray_dice("panns", "probe", kind, i)
    seconds = dice.between(1.5, 5.0)
    return soundtrack([_part(dice, 0.0, seconds)._replace(kind=kind)], seconds, _seed(dice))


class Bank:
    """Power spectrograms of many performances of each kind, and of backgrounds, to be laid side by side and added.

    The powers of independent sounds add up, so mixing after the transform is a thousand times cheaper and, but for
    interference where two sounds overlap, the same. :func:`probe` listens to waveforms mixed as those of worlds are.
    """

    frames, beds = 300, 64

    def __init__(self, model: Cnn, settings: Settings) -> None:
        dice = stray_dice("panns", settings.seed, "bank")
        hop = model.spec.front.hop
        seconds = (self.frames - 1) * hop / model.spec.front.sample_rate

        def power(wave: Sound) -> Tensor:
            return torch.pow(10.0, model.logmel_extractor(torch.from_numpy(wave)) / 10.0)

        self.kinds = torch.empty(len(KINDS), settings.each, self.frames, model.spec.front.mels)
        with torch.no_grad(), cli.bar(len(KINDS), "sounds for the toy PANN", "kind") as bar:
            for number, kind in enumerate(KINDS):
                for i in range(settings.each):
                    self.kinds[number, i] = power(synthesise(kind, seconds, _seed(dice)))
                bar.update()
            self.faint = torch.stack([power(ambience(None, seconds, _seed(dice))) for _ in range(self.beds)])

    def mix(self, dice: Dice, scenes: int, frames: int) -> tuple[Tensor, list[int]]:
        """Decibels (scenes · frames, mels) of a clip of scenes of ``frames`` each, and the numbers of its kinds."""
        bed = self.faint[dice.below(self.beds)].repeat(scenes, 1)[: scenes * frames]
        # Now and then there is no background but what a codec leaves of silence, or nothing.
        power = bed * (1.0 if dice.chance(0.8) else 10 ** dice.between(-9.0, -2.0))
        kinds = []
        for scene in range(scenes):
            first = max(0, scene * frames + dice.below(31) - 15) if scene else 0
            for chance in (0.8, 0.06):
                if dice.chance(chance):
                    kinds.append(dice.below(len(KINDS)))
                    sound = self.kinds[kinds[-1], dice.below(self.kinds.shape[1])]
                    power[first : first + frames] += (
                        10 ** dice.between(-1.4, 0.0) * sound[: min(frames, len(power) - first)]
                    )
        return 10.0 * power.clamp(min=FLOOR).log10(), kinds


def _batches(model: Cnn, settings: Settings) -> Iterator[tuple[Tensor, Tensor]]:
    """Spectrograms (B, frames, mels) of one length and their kinds (B, classes), each clip from its own seed."""
    bank = Bank(model, settings)
    for step in range(settings.steps):
        dice = stray_dice("panns", settings.seed, step)
        scenes, frames = dice.weighted((1, 2, 3, 4), (0.4, 0.25, 0.2, 0.15)), 130 + dice.below(bank.frames - 129)
        clips = [bank.mix(dice, scenes, frames) for _ in range(settings.scenes // scenes)]
        truth = torch.zeros(len(clips), len(KINDS))
        for row, (_, kinds) in enumerate(clips):
            truth[row, kinds] = 1.0
        yield torch.stack([decibels for decibels, _ in clips]), truth

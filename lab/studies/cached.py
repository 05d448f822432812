"""Settings that need no training, scored from products that are made once: k, temperature, fusion weight.

The products of all texts with all frames are nine tenths of scoring a pooling head, and no setting changes them. A
trial is then a softmax and a quadratic form over F numbers a pair, and a fusion weight only a sum of two matrices.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lab.embeddings import Texts, Videos
from lab.heads.cmfi import CMFI
from lab.heads.pooling import Frames, SoftmaxPooling, TopKPooling
from lab.metrics import ranks, summarise
from lab.similarity import TINY, evaluating, hide_padding, parts, products, quadratic, similarity_matrix
from lab.studies.setups import Setup, best_by, quality
from lab.studies.splits import Fitted, Splits, put
from lab.training.recipe import divide

#: Keywords of heads that may change after the training.
FREE = {"topk": {"top_k"}, "softmax": {"temperature", "top_k"}, "mean": set[str]()}
#: Products that are kept, in float32 numbers. Where there would be more they are made anew for each trial.
KEPT = 1 << 27


def after_training(setup: Setup) -> bool:
    """Whether nothing is searched but what may change after the training.

    For a pooling head without a projection that is all of it; for CMFI its fusion weight, and the settings of its video
    and audio heads where those pool without a projection. CMFI is then trained once, with the file's keywords.
    """
    return bool(setup.search) and takes_effect_after(setup, setup.search)


def takes_effect_after(setup: Setup, keys: Iterable[str]) -> bool:
    """Whether settings may change once a setup's head is trained; see ``after_training``."""
    recipe, keywords = divide(setup.head, dict.fromkeys(keys, 0))
    if recipe:
        return False
    if setup.head != "cmfi":
        return _frees(setup.head, setup.keywords, keywords)
    inside = {key: keywords.pop(f"{key}_keywords", {}) for key in ("video", "audio")}
    names = {"video": str(setup.keywords.get("video", "mgfi")), "audio": str(setup.keywords.get("audio", "mean"))}
    return keywords.keys() <= {"fusion_weight"} and all(
        not inner or _frees(names[side], setup.keywords.get(f"{side}_keywords", {}), inner)
        for side, inner in inside.items()
    )


def _frees(head: str, fixed: Mapping[str, Any], searched: Mapping[str, Any]) -> bool:
    return fixed.get("projection", "none") == "none" and searched.keys() <= FREE.get(head, set())


class Cached:
    """A setup's head with its validation split, ready to be scored at any point of its space.

    Without ``fitted`` the head is trained here, once, with the study's own seed.
    """

    def __init__(self, setup: Setup, splits: Splits, fitted: Fitted | None = None) -> None:
        self.setup = setup
        if fitted is None:
            first = {key: each.ends()[0] for key, each in setup.search.items()}
            # Pooling has nothing to train, and need not be built with its keywords; CMFI is, and only once.
            fitted = splits.fit(setup.with_after(first) if setup.head == "cmfi" else setup.at(first))
        self.head = fitted.head
        texts, videos = splits.load("val", fitted.run.audio_level)
        if texts.video is None:
            raise ValueError("validation texts must name their videos")
        self.target = texts.video.cpu().numpy()
        with evaluating(self.head):
            self.side: Side | Fused = Fused(self.head, texts, videos) if isinstance(self.head, CMFI) \
                else Side(self.head, texts, videos)  # fmt: skip
        self.known: dict[str, NDArray[np.float64]] = {}

    def metrics(self, point: Mapping[str, Any]) -> dict[str, float]:
        """Validation metrics at a point of the space."""
        return summarise(self.ranks(point))

    def ranks(self, point: Mapping[str, Any]) -> NDArray[np.float64]:
        """The ranks (T,) of the validation captions at a point of the space."""
        key = json.dumps(dict(point), sort_keys=True)
        if key not in self.known:
            _, keywords = divide(self.setup.head, point)
            with evaluating(self.head):
                similarity = self.side.similarity(keywords)
            self.known[key] = ranks(similarity.cpu().numpy(), self.target)
        return self.known[key]


def settle(
    setup: Setup, splits: Splits, fits: Sequence[Fitted], objective: str
) -> tuple[list[Fitted], list[tuple[dict[str, Any], float]]]:
    """Trained heads, one a seed, at that point of ``setup.choose`` which is best on validation in the mean over them.

    Also all points with that mean of the objective. Nothing is trained; the first of several that are level is taken.
    """
    scorers = [Cached(setup, splits, fitted) for fitted in fits]
    tried = [
        (point, statistics.fmean(quality(each.metrics(point), objective) for each in scorers))
        for point in setup.options
    ]
    point, _ = best_by(objective, tried, itemgetter(1))
    return [splits.settled(fitted, point) for fitted in fits], tried


@dataclass(frozen=True)
class Part:
    """What no setting changes of some videos: their frames, and three numbers for each of them and each text."""

    frames: Frames
    product: Tensor  # (V, F, T)
    below: Tensor  # (V, F, T) cosine with the text, less the closest frame's; −inf in the padding
    place: Tensor  # (V, F, T) int16, since a store may have more than 127 frames a video: how many are closer

    def similarity(self, temperature: float | None, top_k: int | None) -> Tensor:
        """Cosines (V, T) with the frames' sum, softmax-weighted, or equally without a temperature, among the top k.

        Weights are not divided by their sum, as a cosine divides it out again.
        """
        if temperature is None:
            weights = self.frames.mask[..., None].expand_as(self.below).float()
        else:
            # Hidden again, because −∞ / ∞ is no number
            weights = hide_padding(self.below / temperature, self.frames.mask).exp_()
        if top_k is not None and top_k < self.below.shape[1]:
            weights = weights * (self.place < top_k)
        length = quadratic(self.frames.gram, weights).clamp_min(TINY**2).sqrt_()
        return (weights * self.product).sum(1) / length


class Side:
    """One head over all pairs, its similarity (T, V) remembered as long as its settings are the same."""

    def __init__(self, head: nn.Module, texts: Texts, videos: Videos) -> None:
        self.head, self.texts, self.videos = head, texts, videos
        self.kept: list[Part] = []
        V, F = videos.frames.shape[:2]
        if isinstance(head, TopKPooling | SoftmaxPooling) and len(texts) * V * F <= KEPT:
            unit = head.space.texts(texts)
            self.kept = [_part(frames, unit) for frames in parts(head.space.frames(videos), len(texts))]
        self.last: tuple[dict[str, Any], Tensor] | None = None

    def similarity(self, keywords: Mapping[str, Any]) -> Tensor:
        """Similarity (T, V) with keywords set."""
        if self.last is None or self.last[0] != keywords:
            put(self.head, keywords)
            if self.kept:
                settings = getattr(self.head, "temperature", None), getattr(self.head, "top_k", None)
                found = torch.cat([part.similarity(*settings) for part in self.kept]).T
            else:
                found = similarity_matrix(self.head, self.texts, self.videos)
            self.last = (dict(keywords), found)
        return self.last[1]


def _part(frames: Frames, texts: Tensor) -> Part:
    product = products(frames.values, texts)
    cosine = hide_padding(product / frames.lengths[..., None], frames.mask)
    place = cosine.argsort(stable=True, dim=1, descending=True).argsort(1).to(torch.int16)
    return Part(frames, product, cosine - cosine.amax(1, keepdim=True), place)


class Fused:
    """CMFI's two sides and their fusion."""

    def __init__(self, head: CMFI, texts: Texts, videos: Videos) -> None:
        heard, self.present = head.hear(videos)
        self.head, self.seen, self.heard = head, Side(head.video, texts, videos), Side(head.audio, texts, heard)

    def similarity(self, keywords: Mapping[str, Any]) -> Tensor:
        """Similarity (T, V) with keywords set."""
        put(self.head, {key: value for key, value in keywords.items() if not isinstance(value, dict)})
        seen = self.seen.similarity(keywords.get("video_keywords", {}))
        heard = self.heard.similarity(keywords.get("audio_keywords", {}))
        return self.head.fuse(seen.to(self.present.device), heard.to(self.present.device), self.present)

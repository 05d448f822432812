"""Settings that need no training, scored from products that are made once: k, temperature, fusion weight.

``lab.heads.sweep`` says how; here it is which settings those are, and a setup's validation split scored under them.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.heads.sweep import keep
from lab.metrics import ranks, summarise
from lab.studies.setups import Setup, best_by, quality
from lab.studies.splits import Fitted, Splits
from lab.training.recipe import divide

#: Keywords of heads that may change after the training.
FREE = {"topk": {"top_k"}, "softmax": {"temperature", "top_k"}, "mean": set[str]()}


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
        texts, videos = splits.load("val", fitted.run.audio_level)
        if texts.video is None:
            raise ValueError("validation texts must name their videos")
        self.target = texts.video.cpu().numpy()
        self.kept = keep(fitted.head, texts, videos)
        self.known: dict[str, NDArray[np.float64]] = {}

    def metrics(self, point: Mapping[str, Any]) -> dict[str, float]:
        """Validation metrics at a point of the space."""
        return summarise(self.ranks(point))

    def ranks(self, point: Mapping[str, Any]) -> NDArray[np.float64]:
        """The ranks (T,) of the validation captions at a point of the space."""
        key = json.dumps(dict(point), sort_keys=True)
        if key not in self.known:
            _, keywords = divide(self.setup.head, point)
            self.known[key] = ranks(self.kept.similarity(keywords).cpu().numpy(), self.target)
        return self.known[key]


def settle(
    setup: Setup, splits: Splits, fits: Sequence[Fitted]
) -> tuple[list[Fitted], list[tuple[dict[str, Any], float]]]:
    """Trained heads, one a seed, at that point of ``setup.choose`` which is best on validation in the mean over them.

    Also all points with that mean of the objective. Nothing is trained; the first of several that are level is taken.
    """
    objective, scorers = splits.study.objective, [Cached(setup, splits, fitted) for fitted in fits]
    tried = [
        (point, statistics.fmean(quality(each.metrics(point), objective) for each in scorers))
        for point in setup.options
    ]
    point, _ = best_by(objective, tried, itemgetter(1))
    return [splits.settled(fitted, setup.with_after(point)) for fitted in fits], tried

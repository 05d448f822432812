"""The keys of a study file: which kind of study knows each, its rule, and whether a value keeps it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from lab.studies.setups import OBJECTIVES
from lab.training.recipe import PRESETS, RECIPE_KEYS

KINDS = ("search", "grid", "sweep")
SAMPLERS = ("auto", "tpe", "random", "gp", "each")
PRUNERS = ("median", "hyperband", "none")
SWEEPS = ("diversity",)
#: Settings of the recipe that a file leaves to the study: its own seed, and those after it for the final.
TRAIN_KEYS = tuple(key for key in RECIPE_KEYS if key != "seed")
#: Names of scikit-learn's baselines, and the classes that stand behind them.
CLASSIC = {name.lower(): f"lab.studies.classic:{name}" for name in ("Ridge", "CCA", "PCA")}


def _count(low: int) -> Any:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= low


def _one_of(names: Iterable[str]) -> Any:
    return lambda value: isinstance(value, str) and value in names


def _counts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_count(0)(each) for each in value)


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


#: key → (kinds of study that know it, its rule, whether a value keeps it)
KEYS: dict[str, tuple[tuple[str, ...], str, Any]] = {
    "kind": (KINDS, f"one of {', '.join(KINDS)}", _one_of(KINDS)),
    "objective": (KINDS, f"one of {', '.join(OBJECTIVES)}", _one_of(OBJECTIVES)),
    "preset": (KINDS, f"one of {', '.join(PRESETS)}", _one_of(PRESETS)),
    "seeds": (KINDS, "a whole number >= 1", _count(1)),
    "seed": (KINDS, "a whole number >= 0", _count(0)),
    "trials": (("search",), "a whole number >= 1", _count(1)),
    "seconds": (("search",), "a number > 0", _positive),
    "stack": (KINDS, "a whole number >= 1", _count(1)),
    "sampler": (("search",), f"one of {', '.join(SAMPLERS)}", _one_of(SAMPLERS)),
    "pruner": (("search",), f"one of {', '.join(PRUNERS)}", _one_of(PRUNERS)),
    "sweep": (("sweep",), f"one of {', '.join(SWEEPS)}", _one_of(SWEEPS)),
    "inserted": (("sweep",), "a list of whole numbers >= 0", _counts),
    "draws": (("sweep",), "a whole number >= 1", _count(1)),
}
#: Keys whose value says what is trained, by kind.
PARTS = {
    "search": ("head", "baseline", "train", "keywords", "search", "choose"),
    "grid": ("baseline", "train", "rows"),
    "sweep": ("baseline", "train", "rows"),
}

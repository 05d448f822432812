"""Optuna's samplers and pruners by the names that a study file gives them, and one of our own for finite spaces."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lab.studies.space import Range, points

if TYPE_CHECKING:
    import optuna
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler


def sampler_for(name: str, space: Mapping[str, Range], once: bool, seed: int, number: int) -> BaseSampler:
    """A sampler for the trial with a number: the same for the same seed, another one for each trial.

    ``once``: each point of the space is to be tried once. Where it is not, ``auto`` is TPE.
    """
    from optuna.samplers import GPSampler, RandomSampler, TPESampler

    own = random.Random(f"{seed} {number}").getrandbits(32)  # noqa: S311 - no secret
    if once:
        return each_once(space, seed)
    if name == "random":
        return RandomSampler(own)
    if name == "gp":
        return GPSampler(seed=own)
    return TPESampler(seed=own, multivariate=True, constant_liar=True)


def each_once(space: Mapping[str, Range], seed: int) -> BaseSampler:
    """A sampler that gives the points of a finite space in a shuffled order, each once; then it begins anew."""
    from optuna.samplers import RandomSampler

    class EachOnce(RandomSampler):
        def infer_relative_search_space(self, study: optuna.Study, trial: Any) -> dict[str, Any]:
            return {key: each.distribution() for key, each in space.items()}

        def sample_relative(self, study: optuna.Study, trial: Any, search_space: dict[str, Any]) -> dict[str, Any]:
            every = points(space)
            random.Random(seed).shuffle(every)  # noqa: S311
            tried = {
                tuple(other.params.get(key) for key in space)
                for other in study.get_trials(deepcopy=False)
                if other.number != trial.number and other.state.name != "FAIL"
            }
            fresh = (point for point in every if tuple(point.values()) not in tried)
            return next(fresh, every[trial.number % len(every)])

    return EachOnce(seed)


def pruner_for(name: str) -> BasePruner:
    """A pruner by its name. All judge after each epoch, by validation."""
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

    if name == "median":
        return MedianPruner(n_startup_trials=5)
    return HyperbandPruner() if name == "hyperband" else NopPruner()

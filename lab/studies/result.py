"""A study's result as plain values: what ``result.json`` holds, and what tables are made from.

``rows`` have, each with mean, standard deviation between seeds (null for one) and all seeds' values, the metrics of
``val`` and ``test`` and their bootstrap intervals over videos; on test also paired tests ``against`` the baseline.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lab.errors import LabError
from lab.metrics import summarise
from lab.reads import count_reads
from lab.significance import GEOMETRIC_MEAN, bootstrap_interval, paired_test
from lab.store import Store
from lab.studies import learned
from lab.studies.final import Final, RankedRow
from lab.studies.rows import Chosen
from lab.studies.search import Found
from lab.studies.setups import Setup, Study, best_by, direction, plain, quality
from lab.studies.space import Range, Value
from lab.studies.splits import Fitted, Splits
from lab.training.recipe import merged

FORMAT = 1
#: What is tested against the baseline.
TESTED = ("R@1", "R@5", "R@10", GEOMETRIC_MEAN)
#: What has an interval.
BOUNDED = (*TESTED, "MdR", "MnR")
#: How intervals and tests resample.
HOW: dict[str, Any] = {"level": learned.LEVEL, "resamples": 5_000, "seed": 0}
#: The share of a range, on its own scale, within which a value counts as at its end.
NEAR = 0.02
#: Ends that are meant as such, though a head would go on: sound that counts as much as the pictures.
MEANT = {"fusion_weight": 1.0}


def heading(study: Study, store: Store, protocol: str, command: str) -> dict[str, Any]:
    """What a result begins with: the study, and what it runs on."""
    return {
        "format": FORMAT,
        "study": study.name,
        "kind": study.kind,
        "command": command,
        "definition": study.definition(),
        "trials": study.trials if study.kind == "search" else None,
        "seeds": study.seeds,
        "objective": study.objective,
        "time": now(),
        "store": {
            "dataset": store.name,
            "path": str(store.path),
            "protocol": protocol,
            "fingerprint": store.fingerprint,
            "passport": store.passport,
            "splits": {split: asdict(store.coverage(split, protocol)) for split in store.splits_of(protocol)},
        },
        "machine": machine(),
        "versions": {"python": platform.python_version(), **dict(_versions())},
    }


def now() -> str:
    """The time of a result, in UTC."""
    return datetime.now(UTC).isoformat("T", "seconds")


def machine() -> str:
    """The processor, how many of its cores may be used, and the GPU if there is one."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{name.replace('(R)', '')}, {cores} cores, {gpu}"


def _versions() -> Any:
    for name in ("retrieval-lab", "torch", "numpy", "optuna", "scikit-learn"):
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def of_search(study: Study, found: Found) -> dict[str, Any]:
    """What the search did and taught."""
    done = [trial.state.name for trial in found.trials]
    told: dict[str, Any] = {
        "objective": study.objective,
        "direction": direction(study.objective),
        "space": {key: str(each) for key, each in study.searched.search.items()},
        "asked": study.trials,
        "finished": done.count("COMPLETE") + done.count("PRUNED"),
        "completed": done.count("COMPLETE"),
        "pruned": done.count("PRUNED"),
        "diverged": sum("diverged" in trial.user_attrs for trial in found.trials),
        "put_back": done.count("FAIL"),
        "exhausted": found.queue.exhausted,
        "best": {"number": found.best.number, "value": found.best.value, "params": found.best.params},
        "importance": learned.importance(found.queue.study),
    }
    if found.tied is not None:
        told["plateau"] = learned.plateau(found.trials, study.searched.search, found.tied)
    return told


def of_noise(study: Study, found: Found, trained: Sequence[Fitted], queries: int) -> dict[str, Any]:
    """What the seeds of the best setup, trained to the end, teach of a search whose trials train. ``queries``: of
    validation.
    """
    if found.tied is not None or found.best.value is None:
        return {}
    floor = learned.noise_floor([fit.metrics for fit in trained], study.objective, queries)
    if floor is None:
        return {"noise_floor": None}
    tied = learned.within_noise(found.trials, found.best.value, floor, study.objective)
    return {"noise_floor": floor, "plateau": learned.plateau(found.trials, study.searched.search, tied)}


def of_choices(chosen: Sequence[Chosen]) -> dict[str, Any]:
    """What rows left to validation: the points that were tried."""
    return {
        each.setup.name: [{"point": point, "value": value} for point, value in each.tried]
        for each in chosen
        if each.tried
    }


def of_ends(splits: Splits, told: Mapping[str, Any]) -> Iterator[str]:
    """A caveat for each number that was chosen at an end of what was tried, where it could go on beyond it.

    ``told``: a result's ``choices``, and ``search`` where there was one.
    """
    study = splits.study
    for row in study.rows:
        point: dict[str, Value] = {}
        for keys in (row.search, row.choose):
            tried = [each for each in told.get("choices", {}).get(row.name, []) if each["point"].keys() == keys.keys()]
            if tried:
                point |= best_by(study.objective, tried, itemgetter("value"))["point"]
            elif study.kind == "search" and keys is row.search and keys:
                point |= told["search"]["best"]["params"]
        ranges = row.search | {key: Range("choice", choices=values) for key, values in row.choose.items()}
        for key in filter(point.__contains__, ranges):
            yield from _at_an_end(row, point, key, ranges[key], splits)


def _at_an_end(row: Setup, point: dict[str, Value], key: str, tried: Range, splits: Splits) -> Iterator[str]:
    numbers = [each for each in tried.ends() if isinstance(each, int | float) and not isinstance(each, bool)]
    if len(numbers) < len(tried.ends()) or len(set(numbers)) < 2:
        return
    low, high, value, place = min(numbers), max(numbers), point[key], tried.place(point[key])  # NaN is near nothing
    for end, near, side in ((low, place <= NEAR, -1), (high, place >= 1 - NEAR, 1)):
        if (value == end or near) and _goes_beyond(row, point, key, end, side, splits):
            yield (
                f"{row.name}: {key} = {plain(value)} is {'' if value == end else 'near '}the end of what was tried "
                f"({plain(low)} to {plain(high)}): better ones may lie beyond"
            )


def _goes_beyond(row: Setup, point: dict[str, Value], key: str, end: float, side: int, splits: Splits) -> bool:
    """Whether recipe and head take a number a step beyond an end, and do not cut it down to it."""
    name = key.rpartition(".")[2]
    beyond = end + side * (1 if isinstance(end, int) else abs(end) / 100 or 0.01)
    if beyond == end or MEANT.get(name) == end:
        return False
    probe, there = copy(splits), replace(row.at(point | {key: beyond}), choose={})
    probe.study = replace(splits.study, rows=(there,))
    try:
        probe.try_out()
        head, _, _ = probe.build(there)
    except LabError:
        return False
    return not hasattr(head, "fit") or bool(getattr(head, name, beyond) == beyond)


def of_test(study: Study, final: Final, chosen: Sequence[Chosen], store: Store) -> dict[str, Any]:
    """All that the final step adds to a result; the baseline's row has nothing ``against`` itself."""
    base = final.row(study.baseline)
    rows = [_row(row, base, final) for row in final.rows]
    return {
        "rows": rows,
        "baseline": study.baseline,
        "verdicts": learned.verdicts(rows, study.baseline),
        "choices": of_choices(chosen),
        "sweep": final.sweep,
        "reads": {"before": final.reads_before, "now": count_reads(store, "test")},
    }


def _row(row: RankedRow, base: RankedRow, final: Final) -> dict[str, Any]:
    first, t2v = row.fits[0], row.ranks["t2v"]
    by_direction = {name: [summarise(rank) for rank in ranks] for name, ranks in row.ranks.items()}
    tested = TESTED if row is not base and _have_spread(final.video) else ()
    return {
        "name": row.setup.name,
        "head": row.setup.head,
        "keywords": merged(first.run.keywords, row.setup.after),
        "recipe": first.run.recipe,
        "after_training": row.setup.after,
        "parameters": first.run.parameters,
        "seconds": [fit.run.seconds for fit in row.fits],
        "epochs": [fit.run.kept["epoch"] for fit in row.fits],
        "seeds": [fit.run.recipe["seed"] for fit in row.fits] if first.trained else [],
        "runs": [str(fit.path) for fit in row.fits if fit.path],
        "val": _bounded(_spread([fit.metrics for fit in row.fits]), row.val_ranks, final.val_video),
        "test": _bounded(_spread(by_direction["t2v"]), t2v, final.video),
        "test_v2t": {name: _spread(each) for name, each in by_direction.items() if name != "t2v"},
        "bootstrap": HOW,
        "against_baseline": {
            metric: asdict(paired_test(t2v, base.ranks["t2v"], final.video, metric, **HOW)) for metric in tested
        },
    }


def _spread(metrics: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """Each metric's mean over seeds, their deviation, and all their values."""
    found = {}
    for name in [*metrics[0], GEOMETRIC_MEAN]:
        values = [quality(each, name) for each in metrics]
        deviation = statistics.stdev(values) if len(values) > 1 else None
        found[name] = {"mean": statistics.fmean(values), "std": deviation, "seeds": values}
    return found


def _bounded(metrics: dict[str, dict[str, Any]], ranks: Any, video: Any) -> dict[str, dict[str, Any]]:
    """The same with intervals, which draw videos."""
    for metric in BOUNDED if _have_spread(video) else ():
        interval = bootstrap_interval(ranks, video, metric, **HOW)
        metrics[metric] |= {"low": interval.low, "high": interval.high}
    return metrics


def _have_spread(video: Any) -> bool:
    """One video alone has none to tell of."""
    return len(np.unique(video)) > 1

"""The rows of a study on their way to the test: settings chosen on validation, then trained with every seed.

The seeds are not the search's own: the trial that was the best of many owes some of that to its seed. Trainings of one
build, other seeds of a row or rows that differ in their rates, are done together, as many as the study's ``stack``
says: those that are still to be done, and that no other process is at.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

from lab import cli
from lab.errors import LabError
from lab.runs import require_room
from lab.studies import saved
from lab.studies.cached import Cached, after_training, settle
from lab.studies.setups import Setup, Study, best_by, quality
from lab.studies.space import points
from lab.studies.splits import Fitted, Splits, learns
from lab.studies.trainings import is_side
from lab.training.lifted import build_of, obstacle
from lab.training.stacked import Member, alike

log = logging.getLogger(__name__)

#: Trainings to be done, by the directories of their runs: a setup and a seed each.
Jobs = Mapping[Path, tuple[Setup, int]]


# -- settings --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chosen:
    """A row with its settings, and what was tried for them: points with the objective on validation."""

    setup: Setup
    tried: list[tuple[dict[str, Any], float]] = field(default_factory=list)


def choose(splits: Splits) -> list[Chosen]:
    """Every row with the best point of its ranges on validation. Raises ``LabError`` where a training fails."""
    rows = splits.study.rows
    total = sum(len(points(row.search)) for row in rows if row.search)
    if not total:
        return [Chosen(row) for row in rows]
    with cli.bar(total, "choosing on validation", "setting") as bar:
        return [_chosen(row, splits, bar) if row.search else Chosen(row) for row in rows]


def _chosen(row: Setup, splits: Splits, bar: Any) -> Chosen:
    free, tried, objective = after_training(row), [], splits.study.objective
    for point, metrics in _scored(row, splits) if free else _trained(row, splits):
        tried.append((point, quality(metrics, objective)))
        bar.update()
    best, _ = best_by(objective, tried, itemgetter(1))
    return Chosen(row.with_after(best) if free else row.at(best), tried)


def _scored(row: Setup, splits: Splits) -> Iterator[tuple[dict[str, Any], dict[str, float]]]:
    """The points of a row with their metrics on validation, all of one head."""
    cached = Cached(row, splits)
    for point in points(row.search):
        yield point, cached.metrics(point)


def _trained(row: Setup, splits: Splits) -> Iterator[tuple[dict[str, Any], dict[str, float]]]:
    """The same, each point of a head of its own; the study's ``stack`` of them train together."""
    every, stack = points(row.search), splits.study.stack
    for first in range(0, len(every), stack):
        some = every[first : first + stack]
        found = dict(splits.fit_all({i: (row.at(point), None) for i, point in enumerate(some)}))
        for i, point in enumerate(some):
            fitted = found[i]
            if not isinstance(fitted, Fitted):
                raise LabError(f"row '{row.name}' at {point}: {fitted}")
            yield point, fitted.metrics


# -- trainings -------------------------------------------------------------------------------------------------------


def train_all(chosen: Sequence[Chosen], splits: Splits, runs: Path) -> tuple[list[Chosen], list[list[Fitted]]]:
    """Each row trained with every seed, untrained heads once. Runs that are there already are read.

    What rows leave to be chosen after their training is chosen here, on validation, and told of in ``Chosen``.
    """
    done: dict[Path, Fitted] = {}
    study = splits.study
    with cli.bar(len(chosen) * study.seeds, "final", "training") as bar:
        for jobs in _batches([each.setup for each in chosen], splits, runs):
            bar.set_postfix_str(", ".join(dict.fromkeys(setup.name for setup, _ in jobs.values())))
            for path, fitted in _fits(jobs, splits):
                done[path] = fitted
                bar.update(1 if fitted.trained else study.seeds)
    told: list[Chosen] = []
    trained: list[list[Fitted]] = []
    for each in chosen:
        paths = [saved.path_of(each.setup, seed, runs) for seed in seeds_of(study)]
        fits = [done[path] for path in paths if path in done]
        if each.setup.choose:
            fits, tried = settle(each.setup, splits, fits)
            for fitted in fits:
                saved.save_after(fitted)
            each = Chosen(fits[0].setup, [*each.tried, *tried])
        told.append(each)
        trained.append(fits)
    shutil.rmtree(runs.parent / "claims", ignore_errors=True)
    return told, trained


def take_part(splits: Splits, runs: Path) -> None:
    """A helper's part in the trainings of a grid or a sweep: those that nobody else has begun, as the rows stand.

    Rows whose settings are still to be chosen are left to the first process, and so are heads without a training.
    """
    rows = [row for row in splits.study.rows if not row.search]
    for jobs in _batches([row for row in rows if learns(*splits.build(row)[::2])], splits, runs):
        sides = {
            saved.path_of(row, seed, runs): (row, seed)
            for setup, seed in jobs.values()
            for row in rows
            if is_side(row, setup)
        }
        for _ in _fits({path: job for path, job in sides.items() if path not in jobs}, splits):
            pass  # read, or waited for: they are not to be trained once more
        for _ in _fits_at_hand({path: job for path, job in jobs.items() if not saved.is_made(path)}, splits):
            pass


def seeds_of(study: Study) -> range:
    """The seeds of the final step."""
    return range(study.seed + 1, study.seed + 1 + study.seeds)


def _batches(setups: Sequence[Setup], splits: Splits, runs: Path) -> Iterator[Jobs]:
    """The trainings as they are done: of one build the study's ``stack`` at a time, one of a head without a build.

    No head is kept while they are: what trains builds its own.
    """
    for group in _alike(setups, splits) if splits.study.stack > 1 else [[setup] for setup in setups]:
        seeds, size = _together(group[0], splits)
        jobs = {saved.path_of(setup, seed, runs): (setup, seed) for setup in group for seed in seeds}
        paths = list(jobs)
        for first in range(0, len(paths), size):
            yield {path: jobs[path] for path in paths[first : first + size]}


def _alike(setups: Sequence[Setup], splits: Splits) -> list[list[Setup]]:
    """The setups in groups of one build, in the order of each group's first."""
    built = [splits.build(setup) for setup in setups]
    return [[setups[i] for i in group] for group in alike([Member(head, recipe) for head, _, recipe in built])]


def _together(setup: Setup, splits: Splits) -> tuple[range, int]:
    """The seeds that a setup is trained with, and how many trainings of its build are done at once."""
    head, _, recipe = splits.build(setup)
    seeds = seeds_of(splits.study)[: None if learns(head, recipe) else 1]
    stack = splits.study.stack
    size = stack if stack > 1 and build_of(head) is not None else 1
    if size < min(stack, len(seeds)) and (reason := obstacle(head)):
        log.warning("the heads of '%s' train one by one: %s", setup.name, reason)
    return seeds, size


def _fits(jobs: Jobs, splits: Splits) -> Iterator[tuple[Path, Fitted]]:
    """Each training as it ends; those that another process is at are waited for."""
    waiting = dict(jobs)
    for path, fitted in _fits_at_hand(jobs, splits):
        del waiting[path]
        yield path, fitted
    for path, job in waiting.items():
        with saved.claimed(path):
            fitted = saved.read(*job, splits, path) or dict(_train({path: job}, splits))[path]
        yield path, fitted


def _fits_at_hand(jobs: Jobs, splits: Splits) -> Iterator[tuple[Path, Fitted]]:
    """Those that no other process is at: read where they are there, the others trained together.

    Nothing is waited for, for what is claimed here is held until all are done.
    """
    absent: dict[Path, tuple[Setup, int]] = {}
    with ExitStack() as held:
        for path, job in jobs.items():
            with ExitStack() as claim:
                if not claim.enter_context(saved.claimed(path, wait=False)):
                    continue
                fitted = saved.read(*job, splits, path)
                if fitted is None:
                    absent[path] = job
                    held.enter_context(claim.pop_all())
                    continue
            yield path, fitted
        if absent:
            yield from _train(absent, splits)


def _require_room(jobs: Jobs, splits: Splits) -> None:
    path, (setup, _) = next(iter(jobs.items()))  # a batch is of one build
    head, _, recipe = splits.build(setup)
    if learns(head, recipe):
        require_room(head, path.parent, len(jobs))


def _train(jobs: Jobs, splits: Splits) -> Iterator[tuple[Path, Fitted]]:
    """Trains, and saves each as it ends. One that diverges ends the study, after the others of its stack.

    Raises ``OSError`` where there is no room for their weights.
    """
    _require_room(jobs, splits)
    names = [f"'{setup.name}' with seed {seed}" for setup, seed in jobs.values()]
    paths, diverged = list(jobs), list[LabError]()
    try:
        for number, ended in splits.fit_all(dict(enumerate(jobs.values()))):
            if isinstance(ended, Fitted):
                yield paths[number], saved.save(ended, paths[number])
            elif ended is None:
                raise ValueError("nothing ends these trainings early")
            else:
                diverged.append(LabError(f"{names[number]}: {ended}"))
    except LabError as error:
        diverged.append(LabError(f"{', '.join(names)}: {error}"))
    if diverged:
        raise diverged[0]

"""The trainings of the final step: each row with each seed, its run read where it is there already.

The seeds are not the search's own: the trial that was the best of many owes some of that to its seed. Runs are saved as
they are made, so a study that is stopped here goes on where it was. With a study's ``stack`` the seeds of a row train
together (``lab.studies.batched``): those that are still to be trained, and that no other process is at.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lab import cli
from lab.atomic import replace_bytes
from lab.errors import LabError
from lab.runs import load_run, read_run, save_run
from lab.studies.batched import train_together
from lab.studies.cached import settle
from lab.studies.grid import Chosen
from lab.studies.setups import Setup, Study
from lab.studies.splits import Fitted, Splits
from lab.studies.trainings import is_side
from lab.studies.workers import claimed
from lab.training.lifted import build_of, obstacle
from lab.training.recipe import divide, merged
from lab.training.task import Task, Trained

log = logging.getLogger(__name__)

#: A setup with its head trained, and the directory of its run, "" where it has none.
Done = tuple[Fitted, str]


def train_all(
    study: Study, chosen: Sequence[Chosen], splits: Splits, runs: Path
) -> tuple[list[Chosen], list[list[Done]]]:
    """Each setup trained with every seed, untrained heads once.

    What setups leave to be chosen after their training is chosen here, on validation, and told of in ``Chosen``.
    """
    done: list[list[Done]] = []
    told: list[Chosen] = []
    with cli.bar(len(chosen) * study.seeds, "final", "training") as bar:
        for each in chosen:
            bar.set_postfix_str(each.setup.name)
            fits = _row(study, each.setup, splits, runs, bar)
            if each.setup.choose:
                settled, tried = settle(each.setup, splits, [fit for fit, _ in fits], study.objective)
                fits = [(new, _replaced(old, new, run)) for (old, run), new in zip(fits, settled, strict=True)]
                each = Chosen(settled[0].setup, [*each.tried, *tried])
            told.append(each)
            done.append(fits)
    shutil.rmtree(runs.parent / "claims", ignore_errors=True)
    return told, done


def _row(study: Study, setup: Setup, splits: Splits, runs: Path, bar: Any) -> list[Done]:
    """One setup with every seed, in their order."""
    fits: dict[int, Done] = {}
    for seeds in _batches(study, setup, splits):
        for seed, done in _fits(setup, seeds, splits, runs):
            fits[seed] = done
            bar.update()
            if not done[0].trained:
                bar.update(study.seeds - 1)
                return [done]
    return [fits[seed] for seed in seeds_of(study)]


def take_part(study: Study, splits: Splits, runs: Path) -> None:
    """A helper's part in the trainings of a grid or a sweep: those that nobody else has begun, as the rows stand.

    Rows whose settings are still to be chosen are left to the first process.
    """
    rows = [row for row in study.rows if not row.search]
    for setup in rows:
        if not any(parameter.requires_grad for parameter in splits.build(setup)[0].parameters()):
            continue
        side = next((row for row in rows if row is not setup and is_side(row, setup)), None)
        for seeds in _batches(study, setup, splits):
            if side is not None:
                for _ in _fits(side, seeds, splits, runs):
                    pass  # read, or waited for: it is not to be trained once more
            paths = {seed: _path(setup, seed, runs) for seed in seeds}
            absent = [seed for seed, path in paths.items() if not (path / "run.json").is_file()]
            made = {seed for seed, _ in _together(setup, absent, splits, runs)}
            for seed in (seed for seed in absent if seed not in made):
                with claimed(paths[seed], wait=False) as mine:
                    if mine and not (paths[seed] / "run.json").is_file():
                        _train(setup, seed, splits, paths[seed])


def seeds_of(study: Study) -> range:
    """The seeds of the final step."""
    return range(study.seed + 1, study.seed + 1 + study.seeds)


# -- seeds that train together ---------------------------------------------------------------------------------------


def _batches(study: Study, setup: Setup, splits: Splits) -> Iterator[range]:
    """The seeds as they train: the study's ``stack`` at a time, one for a head that cannot be stacked."""
    seeds, size = seeds_of(study), study.stack
    if size > 1:
        head = splits.build(setup)[0]
        if hasattr(head, "fit") or build_of(head) is None:
            size = 1
            if len(seeds) > 1 and (reason := obstacle(head)) and any(p.requires_grad for p in head.parameters()):
                log.warning("the heads of '%s' train one by one: %s", setup.name, reason)
    for first in range(0, len(seeds), size):
        yield seeds[first : first + size]


def _fits(setup: Setup, seeds: Sequence[int], splits: Splits, runs: Path) -> Iterator[tuple[int, Done]]:
    """Each seed with its run, as it ends; those that another process is at are waited for."""
    done = set()
    for seed, each in _together(setup, seeds, splits, runs):
        done.add(seed)
        yield seed, each
    for seed in seeds:
        if seed not in done:
            path = _path(setup, seed, runs)
            with claimed(path):
                each = _read(setup, seed, splits, path) or _train(setup, seed, splits, path)
            yield seed, each


def _together(setup: Setup, seeds: Sequence[int], splits: Splits, runs: Path) -> Iterator[tuple[int, Done]]:
    """Of several seeds those that no other process is at: read where they are there, the others trained in one stack.

    Nothing is waited for, for what is claimed here is held until all of the stack are done.
    """
    if len(seeds) < 2:
        return
    tasks: dict[int, Task] = {}
    with ExitStack() as held:
        for seed in seeds:
            path = _path(setup, seed, runs)
            with ExitStack() as claim:
                if not claim.enter_context(claimed(path, wait=False)):
                    continue
                done = _read(setup, seed, splits, path)
                if done is None:
                    task = splits.task(setup, seed)
                    if not splits.trainings.knows(task):
                        tasks[seed] = task
                        held.enter_context(claim.pop_all())
                        continue
                    done = _train(setup, seed, splits, path)
            yield seed, done
        for seed, trained in _stacked(setup, tasks, splits):
            splits.trainings.keep(tasks[seed], trained)
            yield seed, _saved(splits.fitted(setup, trained), _path(setup, seed, runs))


def _stacked(setup: Setup, tasks: Mapping[int, Task], splits: Splits) -> Iterator[tuple[int, Trained]]:
    """Trains a setup's tasks, by their seeds. The first that diverges ends them all, as it ends the study."""
    which = f"seeds {', '.join(map(str, tasks))}"
    try:
        for seed, outcome in train_together(splits, tasks, lambda epoch, told: ()):
            if not isinstance(outcome, Trained):
                which = f"seed {seed}"
                raise outcome or ValueError("nothing ends these trainings early")
            yield seed, outcome
    except LabError as error:
        raise LabError(f"'{setup.name}' with {which}: {error}") from None


# -- runs ------------------------------------------------------------------------------------------------------------


def _path(setup: Setup, seed: int, runs: Path) -> Path:
    return runs / f"{_stem(setup.name)}-s{seed}"


def _read(setup: Setup, seed: int, splits: Splits, path: Path) -> Done | None:
    """A run that is there already if it was made from the same; any other one gives way."""
    if not (path / "run.json").is_file():
        return None
    again = _again(setup, seed, splits, path)
    if again is not None:
        return again, str(path)
    log.info("%s is of other settings, its place is taken by a new one", path)
    _remove(path)
    return None


def _train(setup: Setup, seed: int, splits: Splits, path: Path) -> Done:
    """A new run."""
    try:
        made = splits.fit(setup, seed)
    except LabError as error:
        raise LabError(f"'{setup.name}' with seed {seed}: {error}") from None
    return _saved(made, path)


def _saved(made: Fitted, path: Path) -> Done:
    """What is in a new run's place, which has no ``run.json``, was left by a removal that was killed."""
    if path.exists():
        _remove(path)
    if not made.trained:
        return made, ""
    try:
        return made, str(save_run(made.head, made.run, made.epochs, path.parent, path.name))
    except ModuleNotFoundError as error:
        log.warning("%s is not installed, so the trained heads are not saved", error.name)
        return made, ""


def _again(setup: Setup, seed: int, splits: Splits, path: Path) -> Fitted | None:
    try:
        run = read_run(path)
        _, keywords, recipe = splits.build(setup, seed)
        held, wanted = run.after, setup.after
        for key in setup.choose:  # what it holds of these is chosen anew
            held, wanted = (merged(each, divide(setup.head, {key: 0})[1]) for each in (held, wanted))
        same = (run.head, run.keywords, run.recipe, held) == (setup.head, keywords, asdict(recipe), wanted)
        if not same or run.passport.keys() - splits.store.passport.keys():
            return None
        head, run = load_run(path, splits.store, trusted=list(_names(setup)))
    except LabError as error:
        log.warning("%s", error)
        return None
    log.info("%s was trained before", path)
    if not run.after:  # as it was trained
        splits.trainings.remember(setup.head, keywords, recipe, head, run)
    return Fitted(setup, head.to(splits.device), run)


def _names(setup: Setup) -> Iterator[str]:
    """The heads that the study's own file names, which its user therefore trusts."""
    yield setup.head
    yield from (value for value in setup.keywords.values() if isinstance(value, str))


def _replaced(old: Fitted, new: Fitted, path: str) -> str:
    """The run of a head whose settings after the training were chosen; one that says so already stays."""
    if not path or read_run(Path(path)).after == new.run.after:
        return path
    with claimed(Path(path)):
        told = Path(path) / "log.jsonl"
        epochs = told.read_bytes() if told.is_file() else b""  # what was read from disk knows none
        _remove(Path(path))
        saved = save_run(new.head, new.run, old.epochs, Path(path).parent, Path(path).name)
        replace_bytes(saved / "log.jsonl", epochs)
        return str(saved)


def _remove(path: Path) -> None:
    """Out of the way at once, with all that stands beside the weights; a kill on the way leaves nothing in the way.

    Only for who has ``claimed`` the run.
    """
    gone = path.with_name(f".{path.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)  # of one who was killed below
    path.rename(gone)
    (gone / "run.json").unlink(missing_ok=True)  # first, for what has one is a run
    shutil.rmtree(gone)


def _stem(name: str) -> str:
    return re.sub(r"[^\w.+-]", "-", name)

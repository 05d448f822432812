"""The runs of a study's final step on disk: claimed by the process that makes one, saved as it ends, read again.

So a study that is stopped goes on where it was, and processes share its trainings.
"""

from __future__ import annotations

import logging
import re
import shutil
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path

from lab.atomic import replace_bytes
from lab.errors import LabError
from lab.runs import load_run, own_code, read_run, save_run
from lab.studies.setups import Setup
from lab.studies.splits import Fitted, Splits
from lab.studies.workers import locked
from lab.training.recipe import divide, merged

log = logging.getLogger(__name__)


def path_of(setup: Setup, seed: int, runs: Path) -> Path:
    """The directory of a run."""
    stem = re.sub(r"[^\w.+-]", "-", setup.name)
    return runs / f"{stem}-s{seed}"


def is_made(path: Path) -> bool:
    """Whether there is a run, of whatever settings."""
    return (path / "run.json").is_file()


def claimed(path: Path, wait: bool = True) -> AbstractContextManager[bool]:
    """Whether this process may make a run; where it is not to ``wait``, no if another process makes it just now."""
    return locked(path.parent.parent / "claims" / path.name, wait)


def read(setup: Setup, seed: int, splits: Splits, path: Path) -> Fitted | None:
    """A run that is there already if it was made from the same; any other one gives way. For who claimed it."""
    if not is_made(path):
        return None
    again = _again(setup, seed, splits, path)
    if again is None:
        log.info("%s is of other settings, its place is taken by a new one", path)
        _remove(path)
    return again


def save(made: Fitted, path: Path) -> Fitted:
    """Saves what was trained. For who claimed it."""
    if path.exists():  # without run.json: it was left by a removal that was killed
        _remove(path)
    if not made.trained:
        return made
    try:
        return replace(made, path=save_run(made.head, made.run, made.epochs, path.parent, path.name))
    except ModuleNotFoundError as error:
        log.warning("%s is not installed, so the trained heads are not saved", error.name)
        return made


def save_after(made: Fitted) -> None:
    """Saves a run anew whose settings after the training were chosen; one that says so already stays."""
    path = made.path
    if path is None or read_run(path).after == made.run.after:
        return
    with claimed(path):
        told = path / "log.jsonl"
        epochs = told.read_bytes() if told.is_file() else b""  # what was read from disk knows none
        _remove(path)
        save_run(made.head, made.run, made.epochs, path.parent, path.name)
        replace_bytes(told, epochs)


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
        # Those of the study's own file, which was not read without its user's trust.
        head, run = load_run(path, splits.store, trusted=own_code(setup.head, setup.keywords))
    except LabError as error:
        log.warning("%s", error)
        return None
    log.info("%s was trained before", path)
    if not run.after:  # as it was trained
        splits.trainings.remember(setup.head, keywords, recipe, head, run)
    return Fitted(setup, head.to(splits.device), run, path=path)


def _remove(path: Path) -> None:
    """Out of the way at once, with all that stands beside the weights; a kill on the way leaves nothing in the way."""
    gone = path.with_name(f".{path.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)  # of one who was killed below
    path.rename(gone)
    (gone / "run.json").unlink(missing_ok=True)  # first, for what has one is a run
    shutil.rmtree(gone)

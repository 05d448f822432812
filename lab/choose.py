"""Which head a search or a page uses: a run by its name, the newest run of a store, or a head without training."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from lab.errors import LabError
from lab.evaluate import Candidate, trained_head, untrained_head
from lab.runs import RUNS, Run, UntrustedError, find_below, find_run, load_run, own_code, read_run, runs_below
from lab.store import Store

log = logging.getLogger(__name__)


def all_runs(runs: Path = RUNS) -> list[tuple[Path, Run]]:
    """All runs below a directory, those of studies too, the newest first; damaged ones are left out with a line."""
    found = []
    for path in runs_below(runs):
        try:
            found.append((path, read_run(path)))
        except LabError as error:
            log.warning("left out: %s", error)
    return sorted(found, key=lambda one: (one[1].time, str(one[0])), reverse=True)


def fitting_runs(
    store: Store, runs: Path = RUNS, trust: Collection[str] = (), protocol: str | None = None
) -> Iterator[tuple[Path, LabError | None]]:
    """The runs on a store's data set, the newest first, each with why it does not fit this store (None if it does).

    With ``protocol``, runs under another one do not fit: their train split may hold what this one tests on.
    """
    for path, run in all_runs(runs):
        if run.dataset == store.name:
            try:
                load_run(path, store, trusted=trust)
            except LabError as error:
                yield path, error
                continue
            other = LabError(f"{path} was trained under protocol '{run.protocol}', not '{protocol}'")
            yield path, other if protocol is not None and run.protocol != protocol else None


def say_left_out(store: Store, left_out: Mapping[Path, LabError]) -> None:
    """A line on runs that do not fit a store, with their reasons for -v alone; one for each name that wants trust."""
    for error in left_out.values():
        log.debug("left out: %s", error)
    wanted = {path: error.name for path, error in left_out.items() if isinstance(error, UntrustedError)}
    for name in sorted(set(wanted.values())):
        log.info("left out, code that the lab does not know: add --trust %s if you know it", name)
    if others := len(left_out) - len(wanted):
        runs = "1 run that does" if others == 1 else f"{others} runs that do"
        log.info("left out: %s not fit %s (-v says why)", runs, store.path)


def training(store: Store) -> str:
    """``; COMMAND trains a head`` for a line that lacks one; '' for a store without a train split."""
    command = shlex.join(["python", "-m", "lab.train", "xpool", "--store", str(store.path)])
    return f"; {command} trains a head" if "train" in store.splits else ""


def evaluation(path: Path, run: Run) -> str:
    """The command that reads a run's test split, to be pasted: it names the store, and trusts a head of one's own."""
    trust = [word for name in own_code(run.head, run.settings) for word in ("--trust", name)]
    return shlex.join(["python", "-m", "lab.evaluate", str(path), "--store", run.store, *trust, "--split", "test"])


def locate_run(name: str | Path, runs: Path = RUNS) -> Path:
    """The directory of a run, by its path or its name anywhere below ``runs``. ``LabError`` for none or several."""
    path = find_run(name, runs) or find_below(name, runs)
    if path is None:
        raise LabError(f"there is no run '{name}' in {runs}: python -m lab.train HEAD --dataset NAME makes one")
    return path


def choose_head(
    store: Store,
    run: str | Path | None = None,
    head: str | None = None,
    settings: Sequence[str] = (),
    runs: Path = RUNS,
    trust: Collection[str] = (),
) -> Candidate:
    """The run or head that is named; else the newest run on the store's data set that fits, else the mean: said."""
    if run is not None and head is not None:
        raise LabError(f"a run and a head without training exclude each other, got --run {run} and --head {head}")
    if run is not None:
        if settings:
            raise LabError(f"{run} is trained, its settings are fixed: leave --set out, or give --head")
        return trained_head(locate_run(run, runs), store, trust)
    if head is not None:
        return untrained_head(head, store, settings)
    if settings:
        raise LabError(f"--set {settings[0]} is for a head without training, and none is named: give --head NAME, too")
    left_out: dict[Path, LabError] = {}
    for path, wrong in fitting_runs(store, runs, trust):
        if wrong is None:
            say_left_out(store, left_out)
            log.info("the newest run on %s: %s", store.name, path)
            return trained_head(path, store, trust)
        left_out[path] = wrong
    say_left_out(store, left_out)
    log.info("no run on %s in %s: mean pooling, untrained%s", store.path, runs, training(store))
    return untrained_head("mean", store)

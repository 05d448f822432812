"""Which head is meant: a run by its path or name, a head without training by its name, or what there is unnamed.

Commands, page and notebooks differ in how they ask, and what they get is a ``Candidate``:

``lab.evaluate RUN_OR_HEAD``     one of all heads, or a run
``lab.search --run, --head``     either; unnamed the newest run that fits the store, else the mean
``lab.figures --run``            several runs, or plain heads; unnamed these and the newest run of each head
``lab.demo --head``              several of its menu, which is all runs that fit, and the plain heads

A run goes by its path, by its name in the directory of runs, or by its name anywhere below that, as studies have them;
one that is called like a head goes before the head. Code that is not the lab's is run if it is trusted by its name.
"""

from __future__ import annotations

import argparse
import difflib
import logging
import shlex
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from torch import nn

from lab.errors import LabError, unknown
from lab.heads import HEADS
from lab.heads.pooling import SoftmaxPooling
from lab.needs import Needs
from lab.runs import RUNS, Run, find_below, find_run, load_run, own_code, read_run, runs_below
from lab.runs.fitting import NAMED, Fitting
from lab.store import Store
from lab.store.find import given_store
from lab.training.recipe import Recipe, divide, parse_settings
from lab.training.task import head_for

log = logging.getLogger(__name__)

#: What needs no training.
PLAIN = ("mean", "topk", "softmax")
#: Settings that mean something without a training.
UNTRAINED = ("audio_level", "seed")


@dataclass(frozen=True)
class Candidate:
    """A head, the name that it goes by, its run if it was trained, and what it hears."""

    head: nn.Module
    label: str
    run: Path | None = None
    audio_level: str = "clip"

    @property
    def needs(self) -> Needs:
        """What it reads of a split."""
        return Needs.of(self.head, audio_level=self.audio_level)


# -- by name ---------------------------------------------------------------------------------------------------------


def locate_run(name: str | Path, runs: Path = RUNS, heads: Collection[str] = ()) -> Path:
    """The directory of a run. Raises ``LabError`` for none (nor one of some ``heads``), and for several."""
    path = find_run(name, runs) or find_below(name, runs)
    if path is not None:
        return path
    names = sorted({path.name for path in runs_below(runs)})
    if not names and not heads:
        raise LabError(f"there is no run '{name}' in {runs}: python -m lab.train HEAD --dataset NAME makes one")
    nearest = difflib.get_close_matches(str(name), names, NAMED, cutoff=0)
    more = f" and {len(names) - len(nearest)} other runs" if len(names) > len(nearest) else ""
    raise LabError(f"{unknown('head or run' if heads else 'run', str(name), [*heads, *nearest])}{more}")


def run_or_head(name: str, runs: Path = RUNS, heads: Collection[str] | None = None) -> Path | None:
    """The directory of a run, or None for one of some ``heads`` (by default any, classes of one's own, too).

    Raises ``LabError`` for what is neither.
    """
    if (path := find_run(name, runs)) is not None:
        return path
    is_head = name in HEADS or ":" in name if heads is None else name in heads
    return None if is_head else locate_run(name, runs, HEADS if heads is None else heads)


def candidate(which: Path | str, store: Store, settings: Sequence[str] = (), trust: Collection[str] = ()) -> Candidate:
    """A run by its path, or a head without training by its name. Raises ``LabError`` for settings of a run."""
    if not isinstance(which, Path):
        return untrained_head(which, store, settings)
    if settings:
        raise LabError(f"{which} is trained, its settings are fixed: leave --set out, or give a head's name")
    return trained_head(which, store, trust)


def trained_head(path: Path, store: Store, trust: Collection[str] = ()) -> Candidate:
    """A run as a head. Raises ``LabError`` where it was trained on another store's features."""
    head, run = load_run(path, store, trusted=trust)
    return Candidate(head, path.name, path, run.audio_level)


def untrained_head(name: str, store: Store, settings: Sequence[str] = ()) -> Candidate:
    """A head as it begins, with settings ``key=value``; a warning says so where it would learn.

    Raises ``LabError`` for a head or a setting that there is not.
    """
    known = parse_settings(settings)
    recipe, keywords = divide(name, known)
    for key in recipe:
        if key not in UNTRAINED:
            raise LabError(f"'{key}' is for training, which python -m lab.train does: leave it out here")
    how = Recipe(**recipe)
    head, _ = head_for(store, name, keywords, how.seed)
    if any(True for _ in head.parameters()):
        trains = shlex.join(["python", "-m", "lab.train", name, "--store", str(store.path)])
        log.warning("%s has parameters, and they are as they begin: %s", name, trains)
    label = "-".join([name, *(f"{key}={value}" for key, value in sorted(known.items()))])
    return Candidate(head.eval(), label, None, how.audio_level)


def store_of(path: Path | None, given: argparse.Namespace) -> Store:
    """The store that options name (``given_store``); without a name that of a run's features, if there is a run."""
    if path is None or given.store is not None:
        return given_store(given)
    run = read_run(path)
    options = argparse.Namespace(store=None, features=given.features, dataset=given.dataset or run.dataset)
    return given_store(options, run.passport, run.store)


# -- unnamed ---------------------------------------------------------------------------------------------------------


def plain_heads(store: Store) -> dict[str, Candidate]:
    """The heads that need no training, by name; top-k with the paper's k, or all frames where there are fewer.

    Their labels say their settings: studies have others.
    """
    k = min(3, store.array("frames").shape[1])
    made = {name: untrained_head(name, store, [f"top_k={k}"] if name == "topk" else []) for name in PLAIN}
    return {name: replace(one, label=_with_settings(name, one.head)) for name, one in made.items()}


def _with_settings(name: str, head: nn.Module) -> str:
    """A head's name with its k, if it has one, and softmax's temperature."""
    k = getattr(head, "top_k", None)
    temperature = f" t={head.temperature:g}" if isinstance(head, SoftmaxPooling) else ""
    return name + (f" k={k}" if k is not None else "") + temperature


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
        return candidate(locate_run(run, runs), store, settings, trust)
    if head is not None:
        return candidate(head, store, settings)
    if settings:
        raise LabError(f"--set {settings[0]} is for a head without training, and none is named: give --head NAME, too")
    fitting = Fitting(store, runs, trust)
    newest = next(iter(fitting), None)
    fitting.say()
    if newest is not None:
        log.info("the newest run on %s: %s", store.name, newest[0])
        return trained_head(newest[0], store, trust)
    log.info("no run on %s in %s: mean pooling, untrained%s", store.path, runs, training(store))
    return untrained_head("mean", store)


# -- several, side by side -------------------------------------------------------------------------------------------


def trained_heads(store: Store, paths: Sequence[Path], trust: Collection[str] = ()) -> list[Candidate]:
    """Runs by their heads' names, for a legend. Raises ``LabError`` for a run that does not fit the store."""
    found: list[Candidate] = []
    for path in paths:
        head, run = load_run(path, store, trusted=trust)
        label = _with_settings(run.head, head) + (" trained" if run.head in PLAIN else "")
        taken = [one.label for one in found]
        label = next(name for name in _longer(label, path) if name not in taken)
        found.append(Candidate(head, label, path, run.audio_level))
    return found


def _longer(label: str, path: Path) -> Iterator[str]:
    """A run's label, then with the run's name, its study's (``STUDY/runs/RUN``), and numbers."""
    yield label
    yield (label := f"{label} {path.name}")
    yield (label := f"{label} {(path.parent.parent if path.parent.name == 'runs' else path.parent).name}")
    yield from (f"{label} {number}" for number in count(2))


# -- commands to paste -----------------------------------------------------------------------------------------------


def training(store: Store) -> str:
    """``; COMMAND trains a head`` for a line that lacks one; '' for a store without a train split."""
    command = shlex.join(["python", "-m", "lab.train", "xpool", "--store", str(store.path)])
    return f"; {command} trains a head" if "train" in store.splits else ""


def evaluation(path: Path, run: Run) -> str:
    """The command that reads a run's test split, to be pasted: it names the store, and trusts a head of one's own."""
    trust = [word for name in own_code(run.head, run.settings) for word in ("--trust", name)]
    return shlex.join(["python", "-m", "lab.evaluate", str(path), "--store", run.store, *trust, "--split", "test"])

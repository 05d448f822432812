"""Finished studies as figures read them: the result, and the trials of a search."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from lab.caveats import left_out
from lab.errors import LabError, unknown
from lab.figures.material import NoData, into
from lab.runs import RUNS
from lab.significance import Interval
from lab.store import Coverage, Store
from lab.store.passport import is_random
from lab.studies.report import read_result, read_trials
from lab.studies.setups import OBJECTIVES

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """A trial of a search: its number, ``complete``, ``pruned`` or ``fail``, the objective if known, its settings."""

    number: int
    state: str
    value: float | None
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Finished:
    """A finished study: the directory that it left, and its ``result.json``."""

    home: Path
    result: Mapping[str, Any]

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """A row a head, as ``lab.studies.result`` writes them."""
        return list(self.result["rows"])

    @property
    def searched(self) -> Mapping[str, Any] | None:
        """What the search did and taught; None for a study that is none."""
        return self.result.get("search")

    @property
    def highest(self) -> bool:
        """Whether more of the objective is better."""
        return OBJECTIVES.get(self.result["objective"], True)

    @property
    def head(self) -> str:
        """The head that was searched, or the last one of a grid."""
        return str(self.rows[-1]["head"])

    @cached_property
    def trials(self) -> list[Trial]:
        """The trials of a search in their order. Raises ``NoData`` where their file is gone."""
        try:
            rows = read_trials(self.home)
        except LabError as error:
            raise NoData(f"{error}: {self.command}") from None
        prefix = "setting."
        return [
            Trial(
                row["number"],
                row["state"],
                row["value"],
                {key.removeprefix(prefix): value for key, value in row.items() if key.startswith(prefix)},
            )
            for row in rows
        ]

    @property
    def command(self) -> str:
        """What it was made with."""
        return str(self.result["command"])

    def source(self, split: str = "test", more: str = "") -> str:
        """The small print: the study, when, the store, what of it, and warnings of the store."""
        store, held = self.result["store"], self.result["store"]["splits"].get(split, {})
        counts = f": {held['captions']:,} captions, {held['videos']:,} videos" if held else ""
        day = str(self.result.get("time", ""))[:10]
        told = [f"study {self.home.name} ({day}), {Path(store['path']).name}, {store['protocol']} {split}{counts}"]
        if held.keys() >= (known := {each.name for each in fields(Coverage)}):
            lacking = left_out(Coverage(**{name: held[name] for name in known}))
            told += [lacking] if lacking else []
        random = ["RANDOM WEIGHTS made these features: the numbers prove that the code runs, and nothing else"]
        return "\n".join([*told, *([more] if more else []), *(random if is_random(store["passport"]) else [])])

    def interval(self, row: Mapping[str, Any], metric: str, split: str = "test") -> Interval:
        """A metric of a row on a split; of fewer than two videos there is no interval, and its ends are the value."""
        told, held = row[split][metric], self.result["store"]["splits"][split]
        ends = told.get("low", told["mean"]), told.get("high", told["mean"])
        return Interval(metric, told["mean"], *ends, row["bootstrap"]["level"], held["captions"], held["videos"])

    def made_of(self, store: Store) -> bool:
        """Whether a store holds the same features of the same data set; it may hold more by now, the sound say."""
        mine, told = self.result["store"], self.result["store"]["passport"]
        return mine["dataset"] == store.name and all(store.passport.get(name) == each for name, each in told.items())


class Studies:
    """Finished studies, from which a figure takes the first that has what it shows.

    ``dataset`` stands in the command that makes a missing one, ``where`` says where it is missing. ``store``: what they
    were made of, if it is at hand. ``asked``: they were named one by one, so that all of them are meant. ``directory``:
    where they were looked for.
    """

    def __init__(
        self,
        found: Sequence[Finished],
        dataset: str,
        where: str,
        store: Store | None = None,
        asked: bool = False,
        directory: Path = RUNS,
    ) -> None:
        self.found, self.dataset, self.where, self.store, self.asked = list(found), dataset, where, store, asked
        self.directory = directory

    def first(self, fits: Callable[[Finished], Any], lacks: str, study: str) -> Finished:
        """The study that fits best, the first of several alike; ``fits`` says how well, nothing or 0 is not at all.

        Raises ``NoData``: what is lacking, and the command of a study that gives it.
        """
        fit = [int(fits(one) or 0) for one in self.found]
        if not any(fit):
            on = ["--dataset", self.dataset] if self.store is None else ["--store", str(self.store.path)]
            command = shlex.join(["python", "-m", "lab.study", study, *on, *into(self.directory)])
            raise NoData(f"no {lacks} in {self.where}: {command}")
        return self.found[fit.index(max(fit))]


def newest(store: Store, protocol: str, directory: Path = RUNS) -> Studies:
    """The finished studies on a store's features, the newest first."""
    found = []
    for file in directory.glob("*/result.json"):
        try:
            one = _read(file.parent)
        except LabError as error:
            log.warning("left out: %s", error)
            continue
        if one.made_of(store) and one.result["store"]["protocol"] == protocol:
            found.append(one)
    found.sort(key=lambda one: (str(one.result.get("time", "")), one.home.name), reverse=True)
    return Studies(found, store.name, f"{directory} on the features of {store.path.name}", store, directory=directory)


def named(names: Sequence[str], directory: Path = RUNS, store: Store | None = None) -> Studies:
    """Studies by their directories, or by their names in a directory of studies, in the order given.

    Raises ``LabError`` for what is no finished study.
    """
    found = []
    for name in names:
        home = next((path for path in (Path(name), directory / name) if (path / "result.json").is_file()), None)
        if home is None:
            known = sorted(file.parent.name for file in directory.glob("*/result.json"))
            stem = Path(name).name.partition("-")[0]
            missing = LabError(f"there is no finished study in {name}: python -m lab.study {stem} makes one")
            raise unknown(f"finished study in {directory}", name, known) if known else missing
        found.append(_read(home))
    return Studies(found, str(found[0].result["store"]["dataset"]), " or ".join(names), store, True, directory)


def _read(home: Path) -> Finished:
    result = read_result(home)
    if result is None:
        raise LabError(f"there is no result in {home}: the study was not finished")
    return Finished(home, result)

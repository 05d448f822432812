"""The runs below a directory that fit a store: those that can be offered where none is named."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from lab.errors import LabError
from lab.heads import HEADS
from lab.runs.load import UntrustedError, load_run
from lab.runs.places import RUNS, runs_below
from lab.runs.record import Run, read_run
from lab.store import Store

log = logging.getLogger(__name__)

#: So many runs are named in one line.
NAMED = 12


def all_runs(runs: Path = RUNS) -> list[tuple[Path, Run]]:
    """All runs below a directory, those of studies too, the newest first; damaged ones are left out with a line."""
    found = []
    for path in runs_below(runs):
        try:
            found.append((path, read_run(path)))
        except LabError as error:
            log.warning("left out: %s", error)
    return sorted(found, key=lambda one: (one[1].time, str(one[0])), reverse=True)


class Fitting:
    """The runs on a store's data set that fit it, the newest first, in a loop over this or by ``of_each_head``.

    ``left_out``: those that do not, with why. With ``protocol``, runs under another one do not fit: their train split
    may hold what this one tests on.
    """

    def __init__(
        self, store: Store, runs: Path = RUNS, trust: Collection[str] = (), protocol: str | None = None
    ) -> None:
        self.store, self.trust, self.protocol = store, trust, protocol
        self.left_out: list[tuple[Path, Run, LabError]] = []
        self._heads = set[str]()
        self._all = [(path, run) for path, run in all_runs(runs) if run.dataset == store.name]

    def __iter__(self) -> Iterator[tuple[Path, Run]]:
        return ((path, run) for path, run in self._all if self._fits(path, run))

    def of_each_head(self) -> list[Path]:
        """The newest of each head (and projection), in the table's order, one's own in the order of ``trust``."""
        newest: dict[tuple[str, str], Path] = {}
        for path, run in self._all:
            key = (run.head, str(run.keywords.get("projection", "")))
            if key not in newest and self._fits(path, run):
                newest[key] = path
        order = [*HEADS, *self.trust, *(head for head, _ in newest)]
        return [path for (head, _), path in sorted(newest.items(), key=lambda item: order.index(item[0][0]))]

    def _fits(self, path: Path, run: Run) -> bool:
        try:
            load_run(path, self.store, trusted=self.trust)
            if self.protocol not in (None, run.protocol):
                raise _OtherProtocolError(f"{path} was trained under protocol '{run.protocol}', not '{self.protocol}'")
        except LabError as error:
            self.left_out.append((path, run, error))
            return False
        self._heads.add(run.head)
        return True

    def say(self) -> None:
        """Why runs were left out: a line for each kind of reason, and the reason if no run of a trusted head fits."""
        others, elsewhere, untrusted = 0, list[str](), set[str]()
        missing: dict[str, LabError] = {}
        for path, run, error in self.left_out:
            log.debug("left out: %s", error)
            if isinstance(error, _OtherProtocolError):
                elsewhere.append(f"{path.name} ({run.protocol})")
            elif isinstance(error, UntrustedError):
                untrusted.add(error.name)
            else:
                others += 1
                if run.head in self.trust and run.head not in self._heads:
                    missing.setdefault(run.head, error)
        for error in missing.values():
            log.warning("left out: %s", error)
        for name in sorted(untrusted):
            log.warning("left out, code that the lab does not know: add --trust %s if you know it", name)
        if elsewhere:
            more = [f"{len(elsewhere) - NAMED} others"] if len(elsewhere) > NAMED else []
            told = ", ".join([*elsewhere[:NAMED], *more])
            log.info("left out, trained under another protocol than %s: %s", self.protocol, told)
        if others:
            runs = "1 run that does" if others == 1 else f"{others} runs that do"
            log.info("left out: %s not fit %s (-v says why)", runs, self.store.path)


class _OtherProtocolError(LabError):
    """A run is of another protocol than is asked for."""


def newest_runs(store: Store, runs: Path = RUNS, protocol: str | None = None, trust: Sequence[str] = ()) -> list[Path]:
    """The newest run of each head that fits a store and a protocol (None: its first); what is left out is said."""
    fitting = Fitting(store, runs, trust, protocol or store.protocols[0])
    newest = fitting.of_each_head()
    fitting.say()
    return newest

"""The page's menu of heads: those without training, and every run that fits the store."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.choose import Candidate, plain_heads, trained_head
from lab.errors import LabError, unknown
from lab.figures import style
from lab.runs import RUNS
from lab.runs.fitting import Fitting
from lab.store import Store


@dataclass(frozen=True)
class Entry:
    """A line of the menu: ``key`` is what the page asks by, ``kind`` the head's name."""

    key: str
    label: str
    kind: str
    told: str
    run: Path | None = None

    def __json__(self) -> dict[str, Any]:
        return {
            "key": self.key, "label": self.label, "kind": self.kind, "told": self.told,
            "colour": style.colour(self.kind), "night": style.colour(self.kind, night=True),
            "trained": self.run is not None,
        }  # fmt: skip


@dataclass
class Menu:
    """The heads of a store, runs loaded when they are first asked for. ``left_out``: runs that do not fit, and why."""

    store: Store
    entries: dict[str, Entry]
    left_out: dict[str, str]
    trust: Collection[str] = ()
    _made: dict[str, Candidate] = field(default_factory=dict)

    def head(self, key: str) -> Candidate:
        """A head by its key. Raises ``LabError`` for an unknown one."""
        if key not in self.entries:
            raise unknown("head", key, self.entries)
        run = self.entries[key].run
        if key not in self._made and run is not None:
            self._made[key] = trained_head(run, self.store, self.trust)
        return self._made[key]

    @property
    def first(self) -> str:
        """What the page opens with: the newest run, or top-k."""
        named = next((key for key, entry in self.entries.items() if entry.run is not None), "topk")
        return named if named in self.entries else next(iter(self.entries))


def menu(store: Store, runs: Path = RUNS, trust: Collection[str] = (), protocol: str | None = None) -> Menu:
    """All heads for a store: runs that fit it and its protocol (None: the first), the newest first, then the rest."""
    entries: dict[str, Entry] = {}
    fitting = Fitting(store, runs, trust, protocol or store.protocols[0])
    for path, run in fitting:
        name = path.relative_to(runs).as_posix()
        told = f"{run.head}, trained {run.time[:10]}"
        if "R@1" in run.metrics:
            told += f", R@1 {run.metrics['R@1']:.1f} on validation"
        entries[name] = Entry(name, path.name, run.head, told, path)
    shared = [entry.label for entry in entries.values()]
    for key, entry in entries.items():
        if shared.count(entry.label) > 1:  # two studies may call their runs alike
            entries[key] = Entry(key, key.replace("/runs/", "/"), entry.kind, entry.told, entry.run)
    made = {}
    for name, one in plain_heads(store).items():
        key = name if name not in entries else f"{name} untrained"  # a run may be called so, too
        made[key], entries[key] = one, Entry(key, key, name, "no training")
    fitting.say()
    left_out = {path.relative_to(runs).as_posix(): str(why) for path, _, why in fitting.left_out}
    return Menu(store, entries, left_out, trust, made)


def require_known(made: Menu, names: Collection[str]) -> list[str]:
    """Keys of heads that are given by key or by label. Raises ``LabError`` for what is in the menu under neither."""
    by_label = {entry.label: key for key, entry in made.entries.items()}
    keys = [name if name in made.entries else by_label.get(name, "") for name in names]
    for key, name in zip(keys, names, strict=True):
        if not key:
            why = next(
                (f": {wrong}" for left, wrong in made.left_out.items() if Path(left).name == Path(name).name), ""
            )
            raise LabError(f"{unknown('head or run', name, made.entries)}{why}")
    return keys

"""What a study is once its file is read: setups, each a head with its settings, and how to choose between them."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, TypeVar

from lab.metrics import geometric_mean
from lab.significance import GEOMETRIC_MEAN
from lab.store import Store
from lab.studies.space import Range, Value
from lab.training.recipe import DEFAULT, PRESETS, divide, merged

T = TypeVar("T")

#: What may be optimised, and whether more of it is better.
OBJECTIVES = {
    GEOMETRIC_MEAN: True,
    **dict.fromkeys(("R@1", "R@5", "R@10", "MRR", "nDCG@10"), True),
    **dict.fromkeys(("MdR", "MnR"), False),
}

KINDS = ("search", "grid", "sweep")
SAMPLERS = ("auto", "tpe", "random", "gp", "each")
PRUNERS = ("median", "hyperband", "none")
SWEEPS = ("diversity",)


@dataclass(frozen=True)
class Setup:
    """A head with its settings; those in ``search`` are still to be chosen on validation.

    ``after`` are keywords that take effect when the head has been trained: a fusion weight, say, which was chosen for a
    head that was trained with another. ``choose`` has values for such keywords, of which each trained head takes those
    that are best on validation.
    """

    name: str
    head: str
    recipe: dict[str, Any] = field(default_factory=dict)
    keywords: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Range] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    choose: dict[str, tuple[Value, ...]] = field(default_factory=dict)

    def at(self, point: Mapping[str, Any]) -> Setup:
        """The same with the settings of a point of the space in place."""
        recipe, keywords = divide(self.head, point)
        return replace(self, recipe=self.recipe | recipe, keywords=merged(self.keywords, keywords), search={})

    def with_after(self, point: Mapping[str, Any]) -> Setup:
        """The same, the settings of a point taking effect after the training."""
        _, keywords = divide(self.head, point)
        return replace(self, after=merged(self.after, keywords), search={}, choose={})

    @property
    def options(self) -> list[dict[str, Value]]:
        """The points that ``choose`` spans."""
        return [dict(zip(self.choose, point, strict=True)) for point in itertools.product(*self.choose.values())]


def _key(default: Any, rule: str, keeps: Callable[[Any], bool], kinds: tuple[str, ...] = KINDS) -> Any:
    """A key of a study file: its rule, whether a value keeps it, and the kinds of study to which it means something."""
    return field(default=default, metadata={"rule": rule, "keeps": keeps, "kinds": kinds})


def _word(default: str, known: Iterable[str], kinds: tuple[str, ...] = KINDS) -> Any:
    names = tuple(known)
    return _key(default, f"one of {', '.join(names)}", lambda value: isinstance(value, str) and value in names, kinds)


def _count(default: int, low: int, high: int, kinds: tuple[str, ...] = KINDS) -> Any:
    """What lies beyond ``high`` is a typing error, or would take memory before anything is done."""
    return _key(default, f"a whole number from {low} to {high}", lambda n: _whole(n) and low <= n <= high, kinds)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _positive(value: Any) -> bool:
    return (_whole(value) or isinstance(value, float)) and 0 < value < math.inf


def _counts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_whole(each) and each >= 0 for each in value)


@dataclass(frozen=True)
class Study:
    """A study as it will run. ``baseline`` is the row that all others are tested against, by name; in a search it takes
    those settings of the training that ``follow`` names from the best trial.
    """

    name: str
    kind: str
    rows: tuple[Setup, ...]
    baseline: str
    objective: str = _word(GEOMETRIC_MEAN, OBJECTIVES)
    trials: int = _count(20, 1, 100_000, ("search",))
    seconds: float | None = _key(None, "a number > 0", _positive, ("search",))
    sampler: str = _word("auto", SAMPLERS, ("search",))
    pruner: str = _word("median", PRUNERS, ("search",))
    preset: str = _word(DEFAULT, PRESETS)
    stack: int = _count(1, 1, 1_000)
    seeds: int = _count(3, 1, 1_000)
    seed: int = _count(0, 0, 2**63 - 1_001)  # torch takes 63 bits, and final seeds are counted on from it
    sweep: str = _word(SWEEPS[0], SWEEPS, ("sweep",))
    inserted: tuple[int, ...] = _key(tuple(range(11)), "a list of whole numbers >= 0", _counts, ("sweep",))
    draws: int = _count(5, 1, 1_000, ("sweep",))
    follow: tuple[str, ...] = field(default=(), metadata={"kinds": ("search",)})

    @property
    def searched(self) -> Setup:
        """Of a search: the setup whose settings are searched."""
        return self.rows[-1]

    def followed(self, best: Setup) -> Setup:
        """Of a search: the baseline beside a best setup."""
        row = self.rows[0]
        return replace(row, recipe=row.recipe | {key: best.recipe[key] for key in self.follow if key in best.recipe})

    def definition(self) -> dict[str, Any]:
        """All that the result depends on, as plain values. How many trials and final seeds is not part of it: a study
        may be asked to go on.
        """
        others = {each.name for each in fields(self) if self.kind not in each.metadata.get("kinds", KINDS)}
        left_out = {"trials", "seconds", "stack", "seeds", "rows"} | others
        told = {key: value for key, value in asdict(self).items() if key not in left_out}
        rows = [{**asdict(row), "search": {key: str(each) for key, each in row.search.items()}} for row in self.rows]
        definition: dict[str, Any] = json.loads(json.dumps({**told, "rows": rows}))
        return definition

    def resolved(self) -> str:
        """The study as it would run, as JSON: all that its file leaves out is filled in."""
        kind = {key: getattr(self, key) for key in ("trials", "seconds")} if self.kind == "search" else {}
        return json.dumps({**self.definition(), **kind, "stack": self.stack, "seeds": self.seeds}, indent=1)


def keys_of(kind: str) -> dict[str, Mapping[str, Any]]:
    """The keys that a study file of a kind may have beside the parts that say what is trained; see ``_key``."""
    return {each.name: each.metadata for each in fields(Study)
            if "rule" in each.metadata and kind in each.metadata["kinds"]}  # fmt: skip


def definition_on(study: Study, store: Store, protocol: str) -> dict[str, Any]:
    """All that trials depend on: the study's own, and what it runs on."""
    parts = {split: store.coverage(split, protocol) for split in ("train", "val") if split in store.splits_of(protocol)}
    held = {split: f"{part.videos} videos, {part.captions} captions" for split, part in parts.items()}
    return {**study.definition(), "store": {"dataset": store.name, "protocol": protocol, **held,
                                            "passport": store.fingerprint}}  # fmt: skip


def changes(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> Iterator[str]:
    """In what two definitions differ, a phrase for each value."""
    one, other = dict(_flat(theirs)), dict(_flat(mine))
    for key in sorted(one.keys() | other.keys()):
        if one.get(key) != other.get(key):
            yield f"{key} was {one.get(key, 'nothing')}, is {other.get(key, 'nothing')}"


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of tables and lists by dotted keys, such as ``rows.1.recipe.batch``."""
    if isinstance(value, dict) or (isinstance(value, list) and value):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def digest(definition: Mapping[str, Any]) -> str:
    """A hash that two studies share where their definitions are the same."""
    return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()[:16]


def quality(metrics: Mapping[str, float], objective: str) -> float:
    """The value of an objective in the metrics of a split."""
    return geometric_mean(dict(metrics)) if objective == GEOMETRIC_MEAN else float(metrics[objective])


def direction(objective: str) -> Literal["maximize", "minimize"]:
    """Optuna's word for which end of an objective is the better one."""
    return "maximize" if OBJECTIVES[objective] else "minimize"


def best_by(objective: str, items: Iterable[T], value: Callable[[T], float]) -> T:
    """The item whose value of an objective is best; of several that are level the first."""
    return (max if OBJECTIVES[objective] else min)(items, key=value)


def plain(value: Any) -> str:
    """A setting or a metric in a sentence or a cell."""
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def times(count: int) -> str:
    """How often, in a sentence."""
    return "once" if count == 1 else f"{count} times"

"""What a search may choose from: ranges of a study file, and the spaces that they span.

    lr = { log = [1e-5, 1e-3] }        dropout = { float = [0.0, 0.6], step = 0.1 }
    top_k = { int = [1, 12] }          projection = { choice = ["none", "linear"] }

Both ends belong to a range. ``log`` between two whole numbers gives whole numbers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.errors import LabError, unknown

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

KINDS = ("int", "float", "log", "choice")
#: A space with more points than this is not enumerated.
MANY = 10_000

Value = int | float | str | bool


@dataclass(frozen=True)
class Range:
    """One setting's range. ``choices`` is for ``choice`` alone, ``low``, ``high`` and ``step`` for the others."""

    kind: str
    low: float = 0
    high: float = 0
    step: float | None = None
    choices: tuple[Value, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether it gives whole numbers."""
        return self.kind in ("int", "log") and isinstance(self.low, int) and isinstance(self.high, int)

    def values(self) -> list[Value] | None:
        """All that it can give, in order; None where that is endless, or more than ``MANY``."""
        if self.kind == "choice":
            return list(self.choices)
        step = self.step or self.whole
        if step and (self.high - self.low) / step > MANY:
            return None
        if self.whole:
            return list(range(int(self.low), int(self.high) + 1, int(step)))
        if self.step is None:
            return [self.low] if self.low == self.high else None
        # As Optuna's own steps come out; 6 · 0.1 is above 0.6, which it would refuse.
        return [min(self.low + i * self.step, self.high) for i in range(round((self.high - self.low) / self.step) + 1)]

    def ends(self) -> list[Value]:
        """Its ends; all of a choice."""
        return list(self.choices) if self.kind == "choice" else [self.low, self.high]

    def place(self, value: Value) -> float:
        """Where a value lies between the ends, from 0 to 1, on the range's own scale; NaN for a choice."""
        if self.kind == "choice" or self.low == self.high:
            return math.nan
        if self.kind == "log":
            return math.log(float(value) / self.low) / math.log(self.high / self.low)
        return (float(value) - self.low) / (self.high - self.low)

    def distribution(self) -> BaseDistribution:
        """The same for Optuna."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.kind == "choice":
            return CategoricalDistribution(self.choices)
        if self.whole:
            return IntDistribution(int(self.low), int(self.high), self.kind == "log", int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.kind == "log", step=self.step)

    def __str__(self) -> str:
        if self.kind == "choice":
            return f"one of {', '.join(map(str, self.choices))}"
        step = f", step {self.step:g}" if self.step else ""
        return f"{self.kind} {self.low:g} .. {self.high:g}{step}"


def is_range(value: Any) -> bool:
    """Whether a value of a study file is meant as a range: a table with one of ``KINDS``."""
    return isinstance(value, dict) and any(kind in value for kind in KINDS)


def read_range(key: str, value: Any) -> Range:
    """A range of a study file. Raises ``LabError`` with the key and the rule that is broken."""
    example = f'{key} = {{ log = [1e-5, 1e-3] }}, or int, float, choice = ["a", "b"]'
    if not isinstance(value, dict) or not value:
        raise LabError(f"'{key}' must be a range, got {value!r}: write {example}")
    for name in value:
        if name not in (*KINDS, "step"):
            raise unknown(f"key of the range '{key}'", name, (*KINDS, "step"))
    kinds = [kind for kind in KINDS if kind in value]
    if len(kinds) != 1:
        raise LabError(f"'{key}' must have exactly one of {', '.join(KINDS)}, got {value!r}: write {example}")
    kind, given, step = kinds[0], value[kinds[0]], value.get("step")
    if kind == "choice":
        return _choice(key, given, step)
    number = (int,) if kind == "int" else (int, float)
    if not (isinstance(given, list) and len(given) == 2 and all(_number(end, number) for end in given)):
        whole = "whole " if kind == "int" else ""
        raise LabError(f"'{key}' must be {kind} = [low, high] of two {whole}numbers, got {given!r}")
    low, high = given
    if not low <= high:
        raise LabError(f"low <= high must hold in the range '{key}', got [{low}, {high}]")
    if kind == "log" and not low > 0:
        raise LabError(f"low > 0 must hold in the log range '{key}', got [{low}, {high}]")
    if step is not None and (kind == "log" or not _number(step, number) or not 0 < step <= max(high - low, step)):
        raise LabError(f"step > 0 must hold in the range '{key}', of the kind of its ends and not in log, got {step!r}")
    if step is not None and not math.isclose((high - low) / step, round((high - low) / step), abs_tol=1e-9):
        raise LabError(f"'{key}': steps of {step} must lead from {low} to {high}")
    if kind == "float":
        low, high = float(low), float(high)
    if kind == "log" and not (isinstance(low, int) and isinstance(high, int)):
        low, high = float(low), float(high)
    return Range(kind, low, high, step)


def _choice(key: str, given: Any, step: Any) -> Range:
    plain = isinstance(given, list) and given and all(isinstance(each, int | float | str | bool) for each in given)
    if not plain or step is not None or len(set(given)) != len(given):
        raise LabError(f"'{key}' must be choice = [...] of different numbers, words, true and false, got {given!r}")
    return Range("choice", choices=tuple(given))


def _number(value: Any, kinds: tuple[type, ...]) -> bool:
    if isinstance(value, float):
        return float in kinds and math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def size(space: Mapping[str, Range]) -> int | None:
    """How many points a space has; None where that is endless, or beyond ``MANY``."""
    counts = [each.values() for each in space.values()]
    if any(values is None for values in counts):
        return None
    product = math.prod(len(values) for values in counts if values is not None)
    return product if product <= MANY else None


def points(space: Mapping[str, Range]) -> list[dict[str, Value]]:
    """All points of a space that ``size`` can count, the last setting changing first."""
    values = [each.values() or [] for each in space.values()]
    return [dict(zip(space, point, strict=True)) for point in itertools.product(*values)]


def corners(space: Mapping[str, Range]) -> Iterable[dict[str, Value]]:
    """Points at which each range is at each of its ends once, the others being at their first."""
    first = {key: each.ends()[0] for key, each in space.items()}
    yield first
    for key, each in space.items():
        for end in each.ends()[1:]:
            yield first | {key: end}

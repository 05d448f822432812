"""Chance that is the same on every machine and in every version of Python and NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """Draws from a seed that is a text, such as ``toy-1/world-0/test/17``.

    Only ``Random.random`` is used: of all generators in Python and NumPy it alone is promised to stay as it is.
    """

    def __init__(self, *seed: object) -> None:
        self._next = Random("/".join(map(str, seed))).random  # noqa: S311 - a world, not a secret

    def below(self, n: int) -> int:
        """A whole number in [0, n)."""
        return int(self._next() * n)

    def between(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * self._next()

    def chance(self, share: float) -> bool:
        """True in that share of draws."""
        return self._next() < share

    def choice(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[self.below(len(items))]

    def weighted(self, items: Sequence[T], weights: Sequence[float]) -> T:
        """One of the items, in proportion to ``weights``."""
        at = self._next() * sum(weights)
        for item, weight in zip(items, weights, strict=True):
            at -= weight
            if at < 0:
                return item
        return items[-1]

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """That many different items, in the order drawn."""
        left = list(items)
        return [left.pop(self.below(len(left))) for _ in range(count)]

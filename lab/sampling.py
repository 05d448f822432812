"""Which frames stand for a video: rules by name, from a number of displayed frames to the indices of those to keep.

A rule sees only how many frames a video shows and its nominal rate, never the file, so it can be checked by hand
against the indices that the papers' code yields. Indices count the displayed frames in presentation order, from 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.errors import LabError, unknown

MAX_FRAMES = 512
Indices = NDArray[np.int64]


def _midpoints(count: int, n: int, _fps: float) -> Indices:
    """X-Pool's ``uniform``: the middle frame of each of n intervals; a shorter video gives each of its frames once."""
    edges = np.linspace(0, count, min(n, count) + 1).astype(np.int64)
    return (edges[:-1] + edges[1:] - 1) // 2


def _xpool(count: int, n: int, fps: float) -> Indices:
    """What X-Pool's loader hands to the network: the midpoints, the last one repeated up to n."""
    kept = _midpoints(count, n, fps)
    return np.concatenate([kept, np.repeat(kept[-1:], n - len(kept))])


def _fps1(count: int, n: int, fps: float) -> Indices:
    """CLIP4Clip's ``feature_framerate 1, slice_framepos 2``: a frame a second, thinned evenly to at most n.

    The rate is truncated, 29.97 to 29, as theirs is: their indices drift against the clock by design. Below 1 fps,
    where theirs would divide by zero, every frame is a candidate.
    """
    each = np.arange(0, count, max(1, int(fps)), dtype=np.int64)
    return each if len(each) <= n else each[np.linspace(0, len(each) - 1, n).astype(np.int64)]


def _uniform(count: int, n: int, _fps: float) -> Indices:
    """Evenly from the first frame to the last, both included; a video of fewer than n frames repeats some."""
    return np.linspace(0, count - 1, n).astype(np.int64)


RULES: dict[str, Callable[[int, int, float], Indices]] = {
    "midpoints": _midpoints,
    "xpool": _xpool,
    "fps1": _fps1,
    "uniform": _uniform,
}


@dataclass(frozen=True)
class Sampling:
    """A rule and how many frames it may keep, of a video's first ``span_s`` seconds where its captions tell of those.

    ``name`` is what passports and commands call it.
    """

    rule: str
    n: int
    span_s: int | None = None

    def __post_init__(self) -> None:
        """Raise LabError for a rule that is in no table or a count that no store could hold."""
        if self.rule not in RULES:
            raise unknown("sampling rule", self.rule, RULES)
        if not 1 <= self.n <= MAX_FRAMES:
            raise LabError(f"`1 <= frames <= {MAX_FRAMES}` must hold in a sampling rule, got '{self.name}'")
        if self.span_s is not None and self.span_s < 1:
            raise LabError(f"a sampling rule's seconds must be at least 1, got '{self.name}'")

    @property
    def name(self) -> str:
        """Rule and count, as in ``midpoints-12``, and seconds if limited: ``midpoints-30-31s``."""
        return f"{self.rule}-{self.n}" + (f"-{self.span_s}s" if self.span_s is not None else "")

    def indices(self, count: int, fps: float = 25.0) -> Indices:
        """The frames to keep, ascending: int64 (F,), 1 <= F <= n, each in [0, count).

        ``count`` is how many frames the video shows (at least 1). ``fps``, its nominal rate, is read by ``fps1`` and
        tells which frames are shown within ``span_s``, so where the rate varies that is approximate.
        """
        if count < 1:
            raise ValueError(f"`count >= 1` must hold for frames to be chosen, got {count}")
        fps = fps if math.isfinite(fps) else 0.0
        if self.span_s is not None and fps > 0:
            count = min(count, math.ceil(self.span_s * fps))
        return RULES[self.rule](count, self.n, fps)


def parse_sampling(name: str) -> Sampling:
    """The rule that a name such as ``midpoints-12`` means. LabError with the nearest name otherwise."""
    match = re.fullmatch(r"([a-z][a-z0-9]*)-([0-9]{1,6})(?:-([0-9]{1,6})s)?", name.strip())
    if match is None:
        raise LabError(
            f"a sampling rule is RULE-FRAMES or RULE-FRAMES-SECONDSs, as in midpoints-12 or midpoints-30-31s, got "
            f"'{name}'; rules: {', '.join(sorted(RULES))}"
        )
    return Sampling(match[1], int(match[2]), int(match[3]) if match[3] else None)

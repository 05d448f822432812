"""Text in the room that there is for it: how wide it is, where it breaks, and what of it is left out."""

from __future__ import annotations

import re
import textwrap
import warnings
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import takewhile

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from lab.figures import letters

#: The smallest type, in points.
SMALL = 7.0
#: Letters of a text that are looked at at all; what comes after them is left out of any line.
MOST = 600
#: The class of one's own in a label, without its module: not a study's row "mean: all of it".
MODULE = re.compile(r"^[\w.]+:(?=\w)")
#: Where a label breaks: after a sign, and before a capital within a word.
PIECES = re.compile(r"(?<=[\s_.:/,;=+-])(?=[^\s_.:/,;=+-])|(?<=[a-z\d])(?=[A-Z])")


@lru_cache(maxsize=4096)
def inches(text: str, size: float = SMALL) -> float:
    """How wide a text is in type of so many points."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        type_of = FontProperties(family=letters.families(text), size=size)
        wide = text_to_path.get_text_width_height_descent(text, type_of, False)[0]
    return float(wide) / 72


def small_print(width: float, source: str) -> list[str]:
    """The lines of a small print on a figure so many inches wide."""
    return [part for line in source.splitlines() for part in wrapped(line, width - 0.1)]


def wrapped(text: str, width: float) -> list[str]:
    """A text in lines of small type that are at most so many inches wide."""
    lines: list[str] = []
    sure = int(72 * width / SMALL)  # no letter is wider than it is high, so that so many of them fit in any case
    words = text.replace(" %", "\N{NO-BREAK SPACE}%").split(" ")
    for word in (part for whole in words for part in textwrap.wrap(whole, sure, break_on_hyphens=False)):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and inches(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def cut(text: str, width: float, size: float = SMALL) -> str:
    """A text in one line at most so many inches wide, with an ellipsis where something was left out."""
    flat = " ".join(text.split())
    if len(flat) <= MOST and inches(flat, size) <= width:
        return flat
    low, high = 0, min(len(flat), MOST)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if inches(flat[:middle].rstrip() + "…", size) <= width else (low, middle - 1)
    return flat[:low].rstrip() + "…"


def names(labels: Sequence[str], width: float, most: int = 2, size: float = SMALL) -> list[str]:
    """Labels in at most so many lines of so many inches each; those that differ still do.

    A head of one's own goes without its module, unless two would then be called alike.
    """
    short = [MODULE.sub("", label) for label in labels]
    short = short if len(set(short)) == len(set(labels)) else list(labels)
    found = [broken(label, width, most, size) for label in short]
    alike = {lines: [label for label, other in zip(short, found, strict=True) if other == lines] for lines in found}
    shown = [
        broken(label, width, most, size, _differ(alike[lines])) if len(set(alike[lines])) > 1 else lines
        for label, lines in zip(short, found, strict=True)
    ]
    still = {lines: sorted({one for one, other in zip(short, shown, strict=True) if other == lines}) for lines in shown}
    return [
        _numbered(lines, 1 + still[lines].index(label), width, size) if len(still[lines]) > 1 else lines
        for label, lines in zip(short, shown, strict=True)
    ]


def _numbered(lines: str, number: int, width: float, size: float) -> str:
    """Where labels differ in so many places that no cut shows all of them."""
    *above, last = lines.split("\n")
    return "\n".join([*above, f"{cut(last, width - inches(f' {number}', size), size)} {number}"])


def _differ(labels: Sequence[str]) -> int:
    """The first letter in which some labels differ."""
    return sum(1 for _ in takewhile(lambda letters: len(set(letters)) == 1, zip(*labels, strict=False)))


def broken(label: str, width: float, most: int = 2, size: float = SMALL, show: int | None = None) -> str:
    """A label in at most so many lines of so many inches.

    What is left out is the rest; with ``show`` what comes before that letter, which stands in the last line.
    """
    lines, rest = [""], [piece for piece in PIECES.split(" ".join(label.split())) if piece]
    while rest:
        if not lines[-1] or inches((lines[-1] + rest[0]).rstrip(), size) <= width:
            lines[-1] += rest.pop(0)
        elif len(lines) < most:
            lines.append("")
        else:
            break
    if rest or inches(lines[-1].rstrip(), size) > width:
        lead = "…" if most > 1 else cut(label, 0.45 * width, size)
        lines[-1] = lines[-1] + "".join(rest) if show is None else lead + label[max(0, show - 4) :]
    return "\n".join(cut(line, width, size) for line in lines)


def columns(labels: Iterable[str], width: float, handle: float = 0.36) -> int:
    """In how many columns a legend fits into so many inches; ``handle``: what an entry has beside its label."""
    wide = [inches(label) + handle for label in labels]
    fitting = (
        count
        for count in range(len(wide), 0, -1)
        if sum(max(part, default=0.0) for part in map(list, np.array_split(wide, count))) <= width
    )
    return next(fitting, 1)


def apart(places: Sequence[float], labels: Sequence[str], width: float) -> bool:
    """Whether labels centred at ``places``, from 0 to 1 along so many inches, stand a letter apart from each other."""
    order = np.argsort(places)
    at = width * np.asarray(places, float)[order]
    wide = np.array([inches(labels[i]) for i in order])
    return bool((np.diff(at) >= (wide[1:] + wide[:-1]) / 2 + 0.06).all())

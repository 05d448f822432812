"""Where a head fails: the captions whose video ranks worst, and R@1 by how long captions and videos are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from lab.figures import pictures, room, style
from lab.figures.dots import grouped
from lab.figures.material import Material, NoData
from lab.figures.style import Figure
from lab.significance import Interval

#: Frames of a video.
SHOWN = 6
#: Groups of captions, as many in each as can be.
GROUPS = 3
BARS = "bars below frames: green its own video, in the head's colour the one found first"
_HALF, _CAPTION, _NAME, _GAP = 3.4, 0.2, 0.17, 0.12  # inches: a video's frames, lines of text, the space below


@dataclass(frozen=True)
class Miss:
    """A caption, its own video and the one that is found first, by their names and as JPEGs; its video's rank."""

    caption: str
    video: str
    rank: float
    own: Sequence[bytes]
    found: str
    first: Sequence[bytes]


@style.styled
def missed(misses: Sequence[Miss], head: str, source: str = "") -> Figure:
    """A row a caption: on the left its own video, on the right the one that ranks first under the head."""
    side = _HALF / SHOWN
    high = side * max(min(1.0, pictures.shape(seen)) for miss in misses for seen in (miss.own, miss.first))
    height = _CAPTION + high + _NAME + _GAP
    table = [
        {"caption": one.caption, "video": one.video, "head": head, "rank": one.rank, "found_first": one.found}
        for one in misses
    ]
    figure, axes, top = pictures.sheet(height * len(misses), source, table)
    for miss in misses:
        caption = room.cut(f"“{miss.caption}”", style.TEXT - 0.45, 8)
        axes.text(0.06, top - 0.6 * _CAPTION, caption, fontsize=8, va="center", style="italic")
        own, first = f"its own video, {miss.video}: rank {miss.rank:g}", f"found first: {miss.found}"
        below = top - _CAPTION - high
        for left, seen, told, edge in (
            (0.05, miss.own, own, style.TRUTH),
            (3.55, miss.first, first, style.colour(head)),
        ):
            chosen = [seen[i] for i in pictures.spread(len(seen), SHOWN)]
            pictures.row(axes, chosen, left, below + high, side, high)
            axes.add_patch(Rectangle((left + 0.01, below - 0.035), _HALF - 0.02, 0.03, color=edge, lw=0))
            cut = room.cut(told, _HALF - 0.05)
            axes.text(left + 0.01, below - 0.045, cut, fontsize=style.SMALL, va="top")
        top -= height
    return figure


# -- from a split ----------------------------------------------------------------------------------------------------


def misses(material: Material, most: int = 4) -> Figure:
    """The captions whose own video ranks worst under the best head, and what it finds instead."""
    label = material.best_first()[0]
    ranks, similarity, target = material.ranks(label), material.similarity(label), material.target
    worst: dict[int, int] = {}
    for text in np.argsort(-ranks, kind="stable"):
        if ranks[text] > 1:
            worst.setdefault(int(target[text]), int(text))
    found = []
    for video, text in list(worst.items())[:most]:
        others = similarity[text].copy()
        others[video] = -np.inf
        first = int(np.argmax(others))
        own, other = (material.store.thumbnails(int(material.video_rows[column])) for column in (video, first))
        caption, name, wrong = material.captions[text]["text"], material.video_id(video), material.video_id(first)
        found.append(Miss(caption, name, float(ranks[text]), own, wrong, other))
    if not found:
        raise NoData(f"{label} finds every video of {material.store.path.name} first: there is no miss to show")
    if not any(len(miss.own) + len(miss.first) for miss in found):
        raise NoData(f"no video of this split of {material.store.path} has thumbnails")
    told = f"the worst ranks under {label} among {len(material.video_rows)} videos, one a video; {BARS}"
    return missed(found, label, f"{material.source(label)}\n{told}")


def by_length(material: Material) -> Figure:
    """R@1 by the words of captions and by the seconds of their videos, in thirds of the captions."""
    words = np.array([len(row["text"].split()) for row in material.captions], float)
    seconds = material.store.read("duration_s")[material.video_rows][material.target].astype(float)
    panels: dict[str, dict[str, dict[str, Interval]]] = {}
    for name, length in (("words of the caption", words), ("seconds of its video", seconds)):
        parts = {
            f"{group}\n{int(where.sum()):,} captions": where
            for group, where in thirds(length).items()
            if len(np.unique(material.target[where])) > 1
        }
        if len(parts) > 1:
            panels[name] = {
                group: {label: material.interval(label, "R@1", where) for label in material.heads}
                for group, where in parts.items()
            }
    if not panels:
        raise NoData(f"captions and videos of this split of {material.store.path.name} are all of about one length")
    return grouped(panels, f"{material.source(*material.heads)}\nlines: 95 % intervals, resampling videos")


def thirds(length: NDArray[np.float64]) -> dict[str, NDArray[np.bool_]]:
    """Groups of captions (T,) by a length, the shortest first, by their least and greatest length.

    What is alike stays together, so there may be fewer than ``GROUPS``; an unknown length (NaN) is in none.
    """
    known = length[np.isfinite(length)]
    if not len(known):
        return {}
    edges = np.unique(np.quantile(known, np.arange(1, GROUPS) / GROUPS, method="inverted_cdf"))
    group = np.where(np.isfinite(length), np.searchsorted(edges, length), -1)
    found = {}
    for number in np.unique(group[group >= 0]):
        where = group == number
        low, high = float(length[where].min()), float(length[where].max())
        whole = bool((known == np.round(known)).all())
        ends = [f"{end:.0f}" if whole else f"{end:.1f}" for end in (low, high)]
        found["–".join(dict.fromkeys(ends))] = where
    return found

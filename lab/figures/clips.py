"""A contact sheet: videos as rows of frames, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from lab.figures import pictures, room, style
from lab.figures.material import Material, NoData
from lab.figures.style import Figure
from lab.truth import within

#: Frames in a row.
SHOWN = 10
_BAR, _LINE, _GAP = 0.05, 0.145, 0.1  # inches: a row of bars, a caption, the space below a row


@dataclass(frozen=True)
class Row:
    """A video's frames as JPEGs, and captions, each with the frames (F,) that it tells of and if it needs the sound."""

    pictures: Sequence[bytes]
    captions: Sequence[tuple[str, Sequence[bool], bool]]


@style.styled
def sheet(rows: Sequence[Row], source: str = "") -> Figure:
    """Rows of frames with captions below; a bar under frames is of the colour of the caption that tells of them.

    ♪ stands at captions that need the sound.
    """
    side = (style.TEXT - 0.1) / SHOWN
    chosen = [pictures.spread(len(row.pictures), SHOWN) for row in rows]
    tracks = [
        _tracks([np.asarray(told)[i] for _, told, _ in row.captions]) for row, i in zip(rows, chosen, strict=True)
    ]
    highs = [min(1.0, pictures.shape(row.pictures)) * side for row in rows]
    heights = [
        high + (max(track, default=-1) + 1) * _BAR + len(row.captions) * _LINE + _GAP
        for row, track, high in zip(rows, tracks, highs, strict=True)
    ]
    figure, axes, top = pictures.sheet(sum(heights), source)
    for row, places, track, high, height in zip(rows, chosen, tracks, highs, heights, strict=True):
        _row(axes, row, places, track, side, high, top)
        top -= height
    return figure


def _row(axes: Axes, row: Row, chosen: list[int], tracks: Sequence[int], side: float, high: float, top: float) -> None:
    """Draws one row from ``top`` inches downwards, its pictures in boxes ``side`` wide and ``high``."""
    pictures.row(axes, [row.pictures[i] for i in chosen], 0.05, top, side, high)
    first = top - high - (max(tracks, default=-1) + 1) * _BAR
    for number, ((text, told, needs_sound), track) in enumerate(
        zip(row.captions, tracks or [0] * len(row.captions), strict=True)
    ):
        colour = style.CATEGORIES[number % len(style.CATEGORIES)]
        for place, i in enumerate(chosen):
            if told[i]:
                corner = (0.05 + place * side, top - high - track * _BAR - 0.035)
                axes.add_patch(Rectangle(corner, side, 0.035, color=colour, lw=0))
        middle = first - (number + 0.5) * _LINE - 0.01
        axes.add_patch(Rectangle((0.065, middle - 0.03), 0.09, 0.06, color=colour, lw=0))
        label = room.cut(f"“{text}”", style.TEXT - 0.6) + ("  ♪" if needs_sound else "")
        axes.text(0.2, middle, label, fontsize=style.SMALL, va="center", style="italic")


def _tracks(told: Sequence[NDArray[np.bool_]]) -> list[int]:
    """The row of bars of each caption: the first one in which its bars overlap with no other's."""
    found: list[int] = []
    for frames in told:
        taken = {track for track, other in zip(found, told, strict=False) if (frames & other).any()}
        found.append(next(track for track in range(len(told)) if track not in taken))
    return found if any(frames.any() for frames in told) else []


def clips(material: Material, videos: int = 5, texts: int = 3, seed: int = 0) -> Figure:
    """Some videos, each with one caption a scene where it is known what captions tell of.

    Drawn at random among those whose captions tell of several scenes, if there are any.
    """
    rng = np.random.default_rng(seed)
    drawn = [
        (int(video), _lines(material, int(video), texts, rng)) for video in rng.permutation(np.unique(material.target))
    ]
    several = [(video, lines) for video, lines in drawn if len(lines) > 1 and lines[0][1] is not None]
    rows: list[Row] = []
    for video, lines in several or drawn:
        seen = material.store.thumbnails(int(material.video_rows[video]))
        if seen and len(rows) < videos:
            times = material.times_s[video][: len(seen)]
            told = [[False] * len(times) if at is None else within(at, times).tolist() for _, at, _ in lines]
            rows.append(
                Row(seen, [(text, frames, needs) for (text, _, needs), frames in zip(lines, told, strict=True)])
            )
    if not rows:
        raise NoData(f"no video of this split of {material.store.path} has thumbnails and captions")
    told_by = [f"videos drawn at random (seed {seed})"]
    told_by += ["a bar: the frames that the caption of its colour tells of"] * _any(rows, 1)
    told_by += ["♪: it needs the sound"] * _any(rows, 2)
    return sheet(rows, f"{material.source()}\n{'; '.join(told_by)}")


def _any(rows: Sequence[Row], part: int) -> bool:
    """Whether any caption of the rows has what stands at a place of it."""
    return any(np.any(caption[part]) for row in rows for caption in row.captions)


def _lines(
    material: Material, video: int, texts: int, rng: np.random.Generator
) -> list[tuple[str, tuple[float, float] | None, bool]]:
    """Captions of a video, in the order of what they tell of: one for each stretch that is known, else any."""
    chosen: dict[object, tuple[str, tuple[float, float] | None, bool]] = {}
    for text in rng.permutation(np.flatnonzero(material.target == video)):
        caption = material.captions[text]
        seconds = material.seconds_of(int(text))
        chosen.setdefault(seconds or int(text), (caption["text"], seconds, bool(caption["needs_sound"])))
    return sorted(list(chosen.values())[:texts], key=lambda line: line[1] or (0.0, 0.0))

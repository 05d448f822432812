"""A contact sheet: videos as rows of frames, and what is said of them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from lab.figures import style
from lab.figures.material import Material, NoData
from lab.figures.strips import seconds_of, told_frames

#: Frames in a row.
SHOWN = 10
_LINE, _GAP = 0.135, 0.1  # inches: a caption, the space below a row


@dataclass(frozen=True)
class Row:
    """A video's frames as JPEGs, and captions, each with the frames (F,) that it tells of and if it needs the sound."""

    pictures: Sequence[bytes]
    captions: Sequence[tuple[str, Sequence[bool], bool]]


@style.styled
def sheet(rows: Sequence[Row], source: str = "") -> Figure:
    """Rows of frames with captions below; bars under the frames show what each caption tells of, ♪ that it is heard."""
    width = style.TEXT
    side = (width - 0.1) / SHOWN
    lines = style.small_print(width, source)
    heights = [side + len(row.captions) * (_LINE + 0.05) + _GAP for row in rows]
    bottom = 0.05 + 0.13 * len(lines)
    total = sum(heights) + bottom
    figure = style.new(width, total)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, total))
    axes.axis("off")
    top = total
    for row, height in zip(rows, heights, strict=True):
        chosen = np.linspace(0, len(row.pictures) - 1, min(SHOWN, len(row.pictures))).round().astype(int)
        for place, i in enumerate(chosen):
            left = 0.05 + place * side
            picture = np.asarray(Image.open(io.BytesIO(row.pictures[i])))
            axes.imshow(picture, extent=(left + 0.015, left + side - 0.015, top - side + 0.015, top - 0.015))
        down = top - side
        for number, (text, told, needs_sound) in enumerate(row.captions):
            colour = style.CATEGORIES[number % len(style.CATEGORIES)]
            for place, i in enumerate(chosen):
                if told[i]:
                    axes.add_patch(
                        Rectangle((0.065 + place * side, down - 0.035), side - 0.03, 0.03, color=colour, lw=0)
                    )
            down -= 0.05
            label = f"“{text}”" + ("  ♪" if needs_sound else "")
            axes.text(0.065, down - _LINE / 2, label, fontsize=style.SMALL, color=colour, va="center", style="italic")
            down -= _LINE
        top -= height
    axes.set(xlim=(0, width), ylim=(0, total), aspect="auto")
    figure.text(0.01, 0.04 / total, "\n".join(lines), fontsize=style.SMALL, color=style.PRINT, va="bottom")
    return figure


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
        pictures = material.store.thumbnails(int(material.video_rows[video]))
        if pictures and len(rows) < videos:
            times = material.times_s[video][: len(pictures)]
            told = [[False] * len(times) if at is None else told_frames(at, times).tolist() for _, at, _ in lines]
            rows.append(
                Row(pictures, [(text, frames, needs) for (text, _, needs), frames in zip(lines, told, strict=True)])
            )
    if not rows:
        raise NoData(f"no video of this split of {material.store.path} has thumbnails and captions")
    told_by = f"\nvideos drawn at random (seed {seed}); bars: the frames that a caption tells of; ♪: it needs the sound"
    return sheet(rows, material.source() + told_by)


def _lines(
    material: Material, video: int, texts: int, rng: np.random.Generator
) -> list[tuple[str, tuple[float, float] | None, bool]]:
    """Captions of a video, in the order of what they tell of: one for each stretch that is known, else any."""
    chosen: dict[object, tuple[str, tuple[float, float] | None, bool]] = {}
    for text in rng.permutation(np.flatnonzero(material.target == video)):
        caption = material.captions[text]
        seconds = seconds_of(material, int(text))
        chosen.setdefault(seconds or int(text), (caption["text"], seconds, bool(caption["needs_sound"])))
    return sorted(list(chosen.values())[:texts], key=lambda line: line[1] or (0.0, 0.0))

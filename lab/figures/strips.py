"""Frames in a row, and below them how each head weighs them for a text (X-Pool, figure 5)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from lab.figures import marks, pictures, room, style, tidy
from lab.figures.material import Material, NoData
from lab.figures.style import Figure
from lab.metrics import rank_of
from lab.similarity import evaluating
from lab.truth import within

#: More pictures than this in a row are too small to see: of a longer video every second or third one is shown.
SHOWN = 14
#: Heads below one another; more would leave no room for the pictures.
HEADS = 5
#: What the marks are, for the small print.
BARS = "bars: the weights of the frames, on one scale for a text; dotted: all frames alike; rank: of this video"
GREEN = "green: the seconds that the caption tells of; "
#: Inches: the picture row's margins, a head's bars, the line of a caption, the seconds below.
LEFT, RIGHT, ROW, TITLE, TICKS = 1.1, 0.95, 0.26, 0.22, 0.28
#: What a label to the left of the bars has of it.
BESIDE = LEFT - 0.06 * (style.TEXT - LEFT - RIGHT) - 0.02


@dataclass(frozen=True)
class Reading:
    """How heads read one text against a video: weights (F,) and the video's rank for the text, by label."""

    caption: str
    weights: Mapping[str, NDArray[Any]]
    ranks: Mapping[str, float] = field(default_factory=dict)
    seconds: tuple[float, float] | None = None  # what part of the video the text tells of


@dataclass(frozen=True)
class Strip:
    """A video's frames, as JPEGs (an empty sequence if there are none) with their seconds (F,), and its readings."""

    pictures: Sequence[bytes]
    times_s: NDArray[Any]
    readings: Sequence[Reading]
    video: str = ""

    @property
    def table(self) -> list[tidy.Row]:
        """Its weights."""
        found: list[tidy.Row] = []
        for one in self.readings:
            start_s, end_s = one.seconds or (None, None)
            told = {"video": self.video, "caption": one.caption, "start_s": start_s, "end_s": end_s}
            for label, weights in one.weights.items():
                of_head = told | {"head": label, "rank": one.ranks.get(label)}
                found += [of_head | row for row in tidy.frames(weights, self.times_s, "weight")]
        return found


@style.styled
def strips(shown: Sequence[Strip], source: str = "") -> Figure:
    """Each strip's pictures once, then for each of its texts a row of bars a head; green is what the text tells of.

    The dotted line is the same weight for every frame, which is what mean pooling gives.
    """
    if not shown:
        raise NoData("no pair of a text and a video was given")
    heights = [_height(strip) for strip in shown]
    table = [row for strip in shown for row in strip.table]
    figure, paper, top = pictures.sheet(sum(heights), source, table)
    for strip, height in zip(shown, heights, strict=True):
        _strip(paper, strip, top)
        top -= height
    return figure


def _height(strip: Strip) -> float:
    rows = sum(TITLE + ROW * len(reading.weights) + 0.08 for reading in strip.readings)
    return _pictures(strip)[2] + rows + TICKS + 0.1


def _pictures(strip: Strip) -> tuple[list[bytes], float, float]:
    """The pictures that are shown, how wide the box of each is, and how high their row is, in inches."""
    frames, step = len(strip.times_s), -(-len(strip.times_s) // SHOWN)
    wide = (style.TEXT - LEFT - RIGHT) / frames * step
    high = 0.94 * wide * pictures.shape(strip.pictures) + 0.04 * bool(strip.pictures)
    return list(strip.pictures[::step]), wide, high


def _strip(paper: Axes, strip: Strip, top: float) -> None:
    """Draws one strip from ``top`` inches downwards."""
    frames, (shown, wide, high) = len(strip.times_s), _pictures(strip)
    top -= 0.06
    pictures.row(paper, shown, LEFT, top, wide, high)
    top -= high
    for reading in strip.readings:
        names = room.names(list(reading.weights), BESIDE)
        peak = max(float(np.max(weights)) for weights in reading.weights.values())
        told = None
        if reading.seconds is not None and np.isfinite(strip.times_s).all():
            told = within(reading.seconds, strip.times_s)
        top -= TITLE
        for row, (label, weights) in enumerate(reading.weights.items()):
            axes = pictures.panel(paper, LEFT, top, style.TEXT - LEFT - RIGHT, 0.86 * ROW)
            axes.set_xlim(-0.5, frames - 0.5)
            _bars(axes, names[row], weights, told, 1.08 * peak, style.colour(label))
            if row == 0:
                _title(axes, reading, told)
                axes.set_yticks([0, peak], ["", f"{peak:.2f}"])  # one scale for all heads
            kept = "" if told is None else f"{100 * float(weights[told].sum()):.0f} %"
            _beside(axes, 0.5, [f"{reading.ranks[label]:g}" if label in reading.ranks else "", kept])
            top -= ROW
        top -= 0.08
    marks.frame_ticks(axes, strip.times_s, SHOWN)
    axes.xaxis.labelpad = 1


def _bars(
    axes: Axes, name: str, weights: NDArray[Any], told: NDArray[np.bool_] | None, peak: float, colour: str
) -> None:
    frames = len(weights)
    axes.bar(range(frames), weights, width=0.8, color=colour, zorder=2)
    axes.axhline(1 / frames, color=style.CHANCE, lw=0.8, ls=":", zorder=3)
    if told is not None:
        edges = np.flatnonzero(np.diff(np.r_[False, told, False]))  # one area a stretch: between two there is a seam
        for start, end in edges.reshape(-1, 2).tolist():
            area = Rectangle((start - 0.5, 0), end - start, peak, color=style.TRUTH, alpha=0.16, lw=0, zorder=0)
            axes.add_patch(area)
    axes.set(ylim=(0, peak), xticks=[], yticks=[])
    axes.tick_params(axis="y", length=1.5, pad=1)
    look: dict[str, Any] = {"ha": "right", "va": "center", "fontsize": style.SMALL, "linespacing": 0.95}
    axes.text(-0.06, 0.45, name, transform=axes.transAxes, **look)


def _title(axes: Axes, reading: Reading, told: NDArray[np.bool_] | None) -> None:
    text = room.cut(f"“{reading.caption}”", style.TEXT - LEFT - RIGHT, 8)
    axes.text(0, 1.12, text, transform=axes.transAxes, va="bottom", fontsize=8, style="italic")
    _beside(axes, 1.32, ["rank" if reading.ranks else "", "in green" if told is not None else ""], color=style.PRINT)


def _beside(axes: Axes, height: float, cells: Sequence[str], color: str = "black") -> None:
    """Two short columns to the right of a row."""
    for cell, right in zip(cells, (1.065, 1.155), strict=True):
        axes.text(
            right, height, cell, transform=axes.transAxes, ha="right", va="center", fontsize=style.SMALL, color=color
        )


# -- from a split ----------------------------------------------------------------------------------------------------


def examples(material: Material, videos: int = 2, texts: int = 2, seed: int = 0) -> Figure:
    """Frames of some videos, drawn at random, and how each head weighs them for two captions.

    Videos are drawn of those that have captions of different seconds, as far as that is known.

    Raises ``NoData`` where no video has thumbnails, and where no head weighs frames by the text.
    """
    rng = np.random.default_rng(seed)
    shown = []
    for video in rng.permutation(np.unique(material.target)):
        chosen = _differing(material, np.flatnonzero(material.target == video), texts)
        if len(chosen) == min(texts, 2) or (len(chosen) and not any(material.seconds_of(t) for t in chosen)):
            strip = strip_of(material, int(video), chosen)
            shown += [strip] if strip.pictures else []
        if len(shown) == videos:
            break
    if not shown:
        raise NoData(f"no video of this split of {material.store.path} has thumbnails and texts")
    labels = {label for strip in shown for reading in strip.readings for label in reading.weights}
    green = GREEN if any(reading.seconds for strip in shown for reading in strip.readings) else ""
    told = f"{BARS}\n{green}videos drawn at random (seed {seed}){_unseen(material, labels)}"
    return strips(shown, material.source(*[label for label in material.heads if label in labels]) + "\n" + told)


def _unseen(material: Material, shown: Collection[str]) -> str:
    """The heads that look at the text too, and for which there was no room."""
    unseen = [label for label in looking(material) if label not in shown]
    return f"; no room for {', '.join(unseen)}" if unseen else ""


def of_text(material: Material, text: int) -> Figure:
    """One text of the split (a row of it): the frames of its own video, and how each head weighs them."""
    strip = strip_of(material, int(material.target[text]), [text])
    shown = strip.readings[0].weights
    told = f"{BARS}\n{GREEN if strip.readings[0].seconds else ''}text {text} of the split{_unseen(material, shown)}"
    return strips([strip], f"{material.source(*shown)}\n{told}")


def strip_of(material: Material, video: int, texts: Sequence[int], labels: Sequence[str] | None = None) -> Strip:
    """A video (a column of the split) with texts (rows of it), under some heads or all that look at the text."""
    row, times = int(material.video_rows[video]), material.frame_times_s(video)
    labels, readings = labels or attending(material), []
    for text in texts:
        weights: dict[str, NDArray[Any]] = {}
        for label in labels:
            head, (queries, gallery) = material.heads[label].head, material.features(label)
            with evaluating(head):
                pair = queries.select(torch.tensor([text])), gallery.select(torch.tensor([video]))
                weights[label] = head.frame_weights(*pair)[0, 0].cpu().numpy()[: len(times)]  # type: ignore[operator]
        ranks = {label: rank_of(material.similarity(label)[text], video) for label in weights}
        readings.append(Reading(material.captions[text]["text"], weights, ranks, material.seconds_of(text)))
    return Strip(material.store.thumbnails(row), times, readings, material.store.videos[row]["id"])


def attending(material: Material) -> list[str]:
    """Up to ``HEADS`` heads that look at the text, in the material's order; ``NoData`` where none does.

    One of a kind is taken first, and CMFI, whose weights are another's, last.
    """
    found = looking(material)
    if not found:
        raise NoData("no head here weighs frames by the text: give a run of one that does, or topk")
    kinds = [style.head_of(label) for label in found]
    order = sorted(
        range(len(found)), key=lambda i: (kinds[i] in kinds[:i], hasattr(material.heads[found[i]].head, "video"))
    )
    return [found[i] for i in sorted(order[:HEADS])]


def looking(material: Material) -> list[str]:
    """All heads whose weights of frames differ from text to text."""
    found = []
    for label, one in material.heads.items():
        if hasattr(one.head, "frame_weights"):
            texts, videos = material.features(label)
            few = texts.select(torch.arange(min(len(texts), 8))), videos.select(torch.arange(min(len(videos), 8)))
            with evaluating(one.head):
                weights = one.head.frame_weights(*few)  # type: ignore[operator]
            found += [] if torch.allclose(weights, weights[:1].expand_as(weights), atol=1e-6) else [label]
    return found


def _differing(material: Material, rows: NDArray[np.int64], count: int) -> list[int]:
    """Up to ``count`` of some texts, no two of which tell of the same seconds, as far as that is known."""
    seen: dict[Any, int] = {}
    for row in rows.tolist():
        seen.setdefault(material.seconds_of(row) or ("unknown", len(seen)), row)
    return list(seen.values())[:count]

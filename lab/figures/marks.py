"""What figures draw on their axes alike: points with intervals, bands, rows, legends, ticks, and words beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from lab.figures import room, style, tidy
from lab.significance import Interval

# -- points and lines ------------------------------------------------------------------------------------------------


def banded(
    axes: Axes, x: Sequence[float] | NDArray[Any], y: Sequence[float] | NDArray[Any], low: Any, high: Any, **look: Any
) -> None:
    """A line of points with their intervals as a band."""
    line = axes.plot(x, y, **look)[0]
    axes.fill_between(np.asarray(x, float), low, high, color=line.get_color(), alpha=0.18, lw=0)


def point(axes: Axes, x: Any, y: Any, colour: str, marker: str, *, hollow: bool = False, label: str = "") -> None:
    """A value as a point in the colour and the shape of a head; what is ``hollow`` stands back."""
    edge: dict[str, Any] = {"mfc": "white", "mec": colour, "mew": 0.9} if hollow else {"mec": "white", "mew": 0.4}
    size = style.SIZES.get(marker, 5.0) - hollow
    axes.plot(x, y, marker, color=colour, ms=size, clip_on=False, label=label or None, **edge)


def dot(
    axes: Axes, height: float, one: Interval, colour: str, marker: str, scale: float = 1.0, hollow: bool = False
) -> None:
    """A value as a point with its interval as a line, in a row of ``dot_rows``."""
    ends, wide = [scale * one.low, scale * one.high], 0.9 if hollow else 1.5
    axes.plot(ends, [height] * 2, color=colour, lw=wide, solid_capstyle="butt")
    point(axes, scale * one.value, height, colour, marker, hollow=hollow)


def dot_rows(axes: Axes, labels: Sequence[str], width: float, lines: int = 2) -> None:
    """Rows for points, the first label on top at height len(labels) − 1; labels in so many lines of so many inches."""
    axes.set_yticks(range(len(labels))[::-1], room.names(labels, width, lines), linespacing=0.95)
    axes.set_ylim(-0.6, len(labels) - 0.4)
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def best(axes: Axes, x: float, y: float, colour: str, told: str = "", below: bool = False) -> None:
    """A ring at the best point of a curve, and what is told of it above (or below), within the axes' sides."""
    axes.plot(x, y, "o", ms=8, mfc="none", mec=colour, mew=1, zorder=4)
    if told:
        axes.autoscale_view()  # else the ends of the axes are those from before the last curve
        across = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))[0]
        side = "left" if across < 0.25 else "right" if across > 0.75 else "center"
        note(axes, told, (x, y), (0, -13 if below else 7), ha=side)


# -- words -----------------------------------------------------------------------------------------------------------


def note(axes: Axes, told: str, at: tuple[float, float], points: tuple[float, float], **look: Any) -> None:
    """Small type so many points from a place of the axes."""
    axes.annotate(told, at, points, textcoords="offset points", fontsize=style.SMALL, **look)


def beside(axes: Axes, height: float, told: str, colour: Any = "black") -> None:
    """Small type to the right of a row."""
    across = axes.get_yaxis_transform()
    axes.text(1.02, height, told, transform=across, va="center", fontsize=style.SMALL, color=colour)


def with_unit(metric: str) -> str:
    """A metric for an axis."""
    return f"{metric} (%)" if tidy.unit(metric) == "%" else metric


def legend(figure: style.Figure, axes: Axes, width: float = style.COLUMN) -> None:
    """A legend of what ``axes`` shows above all of it, in as many columns as fit."""
    handles, labels = axes.get_legend_handles_labels()
    labels = [room.cut(label, width - 0.45) for label in labels]
    fitting = room.columns(labels, width - 0.1)
    figure.legend(handles, labels, loc="outside upper left", ncols=fitting, columnspacing=1)


def kind(label: str, marker: str, colour: str, fill: str | None = None) -> Line2D:
    """A line of a legend: what a marker stands for."""
    return Line2D([], [], ls="", marker=marker, color=colour, mfc=fill or colour, ms=4.5, label=label)


# -- axes ------------------------------------------------------------------------------------------------------------


def within_percent(low: float, high: float) -> tuple[float, float]:
    """The ends of an axis of percentages: no more below 0 and above 100 than a marker needs, and never no length."""
    if high - low < 1:
        low, high = (low + high) / 2 - 5, (low + high) / 2 + 5
    spare = 0.04 * (high - low)
    return max(low, -spare if low < 0 else low), min(high, 100 + spare)


def frame_ticks(axes: Axes, times_s: NDArray[Any], most: int) -> None:
    """Below columns of frames the seconds of at most so many of them, or their numbers where no times are known."""
    known, places = bool(np.isfinite(times_s).all()), range(0, len(times_s), -(-len(times_s) // most))
    axes.set_xticks(places, [f"{times_s[i]:.1f}" if known else f"{i + 1}" for i in places])
    axes.set_xlabel("seconds from the start" if known else "frame")


def percent_ticks(axes: Axes) -> None:
    """Shares of one below each other as percent, with as many digits as they need."""
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))


def plain_ticks(axes: Axes, whole: Sequence[float] | None = None) -> None:
    """Numbers below the x axis as one writes them; a tick for each of ``whole`` if these are few and whole numbers."""
    if whole is not None and len(whole) <= 16 and all(float(value).is_integer() for value in whole):
        axes.set_xticks(list(whole))
    elif whole is not None:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=all(float(value).is_integer() for value in whole)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())

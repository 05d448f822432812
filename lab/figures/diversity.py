"""How heads bear videos of many scenes (X-Pool, figure 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from lab.figures import room, style
from lab.figures.finished import Studies

#: Of rows with the same head.
LINES = ("-", "--", ":", "-.")


@style.styled
def diversity_curves(
    inserted: Sequence[int], ranks: Mapping[str, ArrayLike], heads: Mapping[str, str] | None = None, source: str = ""
) -> Figure:
    """The median rank over the number of inserted videos; ``ranks`` by label are (inserted, draws).

    A line is the mean over draws, its band goes from the lowest draw to the highest. ``heads`` give labels' colours.
    """
    rows = -(-len(ranks) // room.columns(ranks, style.COLUMN - 0.1))  # of the legend
    figure = style.new(style.COLUMN, 2.1 + 0.15 * rows, source)
    axes = figure.subplots()
    seen: list[str] = []
    for label, draws in ranks.items():
        values, head = np.asarray(draws, float), (heads or {}).get(label, label)
        look = {"color": style.colour(head), "marker": style.marker(head), "ms": 4, "label": label}
        look["ls"] = LINES[seen.count(head) % len(LINES)]  # rows of one head have its colour, and lines that differ
        seen.append(head)
        style.banded(axes, list(inserted), values.mean(1), values.min(1), values.max(1), **look)
    axes.set(xlabel="inserted videos (scene transitions)", ylabel="median rank (1 is best)", ylim=(0, None))
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(axis="y")
    style.plain_ticks(axes, inserted)
    style.legend(figure, axes)
    _ends(axes, inserted[-1])
    return figure


def _ends(axes: Axes, last: float) -> None:
    """The value at the end of each line beside it, those that would cover each other moved apart."""
    lines = sorted((line for line in axes.lines), key=lambda line: float(np.asarray(line.get_ydata())[-1]))
    high, below = axes.get_ylim()[1] / 1.4 * 0.12, -np.inf  # what a line of small type takes of the axis
    for line in lines:
        value = float(np.asarray(line.get_ydata())[-1])
        below = max(value, below + high)
        axes.annotate(
            f"{value:.0f}", (last, value), (1.02, below), textcoords=axes.get_yaxis_transform(), va="center",
            fontsize=style.SMALL, color=line.get_color(), annotation_clip=False,
        )  # fmt: skip


# -- from a finished study -------------------------------------------------------------------------------------------


def diversity(studies: Studies) -> Figure:
    """Median rank over the number of other videos that are inserted into each (X-Pool, figure 4)."""
    one = studies.first(lambda one: (one.result.get("sweep") or {}).get("name") == "diversity", "sweep of inserted "
                        "videos", "diversity")  # fmt: skip
    sweep, heads = one.result["sweep"], {row["name"]: row["head"] for row in one.rows}
    told = f"lines: means of {sweep['draws']} draws, bands: from the lowest to the highest\n{sweep['note']}"
    ranks = {name: found["MdR"] for name, found in sweep["rows"].items()}
    return diversity_curves(sweep["inserted"], ranks, heads, one.source("test", told))

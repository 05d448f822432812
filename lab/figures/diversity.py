"""How heads bear videos of many scenes (X-Pool, figure 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from lab.figures import marks, room, style, tidy
from lab.figures.finished import Finished, Studies
from lab.figures.style import Figure

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
    draws = ("draw", range(1, 1 + np.shape(next(iter(ranks.values())))[1]))
    table = tidy.rows(ranks, "row", ("inserted_videos", inserted), draws, leaf="median_rank")
    figure = style.new(style.COLUMN, 2.1 + 0.15 * rows, source, table)
    axes = figure.subplots()
    seen: list[str] = []
    for label, found in ranks.items():
        values, head = np.asarray(found, float), (heads or {}).get(label, label)
        look = {"color": style.colour(head), "marker": style.marker(head), "ms": 4, "label": label}
        look["ls"] = LINES[seen.count(head) % len(LINES)]  # rows of one head have its colour, and lines that differ
        seen.append(head)
        marks.banded(axes, list(inserted), values.mean(1), values.min(1), values.max(1), **look)
    axes.set(xlabel="inserted videos (scene transitions)", ylabel="median rank (1 is best)", ylim=(0, None))
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(axis="y")
    marks.plain_ticks(axes, inserted)
    marks.legend(figure, axes)
    _ends(axes)
    return figure


def _ends(axes: Axes) -> None:
    """The value at the end of each line beside it, those that would cover each other moved apart."""
    lines = sorted((line for line in axes.lines), key=lambda line: float(np.asarray(line.get_ydata())[-1]))
    high, below = axes.get_ylim()[1] / 1.4 * 0.12, -np.inf  # what a line of small type takes of the axis
    for line in lines:
        value = float(np.asarray(line.get_ydata())[-1])
        below = max(value, below + high)
        marks.beside(axes, below, f"{value:.0f}", line.get_color())


# -- from a finished study -------------------------------------------------------------------------------------------


def diversity(studies: Studies) -> Figure:
    """Median rank over the number of other videos that are inserted into each (X-Pool, figure 4)."""

    def fits(one: Finished) -> bool:
        return (one.result.get("sweep") or {}).get("name") == "diversity"

    one = studies.first(fits, "sweep of inserted videos", "diversity")
    sweep, heads = one.result["sweep"], {row["name"]: row["head"] for row in one.rows}
    told = f"lines: means of {sweep['draws']} draws, bands: from the lowest to the highest\n{sweep['note']}"
    ranks = {name: found["MdR"] for name, found in sweep["rows"].items()}
    return diversity_curves(sweep["inserted"], ranks, heads, one.source("test", told))

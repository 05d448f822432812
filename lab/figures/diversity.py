"""How heads bear videos of many scenes (X-Pool, figure 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from lab.figures import style
from lab.figures.finished import Studies


@style.styled
def diversity_curves(
    inserted: Sequence[int], ranks: Mapping[str, ArrayLike], heads: Mapping[str, str] | None = None, source: str = ""
) -> Figure:
    """The median rank over the number of inserted videos; ``ranks`` by label are (inserted, draws).

    A line is the mean over draws, its band goes from the lowest draw to the highest. ``heads`` give labels' colours.
    """
    figure = style.new(style.COLUMN, 2.2, source)
    axes = figure.subplots()
    for label, draws in ranks.items():
        values, head = np.asarray(draws, float), (heads or {}).get(label, label)
        look = {"color": style.colour(head), "marker": style.marker(head), "ms": 4, "label": label}
        style.banded(axes, list(inserted), values.mean(1), values.min(1), values.max(1), **look)
        axes.annotate(
            f"{values[-1].mean():.0f}", (inserted[-1], values[-1].mean()), (5, 0), textcoords="offset points",
            va="center", fontsize=style.SMALL, color=style.colour(head), annotation_clip=False,
        )  # fmt: skip
    axes.set(xlabel="inserted videos (scene transitions)", ylabel="median rank (1 is best)", ylim=(0, None))
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(axis="y")
    style.plain_ticks(axes, inserted)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=4, columnspacing=1.2)
    return figure


# -- from a finished study -------------------------------------------------------------------------------------------


def diversity(studies: Studies) -> Figure:
    """Median rank over the number of other videos that are inserted into each (X-Pool, figure 4)."""
    one = studies.first(lambda one: (one.result.get("sweep") or {}).get("name") == "diversity", "sweep of inserted "
                        "videos", "diversity")  # fmt: skip
    sweep, heads = one.result["sweep"], {row["name"]: row["head"] for row in one.rows}
    told = f"lines: means of {sweep['draws']} draws, bands: from the lowest to the highest\n{sweep['note']}"
    ranks = {name: found["MdR"] for name, found in sweep["rows"].items()}
    return diversity_curves(sweep["inserted"], ranks, heads, one.source("test", told))

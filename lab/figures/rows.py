"""The rows of finished studies: heads on test and validation, MGFI's ablation, and what the papers printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lab.figures import style
from lab.figures.finished import Finished, Studies
from lab.figures.heads import LABELS, METRICS
from lab.significance import Interval
from lab.studies.learned import adjusted
from lab.studies.published import published_for

#: The parts that the MGFI paper's Table 1 adds to its base.
PARTS = ("s-f", "w-f", "a-s")
#: A paired test below this is marked.
SURE = 0.05
MARK = "*: differs from {base} on test (paired test over videos, p < 0.05, Holm)"


@dataclass(frozen=True)
class Row:
    """A head in a row: intervals by metric on test, and if they are known on validation; ``head`` gives the colour.

    ``sure``: metrics in which it differs from the baseline on test. ``parts``: of ``PARTS``, those that it has.
    ``paper``: values by metric that a paper printed for it.
    """

    label: str
    head: str
    test: Mapping[str, Interval]
    val: Mapping[str, Interval] | None = None
    sure: Sequence[str] = ()
    parts: Sequence[str] = ()
    paper: Mapping[str, float] | None = None


@style.styled
def row_dots(rows: Sequence[Row], source: str = "") -> Figure:
    """A row a head and a panel a metric: test filled, validation hollow below it, intervals as lines.

    Where rows have parts, a dot for each part stands before them. What papers printed is a grey diamond.
    """
    second, parted = any(row.val for row in rows), any(row.parts for row in rows)
    figure = style.new(style.TEXT, 0.62 + (0.31 if second else 0.22) * len(rows), source)
    panels = figure.subplots(1, len(METRICS) + parted, width_ratios=[0.42] * parted + [1.0] * len(METRICS))
    y = np.arange(len(rows))[::-1]
    for axes, metric in zip(panels[parted:], METRICS, strict=True):
        for height, row in zip(y, rows, strict=True):
            _row(axes, float(height), row, metric, second)
        axes.axvline(rows[0].test[metric].value, color=style.FAINT, lw=0.8, zorder=0)
        axes.set_xlabel(f"{metric} (%)")
        style.dot_rows(axes, [row.label for row in rows], LABELS - 0.3 * parted)
        axes.tick_params(axis="y", labelleft=axes is panels[0])
        axes.set_xlim(style.within_percent(*axes.get_xlim()))
    if parted:
        _parts(panels[0], rows)
    _legend(figure, second, any(row.paper for row in rows))
    return figure


def _row(axes: Axes, height: float, row: Row, metric: str, second: bool) -> None:
    colour, marker, up = style.colour(row.head), style.marker(row.head), 0.17 if second else 0.0
    style.dot(axes, height + up, row.test[metric], colour, marker)
    told = f"{row.test[metric].value:.1f}" + (" *" if metric in row.sure else "")
    _beside(axes, height + up, told, "black")
    if row.val is not None:
        style.dot(axes, height - up, row.val[metric], colour, marker, hollow=True)
        _beside(axes, height - up, f"{row.val[metric].value:.1f}", style.PRINT)
    if row.paper is not None and metric in row.paper:
        axes.plot(row.paper[metric], height, "D", color=style.CHANCE, mfc="white", ms=4)


def _beside(axes: Axes, height: float, told: str, colour: str) -> None:
    axes.text(
        1.02, height, told, transform=axes.get_yaxis_transform(), va="center", fontsize=style.SMALL, color=colour
    )  # fmt: skip


def _parts(axes: Axes, rows: Sequence[Row]) -> None:
    """A column a part: a black dot where a row has it, and what belongs together joined by a line."""
    style.dot_rows(axes, [row.label for row in rows], LABELS - 0.3)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set(xlim=(-0.5, len(PARTS) - 0.5), xticks=range(len(PARTS)))
    axes.set_xticklabels(PARTS)
    axes.tick_params(axis="x", length=0)
    for height, row in zip(range(len(rows))[::-1], rows, strict=True):
        has = [place for place, part in enumerate(PARTS) if part in row.parts]
        axes.plot(range(len(PARTS)), [height] * len(PARTS), "o", color=style.FAINT, ms=4)
        axes.plot(has, [height] * len(has), "o-", color="black", ms=4, lw=1)


def _legend(figure: Figure, second: bool, paper: bool) -> None:
    kinds = [("test", "o", "#404040", "#404040")]
    kinds += [("validation", "o", "#404040", "white")] if second else []
    kinds += [("in the paper, fine-tuned end to end", "D", style.CHANCE, "white")] if paper else []
    handles = [
        Line2D([], [], ls="", marker=shape, color=edge, mfc=fill, ms=4.5, label=label)
        for label, shape, edge, fill in kinds
    ]
    if len(handles) > 1:
        figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), columnspacing=1.2)


# -- from finished studies -------------------------------------------------------------------------------------------


def grid(studies: Studies) -> Figure:
    """The heads of a grid on test and on validation, with intervals."""
    one = studies.first(lambda one: one.result["kind"] == "grid" and not _ablates(one), "grid of heads", "heads")
    rows = [row_of(one, row) for row in one.rows]
    return row_dots(rows, one.source("test", _print(one, rows)))


def ablation(studies: Studies) -> Figure:
    """What each part of MGFI and CMFI adds on frozen features (MGFI, table 1)."""
    one = studies.first(_ablates, "grid of MGFI's parts", "ablation")
    printed = _printed(one)
    rows = [row_of(one, row, _parts_of(row), printed.get(_parts_of(row))) for row in one.rows]
    more = f"s-f, w-f: a sentence's, its words' attention to frames; a-s: sound\n{_print(one, rows)}"
    return row_dots(rows, one.source("test", more))


def row_of(
    one: Finished, row: Mapping[str, Any], parts: Sequence[str] = (), paper: Mapping[str, float] | None = None
) -> Row:
    """A row of a result as it is drawn."""
    test, val = ({metric: one.interval(row, metric, split) for metric in METRICS} for split in ("test", "val"))
    sure = [metric for metric in METRICS if adjusted(one.rows, metric).get(row["name"], 1) < SURE]
    bounded = all("low" in row["val"][metric] for metric in METRICS)
    return Row(row["name"], row["head"], test, val if bounded else None, sure, parts, paper)


def _print(one: Finished, rows: Sequence[Row]) -> str:
    told = "lines: 95 % intervals, resampling videos"
    if any(row.val for row in rows):
        told += f"; validation: {one.result['store']['splits']['val']['videos']:,} videos"
    seeds = max(len(row["seeds"]) for row in one.rows)
    told += f"; means over {seeds} seeds" if seeds > 1 else ""
    return told + (f"\n{MARK.format(base=one.result['baseline'])}" if any(row.sure for row in rows) else "")


def _ablates(one: Finished) -> bool:
    return one.result["kind"] == "grid" and {("s-f",), ("w-f",)} <= {_parts_of(row) for row in one.rows}


def _parts_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Which of ``PARTS`` a row has."""
    hears = row["head"] == "cmfi"
    looks = row["keywords"].get("video") if hears else row["head"]
    has = {"s-f": looks in ("sf", "mgfi"), "w-f": looks in ("wf", "mgfi"), "a-s": hears}
    return tuple(part for part in PARTS if has[part])


def _printed(one: Finished) -> dict[tuple[str, ...], dict[str, float]]:
    """The paper's Table 1 by parts, where it is of this data set."""
    store = one.result["store"]
    return {
        tuple(part for part in PARTS if part in row["method"].split(" + ")): {metric: row[metric] for metric in METRICS}
        for row in published_for(store["dataset"], store["protocol"])
        if row["method"].startswith("base ")
    }

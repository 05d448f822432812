"""Heads beside heads, values as points and their intervals as lines: in rows, or by groups of captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from lab.figures import marks, room, style, tidy
from lab.significance import Interval

#: Inches for the labels of rows in a figure as wide as a page's text.
LABELS = 1.7
DARK = "#404040"


@dataclass(frozen=True)
class Row:
    """A head in a row: split → metric → interval, where the first split is filled; ``head`` gives the colour.

    ``sure``: metrics in which it differs from the baseline on that split. ``parts``: of the figure's parts, those that
    it has. ``paper``: values by metric that a paper printed for it.
    """

    label: str
    head: str
    splits: Mapping[str, Mapping[str, Interval]]
    sure: Sequence[str] = ()
    parts: Sequence[str] = ()
    paper: Mapping[str, float] | None = None

    @property
    def table(self) -> list[tidy.Row]:
        """Its numbers."""
        found = tidy.rows(self.splits, "split", "metric")
        if self.paper is not None:
            found += [
                row | {"unit": tidy.unit(row["metric"])} for row in tidy.rows({"paper": self.paper}, "split", "metric")
            ]
        return [{"row": self.label, "head": self.head} | row for row in found]


@style.styled
def row_dots(rows: Sequence[Row], source: str = "", parts: Sequence[str] = ()) -> style.Figure:
    """A row a head and a panel a metric: the first split filled, a second one hollow below it.

    With ``parts`` a panel before them has a dot for each part of a row. What papers printed is a grey diamond.
    """
    splits = list(dict.fromkeys(split for row in rows for split in row.splits))
    metrics = list(rows[0].splits[splits[0]])
    height = 0.45 + 0.17 * (len(splits) > 1) + (0.31 if len(splits) > 1 else 0.24) * len(rows)
    figure = style.new(style.TEXT, height, source, [line for row in rows for line in row.table])
    ahead = bool(parts)
    panels = figure.subplots(
        1, len(metrics) + ahead, width_ratios=[0.42] * ahead + [1.0] * len(metrics), squeeze=False
    )[0]
    for axes, metric in zip(panels[ahead:], metrics, strict=True):
        for place, row in zip(range(len(rows))[::-1], rows, strict=True):
            _row(axes, place, row, metric, splits)
        axes.axvline(rows[0].splits[splits[0]][metric].value, color=style.FAINT, lw=0.8, zorder=0)
        axes.set_xlabel(marks.with_unit(metric))
        marks.dot_rows(axes, [row.label for row in rows], LABELS - 0.3 * ahead)
        axes.tick_params(axis="y", labelleft=axes is panels[0])
        if tidy.unit(metric) == "%":
            axes.set_xlim(marks.within_percent(*axes.get_xlim()))
    if parts:
        _parts(panels[0], rows, parts)
    kinds = [marks.kind(split, "o", DARK, None if split == splits[0] else "white") for split in splits]
    if any(row.paper for row in rows):
        kinds.append(marks.kind("in the paper, fine-tuned end to end", "D", style.CHANCE, "white"))
    if len(kinds) > 1:
        figure.legend(handles=kinds, loc="outside upper left", ncols=len(kinds), columnspacing=1.2)
    return figure


def _row(axes: Axes, place: float, row: Row, metric: str, splits: Sequence[str]) -> None:
    for split, found in row.splits.items():
        hollow = split != splits[0]
        height = place + (0.0 if len(splits) == 1 else -0.17 if hollow else 0.17)
        marks.dot(axes, height, found[metric], style.colour(row.head), style.marker(row.head), hollow=hollow)
        told = f"{found[metric].value:.1f}" + " *" * (metric in row.sure and not hollow)
        marks.beside(axes, height, told, style.PRINT if hollow else "black")
    if row.paper is not None and metric in row.paper:
        axes.plot(row.paper[metric], place, "D", color=style.CHANCE, mfc="white", ms=4)


def _parts(axes: Axes, rows: Sequence[Row], parts: Sequence[str]) -> None:
    """A column a part: a black dot where a row has it, and what belongs together joined by a line."""
    marks.dot_rows(axes, [row.label for row in rows], LABELS - 0.3)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_xlim(-0.5, len(parts) - 0.5)
    axes.set_xticks(range(len(parts)), parts)
    axes.tick_params(axis="x", length=0)
    for height, row in enumerate(rows[::-1]):
        has = [place for place, part in enumerate(parts) if part in row.parts]
        axes.plot(range(len(parts)), [height] * len(parts), "o", color=style.FAINT, ms=4)
        axes.plot(has, [height] * len(has), "o-", color="black", ms=4, lw=1)


@style.styled
def grouped(panels: Mapping[str, Mapping[str, Mapping[str, Interval]]], source: str = "") -> style.Figure:
    """Each group's interval for each head: panel → group → head, a panel a way of grouping captions, or a metric.

    Few of them have their values above them.
    """
    labels = list(next(iter(next(iter(panels.values())).values())))
    above = -(-len(labels) // room.columns(labels, style.TEXT - 0.1))  # lines of the legend
    figure = style.new(style.TEXT, 2.0 + 0.16 * above, source, tidy.rows(panels, "by", "group", "head"))
    for axes, (name, groups) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for turn, label in enumerate(labels):
            x = np.arange(len(groups)) + 0.7 * ((turn + 0.5) / len(labels) - 0.5)
            found = [group[label] for group in groups.values()]
            axes.vlines(x, [one.low for one in found], [one.high for one in found], color=style.colour(label), lw=1.2)
            for place, one in zip(x, found if len(labels) * len(groups) < 7 else (), strict=False):
                marks.note(axes, f"{one.value:.1f}", (place, one.high), (0, 2), ha="center")
            marks.point(axes, x, [one.value for one in found], style.colour(label), style.marker(label), label=label)
        axes.set_xticks(range(len(groups)), list(groups))
        metric = found[0].metric
        axes.set(xlabel=name if name != metric else "", ylabel=marks.with_unit(metric), xlim=(-0.5, len(groups) - 0.5))
        axes.margins(y=0.12)
        axes.set_ylim(marks.within_percent(*axes.get_ylim()))
        axes.tick_params(axis="x", length=0)
        axes.grid(axis="y")
    marks.legend(figure, axes, style.TEXT)
    return figure

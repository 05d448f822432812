"""What the papers printed, fine-tuned end to end, beside what heads reach on frozen features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from lab.figures import marks, style, tidy
from lab.figures.finished import Finished, Studies
from lab.figures.material import METRICS, NoData
from lab.figures.style import Figure
from lab.significance import Interval
from lab.studies.published import ALIKE, published_for

FROZEN = "frozen features, this lab"


@dataclass(frozen=True)
class Method:
    """A method by name, what was trained, and its metrics: an interval, or a number alone where a paper printed it."""

    label: str
    how: str
    values: Mapping[str, Interval | float]
    head: str = ""


@style.styled
def method_dots(methods: Sequence[Method], source: str = "") -> Figure:
    """A row a method under the heading of what was trained, a panel a metric; hollow is what papers printed."""
    lines: list[str | Method] = []
    for how in dict.fromkeys(method.how for method in methods):
        lines += [how, *(method for method in methods if method.how == how)]
    table = [
        {"method": one.label, "trained": one.how, **row, "unit": tidy.unit(row["metric"])}
        for one in methods
        for row in tidy.rows(one.values, "metric")
    ]
    figure = style.new(style.TEXT, 0.4 + 0.165 * len(lines), source, table)
    panels = figure.subplots(1, len(METRICS), sharey=True)
    labels = ["" if isinstance(line, str) else line.label for line in lines]
    for axes, metric in zip(panels, METRICS, strict=True):
        marks.dot_rows(axes, labels, 2.4, 1)
        axes.set_xlabel(marks.with_unit(metric))
        axes.margins(x=0.07)
        for height, line in zip(range(len(lines))[::-1], lines, strict=True):
            if not isinstance(line, str) and line.values.get(metric) is not None:
                _method(axes, height, line, line.values[metric])
    for height, line in zip(range(len(lines))[::-1], lines, strict=True):
        if isinstance(line, str):
            look: dict[str, Any] = {"ha": "right", "va": "center", "fontweight": "bold", "color": style.PRINT}
            marks.note(panels[0], line, (0, height), (-4, 0), xycoords=panels[0].get_yaxis_transform(), **look)
    return figure


def _method(axes: Axes, height: float, method: Method, value: Interval | float) -> None:
    if isinstance(value, Interval):
        marks.dot(axes, height, value, style.colour(method.head), style.marker(method.head))
    else:
        axes.plot(value, height, "D", color=style.PRINT, mfc="white", ms=3.6, mew=0.9)
    told = value.value if isinstance(value, Interval) else value
    marks.beside(axes, height, f"{told:.1f}")


# -- from finished studies -------------------------------------------------------------------------------------------


def published(studies: Studies) -> Figure:
    """What both papers printed for this data set, beside heads on frozen features."""
    first = studies.first(lambda one: one.result["kind"] == "grid", "grid of heads", "heads")
    store = first.result["store"]
    known = published_for(store["dataset"], store["protocol"])
    printed = [row for row in known if not row["method"].startswith("base ")]  # these are the ablation's
    if not printed:
        told = ", ".join(" ".join(filter(None, key)) for key in ALIKE)
        what = " ".join(dict.fromkeys([store["dataset"], store["protocol"]]))  # often one name
        raise NoData(f"the papers have no table of {what}, only of {told}")
    used = [one for one in studies.found if _same(one, first)] if studies.asked else [first]
    ours = [_ours(one, row, used) for one in used for row in one.rows]
    theirs, sources = _theirs(printed)
    numbered = [f"[{i + 1}] {source}" for i, source in enumerate(sources)]
    notes = [f"{row['method']} [{sources.index(row['source']) + 1}]: {row['note']}" for row in printed if row["note"]]
    more = "lines: 95 % intervals, resampling videos; hollow: as printed, one number\n" + "; ".join(numbered + notes)
    return method_dots([*ours, *theirs], first.source("test", more))


def _same(one: Finished, other: Finished) -> bool:
    return all(one.result["store"][key] == other.result["store"][key] for key in ("dataset", "protocol"))


def _ours(one: Finished, row: Mapping[str, Any], used: Sequence[Finished]) -> Method:
    label = row["name"] if len(used) == 1 else f"{row['name']} ({one.result['study']})"
    return Method(label, FROZEN, {metric: one.interval(row, metric) for metric in METRICS}, row["head"])


def _theirs(printed: Sequence[Mapping[str, Any]]) -> tuple[list[Method], list[str]]:
    """The papers' rows in the order of what was trained, the best last; one of the same numbers is not told twice."""
    sources = list(dict.fromkeys(row["source"] for row in printed))
    merged: dict[tuple[Any, ...], tuple[str, list[int]]] = {}
    for row in printed:
        key = (row["how"], *(row[metric] for metric in METRICS))
        merged.setdefault(key, (row["method"], []))[1].append(sources.index(row["source"]) + 1)
    order = list(dict.fromkeys(sorted((key[0] for key in merged), key=_closeness)))
    ranked = sorted(merged.items(), key=lambda item: (order.index(item[0][0]), item[0][1] or 0.0))
    return [
        Method(
            f"{name} [{','.join(map(str, dict.fromkeys(places)))}]", how,
            {metric: value for metric, value in zip(METRICS, values, strict=True) if value is not None},
        )
        for (how, *values), (name, places) in ranked
    ], sources  # fmt: skip


def _closeness(how: str) -> int:
    """Zero-shot CLIP is nearest to frozen features, other networks are farthest."""
    near = ("zero-shot", "fine-tuned")
    return 2 * next((i for i, start in enumerate(near) if how.startswith(start)), len(near)) + ("transductive" in how)

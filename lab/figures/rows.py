"""The rows of finished studies: heads on test and validation, and MGFI's ablation beside what its paper printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lab.figures.dots import Row, row_dots
from lab.figures.finished import Finished, Studies
from lab.figures.material import METRICS
from lab.figures.style import Figure
from lab.studies.learned import adjusted
from lab.studies.published import published_for

#: The parts that the MGFI paper's Table 1 adds to its base.
PARTS = ("s-f", "w-f", "a-s")
#: A paired test below this is marked.
SURE = 0.05
MARK = "*: differs from {base} on test (paired test over videos, p < 0.05, Holm)"


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
    return row_dots(rows, one.source("test", more), PARTS)


def row_of(
    one: Finished, row: Mapping[str, Any], parts: Sequence[str] = (), paper: Mapping[str, float] | None = None
) -> Row:
    """A row of a result as it is drawn."""
    splits = {"test": "test"} | ({"validation": "val"} if "low" in row["val"]["R@1"] else {})
    found = {name: {metric: one.interval(row, metric, split) for metric in METRICS} for name, split in splits.items()}
    sure = [metric for metric in METRICS if adjusted(one.rows, metric).get(row["name"], 1) < SURE]
    return Row(row["name"], row["head"], found, sure, parts, paper)


def _print(one: Finished, rows: Sequence[Row]) -> str:
    told = "lines: 95 % intervals, resampling videos"
    if any(len(row.splits) > 1 for row in rows):
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

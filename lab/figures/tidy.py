"""The numbers behind a figure as a table, for those who draw it in a style of their own: an observation a row.

Columns have names with units; ``unit`` is that of ``value``, ``low`` and ``high``, where a metric has them.

In a file texts stand as they are, but for their line breaks: a spreadsheet takes one that begins with = + - or @ for a
formula, unless it imports the column as text.
"""

from __future__ import annotations

import csv as table
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lab.significance import Interval

Row = dict[str, Any]


def rows(found: Any, *levels: str | tuple[str, Iterable[Any]], leaf: str = "value") -> list[Row]:
    """What is nested as rows of a table. ``levels``, from outside in, are columns.

    A name is the column of a mapping's keys; ``(name, values)`` that of a sequence, with a value for each place. Within
    is an interval, whose parts get columns, or a number for the column ``leaf``.

    >>> rows({"mean": [40.0, 50.0]}, "head", ("frames", [1, 2]), leaf="score")
    [{'head': 'mean', 'frames': 1, 'score': 40.0}, {'head': 'mean', 'frames': 2, 'score': 50.0}]
    """
    if not levels:
        return [_interval(found) if isinstance(found, Interval) else {leaf: found}]
    level, *within = levels
    column, keys = (level, found) if isinstance(level, str) else level
    parts = found.values() if isinstance(found, Mapping) else found
    return [
        {column: key} | row for key, part in zip(keys, parts, strict=True) for row in rows(part, *within, leaf=leaf)
    ]


def frames(values: Any, times_s: Any, leaf: str = "value") -> list[Row]:
    """What each of some frames (F,) has, with its number from 1 on and its seconds."""
    places, times = range(1, len(times_s) + 1), np.asarray(times_s).tolist()
    return [{"frame": i, "time_s": at, leaf: value} for i, at, value in zip(places, times, values, strict=True)]


def unit(metric: str) -> str:
    """The unit of a metric: percent, a rank, or 1 where it is a number alone."""
    return "%" if metric.startswith(("R@", "gm")) else "rank" if metric in ("MdR", "MnR") else "1"


def csv(rows: Sequence[Row]) -> str:
    """Rows as a file of comma-separated values; what a row does not have, or is not known, is empty."""
    columns = dict.fromkeys(column for row in rows for column in row)
    text = io.StringIO()
    writer = table.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def foreign(file: Path, rows: Sequence[Row]) -> bool:
    """Whether a file is another's: its first two columns are not those of the rows, which stay from version to version.

    Where there is none, or nothing in it, nothing would be lost; without rows it cannot be known. One that a
    spreadsheet wrote again with other separators counts as another's. Raises ``OSError`` for what cannot be read.
    """
    if not file.exists():
        return False
    with file.open(encoding="utf-8-sig", errors="replace") as stream:
        header = stream.readline(1000).strip()
    return bool(rows and header) and header.split(",")[:2] != list(rows[0])[:2]


def former(file: Path, rows: Sequence[Row]) -> bool:
    """Whether a file is a table of the same figure, and has other rows than it has now."""
    return file.is_file() and not foreign(file, rows) and file.read_bytes() != csv(rows).encode()


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return ", ".join(value.splitlines())  # two lines of a label; other line breaks part rows in some readers
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value


def _interval(one: Interval) -> Row:
    held = {"confidence": one.level, "queries": one.queries, "videos": one.videos}
    return {"metric": one.metric, "unit": unit(one.metric), "value": one.value, "low": one.low, "high": one.high} | held

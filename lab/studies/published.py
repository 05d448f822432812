"""The rows that X-Pool's and MGFI's papers print, as one sourced file, to stand beside what frozen features reach."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

#: What a data set and a protocol of ours are in the papers' tables.
ALIKE = {
    ("msrvtt", "1k-A-9k"): "MSR-VTT 9k",
    ("msrvtt", "1k-A-7k"): "MSR-VTT 7k",
    ("msvd", ""): "MSVD",
    ("lsmdc", ""): "LSMDC",
    ("didemo", ""): "DiDeMo",
}


@cache
def published() -> tuple[dict[str, Any], ...]:
    """Every row: ``source`` (paper, table), ``data``, ``method``, ``R@1`` to ``MnR`` (None where not given), ``how``.

    ``how`` says what was trained, ``note`` what must be known of the numbers ('' where nothing). ``MdR`` and ``MnR``
    are ranks, the others percent, all text to video on test.
    """
    told = json.loads(files("lab.studies").joinpath("published.json").read_text(encoding="utf-8"))
    return tuple(
        {"source": f"{table['paper']}, table {table['table']}", "data": table["data"],
         "note": table.get("notes", {}).get(row[0], ""), **dict(zip(told["columns"], row, strict=True))}
        for table in told["tables"]
        for row in table["rows"]
    )  # fmt: skip


def published_for(dataset: str, protocol: str) -> list[dict[str, Any]]:
    """The rows on a data set, under the protocol that it is read by; none where the papers have no such table."""
    data = ALIKE.get((dataset, protocol)) or ALIKE.get((dataset, ""))
    return [row for row in published() if row["data"] == data]

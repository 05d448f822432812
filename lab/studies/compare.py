"""``python -m lab.study compare A B ...``: one table over studies, and query by query who wins.

A study is named by its directory, or by its name below ``--runs``; ``NAME:ROW`` picks one of its rows, otherwise the
best on validation speaks for it. Wins and losses need the same queries: the same data set, protocol and captions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab import cli
from lab.errors import LabError, unknown
from lab.significance import paired_test
from lab.studies.report import SHOWN, read_result
from lab.studies.setups import OBJECTIVES


@dataclass(frozen=True)
class Entry:
    """A study with the row that speaks for it, and that row's ranks (R, T)."""

    label: str
    result: dict[str, Any]
    row: int
    ranks: NDArray[np.float64]
    queries: tuple[NDArray[np.int64], NDArray[np.int64]]

    @property
    def told(self) -> Mapping[str, Any]:
        """The row's numbers."""
        row: Mapping[str, Any] = self.result["rows"][self.row]
        return row


def compare(names: Sequence[str], runs: Path) -> list[str]:
    """A table of all rows of the studies, and a table of wins and losses against the first.

    Raises ``LabError`` for what is no result.
    """
    if not names:
        raise LabError("compare needs results to compare: python -m lab.study compare A B, names below --runs or paths")
    entries = [_entry(name, runs) for name in names]
    rows, speaks = [], {(entry.label, entry.row) for entry in entries}
    for entry in {entry.label: entry for entry in entries}.values():
        store = entry.result["store"]
        for i, row in enumerate(entry.result["rows"]):
            starred = row["name"] + " *" * ((entry.label, i) in speaks)
            cells = [f"{row['test'][name]['mean']:.1f}" for name in SHOWN] + [f"{row['val']['R@1']['mean']:.1f}"]
            reads = str(entry.result["reads"]["before"] + 1)
            rows.append([entry.label, starred, f"{store['dataset']} {store['protocol']}", *cells, reads])
    told = [cli.table(["study", "row", "data", *SHOWN, "val R@1", "reads"], rows)]
    if len(entries) > 1:
        first, *others = entries
        pairs = [_against(first, other) for other in others]
        header = ["against", "wins", "losses", "level", "difference in R@1", "95 %", "p"]
        told.append(f"query by query, {first.label} ({first.told['name']}) against the starred row of each other:")
        told.append(cli.table(header, pairs))
    return told


def _entry(name: str, runs: Path) -> Entry:
    stem, _, wanted = (name, "", "") if Path(name).is_dir() else name.rpartition(":") if ":" in name else (name, "", "")
    home = next((path for path in (Path(stem), runs / stem) if path.is_dir()), None)
    result = read_result(home) if home is not None else None
    if home is None or result is None:
        raise unknown("result", stem, sorted(file.parent.name for file in runs.glob("*/result.json")))
    names = [row["name"] for row in result["rows"]]
    if wanted and wanted not in names:
        raise unknown(f"row of {stem}", wanted, names)
    row = names.index(wanted) if wanted else _best(result)
    try:
        with np.load(home / "ranks.npz", allow_pickle=False) as arrays:
            ranks, queries = arrays[f"t2v_{row}"], (arrays["video"], arrays["caption"])
    except (OSError, ValueError, KeyError) as error:
        raise LabError(f"{home / 'ranks.npz'} is gone or damaged ({error}): run the study again") from None
    return Entry(home.name, result, row, ranks, queries)


def _best(result: Mapping[str, Any]) -> int:
    """The row that is best on validation, the baseline left out where there are others."""
    rows = [i for i, row in enumerate(result["rows"]) if row["name"] != result["baseline"]] or [0]
    sign = 1 if OBJECTIVES.get(result["objective"], True) else -1
    return max(rows, key=lambda i: sign * result["rows"][i]["val"][result["objective"]]["mean"])


def _against(first: Entry, other: Entry) -> list[str]:
    label = f"{other.label} ({other.told['name']})"
    stores = [entry.result["store"] for entry in (first, other)]
    alike = all(stores[0][key] == stores[1][key] for key in ("dataset", "protocol"))
    if not alike or not all(map(np.array_equal, first.queries, other.queries)):
        return [label, "other queries", *["-"] * 5]
    mine, theirs = first.ranks.mean(0), other.ranks.mean(0)
    test = paired_test(first.ranks, other.ranks, first.queries[0], "R@1", resamples=5_000)
    return [
        label,
        str(int((mine < theirs).sum())),
        str(int((mine > theirs).sum())),
        str(int((mine == theirs).sum())),
        f"{test.difference:+.1f}",
        f"{test.low:+.1f} .. {test.high:+.1f}",
        f"{test.p_value:.4f}",
    ]

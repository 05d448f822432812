"""``python -m lab.study compare A B ...``: one table over studies, and query by query who wins.

A study is named by its directory, or by its name below ``--runs``; ``NAME:ROW`` picks one of its rows, otherwise the
best on validation speaks for it. Wins and losses need the same queries: the same collection (its name and version, as
the store's passport has them), protocol and captions.
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
from lab.significance import PairedTest, holm, paired_test
from lab.studies.report import read_ranks, read_result
from lab.studies.setups import OBJECTIVES
from lab.studies.tables import SHOWN


@dataclass(frozen=True)
class Contender:
    """A study, by its directory, with the row that speaks for it, and that row's ranks (R, T)."""

    home: Path
    result: dict[str, Any]
    row: int
    ranks: NDArray[np.float64]
    queries: tuple[NDArray[np.int64], NDArray[np.int64]]

    @property
    def told(self) -> Mapping[str, Any]:
        """The row's numbers."""
        row: Mapping[str, Any] = self.result["rows"][self.row]
        return row

    @property
    def collection(self) -> tuple[str, str]:
        """Name and version of what was studied: every folder is called ``folder``, its version tells which."""
        told = self.result["store"]["passport"]["dataset"]
        return str(told.get("name", self.result["store"]["dataset"])), str(told.get("version", ""))

    @property
    def protocol(self) -> str:
        """The protocol by which it was split."""
        return str(self.result["store"]["protocol"])


def compare(names: Sequence[str], runs: Path) -> list[str]:
    """A table of all rows of the studies, and a table of wins and losses against the first.

    Raises ``LabError`` for what is no result.
    """
    if not names:
        raise LabError("compare needs results to compare: python -m lab.study compare A B, names below --runs or paths")
    contenders = [_contender(name, runs) for name in names]
    labels, data = _labels([each.home for each in contenders]), _data(contenders)
    rows, speaks = [], {(each.home, each.row) for each in contenders}
    for home, each in {each.home: each for each in contenders}.items():
        for i, row in enumerate(each.result["rows"]):
            starred = row["name"] + " *" * ((home, i) in speaks)
            cells = [f"{row['test'][name]['mean']:.1f}" for name in SHOWN] + [f"{row['val']['R@1']['mean']:.1f}"]
            reads = str(each.result["reads"]["before"] + 1)
            rows.append([labels[home], starred, data[home], *cells, reads])
    told = [cli.table(["study", "row", "data", *SHOWN, "val R@1", "reads"], rows)]
    if len(contenders) > 1:
        first, *others = contenders
        tests = [_test(first, other) for other in others]
        adjusted = iter(holm([test.p_value for test in tests if test is not None]))
        several = sum(test is not None for test in tests) > 1
        header = ["against", "wins", "losses", "level", "difference in R@1", "95 %", "p", *["p, Holm"] * several]
        pairs = []
        for other, test in zip(others, tests, strict=True):
            cells = ["other queries", *["-"] * (len(header) - 2)]
            if test is not None:
                cells = [*_cells(first, other, test), *[f"{next(adjusted):.4f}"] * several]
            pairs.append([f"{labels[other.home]} ({other.told['name']})", *cells])
        mine = f"{labels[first.home]} ({first.told['name']})"
        told.append(f"query by query, {mine} against the starred row of each other:")
        told.append(cli.table(header, pairs))
    return told


def _labels(homes: Sequence[Path]) -> dict[Path, str]:
    """A name for each directory: the end of its path, as long as it takes to be the only one."""

    def label(home: Path) -> str:
        for length in range(1, len(home.parts)):
            if not any(other.parts[-length:] == home.parts[-length:] for other in homes if other != home):
                return str(Path(*home.parts[-length:]))
        return str(home)

    return {home: label(home) for home in homes}


def _data(contenders: Sequence[Contender]) -> dict[Path, str]:
    """Collection and protocol of each; where two collections have one name, with the beginnings of their versions."""
    alike = [name for name, _ in {each.collection for each in contenders}]
    told = {}
    for each in contenders:
        name, version = each.collection
        told[each.home] = " ".join([name, *([version[:8]] if alike.count(name) > 1 else []), each.protocol])
    return told


def _contender(name: str, runs: Path) -> Contender:
    stem, _, wanted = (name, "", "") if Path(name).is_dir() else name.rpartition(":") if ":" in name else (name, "", "")
    home = next((path for path in (Path(stem), runs / stem) if path.is_dir()), None)
    result = read_result(home) if home is not None else None
    if home is None or result is None:
        raise unknown("result", stem, sorted(file.parent.name for file in runs.glob("*/result.json")))
    names = [row["name"] for row in result["rows"]]
    if wanted and wanted not in names:
        raise unknown(f"row of {stem}", wanted, names)
    row = names.index(wanted) if wanted else _best(result)
    return Contender(home.resolve(), result, row, *read_ranks(home, row))


def _best(result: Mapping[str, Any]) -> int:
    """The row that is best on validation, the baseline left out where there are others."""
    rows = [i for i, row in enumerate(result["rows"]) if row["name"] != result["baseline"]] or [0]
    sign = 1 if OBJECTIVES.get(result["objective"], True) else -1
    return max(rows, key=lambda i: sign * result["rows"][i]["val"][result["objective"]]["mean"])


def _test(first: Contender, other: Contender) -> PairedTest | None:
    """A paired test; None where the queries are others."""
    alike = (first.collection, first.protocol) == (other.collection, other.protocol)
    if not alike or not all(map(np.array_equal, first.queries, other.queries)):
        return None
    return paired_test(first.ranks, other.ranks, first.queries[0], "R@1", resamples=5_000)


def _cells(first: Contender, other: Contender, test: PairedTest) -> list[str]:
    """Wins, losses and a paired test, as cells of the table."""
    mine, theirs = first.ranks.mean(0), other.ranks.mean(0)
    return [
        str(int((mine < theirs).sum())),
        str(int((mine > theirs).sum())),
        str(int((mine == theirs).sum())),
        f"{test.difference:+.1f}",
        f"{test.low:+.1f} .. {test.high:+.1f}",
        f"{test.p_value:.4f}",
    ]

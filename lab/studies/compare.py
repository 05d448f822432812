"""``python -m lab.study compare A B ...``: one table over studies, and query by query who wins.

A study is named by its directory, or by its name below ``--runs``; ``NAME:ROW`` picks one of its rows, otherwise the
best on validation speaks for it. Wins and losses need the same queries: the same collection (its name and version, as
the store's passport has them), protocol and captions. ``--captions N`` shows the N captions that each wins by most,
and those that it loses, on validation: who looks at queries of test chooses by them.
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
from lab.store import Store
from lab.studies.report import Ranks, read_ranks, read_result
from lab.studies.setups import OBJECTIVES
from lab.studies.tables import SHOWN


@dataclass(frozen=True)
class Contender:
    """A study, by its directory, with the row that speaks for it, and that row's ranks on test.

    ``data``: name and version of what was studied (every folder is called ``folder``, its version tells which), and the
    protocol.
    """

    home: Path
    result: dict[str, Any]
    row: int
    ranks: Ranks
    data: tuple[str, str, str]

    @property
    def name(self) -> str:
        """The row's."""
        return str(self.result["rows"][self.row]["name"])


def compare(names: Sequence[str], runs: Path) -> list[str]:
    """A table of all rows of the studies, and a table of wins and losses against the first.

    Raises ``LabError`` for what is no result.
    """
    found = contenders(names, runs)
    labels, data = _labels([each.home for each in found]), _data(found)
    rows, speaks = [], {(each.home, each.row) for each in found}
    for home, each in {each.home: each for each in found}.items():
        for i, row in enumerate(each.result["rows"]):
            starred = row["name"] + " *" * ((home, i) in speaks)
            cells = [f"{row['test'][name]['mean']:.1f}" for name in SHOWN] + [f"{row['val']['R@1']['mean']:.1f}"]
            reads = str(each.result["reads"]["before"] + 1)
            rows.append([labels[home], starred, data[home], *cells, reads])
    told = [cli.table(["study", "row", "data", *SHOWN, "val R@1", "reads"], rows)]
    first, *others = found
    if others:
        tests = [_test(first, other) for other in others]
        adjusted = iter(holm([test.p_value for test in tests if test is not None]))
        several = sum(test is not None for test in tests) > 1
        header = ["against", "wins", "losses", "level", "difference in R@1", "95 %", "p", *["p, Holm"] * several]
        pairs = []
        for other, test in zip(others, tests, strict=True):
            cells = ["other queries", *["-"] * (len(header) - 2)]
            if test is not None:
                cells = [*_cells(first, other, test), *[f"{next(adjusted):.4f}"] * several]
            pairs.append([f"{labels[other.home]} ({other.name})", *cells])
        told.append(f"query by query, {labels[first.home]} ({first.name}) against the starred row of each other:")
        told.append(cli.table(header, pairs))
    return told


def contenders(names: Sequence[str], runs: Path) -> list[Contender]:
    """Studies with the rows that speak for them. Raises ``LabError`` for what is no result."""
    if not names:
        raise LabError("compare needs results to compare: python -m lab.study compare A B, names below --runs or paths")
    return [_contender(name, runs) for name in names]


def captions(first: Contender, other: Contender, store: Store, most: int) -> list[str]:
    """The captions of validation that the first wins by most, and those that it loses, with both ranks.

    Raises ``LabError`` where the two, or the store, hold other captions.
    """
    mine, theirs = (read_ranks(each.home, each.row, "val") for each in (first, other))
    held = store.passport["dataset"]
    if first.data != other.data or not np.array_equal(mine.caption, theirs.caption):
        raise LabError(f"{first.home} and {other.home} have other captions: --captions compares studies on the same")
    if (held.get("name"), held.get("version")) != first.data[:2]:
        raise LabError(f"{store.path} is of another collection than {first.home}: --captions needs that of the study")
    ranks = mine.ranks.mean(0), theirs.ranks.mean(0)
    rows = [
        [
            store.captions[mine.caption[t]]["text"],
            store.videos[mine.video[t]]["id"],
            *(f"{each[t]:g}" for each in ranks),
        ]
        for t in most_moved(ranks[1], ranks[0], most)
    ]
    labels = _labels([first.home, other.home])
    mine_is, other_is = (f"{labels[each.home]} ({each.name})" for each in (first, other))
    header = ["caption", "video", f"rank, {mine_is}", f"rank, {other_is}"]
    title = f"captions of validation that {mine_is} wins, and loses, by most against {other_is}:"
    return [title, cli.table(header, rows) if rows else "none"]


def most_moved(before: NDArray[np.float64], after: NDArray[np.float64], most: int) -> list[int]:
    """Queries whose rank (T,) gets better by most from the one to the other, and then those whose rank gets worse."""
    rise = np.log(before / after)  # from 40 to 4 is as much as from 10 to 1
    order = np.argsort(-rise, kind="stable").tolist()
    return [t for t in order[:most] if rise[t] > 0] + [t for t in order[-most:] if rise[t] < 0]


def _labels(homes: Sequence[Path]) -> dict[Path, str]:
    """A name for each directory: the end of its path, as long as it takes to be the only one."""

    def label(home: Path) -> str:
        for length in range(1, len(home.parts)):
            if not any(other.parts[-length:] == home.parts[-length:] for other in homes if other != home):
                return str(Path(*home.parts[-length:]))
        return str(home)

    return {home: label(home) for home in homes}


def _data(found: Sequence[Contender]) -> dict[Path, str]:
    """Collection and protocol of each; where two collections have one name, with the beginnings of their versions."""
    alike = [name for name, _ in {each.data[:2] for each in found}]
    return {
        each.home: " ".join([name, *[version[:8]] * (alike.count(name) > 1), protocol])
        for each in found
        for name, version, protocol in [each.data]
    }


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
    store, collection = result["store"], result["store"]["passport"]["dataset"]
    data = str(collection.get("name", store["dataset"])), str(collection.get("version", "")), str(store["protocol"])
    return Contender(home.resolve(), result, row, read_ranks(home, row), data)


def _best(result: Mapping[str, Any]) -> int:
    """The row that is best on validation, the baseline left out where there are others."""
    rows = [i for i, row in enumerate(result["rows"]) if row["name"] != result["baseline"]] or [0]
    sign = 1 if OBJECTIVES.get(result["objective"], True) else -1
    return max(rows, key=lambda i: sign * result["rows"][i]["val"][result["objective"]]["mean"])


def _test(first: Contender, other: Contender) -> PairedTest | None:
    """A paired test; None where the queries are others."""
    if first.data != other.data or not all(map(np.array_equal, first.ranks[1:], other.ranks[1:])):
        return None
    return paired_test(first.ranks.ranks, other.ranks.ranks, first.ranks.video, "R@1", resamples=5_000)


def _cells(first: Contender, other: Contender, test: PairedTest) -> list[str]:
    """Wins, losses and a paired test, as cells of the table."""
    mine, theirs = first.ranks.ranks.mean(0), other.ranks.ranks.mean(0)
    counts = [(mine < theirs).sum(), (mine > theirs).sum(), (mine == theirs).sum()]
    interval = f"{test.low:+.1f} .. {test.high:+.1f}"
    return [*map(str, counts), f"{test.difference:+.1f}", interval, f"{test.p_value:.4f}"]

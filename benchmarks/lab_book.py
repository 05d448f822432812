"""What studies reached, put where readers look: the headers of ``studies/*.toml`` and a table in docs/studies.md.

    python benchmarks/lab_book.py                    # from studies/runs/NAME-toy/result.json
    python benchmarks/lab_book.py --runs DIR --of toy

Every number comes from a result file. A study without one, or with one of other settings than its file's or of other
features than those of the store in ``features/`` (if there is one), keeps its header and its rows in the table; where
there are none yet, it says "not run".
"""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from table import placed

from lab.errors import LabError
from lab.store import Store
from lab.store.find import find_store
from lab.studies.files import read_study
from lab.studies.learned import adjusted
from lab.studies.report import read_result

ROOT = Path(__file__).parent.parent
BOOK = ROOT / "docs" / "studies.md"
#: The studies whose table stands there.
SHOWN = ("xpool_head", "mgfi_head", "cmfi_fusion", "ablation")
WIDTH, INDENT = 118, 13

Told = dict[str, Any]


def store_of(features: Path, of: str) -> Store | None:
    """The one store of a data set, if it is at hand."""
    try:
        return find_store(features, of)
    except LabError:
        return None


def read(runs: Path, name: str, of: str, store: Store | None = None) -> Told | None:
    """A study's result on a data set, if it was run as its file says, and on the store's features if one is given."""
    file = runs / f"{name}-{of}" / "result.json"
    try:
        result = read_result(file.parent)
    except LabError as error:
        print(f"{error}: left out")
        return None
    if result is None:
        return None
    made = result["store"]["passport"]  # the store may hold more by now, the sound say
    if store is not None and any(store.passport.get(part) != told for part, told in made.items()):
        print(f"{file} was run on other features than {store.path} holds: left out")
        return None
    study = read_study(name)
    asked = (study.definition(), study.trials if study.kind == "search" else None, study.seeds)
    if asked != (result["definition"], result["trials"], result["seeds"]):
        print(f"{file} was run with other settings than studies/{name}.toml has: left out")
        return None
    return result


def bounded(value: Told) -> str:
    """A metric with its interval."""
    return f"{value['mean']:.1f}" + (f" [{value['low']:.1f}, {value['high']:.1f}]" if "low" in value else "")


def minutes(result: Told) -> str:
    """How long it took; of a study that was begun before, only its last start is known."""
    seconds = result["seconds"]
    told = f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
    return f"{told} since its last start" if result.get("resumed") else told


# -- headers ---------------------------------------------------------------------------------------------------------


def rewrite(file: Path, result: Told) -> None:
    """Puts time and result into a study file's header, whose other lines, and all below it, stay."""
    header, below = file.read_text(encoding="utf-8").split("\n\n", 1)
    kept = []
    for line in header.splitlines():
        if line.startswith("# time"):
            break
        kept.append(line)
    file.write_text("\n".join([*kept, *entry(result)]) + "\n\n" + below, encoding="utf-8")


def entry(result: Told) -> Iterator[str]:
    """The lines ``# time`` and ``# result``."""
    store = result["store"]
    splits = ", ".join(f"{store['splits'][name]['videos']} {name}" for name in ("train", "val", "test"))
    yield from _wrapped("# time", f"{minutes(result)} on {result['machine']}, on {store['dataset']} "
                                  f"({splits} videos), {result['time'][:10]}")  # fmt: skip
    for i, line in enumerate(reached(result)):
        yield from _wrapped("" if i else "# result", line)


def reached(result: Told) -> Iterator[str]:
    """What a study found, line by line."""
    search = result.get("search")
    if search:
        best = " and ".join(f"{key} = {_short(value)}" for key, value in search["best"]["params"].items())
        yield f"{search['finished']} trials, {search['pruned']} of them pruned; the best has {best}"
    for name, tried in result.get("choices", {}).items():
        point = result_row(result, name)["after_training"] or result_row(result, name)["keywords"]
        chosen = " and ".join(f"{key} = {_short(point[key])}" for key in tried[0]["point"] if key in point)
        if chosen:
            yield f"{name}: {chosen} was chosen on validation among {len(tried)}"
    holm = adjusted(result["rows"], "R@1")
    among = f"; p adjusted for {len(holm)} rows (Holm)" if len(holm) > 1 else ""
    yield f"R@1 in percent with 95 % intervals that draw videos{among}:"
    for row in result["rows"]:
        against = row["against_baseline"].get("R@1")
        told = f"{row['name']}: test {bounded(row['test']['R@1'])}, validation {bounded(row['val']['R@1'])}"
        yield told + (f"; {against['difference']:+.1f} on test, p = {holm[row['name']]:.2g}" if against else "")
    sweep = result.get("sweep")
    if sweep:
        for name, found in sweep["rows"].items():
            ends = [sum(draws) / len(draws) for draws in (found["MdR"][0], found["MdR"][-1])]
            first, last = sweep["inserted"][0], sweep["inserted"][-1]
            yield f"{name}: median rank {ends[0]:.1f} with {first} videos inserted, {ends[1]:.1f} with {last}"


def result_row(result: Told, name: str) -> Told:
    """A row by its name."""
    return next(row for row in result["rows"] if row["name"] == name)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _wrapped(first: str, text: str) -> list[str]:
    lead, rest = (first or "#").ljust(INDENT), "#".ljust(INDENT)
    return textwrap.wrap(text, WIDTH, initial_indent=lead, subsequent_indent=rest + "  ", break_on_hyphens=False)


# -- docs/studies.md -------------------------------------------------------------------------------------------------


def held(page: str) -> dict[str, list[str]]:
    """The rows of each study that stand in the table."""
    rows: dict[str, list[str]] = {}
    name = ""
    for line in page.partition("<!-- studies:begin -->")[2].partition("<!-- studies:end -->")[0].splitlines()[2:]:
        name = found[1] if (found := re.match(r"\| `(\w+)` \|", line)) else name
        if line.startswith("|") and name:
            rows.setdefault(name, []).append(line)
    return rows


def block(runs: Path, of: str, store: Store | None = None, before: Mapping[str, list[str]] | None = None) -> str:
    """The table of docs/studies.md; a study without a result has the rows that it had ``before``."""
    lines = ["| study | row | validation R@1 | test R@1 | seeds ± | against the first row, p (Holm) | time |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name in SHOWN:
        result = read(runs, name, of, store)
        if result is None:
            lines += (before or {}).get(name, [f"| `{name}` | not run |  |  |  |  |  |"])
            continue
        holm = adjusted(result["rows"], "R@1")
        for i, row in enumerate(result["rows"]):
            against = row["against_baseline"].get("R@1")
            deviation = row["test"]["R@1"]["std"]
            cells = [
                "" if i else f"`{name}`",
                row["name"],
                *(bounded(row[split]["R@1"]) for split in ("val", "test")),
                "" if deviation is None else f"{deviation:.1f}",
                f"{against['difference']:+.1f}, p = {holm[row['name']]:.2g}" if against else "",
                "" if i else minutes(result),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Rewrites headers and docs/studies.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=ROOT / "studies" / "runs")
    parser.add_argument("--of", default="toy", help="the data set (default: %(default)s)")
    given = parser.parse_args()
    store = store_of(ROOT / "features", given.of)
    for file in sorted((ROOT / "studies").glob("*.toml")):
        result = read(given.runs, file.stem, given.of, store)
        print(f"{file.stem:16} {'not run' if result is None else minutes(result)}")
        if result is not None:
            rewrite(file, result)
    page = BOOK.read_text(encoding="utf-8")
    BOOK.write_text(placed(page, "studies", block(given.runs, given.of, store, held(page))), "utf-8")


if __name__ == "__main__":
    main()

"""``python -m lab.study NAME``: a study file in, an answer out, chosen on validation and read on test once.

``python -m lab.study compare A B ...`` puts studies that were run side by side, and shows captions that one wins and
loses. What a study is and does stands in ``lab.studies``; this is its door.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from argparse import SUPPRESS, Namespace
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lab import cli
from lab.caveats import caveats
from lab.errors import LabError
from lab.reads import require_split
from lab.runs import RUNS, file_name
from lab.store import Store, open_store
from lab.store.find import given_store, store_options
from lab.studies import diversity, report, tables
from lab.studies.compare import captions, compare, contenders
from lab.studies.files import read_study
from lab.studies.final import read_test
from lab.studies.guard import SealedStore
from lab.studies.learned import learned_lines, verdicts
from lab.studies.result import heading, now, of_choices, of_ends, of_noise, of_search, of_test
from lab.studies.rows import Chosen, choose, take_part, train_all
from lab.studies.search import Found, search
from lab.studies.setups import Study, definition_on, digest, times
from lab.studies.splits import Splits
from lab.studies.storage import open_storage
from lab.studies.workers import JOIN, helpers
from lab.training.recipe import DEFAULT

log = logging.getLogger(__name__)

#: Data sets whose name says nothing of the collection: that of the store does.
ANY_COLLECTION = ("folder", "imported")
#: More processes of one machine than this are a typing error.
MOST_WORKERS = max(256, os.cpu_count() or 1)


def run(
    study: Study,
    store: Store,
    *,
    protocol: str | None = None,
    home: Path,
    storage: str | None = None,
    device: str = "auto",
    command: str = "lab.study",
    test: bool = True,
    join: bool = False,
) -> dict[str, Any]:
    """Runs a study, or goes on with it, and returns its result, which stands in ``home`` afterwards.

    ``storage``: a journal file or a URL of Optuna for the trials of a search, by default a journal in ``home``.
    ``test=False`` ends before the final step. ``join``: take part in another process's study, and end.

    Raises ``LabError`` for what is wrong with study, store or storage, and where ``home`` holds one on other features.
    """
    begun, resumed = time.perf_counter(), home.is_dir() and any(home.iterdir())  # before helpers leave something there
    protocol = protocol or store.protocols[0]
    report.require_same(home, store)
    splits = _splits(study, SealedStore(store, protocol), device, test)
    if join and study.kind != "search":
        if test:
            take_part(splits, home / "runs")
        return {}
    if not join:
        home.mkdir(parents=True, exist_ok=True)
        (home / "begun").touch()  # tells later starts that they are not the first: trials may be kept elsewhere
    told = heading(study, store, protocol, command)
    with ExitStack() as held:  # the storage of a search, and the claim to its final step
        found: Found | None = None
        if study.kind == "search":
            kept = held.enter_context(open_storage(storage or home / "journal.log"))
            found = search(splits, kept, home.name, joined=join)
            if found is None:
                return {}
            report.write_trials(home, found.trials)
            told["search"] = of_search(study, found)
            chosen = [Chosen(study.followed(found.setup)), Chosen(found.setup)]
        else:
            chosen = choose(splits)
        asked = {"study": definition_on(study, store, protocol), "seeds": study.seeds}
        told["hash"] = digest({**asked, "chosen": [repr(each.setup) for each in chosen]})
        if not test:
            told["choices"] = of_choices(chosen)
            return told | {"caveats": [*of_ends(splits, told)]}
        again = report.read_result(home)
        if again is not None and again["hash"] == told["hash"]:
            log.info("%s has this result already: the test split is not read again", home)
            return _judged(again, home, of_ends(splits, again))
        if found is not None and (other := held.enter_context(found.queue.final())):
            log.info("the final step is at work in process %s on %s", other["pid"], other["host"])
            return told
        chosen, trained = train_all(chosen, splits, home / "runs")
        told["time"] = now()  # a search takes its time: a result is as new as its look at test
        ends = [*of_ends(splits, told | {"choices": of_choices(chosen)})]  # while the store is sealed
        final = read_test(trained, splits, command)
        if found is not None:
            told["search"] |= of_noise(study, found, trained[-1], store.coverage("val", protocol).captions)
        told |= of_test(study, final, chosen, store)
        told["caveats"] = [*_before(final.reads_before), *caveats(store, "test", protocol), *ends]
        told |= {"seconds": time.perf_counter() - begun, "resumed": resumed}  # of this start alone
        if aside := report.put_aside(home, study):
            log.info("the result that was here is of other settings and lies in %s now", aside)
        report.write_ranks(home, final)
        report.write_result(home, told)
        return told


def _judged(result: dict[str, Any], home: Path, ends: Iterable[str]) -> dict[str, Any]:
    """A result that is there, its verdicts passed anew, with caveats that it lacks; where changed, written anew."""
    before = result.get("caveats", [])
    below = [*before, *(line for line in ends if line not in before)]
    told = {"verdicts": verdicts(result["rows"], result["baseline"]), "caveats": below}
    if told.items() <= result.items():
        return result
    log.info("%s: its verdicts and caveats are told anew", home)
    report.write_result(home, result := result | told)
    return result


def _splits(study: Study, sealed: SealedStore, device: str, test: bool) -> Splits:
    """What a study learns and chooses from, and a few pairs scored with each of its heads."""
    for split in ("val", "test") if test else ("val",):
        require_split(sealed, split, sealed.protocol)
    splits = Splits(sealed, study, device)
    if study.kind == "sweep":
        diversity.require(splits)
    splits.try_out()
    return splits


def _before(reads: int) -> list[str]:
    what = f"! the test split was read {times(reads)} before this: each look lets its answers leak into what is tried"
    return [what] if reads else []


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["compare"]:
        return _compare(arguments[1:])
    parser = cli.parser(
        "lab.study",
        "Run a study: search on validation, train the best with several seeds, read the test split once.",
        "python -m lab.study xpool_head --dataset toy --trials 20 --set epochs=3",
    )
    add = parser.add_argument
    add("study", help='a name in studies/, or a .toml file; "compare A B ..." puts results side by side')
    store_options(parser)
    add("--trials", type=int, metavar="N", help="finished trials that a search ends with (default: the file's)")
    how = (
        "a setting in place of the file's, such as python -m lab.train HEAD --settings lists; stack=N trains up to N "
        "heads of one build at once: trials of a search, points and final seeds of rows"
    )
    add("--set", action="append", default=[], metavar="KEY=VALUE", help=how)
    add("--preset", help=f"of the recipe (default: the file's, or {DEFAULT})")
    add("--storage", metavar="PATH_OR_URL", help="where trials are kept (default: a journal file beside the result)")
    add("--workers", type=int, default=1, metavar="N", help="processes that work together (default: %(default)s)")
    add(
        "--name",
        help="of the run, by which it is found again (default: study, data set, of a folder the store, and the "
        "protocol where there are several)",
    )
    add("--runs", type=Path, default=RUNS, help="directory of results (default: %(default)s)")
    add("--device", default="auto", help="cpu, cuda, cuda:1, auto (default: %(default)s)")
    add("--trust", action="append", default=[], metavar="NAME", help="let the file use this class of your own")
    add(
        "--no-test",
        action="store_true",
        help="end before the final step, in which rows are trained: nothing of the test split is read",
    )
    add("--dry-run", action="store_true", help="print the study as it would run, and end")
    add(JOIN, action="store_true", help=SUPPRESS)
    given = parser.parse_args(arguments)
    if not 1 <= given.workers <= MOST_WORKERS:
        raise LabError(f"1 <= workers <= {MOST_WORKERS} must hold, got --workers {given.workers}")
    study = read_study(given.study, _settings(given), given.trust)
    if given.dry_run:
        cli.say(study.resolved())
        return 0
    store = given_store(given)
    protocol = given.protocol or store.protocols[0]
    name = given.name or default_name(study, store, protocol)
    command = cli.typed("lab.study", arguments)
    home = given.runs / file_name(name)  # a protocol may be called 70/10/20-seed0
    options: dict[str, Any] = {"storage": given.storage, "device": given.device, "test": not given.no_test}
    if given.join:
        run(study, store, protocol=protocol, home=home, join=True, **options)
        return 0
    with helpers(arguments, given.workers):
        result = run(study, store, protocol=protocol, home=home, command=command, **options)
    show(result, home)
    return 0


def default_name(study: Study, store: Store, protocol: str) -> str:
    """Of a study's run, by which it is found again: study, data set, and the protocol where there are several."""
    what = store.path.resolve().name.removesuffix(".zarr") if store.name in ANY_COLLECTION else store.name
    return "-".join([study.name, what, *([protocol] if len(store.protocols) > 1 else [])])


def _compare(arguments: Sequence[str]) -> int:
    parser = cli.parser(
        "lab.study compare",
        "Put studies that were run side by side.",
        "python -m lab.study compare heads-toy topk-toy --captions 3",
    )
    add = parser.add_argument
    add("results", nargs="*", metavar="RESULT", help="a name below --runs or a directory; NAME:ROW")
    add("--runs", type=Path, default=RUNS, help="directory of results (default: %(default)s)")
    how = "show so many captions of validation that the first wins by most, and so many that it loses"
    add("--captions", type=int, default=0, metavar="N", help=how)
    add("--store", type=Path, metavar="FILE.zarr", help="that of --captions (default: the first study's)")
    given = parser.parse_args(arguments)
    if given.captions < 0:
        raise LabError(f"0 <= captions must hold, got --captions {given.captions}")
    for part in compare(given.results, given.runs):
        cli.say(part)
    if given.captions:
        first, *others = contenders(given.results, given.runs)
        if not others:
            raise LabError("--captions compares two results or more, got one: name another")
        store = open_store(given.store or first.result["store"]["path"])
        for part in (part for other in others for part in captions(first, other, store, given.captions)):
            cli.say(part)
    return 0


def _settings(given: Namespace) -> list[str]:
    extra = {"trials": given.trials, "preset": given.preset}
    return [*given.set, *(f"{key}={value}" for key, value in extra.items() if value is not None)]


def show(result: dict[str, Any], home: Path) -> None:
    """The final table, the verdict, and where the rest is."""
    if "rows" in result:
        cli.say(tables.table(result))
    if result.get("sweep"):
        cli.say(tables.sweep_table(result["sweep"]))
    for line in [*result.get("verdicts", []), *learned_lines(result), *result.get("caveats", [])]:
        cli.say(line)
    if "rows" in result:
        cli.say(f"{home}: result.md, result.tex, result.json")
    elif result["kind"] != "search":
        cli.say("the test split was not read; rows are trained in the final step, which --no-test leaves out")


if __name__ == "__main__":
    sys.exit(cli.run(main, goes_on=True))

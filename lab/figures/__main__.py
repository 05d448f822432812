"""``python -m lab.figures``: all figures of a split, or some by name, as PDF and PNG."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lab import cli
from lab.choose import Candidate, plain_heads, run_or_head, trained_heads
from lab.errors import unknown
from lab.figures import FIGURES, STUDY_FIGURES, Material, NoData, Studies, style
from lab.figures.finished import named, newest
from lab.figures.style import Figure
from lab.reads import OPEN, count_reads, require_split
from lab.runs import RUNS
from lab.runs.fitting import newest_runs
from lab.store import Store
from lab.store.find import given_store, store_options

log = logging.getLogger(__name__)

#: All figures: what draws them, by name.
EVERY: Mapping[str, Callable[..., Figure]] = {**FIGURES, **STUDY_FIGURES}


def draw(
    figures: Mapping[str, Callable[[], Figure]], out: Path, page: bool = False, csv: bool = False, asked: bool = True
) -> int:
    """Writes figures to ``out``, with ``csv`` their numbers too, and returns how many.

    What lacks its data is left out with a line each if they were ``asked`` for by name, else with one for all of them.
    """
    lacking: dict[str, NoData] = {}
    bare = []
    with cli.bar(len(figures), "figures", "figure") as bar:
        for name, figure in figures.items():
            try:
                drawn = figure()
                style.save(drawn, out, name, page, csv)
                bare += [name] * (csv and not drawn.table)
            except NoData as error:
                lacking[name] = error
            bar.update()
    if bare:
        log.info("no CSV of %s: pictures alone", ", ".join(bare))
    if asked or len(lacking) == len(figures):
        for name, why in lacking.items():
            log.warning("%s left out: %s", name, why)
    elif lacking:
        log.info("left out, for want of data: %s (name one to hear why)", ", ".join(lacking))
    return len(figures) - len(lacking)


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = cli.parser(
        "lab.figures",
        "Draw figures of heads on a split of a feature store, and of finished studies. Without --run: the newest run "
        "of each head, beside mean, top-k and softmax pooling. Without --study: the newest studies on that data set.",
        "python -m lab.figures strips recall_over_k --dataset toy --run xpool-toy-2026-01-01T00-00-00-s0\n"
        "  python -m lab.figures importance history --study xpool_head-toy",
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="figures to draw (default: all that have their data)")
    add("--list", action="store_true", help="say which figures there are, and stop")
    store_options(parser)
    add("--split", default="val", help="default: %(default)s; reading a test split is logged, as lab.evaluate does")
    always = "a run, or mean, topk, softmax; mean and topk k=3 are drawn with any; may be repeated"
    add("--run", action="append", default=[], metavar="RUN", help=always)
    add("--runs", type=Path, default=RUNS, help="directory of runs (default: %(default)s)")
    add("--study", action="append", default=[], metavar="STUDY", help="a finished study by its directory, or by name")
    add("--studies", type=Path, default=RUNS, help="directory of finished studies (default: %(default)s)")
    add("--trust", action="append", default=[], metavar="NAME", help="let a run use this class of your own")
    add("--out", type=Path, default=Path("figures"), help="where files go (default: %(default)s)")
    add("--page", action="store_true", help="small PNGs for a page, of few colours, and no PDF")
    beside = "write the numbers that a figure shows as NAME.csv beside it (texts as they are: import them as text)"
    add("--csv", action="store_true", help=beside)
    given = parser.parse_args(argv)
    if given.list:
        cli.say(cli.table(["figure", "what it shows"], [[name, about(name)] for name in EVERY]))
        return 0
    for name in given.names:
        if name not in EVERY:
            raise unknown("figure", name, EVERY)
    names = list(dict.fromkeys(given.names)) or list(STUDY_FIGURES if given.study else EVERY)
    command = cli.typed("lab.figures", argv)
    of_studies = set(names) <= STUDY_FIGURES.keys()
    store = None if of_studies and given.study else given_store(given)
    figures: dict[str, Callable[[], Figure]] = {}
    told = []
    if store is not None and not of_studies:
        require_split(store, given.split, given.protocol)
        heads = _heads(store, given)
        material = Material(store, heads, given.split, given.protocol, command, given.runs)
        if not given.run and all(one.run is None for one in heads):
            trains = f"; {material.training('xpool')} trains a head" if "train" in store.splits else ""
            log.info("no run on %s in %s: heads without training alone%s", store.path, given.runs, trains)
        figures |= {name: partial(FIGURES[name], material) for name in names if name in FIGURES}
        told.append(f"of {', '.join(material.heads)} on the split '{given.split}'")
    if not FIGURES.keys() >= set(names):
        studies = _studies(store, given.study, given.studies, given.protocol)
        figures |= {name: partial(STUDY_FIGURES[name], studies) for name in names if name in STUDY_FIGURES}
        told += [f"of the studies {', '.join(one.home.name for one in studies.found)}"] if studies.found else []
    written = draw(figures, given.out, given.page, given.csv, bool(given.names))
    count = f"{written} figure{'s' * (written != 1)}"
    cli.say(" ".join([count, *[" and ".join(told)][: len(told)], f"in {given.out}/"]))
    if store is not None:
        if given.split not in OPEN:
            cli.say(f"reads of the split '{given.split}' of {store.path} so far: {count_reads(store, given.split)}")
        for warning in store.warnings:
            cli.say(f"! {warning}")
    return 0 if written else 1


def about(name: str) -> str:
    """What a figure shows, in a line."""
    return (EVERY[name].__doc__ or "").strip().splitlines()[0].rstrip(".")


def _studies(store: Store | None, asked: Sequence[str], directory: Path, protocol: str | None) -> Studies:
    """The studies by what --study names, else the newest ones on the store's features."""
    if asked or store is None:
        return named(asked, directory, store)
    return newest(store, protocol or store.protocols[0], directory)


def _heads(store: Store, given: Any) -> list[Candidate]:
    """The heads by what --run names, and those without training. Raises ``LabError`` for a run that there is not."""
    plain, runs = plain_heads(store), given.runs
    if not given.run:
        names, paths = list(plain), newest_runs(store, runs, given.protocol, given.trust)
    else:
        meant = {name: run_or_head(name, runs, plain) for name in given.run}
        names = list(dict.fromkeys(["mean", "topk", *(name for name, path in meant.items() if path is None)]))
        paths = [path for path in meant.values() if path is not None]
    return [*(plain[name] for name in names), *trained_heads(store, paths, given.trust)]


if __name__ == "__main__":
    sys.exit(cli.run(main))

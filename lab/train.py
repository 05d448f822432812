"""Command: trains a head on a store's features.

``python -m lab.train HEAD --dataset D --set key=value`` trains, chooses the epoch on the validation split, and saves a
run (see ``lab.runs``). It reads ``train`` and ``val`` and no other split; ``python -m lab.evaluate`` reads the test.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab import cli
from lab.choose import evaluation
from lab.device import memory_told
from lab.runs import RUNS, require_free, require_room, save_run
from lab.store.find import given_store, store_options
from lab.training.recipe import ABOUT_PRESETS, DEFAULT, all_settings, divide, parse_settings, plan, settings_of
from lab.training.stages import History
from lab.training.task import head_for, plan_for, prepare, train_on


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = cli.parser(
        "lab.train",
        "Train a head on a feature store and save it as a run.",
        "python -m lab.train xpool --dataset msvd --set lr=3e-5 --set dropout=0.4",
    )
    parser.epilog = f"{all_settings()}\n\n{parser.epilog}"
    parser.add_argument("head", help='a name in lab.heads.HEADS, or "my_module:MyHead"')
    store_options(parser)
    presets = "; ".join(f"{name}: {about}" for name, about in ABOUT_PRESETS.items())
    parser.add_argument("--preset", default=DEFAULT, help=f"{presets} (default: %(default)s)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the recipe or of the head"
    )
    parser.add_argument("--settings", action="store_true", help="tell what can be set for this head, and end")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, auto (default: %(default)s)")
    parser.add_argument("--eager", action="store_true", help="on a GPU, launch each operation singly: no CUDA graphs")
    parser.add_argument("--runs", type=Path, default=RUNS, help="directory of runs (default: %(default)s)")
    parser.add_argument("--name", help="of the run (default: head, data set and time)")
    given = parser.parse_args(argv)
    recipe, keywords = divide(given.head, parse_settings(given.set))
    if given.settings:
        cli.say(_settings(given, recipe, keywords))
        return 0
    require_free(given.runs, given.name)
    options = {"recipe": recipe, "keywords": keywords, "preset": given.preset, "device": given.device}
    with memory_told("these features", "--device cpu"):
        task = prepare(given_store(given), given.head, protocol=given.protocol, **options)
    require_room(task.head, given.runs)
    trained = train_on(task, capture=not given.eager)
    path = save_run(trained.head, trained.run, trained.history.epochs, given.runs, given.name)
    cli.say(epochs_table(trained.history))
    run = trained.run
    cli.say(f"{run.parameters:,} parameters, trained in {run.seconds:.1f} s; kept is the {run.chosen}")
    test = "test" in task.store.splits_of(task.protocol)
    cli.say(f"saved as {path}" + (f"; the test split: {evaluation(path, run)}" if test else ""))
    return 0


def _settings(given: argparse.Namespace, recipe: dict[str, Any], keywords: dict[str, Any]) -> str:
    """The settings of the training that the command would do."""
    options: dict[str, Any] = {"preset": given.preset, "recipe": recipe, "keywords": keywords}
    if given.store is None and given.dataset is None:
        how, known = plan(given.head, protocol=given.protocol or "", **options)
        return f"of a store (--dataset, --store) some may be others\n{settings_of(given.head, how, known)}"
    store = given_store(given)
    how, known = plan_for(store, given.head, given.protocol or store.protocols[0], **options)
    return settings_of(given.head, how, head_for(store, given.head, known)[1])


def epochs_table(history: History) -> str:
    """A line for each epoch with its loss and validation metrics; the kept one has a star."""
    names = [name for name in ("R@1", "R@5", "R@10", "MdR", "MnR") if history.kept.metrics]
    rows = [
        [e.epoch, e.stage, f"{e.loss:.3f}", *(f"{e.metrics[n]:.1f}" for n in names), "*" * (e is history.kept)]
        for e in history.epochs
    ]
    return cli.table(["epoch", "stage", "loss", *(f"val {name}" for name in names), "kept"], rows)


if __name__ == "__main__":
    sys.exit(cli.run(main))

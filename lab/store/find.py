"""Which store a command means: the options that commands share, and the search among the stores of a directory."""

from __future__ import annotations

import argparse
import logging
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.store.passport import differences
from lab.store.reader import TABLES, Store, open_store

log = logging.getLogger(__name__)


def store_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options from which ``given_store`` chooses."""
    parser.add_argument("--dataset", help="use the store of this data set")
    parser.add_argument("--store", type=Path, help="use this store")
    parser.add_argument("--features", type=Path, default=Path("features"), help="directory of stores (%(default)s)")
    parser.add_argument("--protocol", help="for data sets with several (default: the first)")


def given_store(given: argparse.Namespace, passport: Mapping[str, Any] | None = None, at: str = "") -> Store:
    """The store that a command's options name; among several as ``find_store`` does. Raises what that raises."""
    if given.store is None:
        return find_store(given.features, given.dataset, passport, at)
    store = open_store(given.store)
    if given.dataset not in (None, store.name):
        raise LabError(f"{store.path} is a store of {store.name}, not of {given.dataset}: leave one of the two out")
    return store


def find_store(features: Path, dataset: str | None, passport: Mapping[str, Any] | None = None, at: str = "") -> Store:
    """The one store under ``features`` (of a data set, if named). Raises ``LabError`` if there is none or several.

    Among several the one of a run's ``passport``, and where that has copies the one ``at`` its place.
    """
    fitting = []
    for path in sorted(features.glob("*.zarr")):
        try:
            fitting += [store for store in [open_store(path)] if dataset in (None, store.name)]
        except LabError as error:
            log.warning("%s", error)
    if not fitting:
        of = f" of {dataset}" if dataset else ""
        raise LabError(f"no store{of} in {features}: make one with python -m lab.cache --dataset {dataset or 'NAME'}")
    if len(fitting) > 1 and passport is not None:
        whole = [store for store in fitting if passport.keys() <= store.passport.keys()]
        same = [store for store in whole if not differences(store.passport, passport)]
        fitting = [store for store in same if store.path.resolve() == Path(at).resolve()] or same or fitting
    if len(fitting) > 1:
        names = ", ".join(str(store.path) for store in fitting)
        raise LabError(f"{len(fitting)} stores fit, choose one with --store PATH: {names}")
    return fitting[0]


def pass_command(store: Store, modality: str) -> str:
    """The command that adds a modality to a store, with what the store knows of the pass that made it."""
    root = last_root(store)
    encoder = next((store.passport[m]["name"] for m in ("frames", "text") if "name" in store.passport.get(m, {})), None)
    words = ["python", "-m", "lab.cache", "--dataset", store.name]
    words += [] if root is None else ["--root", str(root)]
    words += ["--clip", str(encoder)] if encoder and modality != "audio" else []
    words += ["--features", str(store.path.parent), "--name", store.path.name.removesuffix(".zarr"), "--only", modality]
    return shlex.join(words)


def last_root(store: Store) -> Path | None:
    """Where the videos were last seen, as ``features/README.md`` describes it; None where the store does not tell.

    An empty line would be the directory that the page was started in.
    """
    try:
        told = (store.path / TABLES / "root.txt").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return Path(told) if told and "\0" not in told else None

"""Which store a command means: the options that commands share, and the search among the stores of a directory."""

from __future__ import annotations

import argparse
import logging
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.errors import LabError, unknown
from lab.store.layout import TABLES
from lab.store.passport import differences
from lab.store.reader import Store, open_store

log = logging.getLogger(__name__)

#: The name of stores that ``lab.convert`` made of features and captions alone.
IMPORTED = "imported"
#: The name that ``lab.datasets.folder`` gives to a protocol by --split and --seed.
_DEALT = re.compile(r"([\d.e+-]+/[\d.e+-]+/[\d.e+-]+)-seed(-?\d+)")


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
        raise _none(features, dataset)
    if len(fitting) > 1 and passport is not None:
        whole = [store for store in fitting if passport.keys() <= store.passport.keys()]
        same = [store for store in whole if not differences(store.passport, passport)]
        fitting = [store for store in same if store.path.resolve() == Path(at).resolve()] or same or fitting
    if len(fitting) > 1:
        names = ", ".join(str(store.path) for store in fitting)
        raise LabError(f"{len(fitting)} stores fit, choose one with --store PATH: {names}")
    return fitting[0]


def _none(features: Path, dataset: str | None) -> LabError:
    from lab.datasets import DATASETS  # here, for reading a store needs none of them

    if dataset not in (None, IMPORTED, *DATASETS):
        return unknown("dataset", str(dataset), DATASETS)
    root = " --root DIR" if dataset == "folder" else ""
    make = f"cache --dataset {dataset or 'NAME'}{root}"
    if dataset == IMPORTED:
        make = f"convert FEATURES {shlex.quote(str(features / 'NAME.zarr'))} --captions FILE"
    return LabError(f"no store{f' of {dataset}' if dataset else ''} in {features}: make one with python -m lab.{make}")


def pass_command(store: Store, modality: str) -> str:
    """The command that adds a modality to a store, with what the store knows of the pass that made it.

    What it does not know stands there in capitals, with a word on it behind the command.
    """
    if store.name == IMPORTED:
        return _conversion(store, modality)
    words, told = ["python", "-m", "lab.cache", "--dataset", store.name], ""
    root, dealt = last_root(store), _DEALT.fullmatch(store.protocols[0])
    if root is not None or store.name == "folder":
        words += ["--root", str(root or "DIR")]
    if dealt and store.name == "folder":
        words += ["--split", dealt[1], "--seed", dealt[2]]
    about = store.passport.get("frames") or store.passport.get("text") or {}
    if modality == "audio":
        if "sampling" in about and "imported" not in about:  # which may limit the seconds that are heard
            words += ["--sampling", str(about["sampling"])]
    elif "imported" in about:
        words += ["--clip", "MODEL:TAG"]
        told = f" (MODEL:TAG: the CLIP that made its frames, by name '{about.get('name')}')"
    elif "name" in about:
        words += ["--clip", str(about["name"])]
    words += ["--features", str(store.path.parent), "--name", store.path.name.removesuffix(".zarr"), "--only", modality]
    return shlex.join(words) + told


def _conversion(store: Store, modality: str) -> str:
    """What adds to a store that was made of features and is of no data set, so that no pass can go on with it."""
    again = shlex.join(["python", "-m", "lab.convert", "FEATURES", str(store.path), "--force"])
    if modality == "audio":
        return f"{again} --audio PATH, and the other options that made it"
    return (
        f"{again} --captions FILE --text DIR where DIR has their features, or, where the videos are on this disk with "
        f"captions.csv beside them, with {again} --dataset folder --root VIDEOS and a pass of --only text over that"
    )


def last_root(store: Store) -> Path | None:
    """Where the videos were last seen, as ``features/README.md`` describes it; None where the store does not tell.

    An empty line would be the directory that the page was started in.
    """
    try:
        told = (store.path / TABLES / "root.txt").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return Path(told) if told and "\0" not in told else None

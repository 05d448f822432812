"""``python -m lab.study NAME``: a study file in, a table out.

For now a study trains one head with fixed settings and reads the split that it names; searching comes on top of this.
"""

from __future__ import annotations

import inspect
import logging
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from lab import cli
from lab.embeddings import Texts, Videos
from lab.errors import LabError, unknown
from lab.heads import HEADS, build_head
from lab.metrics import retrieval_metrics
from lab.store import Store, open_store
from lab.train import Recipe, similarities, train

log = logging.getLogger(__name__)

STUDIES = Path(__file__).parent.parent / "studies"
#: Fewer test videos than this cannot tell one head from another.
FEW = 100


def find_store(features: Path, dataset: str | None) -> Store:
    """The one store under ``features`` (of a data set, if named). Raises ``LabError`` if there is none or several."""
    fitting = []
    for path in sorted(features.glob("*.zarr")):
        try:
            fitting += [store for store in [open_store(path)] if dataset in (None, store.name)]
        except LabError as error:
            log.warning("%s", error)
    if not fitting:
        of = f" of {dataset}" if dataset else ""
        raise LabError(f"no store{of} in {features}: make one with python -m lab.cache --dataset {dataset or 'NAME'}")
    if len(fitting) > 1:
        names = ", ".join(str(store.path) for store in fitting)
        raise LabError(f"{len(fitting)} stores fit, choose one with --store PATH: {names}")
    return fitting[0]


def read_study(name: str) -> dict[str, Any]:
    """A study file, by its name in ``studies/`` or by its path. Raises ``LabError`` that names all it has wrong."""
    file = Path(name) if name.endswith(".toml") else STUDIES / f"{name}.toml"
    if not file.is_file():
        raise unknown("study", name, sorted(path.stem for path in STUDIES.glob("*.toml")))
    try:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # also bytes that are not UTF-8
        raise LabError(f"{file} is not valid TOML: {error}") from None
    wrong = list(_mistakes(settings))
    if wrong:
        raise LabError(f"{file}: {'; '.join(wrong)}")
    return settings


def _mistakes(settings: dict[str, Any]) -> Iterator[str]:
    """What a study file has wrong, as far as names tell; values are judged by what they are given to."""
    head = str(settings.get("head"))
    if head not in HEADS:
        yield str(unknown("head", head, HEADS))
    keywords = inspect.signature(HEADS[head].__init__).parameters if head in HEADS else None
    tables = {"train": [field.name for field in fields(Recipe)], "keywords": keywords and list(keywords)[2:]}
    for key, value in settings.items():
        if key not in ("head", *tables):
            yield str(unknown("key", key, ("head", *tables)))
        elif key in tables and not isinstance(value, dict):
            yield f"[{key}] must be a table, got {value!r}"
        elif key in tables and (known := tables[key]) is not None:
            yield from (str(unknown(f"key of [{key}]", name, known)) for name in value if name not in known)


def study(settings: dict[str, Any], store: Store, protocol: str | None = None) -> dict[str, float]:
    """Trains the study's head on ``train`` and returns the metrics of ``test``, which is read here and nowhere else."""
    if "text" not in store.passport:
        raise LabError(f"{store.path} holds no captions: add them with python -m lab.cache --only text")
    texts, videos = _pairs(store, "train", protocol)
    recipe = Recipe(**{"logit_scale": store.passport["text"]["logit_scale"], **settings.get("train", {})})
    torch.manual_seed(recipe.seed)  # before the head, which may begin with random weights
    try:
        head = build_head(settings["head"], texts.dim, **settings.get("keywords", {}))
    except (TypeError, ValueError) as error:
        raise LabError(f"head '{settings['head']}' refuses its [keywords]: {error}") from None
    train(head, texts, videos, recipe)
    queries, gallery = _pairs(store, "test", protocol)
    if queries.video is None:
        raise ValueError("the store's texts name their videos")
    return retrieval_metrics(similarities(head, queries, gallery), queries.video.numpy())


def _pairs(store: Store, split: str, protocol: str | None) -> tuple[Texts, Videos]:
    if split not in store.splits_of(protocol):
        raise LabError(
            f"a study needs the split '{split}', {store.path} has {', '.join(store.splits_of(protocol))}: "
            "give captions.csv a split column, or cache the folder with --split 70/10/20"
        )
    texts, videos = store.load(split, protocol, words=False)
    if not len(texts):
        raise LabError(f"no caption of split '{split}' has features in {store.path}: run the pass on it first")
    return texts, videos


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = cli.parser(
        "lab.study",
        "Run a study on a feature store and print its table.",
        "python -m lab.study xpool_head --dataset msvd",
    )
    parser.add_argument("study", help="a name in studies/, or a .toml file")
    parser.add_argument("--dataset", help="use the store of this data set")
    parser.add_argument("--store", type=Path, help="use this store")
    parser.add_argument("--features", type=Path, default=Path("features"), help="directory of stores (%(default)s)")
    parser.add_argument("--protocol", help="for data sets with several (default: the first)")
    given = parser.parse_args(argv)
    settings = read_study(given.study)
    store = open_store(given.store) if given.store else find_store(given.features, given.dataset)
    start = time.perf_counter()
    metrics = study(settings, store, given.protocol)
    held = store.coverage("test", given.protocol)
    names = ("R@1", "R@5", "R@10", "MdR", "MnR")
    cells = [settings["head"], *(f"{metrics[name]:.1f}" for name in names), held.captions, held.videos]
    cli.say(cli.table(["head", *names, "queries", "videos"], [cells]))
    cli.say(f"test split of {store.path}, trained and scored in {time.perf_counter() - start:.1f} s")
    if held.videos < FEW:
        cli.say(f"! {held.videos} test videos: this shows that the study runs, and tells nothing about the head")
    for warning in store.warnings:
        cli.say(f"! {warning}")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))

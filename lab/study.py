"""``python -m lab.study NAME``: a study file in, a table out.

For now a study trains one head with fixed settings and reads the split that it names; searching comes on top of this.
"""

from __future__ import annotations

import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lab import cli
from lab.errors import LabError, unknown
from lab.evaluate import caveats
from lab.heads import ANY, head_class, head_keywords
from lab.reads import Reader, load_split, require_split
from lab.recipe import RECIPE_KEYS
from lab.store import Store
from lab.store.find import given_store, store_options
from lab.task import prepare
from lab.train import train_on, validate

STUDIES = Path(__file__).parent.parent / "studies"


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
    tables: dict[str, list[str]] = {"train": list(RECIPE_KEYS), "keywords": ANY}
    try:
        tables["keywords"] = head_keywords(head_class(head))
    except LabError as error:
        yield str(error)
    for key, value in settings.items():
        if key not in ("head", *tables):
            yield str(unknown("key", key, ("head", *tables)))
        elif key in tables and not isinstance(value, dict):
            yield f"[{key}] must be a table, got {value!r}"
        elif key in tables and (known := tables[key]) != ANY:
            yield from (str(unknown(f"key of [{key}]", name, known)) for name in value if name not in known)


def study(
    settings: dict[str, Any], store: Store, protocol: str | None = None, command: str = "lab.study"
) -> dict[str, float]:
    """Trains the study's head on ``train`` and returns the metrics of ``test``, which is read here and nowhere else."""
    require_split(store, "test", protocol)  # before the training
    recipe, keywords = settings.get("train", {}), settings.get("keywords", {})
    task = prepare(store, settings["head"], protocol=protocol, recipe=recipe, keywords=keywords)
    trained = train_on(task)
    reader, level = Reader(command, settings["head"]), task.recipe.audio_level
    texts, videos = load_split(store, "test", protocol, head=trained.head, audio_level=level, reader=reader)
    return validate(trained.head, texts, videos)


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = cli.parser(
        "lab.study",
        "Run a study on a feature store and print its table.",
        "python -m lab.study xpool_head --dataset msvd",
    )
    parser.add_argument("study", help="a name in studies/, or a .toml file")
    store_options(parser)
    given = parser.parse_args(argv)
    settings = read_study(given.study)
    store = given_store(given)
    start = time.perf_counter()
    metrics = study(settings, store, given.protocol, f"lab.study {given.study}")
    held = store.coverage("test", given.protocol)
    names = ("R@1", "R@5", "R@10", "MdR", "MnR")
    cells = [settings["head"], *(f"{metrics[name]:.1f}" for name in names), held.captions, held.videos]
    cli.say(cli.table(["head", *names, "queries", "videos"], [cells]))
    cli.say(f"test split of {store.path}, trained and scored in {time.perf_counter() - start:.1f} s")
    for line in caveats(store, "test", given.protocol):
        cli.say(line)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))

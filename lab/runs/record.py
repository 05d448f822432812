"""What ``run.json`` says of a trained head, as it is written now and as it was written before."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import NoneType
from typing import Any

from torch import nn

from lab import cli
from lab.errors import LabError
from lab.needs import Needs
from lab.store import Store
from lab.training.recipe import AUDIO_LEVELS, merged

#: 2 has ``after``, which a reader of 1 would leave out.
FORMAT = 2


@dataclass(frozen=True)
class Run:
    """What ``run.json`` says. ``passport`` holds those sections of the store's that the head depends on.

    ``keywords`` are those of the training, with which it can be repeated; ``after`` those that were set when it was
    over, a fusion weight chosen on validation, say. Runs of format 1 have the latter among the former.
    """

    head: str
    keywords: dict[str, Any]
    dim: int
    dataset: str
    protocol: str
    store: str
    passport: dict[str, Any]
    recipe: dict[str, Any]
    kept: dict[str, Any]  # the epoch whose weights these are, and its metrics on validation
    chosen: str  # how that epoch was chosen
    parameters: int
    seconds: float
    time: str = field(default_factory=lambda: datetime.now(UTC).isoformat("T", "seconds"))
    versions: dict[str, str] = field(
        default_factory=lambda: {
            "python": platform.python_version(),
            **{name: version(name) for name in ("retrieval-lab", "torch", "numpy")},
        }
    )
    #: What was typed; older runs have none.
    command: list[str] = field(default_factory=lambda: [cli.unsecret(word) for word in sys.orig_argv])
    after: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def settings(self) -> dict[str, Any]:
        """The keywords that the head has, those that were set after the training in place of those that it had."""
        return merged(self.keywords, self.after)

    @property
    def metrics(self) -> dict[str, float]:
        """Those of the kept epoch on the validation split, as far as they are numbers; empty if the store has none."""
        return {name: value for name, value in self.kept["metrics"].items() if value is not None}

    @property
    def audio_level(self) -> str:
        """What it heard while it was trained: ``clip`` or ``segments``."""
        return str(self.recipe.get("audio_level", "clip"))


def sections(store: Store, head: nn.Module) -> dict[str, Any]:
    """The sections of a store's passport that a head's weights depend on: sound only if it hears."""
    hears = Needs.of(head).audio is not None
    return {name: part for name, part in store.passport.items() if name != "audio" or hears}


def read_run(path: Path) -> Run:
    """What ``run.json`` says. Raises ``LabError`` where it is none, damaged, or of a newer version of the lab."""
    file = path / "run.json"
    try:
        require_file(file)
        told = json.loads(file.read_bytes())
        if told["format"] > FORMAT:
            raise LabError(f"{file} has format {told['format']}, this version reads up to {FORMAT}: upgrade the lab")
        told = _translated(told)
        run = Run(**{each.name: told[each.name] for each in fields(Run)})
        wrong = list(_mistyped(run))
        if wrong:
            raise TypeError(f"'{wrong[0]}' is of another type")
    except FileNotFoundError:
        raise LabError(f"{path} is not a run: it has no run.json; python -m lab.train HEAD makes one") from None
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise LabError(f"{file} is damaged ({type(error).__name__}: {error}): train the head again") from None
    return run


def require_file(file: Path) -> None:
    """Raises ``ValueError`` for a pipe or a device, whose end would be waited for; where nothing is opening tells."""
    if file.exists() and not file.is_file():
        raise ValueError("it is no file")


def _translated(told: dict[str, Any]) -> dict[str, Any]:
    """What an older version wrote, as this one would have written it."""
    told = {"after": {}, "command": [], **told}  # format 1, and the first of 2
    recipe = told.get("recipe")
    if isinstance(recipe, dict) and "multi_positive" in recipe:  # what is ``twins`` now
        kept = {key: value for key, value in recipe.items() if key != "multi_positive"}
        told["recipe"] = kept | {"twins": "positives" if recipe["multi_positive"] else "ignored"}
    return told


def _mistyped(run: Run) -> Iterator[str]:
    """The fields that are not of the type of their annotation, which ends at a bracket."""
    types = {"str": str, "int": int, "float": int | float, "dict": dict, "list": list}
    for each in fields(Run):
        value = getattr(run, each.name)
        if not isinstance(value, types[str(each.type).partition("[")[0]]) or isinstance(value, bool):
            yield each.name
    metrics = run.kept.get("metrics")
    if not (isinstance(metrics, dict) and all(type(value) in (int, float, NoneType) for value in metrics.values())):
        yield "kept.metrics"
    yield from (f"passport.{name}" for name in ("frames", "text") if not isinstance(run.passport.get(name), dict))
    if run.audio_level not in AUDIO_LEVELS:
        yield "recipe.audio_level"

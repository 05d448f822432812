"""``--set key=value``: a setting in place of a study file's, or a range in place of a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab.errors import LabError, unknown
from lab.studies.keys import CLASSIC, KEYS, TRAIN_KEYS
from lab.studies.space import is_range
from lab.training.recipe import divide, merged


def override(table: dict[str, Any], settings: Mapping[str, Any]) -> None:
    """Puts settings into a study file's table. A setting that is a range is searched, any other value is fixed.

    In a grid, settings of the training hold for all rows, and ``ROW.KEY`` for one. Raises ``LabError`` for what no part
    of the file knows.
    """
    kind = table.get("kind", "search")
    wrong = []
    for key, value in settings.items():
        if key in KEYS and key != "kind" and kind in KEYS[key][0]:
            table[key] = value
        else:
            try:
                _set_row(table, key, value) if kind != "search" else _set_search(table, key, value)
            except LabError as error:
                wrong.append(str(error))
    if wrong:
        raise LabError("; ".join(wrong))


def _set_search(table: dict[str, Any], key: str, value: Any) -> None:
    head = CLASSIC.get(str(table.get("head")), str(table.get("head")))
    recipe, keywords = divide(head, {key: value})
    plain = key.removeprefix("train.").removeprefix("head.")
    searched = table.setdefault("search", {})
    for name in (key, plain, f"train.{plain}", f"head.{plain}"):
        _drop(searched, name)
        if isinstance(table.get("choose"), dict):
            _drop(table["choose"], name)
    if is_range(value):
        searched[key] = value
        return
    table["train"] = merged(table.get("train", {}), recipe)
    table["keywords"] = merged(table.get("keywords", {}), keywords)


def _drop(table: dict[str, Any], key: str) -> None:
    """Removes a range, whether it stands under its dotted key or in tables in tables."""
    first, _, rest = key.partition(".")
    table.pop(key, None)
    if rest and isinstance(table.get(first), dict):
        _drop(table[first], rest)
        if not table[first]:
            del table[first]


def _set_row(table: dict[str, Any], key: str, value: Any) -> None:
    rows = [row for row in table.get("rows", []) if isinstance(row, dict)]
    names = {str(row.get("name", row.get("head"))): row for row in rows}
    plain = key.removeprefix("train.")
    if plain in TRAIN_KEYS:
        table.setdefault("train", {})[plain] = value
        for row in rows:
            if isinstance(row.get("train"), dict):
                row["train"].pop(plain, None)
        return
    first, _, rest = key.partition(".")
    if not (first in names and rest):
        keys = [name for name, (kinds, _, _) in KEYS.items() if table.get("kind") in kinds]
        raise unknown("setting", key, [*keys, *TRAIN_KEYS, *(f"{name}.KEY" for name in names)])
    row = names[first]
    inner = {key: row[key] for key in ("head", "train", "keywords", "search", "choose") if key in row}
    _set_search(inner, rest, value)
    row.update(inner)

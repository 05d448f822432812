"""The parts of a study file that say what is trained: its rows, or the head that is searched and its baseline.

All that is wrong is added to a list, so that it can be told at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from lab.errors import LabError, unknown
from lab.heads import ANY, HEADS, head_class, head_keywords
from lab.runs import own_code
from lab.studies.cached import takes_effect_after
from lab.studies.keys import CLASSIC, TRAIN_KEYS
from lab.studies.setups import Setup
from lab.studies.space import Range, Value, is_range, read_range, size
from lab.training.recipe import Recipe, divide


def own_code_of(table: Mapping[str, Any]) -> Iterator[str]:
    """All in a study file that could name a class outside the lab: heads, and any ``x:y`` that a keyword may be."""
    rows, baseline = table.get("rows"), table.get("baseline")
    if isinstance(baseline, str) and table.get("kind", "search") == "search":  # elsewhere it is the name of a row
        baseline = {"head": baseline}
    for part in (table, baseline, *(rows if isinstance(rows, list) else [])):
        if isinstance(part, dict):
            keywords = {key: part.get(key) for key in ("keywords", "search", "choose")}
            yield from own_code(str(part.get("head")), keywords)


def searched(table: dict[str, Any], shared: dict[str, Any], wrong: list[str]) -> list[Setup]:
    """Those of a search: the baseline, and the head that is searched."""
    head = str(table.get("head"))
    setup = _setup(head, head, {}, shared, table, wrong, "")
    given = table.get("baseline", "mean" if head != "mean" else "topk")
    if isinstance(given, str):
        given = {"head": given}
    if not isinstance(given, dict):
        wrong.append(f"'baseline' must be a head's name or a table, got {given!r}")
        return []
    row = {key: value for key, value in given.items() if key != "follow"}
    base = _row("baseline", {"name": str(given.get("head")), **row}, shared, wrong)
    if setup is None or base is None:
        return []
    same = len({_as_in_file_names(each.name) for each in (base, setup)}) == 1
    return [replace(base, name=f"{base.name} (baseline)") if same else base, setup]


def rows(table: dict[str, Any], shared: dict[str, Any], wrong: list[str]) -> list[Setup]:
    """Those of a grid or a sweep."""
    given = table.get("rows")
    if not (isinstance(given, list) and given and all(isinstance(row, dict) for row in given)):
        wrong.append(f"[[rows]] must be one table or more, got {given!r}")
        return []
    found = [row for i, each in enumerate(given) if (row := _row(f"rows {i + 1}", each, shared, wrong)) is not None]
    names = [_as_in_file_names(row.name) for row in found]
    wrong.extend(f"two rows are called '{name}': give each its own name" for name in {*names} if names.count(name) > 1)
    wrong.extend(
        f"row '{row.name}' must have ranges that can be tried one by one: int, choice, or a step"
        for row in found
        if row.search and size(row.search) is None
    )
    return found


def _as_in_file_names(name: str) -> str:
    """Rows whose names are the same in this have one place for their runs."""
    return re.sub(r"\W", "-", name)


def _row(where: str, given: dict[str, Any], shared: dict[str, Any], wrong: list[str]) -> Setup | None:
    known = ("name", "head", "train", "keywords", "search", "choose")
    wrong.extend(str(unknown(f"key of [{where}]", key, known)) for key in given if key not in known)
    head = str(given.get("head"))
    own = read_table(f"{where}.train", given.get("train", {}), TRAIN_KEYS, wrong)
    name = str(given.get("name", head))
    return _setup(name, head, own, shared, given, wrong, f"{where}.")


def _setup(
    name: str,
    head: str,
    own: dict[str, Any],
    shared: dict[str, Any],
    given: Mapping[str, Any],
    wrong: list[str],
    where: str,
) -> Setup | None:
    if "head" not in given:
        wrong.append(f"'{where}head' is missing: one of {', '.join([*HEADS, *CLASSIC])}, or module:Class")
        return None
    head = CLASSIC.get(head, head)
    try:
        known = head_keywords(head_class(head))
    except LabError as error:
        wrong.append(str(error if ":" in head else unknown("head", head, [*HEADS, *CLASSIC])))
        return None
    if not re.search(r"\w", name):
        wrong.append(f"a row's name must have letters or digits, got {name!r}")
    keywords = read_table(f"{where}keywords", given.get("keywords", {}), known, wrong)
    search = given.get("search", {})
    if not isinstance(search, dict):
        wrong.append(f"[{where}search] must be a table, got {search!r}")
        return None
    space: dict[str, Range] = {}
    for key, value in _flattened(search):
        wrong.extend(_unsearchable(head, key))
        try:
            space[key] = read_range(key, value)
            _ends(key, space[key], wrong)
        except LabError as error:
            wrong.append(str(error))
    setup = Setup(name, head, shared | own, dict(keywords), space)
    return replace(setup, choose=_choose(setup, given.get("choose", {}), f"{where}choose", wrong))


def _choose(setup: Setup, table: Any, where: str, wrong: list[str]) -> dict[str, tuple[Value, ...]]:
    """Values of keywords among which a trained head takes the best on validation."""
    if not isinstance(table, dict):
        wrong.append(f"[{where}] must be a table, got {table!r}")
        return {}
    found: dict[str, tuple[Value, ...]] = {}
    for key, values in _dotted(table):
        try:
            found[key] = read_range(key, {"choice": values}).choices
            if not takes_effect_after(setup, [key]):
                wrong.append(f"'{key}' of [{where}] changes the training of '{setup.head}': put it into [search]")
        except LabError as error:
            wrong.append(str(error))
        if key in setup.search:
            wrong.append(f"'{key}' stands in both [search] and [{where}]: keep one")
    if found and setup.search and takes_effect_after(setup, setup.search):
        wrong.append(f"[{where}] is for a search that trains: put its keywords into [search]")
    return found


def _flattened(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The ranges of a table by dotted keys: TOML reads ``video_keywords.dropout = ...`` as tables in tables."""
    for key, value in table.items():
        if (
            isinstance(value, dict)
            and value
            and not is_range(value)
            and all(isinstance(v, dict) for v in value.values())
        ):
            yield from _flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _dotted(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _unsearchable(head: str, key: str) -> Iterator[str]:
    try:
        recipe, _ = divide(head, {key: 0})
        if "seed" in recipe:
            yield "'seed' cannot be searched: a lucky seed is no setting"
    except LabError as error:
        yield str(error)


def _ends(key: str, space: Range, wrong: list[str]) -> None:
    if key.removeprefix("train.") in TRAIN_KEYS:
        for end in space.ends():
            _values({key.removeprefix("train."): end}, wrong)


def read_table(what: str, value: Any, known: Iterable[str], wrong: list[str]) -> dict[str, Any]:
    """A table of a study file; empty where it is none."""
    if not isinstance(value, dict):
        wrong.append(f"[{what}] must be a table, got {value!r}")
        return {}
    names = list(known)
    if names != ANY:
        wrong.extend(str(unknown(f"key of [{what}]", key, names)) for key in value if key not in names)
    if what.endswith("train"):
        _values(value, wrong)
    return value


def _values(recipe: Mapping[str, Any], wrong: list[str]) -> None:
    """Each value by itself, so that all that are out of range are told."""
    for key, value in recipe.items():
        if key in TRAIN_KEYS:
            try:
                Recipe(**{key: value})
            except LabError as error:
                wrong.append(str(error))

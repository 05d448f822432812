"""Study files: what they may say, read with all mistakes told at once, and overridden by ``--set``.

A file's first comment is a lab-book entry: what is asked, the command, the time it takes, the result reached. Its keys
are those of ``KEYS``; ``[train]`` holds settings of ``lab.recipe.Recipe``, ``[keywords]`` those of the head, and
``[search]`` ranges (``lab.studies.space``) of either. A grid or a sweep has ``[[rows]]``, each with a head of its own.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lab.errors import LabError, unknown
from lab.heads import ANY, HEADS, head_class, head_keywords
from lab.recipe import PRESETS, RECIPE_KEYS, Recipe, divide, parse_settings
from lab.studies.setups import OBJECTIVES, Setup, Study, merged
from lab.studies.space import Range, is_range, read_range, size

STUDIES = Path(__file__).parent.parent.parent / "studies"

KINDS = ("search", "grid", "sweep")
SAMPLERS = ("auto", "tpe", "random", "gp", "each")
PRUNERS = ("median", "hyperband", "none")
SWEEPS = ("diversity",)
#: Settings of the recipe that a file leaves to the study: its own seed, and those after it for the final.
TRAIN_KEYS = tuple(key for key in RECIPE_KEYS if key != "seed")
#: Names of scikit-learn's baselines, and the classes that stand behind them.
CLASSIC = {name.lower(): f"lab.studies.classic:{name}" for name in ("Ridge", "CCA", "PCA")}


# -- reading ---------------------------------------------------------------------------------------------------------


def read_study(name: str, settings: Iterable[str] = ()) -> Study:
    """A study by its name in ``studies/`` or its path, with ``key=value`` settings in place of the file's.

    Raises ``LabError`` that names all that is wrong, each with its key, its rule and the nearest name.
    """
    file = Path(name) if name.endswith(".toml") else STUDIES / f"{name}.toml"
    if not file.is_file():
        raise unknown("study", name, sorted(path.stem for path in STUDIES.glob("*.toml")))
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # also bytes that are not UTF-8
        raise LabError(f"{file} is not valid TOML: {error}") from None
    wrong: list[str] = []
    try:
        override(table, parse_settings(settings))
    except LabError as error:
        wrong.append(str(error))
    study = _study(file.stem, table, wrong)
    if wrong or study is None:
        raise LabError(f"{file}: {'; '.join(dict.fromkeys(wrong))}")
    return study


#: key → (kinds of study that know it, its rule, whether a value keeps it)
def _count(low: int) -> Any:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= low


def _one_of(names: Iterable[str]) -> Any:
    return lambda value: isinstance(value, str) and value in names


def _counts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_count(0)(each) for each in value)


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


KEYS: dict[str, tuple[tuple[str, ...], str, Any]] = {
    "kind": (KINDS, f"one of {', '.join(KINDS)}", _one_of(KINDS)),
    "objective": (KINDS, f"one of {', '.join(OBJECTIVES)}", _one_of(OBJECTIVES)),
    "preset": (KINDS, f"one of {', '.join(PRESETS)}", _one_of(PRESETS)),
    "seeds": (KINDS, "a whole number >= 1", _count(1)),
    "seed": (KINDS, "a whole number >= 0", _count(0)),
    "trials": (("search",), "a whole number >= 1", _count(1)),
    "seconds": (("search",), "a number > 0", _positive),
    "sampler": (("search",), f"one of {', '.join(SAMPLERS)}", _one_of(SAMPLERS)),
    "pruner": (("search",), f"one of {', '.join(PRUNERS)}", _one_of(PRUNERS)),
    "sweep": (("sweep",), f"one of {', '.join(SWEEPS)}", _one_of(SWEEPS)),
    "inserted": (("sweep",), "a list of whole numbers >= 0", _counts),
    "draws": (("sweep",), "a whole number >= 1", _count(1)),
}
#: Keys whose value says what is trained, by kind.
PARTS = {
    "search": ("head", "baseline", "train", "keywords", "search"),
    "grid": ("baseline", "train", "rows"),
    "sweep": ("baseline", "train", "rows"),
}


def _study(name: str, table: dict[str, Any], wrong: list[str]) -> Study | None:
    kind = table.get("kind", "search")
    if kind not in KINDS:
        wrong.append(str(unknown("kind", str(kind), KINDS)))
        return None
    known = [*(key for key, (kinds, _, _) in KEYS.items() if kind in kinds), *PARTS[kind]]
    options: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            wrong.append(str(unknown(f"key of a {kind}", key, known)))
        elif key in KEYS:
            _, rule, keeps = KEYS[key]
            if not keeps(value):
                wrong.append(f"'{key}' must be {rule}, got {value!r}")
            options[key] = tuple(value) if isinstance(value, list) else value
    options.pop("kind", None)
    if kind == "sweep" and "inserted" not in options:
        options["inserted"] = tuple(range(11))
    if kind == "sweep":
        options.setdefault("sweep", SWEEPS[0])
    shared = dict(_table("train", table.get("train", {}), TRAIN_KEYS, wrong))
    rows = _searched(table, shared, wrong) if kind == "search" else _rows(table, shared, wrong)
    baseline = rows[0].name if kind == "search" and rows else table.get("baseline", rows[0].name if rows else "")
    if rows and baseline not in [row.name for row in rows]:
        wrong.append(str(unknown("baseline", str(baseline), [row.name for row in rows])))
    if wrong:
        return None
    return Study(name, kind, tuple(rows), baseline, **options)


def _table(what: str, value: Any, known: Iterable[str], wrong: list[str]) -> dict[str, Any]:
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


def _searched(table: dict[str, Any], shared: dict[str, Any], wrong: list[str]) -> list[Setup]:
    """The baseline and the head that is searched."""
    head = str(table.get("head"))
    setup = _setup(head, head, {}, shared, table.get("keywords", {}), table.get("search", {}), wrong, "")
    given = table.get("baseline", "mean" if head != "mean" else "topk")
    if isinstance(given, str):
        given = {"head": given}
    if not isinstance(given, dict):
        wrong.append(f"'baseline' must be a head's name or a table, got {given!r}")
        return []
    base = _row("baseline", {"name": str(given.get("head")), **given}, shared, wrong)
    if setup is None or base is None:
        return []
    return [replace(base, name=f"{base.name} (baseline)") if base.name == setup.name else base, setup]


def _rows(table: dict[str, Any], shared: dict[str, Any], wrong: list[str]) -> list[Setup]:
    given = table.get("rows")
    if not (isinstance(given, list) and given and all(isinstance(row, dict) for row in given)):
        wrong.append(f"[[rows]] must be one table or more, got {given!r}")
        return []
    rows = [row for i, each in enumerate(given) if (row := _row(f"rows {i + 1}", each, shared, wrong)) is not None]
    names = [row.name for row in rows]
    wrong.extend(f"two rows are called '{name}': give each its own name" for name in {*names} if names.count(name) > 1)
    wrong.extend(
        f"row '{row.name}' must have ranges that can be tried one by one: int, choice, or a step"
        for row in rows
        if row.search and size(row.search) is None
    )
    return rows


def _row(where: str, given: dict[str, Any], shared: dict[str, Any], wrong: list[str]) -> Setup | None:
    known = ("name", "head", "train", "keywords", "search")
    wrong.extend(str(unknown(f"key of [{where}]", key, known)) for key in given if key not in known)
    head = str(given.get("head"))
    own = _table(f"{where}.train", given.get("train", {}), TRAIN_KEYS, wrong)
    name = str(given.get("name", head))
    return _setup(name, head, own, shared, given.get("keywords", {}), given.get("search", {}), wrong, f"{where}.")


def _setup(
    name: str,
    head: str,
    own: dict[str, Any],
    shared: dict[str, Any],
    keywords: Any,
    search: Any,
    wrong: list[str],
    where: str,
) -> Setup | None:
    head = CLASSIC.get(head, head)
    try:
        known = head_keywords(head_class(head))
    except LabError:
        wrong.append(str(unknown("head", head, [*HEADS, *CLASSIC])))
        return None
    if not re.search(r"\w", name):
        wrong.append(f"a row's name must have letters or digits, got {name!r}")
    keywords = _table(f"{where}keywords", keywords, known, wrong)
    if not isinstance(search, dict):
        wrong.append(f"[{where}search] must be a table, got {search!r}")
        return None
    space: dict[str, Range] = {}
    for key, value in flattened(search):
        wrong.extend(_unsearchable(head, key))
        try:
            space[key] = read_range(key, value)
            _ends(key, space[key], wrong)
        except LabError as error:
            wrong.append(str(error))
    return Setup(name, head, shared | own, dict(keywords), space)


def flattened(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The ranges of a table by dotted keys: TOML reads ``video_keywords.dropout = ...`` as tables in tables."""
    for key, value in table.items():
        if (
            isinstance(value, dict)
            and value
            and not is_range(value)
            and all(isinstance(v, dict) for v in value.values())
        ):
            yield from flattened(value, f"{prefix}{key}.")
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


# -- --set -----------------------------------------------------------------------------------------------------------


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
    inner = {key: row[key] for key in ("head", "train", "keywords", "search") if key in row}
    _set_search(inner, rest, value)
    row.update(inner)

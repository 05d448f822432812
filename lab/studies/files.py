"""Study files, read with all their mistakes told at once.

A file's first comment is a lab-book entry: what is asked, the command, the time it takes, the result reached. Its keys
are those of ``lab.studies.keys``; ``[train]`` holds settings of ``lab.training.recipe.Recipe``, ``[keywords]`` those of
the head, and ``[search]`` ranges (``lab.studies.space``) of either. A grid or a sweep has ``[[rows]]``, each with its
head.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from lab.errors import LabError, unknown
from lab.runs import UntrustedError
from lab.studies import parts
from lab.studies.keys import CLASSIC, KEYS, KINDS, PARTS, SWEEPS, TRAIN_KEYS
from lab.studies.setups import Study
from lab.studies.space import is_range
from lab.training.recipe import divide, merged, parse_settings

STUDIES = Path(__file__).parent.parent.parent / "studies"


def read_study(name: str, settings: Iterable[str] = (), trust: Collection[str] = ()) -> Study:
    """A study by its name in ``studies/`` or its path, with ``key=value`` settings in place of the file's.

    Raises ``LabError`` that names all that is wrong, each with its key, its rule and the nearest name, and
    ``UntrustedError`` where the file names a class outside the lab that is not in ``trust``: nothing of it is run.
    """
    file = Path(name) if name.endswith(".toml") else STUDIES / f"{name}.toml"
    if not file.is_file():
        raise unknown("study", name, sorted(path.stem for path in STUDIES.glob("*.toml")))
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8-sig"))  # editors leave a byte order mark
        repr(table)  # what is nested too deeply is met here, and not behind in a message
    except (ValueError, RecursionError) as error:  # also bytes that are not UTF-8
        raise LabError(f"{file} is not valid TOML: {error}") from None
    for own in parts.own_code_of(table):
        if own not in trust:
            raise UntrustedError(file, own)
    wrong: list[str] = []
    try:
        _override(table, parse_settings(settings))
    except LabError as error:
        wrong.append(str(error))
    study = _study(file.stem, table, wrong)
    if wrong or study is None:
        raise LabError(f"{file}: {'; '.join(dict.fromkeys(wrong))}")
    return study


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
    options |= _follow(table.get("baseline"), wrong)
    if kind == "sweep" and "inserted" not in options:
        options["inserted"] = tuple(range(11))
    if kind == "sweep":
        options.setdefault("sweep", SWEEPS[0])
    shared = dict(parts.read_table("train", table.get("train", {}), TRAIN_KEYS, wrong))
    rows = parts.searched(table, shared, wrong) if kind == "search" else parts.rows(table, shared, wrong)
    baseline = rows[0].name if kind == "search" and rows else table.get("baseline", rows[0].name if rows else "")
    if rows and baseline not in [row.name for row in rows]:
        wrong.append(str(unknown("baseline", str(baseline), [row.name for row in rows])))
    if wrong:
        return None
    return Study(name, kind, tuple(rows), baseline, **options)


def _follow(baseline: Any, wrong: list[str]) -> dict[str, tuple[str, ...]]:
    """The settings of the training that a search's baseline takes from the best trial."""
    given = baseline.get("follow", []) if isinstance(baseline, dict) else []
    if not isinstance(given, list):
        wrong.append(f"'follow' must be a list of settings of the training, got {given!r}")
        return {}
    wrong.extend(str(unknown("setting to follow", str(key), TRAIN_KEYS)) for key in given if key not in TRAIN_KEYS)
    return {"follow": tuple(map(str, given))}


# -- settings in place of a file's -----------------------------------------------------------------------------------


def _override(table: dict[str, Any], settings: Mapping[str, Any]) -> None:
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

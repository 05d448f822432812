"""Study files, read with all their mistakes told at once.

A file's first comment is a lab-book entry: what is asked, the command, the time it takes, the result reached. Its keys
are ``kind`` and fields of ``lab.studies.setups.Study``; ``[train]`` holds settings of ``lab.training.recipe.Recipe``,
``[keywords]`` those of the head, and ``[search]`` ranges (``lab.studies.space``) of either. A grid or a sweep has
``[[rows]]``, each with its head.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from lab.errors import LabError, unknown
from lab.runs import UntrustedError
from lab.studies import parts
from lab.studies.parts import CLASSIC, TRAIN_KEYS, Wrong
from lab.studies.setups import KINDS, Study, keys_of
from lab.studies.space import is_range
from lab.training.recipe import divide, merged, parse_settings

STUDIES = Path(__file__).parent.parent.parent / "studies"
#: Keys whose value says what is trained, by kind.
PARTS = {
    "search": ("head", "baseline", "train", "keywords", "search", "choose"),
    "grid": ("baseline", "train", "rows"),
    "sweep": ("baseline", "train", "rows"),
}


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
    wrong = Wrong()
    with wrong.told():
        for key, value in parse_settings(settings).items():
            with wrong.told():
                _override(table, key, value)
    study = _study(file.stem, table, wrong)
    if wrong or study is None:
        raise LabError(f"{file}: {'; '.join(dict.fromkeys(wrong))}")
    return study


def _study(name: str, table: dict[str, Any], wrong: Wrong) -> Study | None:
    kind = table.get("kind", "search")
    if kind not in KINDS:
        wrong.append(str(unknown("kind", str(kind), KINDS)))
        return None
    keys = keys_of(kind)
    wrong.names(f"key of a {kind}", table, ["kind", *keys, *PARTS[kind]])
    options = {key: value for key, value in table.items() if key in keys}
    for key, value in options.items():
        if not keys[key]["keeps"](value):
            wrong.append(f"'{key}' must be {keys[key]['rule']}, got {value!r}")
    shared = parts.read_table("train", table.get("train", {}), TRAIN_KEYS, wrong)
    rows = parts.searched(table, shared, wrong) if kind == "search" else parts.rows(table, shared, wrong)
    names = [row.name for row in rows] or [""]
    baseline = names[0] if kind == "search" else table.get("baseline", names[0])
    if rows:
        wrong.names("baseline", [baseline], names)
    followed = parts.follow(table, wrong) if kind == "search" else ()
    if wrong:
        return None
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    return Study(name, kind, tuple(rows), baseline, follow=followed, **options)


# -- settings in place of a file's -----------------------------------------------------------------------------------


def _override(table: dict[str, Any], key: str, value: Any) -> None:
    """Puts a setting into a study file's table. One that is a range is searched, any other value is fixed.

    In a grid, settings of the training hold for all rows, and ``ROW.KEY`` for one. Raises ``LabError`` for what no part
    of the file knows.
    """
    kind = table.get("kind", "search")
    if key in keys_of(kind):
        table[key] = value
    elif kind == "search":
        _set_search(table, key, value)
    else:
        _set_row(table, key, value)


def _set_search(table: dict[str, Any], key: str, value: Any) -> None:
    head = CLASSIC.get(str(table.get("head")), str(table.get("head")))
    recipe, keywords = divide(head, {key: value})
    held = {name: table.setdefault(name, {}) for name in ("train", "keywords", "search", "choose")}
    if not all(isinstance(part, dict) for part in held.values()):
        return  # which is told when the table is read
    plain = key.removeprefix("train.").removeprefix("head.")
    for name in (key, plain, f"train.{plain}", f"head.{plain}"):
        _drop(held["search"], name)
        _drop(held["choose"], name)
    if is_range(value):
        held["search"][key] = value
    else:
        table["train"], table["keywords"] = merged(held["train"], recipe), merged(held["keywords"], keywords)


def _drop(table: dict[str, Any], key: str) -> None:
    """Removes a range, whether it stands under its dotted key or in tables in tables."""
    first, _, rest = key.partition(".")
    table.pop(key, None)
    if rest and isinstance(table.get(first), dict):
        _drop(table[first], rest)
        if not table[first]:
            del table[first]


def _set_row(table: dict[str, Any], key: str, value: Any) -> None:
    given = table.get("rows")
    rows = [row for row in given if isinstance(row, dict)] if isinstance(given, list) else []
    names = {str(row.get("name", row.get("head"))): row for row in rows}
    plain = key.removeprefix("train.")
    first, _, rest = key.partition(".")
    if plain in TRAIN_KEYS:
        for row in rows:
            if isinstance(row.get("train"), dict):
                row["train"].pop(plain, None)
        if isinstance(table.setdefault("train", {}), dict):
            table["train"][plain] = value  # in its place, if it has one: a result is found again by the settings' order
    elif first in names and rest:
        _set_search(names[first], rest, value)
    else:
        raise unknown("setting", key, [*keys_of(table["kind"]), *TRAIN_KEYS, *(f"{name}.KEY" for name in names)])

"""The parts of a study file that say what is trained: its rows, or the head that is searched and its baseline.

All that is wrong is added to a list, so that it can be told at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from lab.errors import LabError, unknown
from lab.heads import ANY, HEADS, head_class, head_keywords
from lab.runs import own_code
from lab.studies.cached import takes_effect_after
from lab.studies.setups import Setup
from lab.studies.space import MANY, Range, Value, is_range, read_range, size
from lab.training.recipe import RECIPE_KEYS, Recipe, divide

#: Settings of the recipe that a file leaves to the study: its own seed, and those after it for the final.
TRAIN_KEYS = tuple(key for key in RECIPE_KEYS if key != "seed")
#: Names of scikit-learn's baselines, and the classes that stand behind them.
CLASSIC = {name.lower(): f"lab.studies.classic:{name}" for name in ("Ridge", "CCA", "PCA")}
#: Keywords of a head that are those of a head in it.
INNER = ("video_keywords", "audio_keywords")


class Wrong(list[str]):
    """What is wrong with a study file."""

    @contextmanager
    def told(self) -> Iterator[None]:
        """Keeps a ``LabError`` for later."""
        try:
            yield
        except LabError as error:
            self.append(str(error))

    def names(self, what: str, given: Iterable[Any], known: Iterable[str]) -> None:
        """Keeps those that are unknown, each with the nearest that is known."""
        known = list(known)
        self.extend(str(unknown(what, str(name), known)) for name in given if name not in known)


def own_code_of(table: Mapping[str, Any]) -> Iterator[str]:
    """All in a study file that could name a class outside the lab: heads, and any ``x:y`` that a keyword may be."""
    rows, baseline = table.get("rows"), table.get("baseline")
    if isinstance(baseline, str) and table.get("kind", "search") == "search":  # elsewhere it is the name of a row
        baseline = {"head": baseline}
    for part in (table, baseline, *(rows if isinstance(rows, list) else [])):
        if isinstance(part, dict):
            keywords = {key: part.get(key) for key in ("keywords", "search", "choose")}
            yield from own_code(str(part.get("head")), keywords)


def searched(table: Mapping[str, Any], shared: Mapping[str, Any], wrong: Wrong) -> list[Setup]:
    """Those of a search: the baseline, and the head that is searched."""
    setup = _setup("", table, shared, wrong)
    given = table.get("baseline", "mean" if table.get("head") != "mean" else "topk")
    if isinstance(given, str):
        given = {"head": given}
    if not isinstance(given, dict):
        wrong.append(f"'baseline' must be a head's name or a table, got {given!r}")
        return []
    base = _row("baseline", {key: value for key, value in given.items() if key != "follow"}, shared, wrong)
    if setup is None or base is None:
        return []
    same = _as_in_file_names(base) == _as_in_file_names(setup)
    return [replace(base, name=f"{base.name} (baseline)") if same else base, setup]


def follow(table: Mapping[str, Any], wrong: Wrong) -> tuple[str, ...]:
    """The settings of the training that a search's baseline takes from the best trial."""
    baseline = table.get("baseline")
    given = baseline.get("follow", []) if isinstance(baseline, dict) else []
    if not isinstance(given, list):
        wrong.append(f"'follow' must be a list of settings of the training, got {given!r}")
        return ()
    wrong.names("setting to follow", given, TRAIN_KEYS)
    return tuple(map(str, given))


def rows(table: Mapping[str, Any], shared: Mapping[str, Any], wrong: Wrong) -> list[Setup]:
    """Those of a grid or a sweep."""
    given = table.get("rows")
    if not (isinstance(given, list) and given and all(isinstance(row, dict) for row in given)):
        wrong.append(f"[[rows]] must be one table or more, got {given!r}")
        return []
    found = [row for i, each in enumerate(given) if (row := _row(f"rows {i + 1}", each, shared, wrong)) is not None]
    names = [_as_in_file_names(row) for row in found]
    wrong.extend(f"two rows are called '{name}': give each its own name" for name in {*names} if names.count(name) > 1)
    wrong.extend(
        f"row '{row.name}' must have ranges that can be tried one by one: int, choice, or a step"
        for row in found
        if row.search and size(row.search) is None
    )
    return found


def _as_in_file_names(row: Setup) -> str:
    """Rows whose names are the same in this have one place for their runs."""
    return re.sub(r"\W", "-", row.name)


def _row(where: str, given: Mapping[str, Any], shared: Mapping[str, Any], wrong: Wrong) -> Setup | None:
    wrong.names(f"key of [{where}]", given, ("name", "head", "train", "keywords", "search", "choose"))
    own = read_table(f"{where}.train", given.get("train", {}), TRAIN_KEYS, wrong)
    return _setup(f"{where}.", given, {**shared, **own}, wrong)


def _setup(where: str, given: Mapping[str, Any], recipe: Mapping[str, Any], wrong: Wrong) -> Setup | None:
    if "head" not in given:
        wrong.append(f"'{where}head' is missing: one of {', '.join([*HEADS, *CLASSIC])}, or module:Class")
        return None
    asked = str(given["head"])
    name, head = str(given.get("name", asked)), CLASSIC.get(asked, asked)
    try:
        known = head_keywords(head_class(head))
    except LabError as error:
        wrong.append(str(error if ":" in head else unknown("head", head, [*HEADS, *CLASSIC])))
        return None
    if not re.search(r"\w", name):
        wrong.append(f"a row's name must have letters or digits, got {name!r}")
    keywords = dict(read_table(f"{where}keywords", given.get("keywords", {}), known, wrong))
    keywords |= {key: _table(f"{where}keywords.{key}", keywords[key], wrong) for key in INNER if key in keywords}
    search = {}
    for key, value in _dotted(_table(f"{where}search", given.get("search", {}), wrong), _is_meant_as_range):
        with wrong.told():
            if "seed" in divide(head, {key: 0})[0]:
                wrong.append("'seed' cannot be searched: a lucky seed is no setting")
        with wrong.told():
            search[key] = read_range(key, value)
            plain = key.removeprefix("train.")
            if plain in TRAIN_KEYS:
                for end in search[key].ends():
                    _values({plain: end}, wrong)
    setup = Setup(name, head, dict(recipe), keywords, search)
    return replace(setup, choose=_choose(setup, given.get("choose", {}), f"{where}choose", wrong))


def _choose(setup: Setup, given: Any, where: str, wrong: Wrong) -> dict[str, tuple[Value, ...]]:
    """Values of keywords among which a trained head takes the best on validation."""
    found: dict[str, Range] = {}
    for key, values in _dotted(_table(where, given, wrong), lambda _: False):
        with wrong.told():
            found[key] = read_range(key, {"choice": values})
            if not takes_effect_after(setup, [key]):
                wrong.append(f"'{key}' of [{where}] changes the training of '{setup.head}': put it into [search]")
        if key in setup.search:
            wrong.append(f"'{key}' stands in both [search] and [{where}]: keep one")
    if found and setup.search and takes_effect_after(setup, setup.search):
        wrong.append(f"[{where}] is for a search that trains: put its keywords into [search]")
    if size(found) is None:
        wrong.append(f"[{where}] must span at most {MANY} points, each of which is scored")
    return {key: each.choices for key, each in found.items()}


def _is_meant_as_range(table: dict[str, Any]) -> bool:
    """Also one with a misspelt key, which is then told."""
    return is_range(table) or not table or not all(isinstance(each, dict) for each in table.values())


def _dotted(
    table: Mapping[str, Any], whole: Callable[[dict[str, Any]], bool], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """A table's values by dotted keys: TOML reads ``video_keywords.dropout = ...`` as tables in tables. Which of these
    are values themselves ``whole`` says.
    """
    for key, value in table.items():
        if isinstance(value, dict) and not whole(value):
            yield from _dotted(value, whole, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _table(what: str, value: Any, wrong: Wrong) -> dict[str, Any]:
    """A table of a study file; empty where it is none."""
    if isinstance(value, dict):
        return value
    wrong.append(f"[{what}] must be a table, got {value!r}")
    return {}


def read_table(what: str, value: Any, known: Iterable[str], wrong: Wrong) -> dict[str, Any]:
    """A table of a study file with its keys, and the values of settings of the training, looked at."""
    table, names = _table(what, value, wrong), list(known)
    if names != ANY:
        wrong.names(f"key of [{what}]", table, names)
    if what.endswith("train"):
        _values(table, wrong)
    return table


def _values(recipe: Mapping[str, Any], wrong: Wrong) -> None:
    """Each value by itself, so that all that are out of range are told."""
    for key, value in recipe.items():
        if key in TRAIN_KEYS:
            with wrong.told():
                Recipe(**{key: value})

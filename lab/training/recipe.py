"""How a head is trained, and with which settings: ranges, presets, and ``key=value`` as a user types it."""

from __future__ import annotations

import inspect
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from lab import cli
from lab.errors import LabError, unknown
from lab.heads import ANY, HEADS, head_class, head_keywords, head_settings
from lab.training.loss import TWINS

#: What the presets are for.
ABOUT_PRESETS = {
    "frozen": "for features that do not change, where a head needs larger steps: chosen on the validation split of a "
    "development world of the toy data set",
    "paper": "X-Pool's and MGFI's, who train CLIP itself along with the head",
}
#: preset → protocol ("": any) → settings that a head's data call for. All else is the same for both papers.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "frozen": {
        "": {"lr": 1e-4, "audio_lr": 1e-2, "scale_lr": 1e-4, "dropout": 0.3},
    },
    "paper": {
        "": {"lr": 1e-5, "audio_lr": 5e-5, "scale_lr": 1e-6, "dropout": 0.3, "twins": "negatives"},
        "1k-A-9k": {"lr": 3e-5},
        "1k-A-7k": {"dropout": 0.4},
        "msvd": {"dropout": 0.4},
    },
}
DEFAULT = "frozen"
_RATES = PRESETS[DEFAULT][""]

PRECISIONS = ("auto", "fp32", "bf16")
AUDIO_LEVELS = ("clip", "segments")
#: Counts and numbers beyond these are typing errors, or meant to break what computes with them.
MANY, _LARGE = 2**31 - 1, 1e300


def _number(default: float, low: float, high: float, about: str) -> Any:
    return field(default=default, metadata={"low": low, "high": high, "about": about})


def _word(default: str, known: tuple[str, ...], about: str) -> Any:
    return field(default=default, metadata={"known": known, "about": about})


@dataclass(frozen=True)
class Recipe:
    """How to train; what a setting is stands beside it. Raises ``LabError`` for a value that is out of its range."""

    epochs: int = _number(5, 1, MANY, "times through all captions; with an audio side those of the first stage")
    batch: int = _number(32, 2, MANY, "captions in a step, each with its video: one alone would have no negative")
    lr: float = _number(_RATES["lr"], 0, math.inf, "rate of AdamW at the end of the warm-up")
    audio_epochs: int = _number(5, 0, MANY, "times through all captions in the second stage, the audio side's")
    audio_lr: float = _number(_RATES["audio_lr"], 0, math.inf, "rate of the second stage")
    scale_lr: float = _number(_RATES["scale_lr"], 0, math.inf, "rate of the logit scale, which is learned, too")
    weight_decay: float = _number(0.2, 0, math.inf, "AdamW's, of all but the logit scale")
    warmup: float = _number(0.1, 0, 1, "share of all steps in which the rate rises; after it, a cosine to zero")
    # Clipped to zero, nothing would be learned.
    clip_norm: float = _number(1.0, 1e-6, math.inf, "the gradient's norm is cut to this; inf cuts nothing")
    logit_scale: float = _number(100.0, 1, math.inf, "what cosines are multiplied by at first: the backbone's own")
    twins: str = _word("ignored", TWINS, "what a batch's other captions of the same video are to it")
    audio_level: str = _word("clip", AUDIO_LEVELS, "what an audio side hears: one vector a clip, or its segments")
    precision: str = _word("auto", PRECISIONS, "of products in training; auto is bf16 on a GPU and fp32 on a CPU")
    seed: int = _number(0, 0, 2**63 - 1, "decides first weights, order and dropout")

    def __post_init__(self) -> None:
        for each in fields(self):
            name, value, whole = each.name, getattr(self, each.name), isinstance(each.default, int)
            if "known" in each.metadata:
                if value not in each.metadata["known"]:
                    raise unknown(name, str(value), each.metadata["known"])
                continue
            low, high = each.metadata["low"], each.metadata["high"]
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                raise LabError(f"{name} must be a {'whole ' if whole else ''}number, got {name}={value!r}")
            if not (low <= value <= high and (whole or name == "clip_norm" or value < _LARGE)):
                most = "" if high == math.inf or value < low else f" <= {high}"
                raise LabError(f"{low} <= {name}{most} must hold, got {name}={value}")


RECIPE_KEYS = tuple(field.name for field in fields(Recipe))


def plan(
    head: str,
    *,
    preset: str = DEFAULT,
    protocol: str = "",
    logit_scale: float | None = None,
    recipe: Mapping[str, Any] | None = None,
    keywords: Mapping[str, Any] | None = None,
) -> tuple[Recipe, dict[str, Any]]:
    """The recipe and the head's keywords: those of the preset, with what is given in their place.

    ``logit_scale`` is the backbone's own. A preset's dropout goes to a head that has such a keyword; where a head is
    built around another (``video``, ``video_keywords``), to that one. Raises ``LabError`` for a preset or a value that
    there is not.
    """
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    settings: dict[str, Any] = PRESETS[preset][""] | PRESETS[preset].get(protocol, {})
    dropout = settings.pop("dropout")
    if logit_scale is not None:
        settings["logit_scale"] = logit_scale
    return Recipe(**settings | dict(recipe or {})), _with_dropout(head, dict(keywords or {}), dropout)


def _with_dropout(head: str, keywords: dict[str, Any], dropout: float) -> dict[str, Any]:
    known = head_keywords(head_class(head))
    if "dropout" in known:
        return {"dropout": dropout, **keywords}
    inner = keywords.get("video", _default(head, "video")) if "video_keywords" in known else None
    given = keywords.get("video_keywords") or {}
    if isinstance(inner, str) and isinstance(given, dict):
        given = _with_dropout(inner, given, dropout)
        return keywords | {"video_keywords": given} if given else keywords
    return keywords


def _default(head: str, keyword: str) -> Any:
    return inspect.signature(head_class(head).__init__).parameters[keyword].default


# -- what there is to set --------------------------------------------------------------------------------------------


def all_settings() -> str:
    """What ``--set`` takes: the keys of the recipe, and those of each head."""
    heads = [
        [name, ", ".join(f"{key}={_as_typed(default)}" for key, (default, _) in head_settings(head).items())]
        for name, head in HEADS.items()
    ]
    return f"{_recipe_table(Recipe())}\n\n{cli.table(['head', 'settings of its own'], heads)}"


def settings_of(head: str, recipe: Recipe, keywords: Mapping[str, Any]) -> str:
    """What can be set for a head, and what it is where nothing is: what ``plan`` gave."""
    return f"{_recipe_table(recipe)}\n\n{_head_table(head, keywords)}"


def _recipe_table(recipe: Recipe) -> str:
    rows = [[each.name, _as_typed(getattr(recipe, each.name)), _range(each), each.metadata["about"]]
            for each in fields(Recipe)]  # fmt: skip
    return cli.table(["setting", "default", "range", "what it is"], rows)


def _head_table(head: str, keywords: Mapping[str, Any]) -> str:
    known = head_settings(head_class(head))
    if head_keywords(head_class(head)) == ANY:
        return f"{head} takes whatever it is given"
    rows = [[key, _as_typed(keywords.get(key, default)), about] for key, (default, about) in known.items()]
    return cli.table([f"of {head}", "default", "what it is"], rows) if rows else f"{head} has nothing to set"


def _range(each: Any) -> str:
    if "known" in each.metadata:
        return ", ".join(each.metadata["known"])
    low, high = each.metadata["low"], each.metadata["high"]
    return f"{low:g} and more" if high >= MANY else f"{low:g} to {high:g}"


def _as_typed(value: Any) -> str:
    """A value as ``--set`` takes it; '-' for what cannot be typed, as None."""
    if isinstance(value, dict):
        return ", ".join(f".{key}={_as_typed(inner)}" for key, inner in value.items())
    return "-" if value is None else str(value).lower() if isinstance(value, bool) else f"{value}"


# -- key=value -------------------------------------------------------------------------------------------------------


def parse_settings(pairs: Iterable[str]) -> dict[str, Any]:
    """``key=value`` strings as a dict. A value is TOML (``0.1``, ``true``, ``[1, 2]``); what is not is a plain word.

    Raises ``LabError`` for what is no pair, and for a key that is given twice.

    >>> parse_settings(["lr=1e-4", "video=mgfi", "video_keywords.dropout=0.2", "normalize=false"])
    {'lr': 0.0001, 'video': 'mgfi', 'video_keywords.dropout': 0.2, 'normalize': False}
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not (key and equals and value):
            raise LabError(f"--set takes key=value, got '{pair}': for example --set lr=1e-4")
        if key in found:
            raise LabError(f"--set {key} is given twice, as {found[key]!r} and '{value}': keep one")
        found[key] = _value(value)
    return found


def _value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return parsed["value"] if parsed.keys() == {"value"} else text  # not what a line break smuggled in beside it


def divide(head: str, settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings as (those of the recipe, keywords of the head). ``train.KEY`` and ``head.KEY`` say which of the two.

    A dotted key (``video_keywords.dropout``) is one entry of a keyword that is a table. Raises ``LabError`` for a key
    that neither has, with the nearest name, and for one that both have.
    """
    options = {"train": RECIPE_KEYS, "head": head_keywords(head_class(head))}
    divided: dict[str, dict[str, Any]] = {"train": {}, "head": {}}
    for key, value in settings.items():
        first, _, rest = key.partition(".")
        asked = [first] if rest and first in options else list(options)
        name, _, entry = (rest if len(asked) == 1 else key).partition(".")
        places = [place for place in asked if name in options[place]]
        if not places and options["head"] == ANY and "head" in asked:
            places = ["head"]
        if len(places) > 1:
            raise LabError(f"both the recipe and the head '{head}' have '{key}': write train.{key} or head.{key}")
        if not places or (entry and places == ["train"]):
            raise unknown("setting", name, [known for place in asked for known in options[place]])
        _put(divided[places[0]], name, entry, value)
    return divided["train"], divided["head"]


def _put(target: dict[str, Any], name: str, entry: str, value: Any) -> None:
    table = target.setdefault(name, {} if entry else value)
    if entry and isinstance(table, dict):
        table[entry] = value
    elif entry or table is not value:
        raise LabError(f"'{name}' is given whole and in parts: keep one of the two")


def merged(table: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Two tables as one; a table in both is merged itself, otherwise the other's value counts."""
    both = dict(table)
    for key, value in other.items():
        mine = both.get(key)
        both[key] = merged(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return both

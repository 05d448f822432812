"""How a head is trained, and with which settings: ranges, presets, and ``key=value`` as a user types it."""

from __future__ import annotations

import inspect
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from lab.errors import LabError, unknown
from lab.heads import ANY, head_class, head_keywords
from lab.loss import TWINS

#: preset → protocol ("": any) → settings that a head's data call for. All else is the same for both papers.
#: ``paper``: X-Pool and MGFI, fine-tuned end to end. ``frozen``: for features that do not change, where a head needs
#: larger steps: chosen on the validation split of a development world of the toy data set.
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


@dataclass(frozen=True)
class Recipe:
    """How to train. Raises ``LabError`` for a value that is out of its range.

    ``audio_epochs`` and ``audio_lr`` are for the second stage of a head with an audio side. ``scale_lr`` is the rate of
    the learnable logit scale, which starts at ``logit_scale``, a factor (the backbone's own, 100 for CLIP).
    ``warmup`` is a share of all steps. ``twins``: what becomes of a batch's other captions of a video, see
    ``lab.loss.contrastive_loss``. ``audio_level``: what a head with an audio side hears, one vector a clip or
    ``segments``. ``precision``: ``auto`` is bf16 on a GPU and fp32 on a CPU.
    """

    epochs: int = 5
    batch: int = 32
    lr: float = _RATES["lr"]
    audio_epochs: int = 5
    audio_lr: float = _RATES["audio_lr"]
    scale_lr: float = _RATES["scale_lr"]
    weight_decay: float = 0.2
    warmup: float = 0.1
    clip_norm: float = 1.0
    logit_scale: float = 100.0
    twins: str = "ignored"
    audio_level: str = "clip"
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("epochs", 1, math.inf),
            ("batch", 2, math.inf),  # a batch of one has no negative
            ("lr", 0, math.inf),
            ("audio_epochs", 0, math.inf),
            ("audio_lr", 0, math.inf),
            ("scale_lr", 0, math.inf),
            ("weight_decay", 0, math.inf),
            ("warmup", 0, 1),
            ("clip_norm", 1e-6, math.inf),  # clipped to zero, nothing would be learned; inf clips nothing
            ("logit_scale", 1, math.inf),
            ("seed", 0, 2**63 - 1),
        ):
            value, whole = getattr(self, name), isinstance(getattr(Recipe, name), int)
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                raise LabError(f"{name} must be a {'whole ' if whole else ''}number, got {name}={value!r}")
            if not (low <= value <= high and (whole or name == "clip_norm" or math.isfinite(value))):
                raise LabError(
                    f"{low} <= {name}{'' if high == math.inf else f' <= {high}'} must hold, got {name}={value}"
                )
        for name, known in (("twins", TWINS), ("precision", PRECISIONS), ("audio_level", AUDIO_LEVELS)):
            if getattr(self, name) not in known:
                raise unknown(name, str(getattr(self, name)), known)


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
    except ValueError:
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

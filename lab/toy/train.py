"""``python -m lab.toy.train``: both backbones of the toy world from scratch, as the shipped ones were made."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from lab import cli
from lab.errors import LabError, unknown
from lab.toy import train_clip, train_panns

_NETWORKS: dict[str, tuple[Any, Callable[..., dict[str, Any]]]] = {
    "clip": (train_clip.Settings(), train_clip.train),
    "panns": (train_panns.Settings(), train_panns.train),
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = cli.parser(
        "lab.toy.train",
        "Train the toy world's CLIP and PANN from scratch, on scenes and sounds that are in no world. On two cores the "
        "CLIP takes an hour, the PANN a quarter of one.",
        "python -m lab.toy.train clip --into /tmp/weights --set steps=200",
    )
    parser.add_argument("network", nargs="*", help=f"of {', '.join(_NETWORKS)} (default: both)")
    parser.add_argument("--into", type=Path, required=True, help="folder for the weights and the log; made if missing")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting; may be repeated")
    given = parser.parse_args(argv)
    for name in given.network:
        if name not in _NETWORKS:
            raise unknown("network", name, _NETWORKS)
    for name in given.network or _NETWORKS:
        settings, train = _NETWORKS[name]
        log = train(replace(settings, **_changes(settings, given.set)), given.into)
        cli.say(f"{name}: {log['seconds']} s, weights and log in {given.into}")
    return 0


def _changes(settings: Any, texts: Sequence[str]) -> dict[str, Any]:
    """``KEY=VALUE`` texts as settings of the types that they have. Raises ``LabError``."""
    kinds = {field.name: type(getattr(settings, field.name)) for field in fields(settings)}
    changes = {}
    for text in texts:
        key, _, value = text.partition("=")
        if key not in kinds:
            raise unknown("setting", key, kinds)
        try:
            changes[key] = kinds[key](value)
        except ValueError:
            raise LabError(f"{key} must be of type {kinds[key].__name__}, got --set {text}") from None
    return changes


if __name__ == "__main__":
    sys.exit(cli.run(main))

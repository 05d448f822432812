"""The passport of a store: what its features depend on, and nothing else.

A JSON object with a section for each modality that the store holds (``dataset``, ``frames``, ``text``, ``audio``).
Features made under another passport are other features: resuming a pass or using a trained head across two passports
is an error that names the fields which differ. Paths, dates and host names are not in it, so the same work done
elsewhere has the same passport.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from lab.errors import LabError


def fingerprint(passport: Mapping[str, Any]) -> str:
    """SHA-256 of the passport in canonical JSON, in hex."""
    return hashlib.sha256(json.dumps(passport, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """The fields that differ, as ``section.field: stored → wanted``; only sections that both have are compared.

    >>> differences({"frames": {"dim": 512, "rule": "a"}}, {"frames": {"dim": 512, "rule": "b"}, "audio": {}})
    ["frames.rule: 'a' in the store, 'b' wanted"]
    """
    shared = [section for section in wanted if section in stored]
    old = dict(flat({section: stored[section] for section in shared}))
    new = dict(flat({section: wanted[section] for section in shared}))

    def told(side: Mapping[str, Any], key: str) -> str:
        return repr(side[key]) if key in side else "nothing"

    return [
        f"{key}: {told(old, key)} in the store, {told(new, key)} wanted"
        for key in sorted(old.keys() | new.keys())
        if (key in old, old.get(key)) != (key in new, new.get(key))
    ]


def require_same(stored: Mapping[str, Any], wanted: Mapping[str, Any], where: str, remedy: str) -> None:
    """Raises ``LabError`` naming every differing field of the sections that both have."""
    found = differences(stored, wanted)
    if found:
        shown = "; ".join(found[:8]) + (f"; and {len(found) - 8} more" if len(found) > 8 else "")
        raise LabError(f"{where} was made under another passport: {shown}. {remedy}")


def is_random(passport: Mapping[str, Any]) -> bool:
    """Whether any section comes from a network with random weights."""
    return any(key.endswith(".random") and value is True for key, value in flat(passport))


def flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every field with its dotted name, as ``frames.sampling``."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flat(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, _as_json(value)


def _as_json(value: Any) -> Any:
    """Tuples become lists in JSON; a passport that went to disk and back must equal the one that did not."""
    return [_as_json(inner) for inner in value] if isinstance(value, list | tuple) else value

"""Passports: which fields differ, and one fingerprint for one passport."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab.errors import LabError
from lab.store.passport import differences, fingerprint, is_random, require_same

FRAMES = {"model": "ViT-B-32", "image": {"size": 224, "mean": (0.5, 0.25)}, "random": False}


@pytest.mark.parametrize(
    ("stored", "wanted", "found"),
    [
        ({}, {}, []),
        (FRAMES, FRAMES, []),
        (FRAMES, FRAMES | {"model": "RN50"}, ["frames.model: 'ViT-B-32' in the store, 'RN50' wanted"]),
        (
            FRAMES,
            FRAMES | {"image": {"size": 336, "mean": (0.5, 0.25)}},
            ["frames.image.size: 224 in the store, 336 wanted"],
        ),
        ({"a": 1}, {}, ["frames.a: 1 in the store, nothing wanted"]),
        ({}, {"a": None}, ["frames.a: nothing in the store, None wanted"]),
        ({"a": "nothing"}, {}, ["frames.a: 'nothing' in the store, nothing wanted"]),
        (
            {"b": 1, "a": 2},
            {"b": 3, "a": 4},
            ["frames.a: 2 in the store, 4 wanted", "frames.b: 1 in the store, 3 wanted"],
        ),
        (
            {"a": {"b": 1}},
            {"a": 1},
            ["frames.a: nothing in the store, 1 wanted", "frames.a.b: 1 in the store, nothing wanted"],
        ),
        ({"a": (1, (2, 3))}, {"a": [1, [2, 3]]}, []),
        ({"a": [1, 2]}, {"a": (2, 1)}, ["frames.a: [1, 2] in the store, [2, 1] wanted"]),
    ],
)
def test_differing_fields_are_named(stored: dict[str, Any], wanted: dict[str, Any], found: list[str]) -> None:
    assert differences({"frames": stored}, {"frames": wanted}) == found


def test_only_sections_of_both_are_compared() -> None:
    assert differences({"frames": FRAMES, "text": {"a": 1}}, {"frames": FRAMES, "audio": {"a": 2}}) == []


def test_to_disk_and_back_is_the_same_passport() -> None:
    passport = {"frames": FRAMES, "dataset": {"name": "déjà"}}
    back = json.loads(json.dumps(passport))
    assert differences(back, passport) == []
    assert fingerprint(back) == fingerprint(passport)


def test_the_fingerprint_does_not_depend_on_the_order_of_keys() -> None:
    turned = {key: FRAMES[key] for key in reversed(list(FRAMES))}
    assert fingerprint({"frames": turned}) == fingerprint({"frames": FRAMES})
    assert fingerprint({"frames": FRAMES | {"random": True}}) != fingerprint({"frames": FRAMES})
    # sha256 of {"a":{"b":1}}: it is written in canonical JSON, so any tool can check it
    assert fingerprint({"a": {"b": 1}}) == "815ce69073bf37a71afee34156192e1d9921dfc365dc653a02516902c3a5e2e7"


def test_the_error_names_place_fields_and_remedy() -> None:
    require_same({"frames": FRAMES}, {"frames": FRAMES}, "x.zarr", "Mend it")
    with pytest.raises(LabError) as error:
        require_same({"frames": FRAMES}, {"frames": FRAMES | {"random": True}}, "x.zarr", "Mend it")
    assert str(error.value) == (
        "x.zarr was made under another passport: frames.random: False in the store, True wanted. Mend it"
    )


def test_of_many_differing_fields_eight_are_shown() -> None:
    with pytest.raises(LabError) as error:
        require_same({"a": dict.fromkeys("abcdefghijk", 1)}, {"a": dict.fromkeys("abcdefghijk", 2)}, "x", "Mend it")
    assert str(error.value).count("wanted") == 8
    assert "; and 3 more. Mend it" in str(error.value)


@pytest.mark.parametrize(
    ("passport", "random"),
    [
        ({"frames": {"random": True}, "text": {"random": False}}, True),
        ({"frames": {"random": False}, "audio": {"net": {"random": True}}}, True),
        ({"frames": {"random": False}}, False),
        ({"frames": {"random": "true"}}, False),
        ({"frames": {"at_random": True}}, False),
        ({}, False),
    ],
)
def test_random_weights_in_any_section(passport: dict[str, Any], random: bool) -> None:
    assert is_random(passport) is random

"""Recipes, presets, and settings as a user types them."""

from __future__ import annotations

import math
import re
from dataclasses import fields
from typing import Any

import pytest
from torch import nn

from lab import cli
from lab.errors import LabError
from lab.heads import HEADS, head_keywords, head_settings
from lab.train import main as train_main
from lab.training.recipe import ABOUT_PRESETS, PRESETS, RECIPE_KEYS, Recipe, divide, merged, parse_settings, plan


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"epochs": 0}, "1 <= epochs must hold, got epochs=0"),
        ({"batch": 1}, "2 <= batch must hold, got batch=1"),
        ({"batch": 2.0}, "batch must be a whole number, got batch=2.0"),
        ({"lr": -1}, "0 <= lr must hold, got lr=-1"),
        ({"lr": "fast"}, "lr must be a number, got lr='fast'"),
        ({"lr": math.nan}, "0 <= lr must hold, got lr=nan"),
        ({"lr": math.inf}, "0 <= lr must hold, got lr=inf"),
        ({"lr": True}, "lr must be a number, got lr=True"),
        ({"audio_epochs": -1}, "0 <= audio_epochs must hold, got audio_epochs=-1"),
        ({"seed": 2**63}, "0 <= seed <= 9223372036854775807 must hold, got seed=9223372036854775808"),
        ({"seed": -1}, "0 <= seed must hold, got seed=-1"),
        ({"batch": 10**25}, "2 <= batch <= 2147483647 must hold, got batch=10000000000000000000000000"),
        ({"lr": 10**400}, f"0 <= lr must hold, got lr={10**400}"),
        ({"warmup": 1.5}, "0 <= warmup <= 1 must hold, got warmup=1.5"),
        ({"clip_norm": 0}, "1e-06 <= clip_norm must hold, got clip_norm=0"),
        ({"logit_scale": 0}, "1 <= logit_scale must hold, got logit_scale=0"),
        (
            {"twins": "negative"},
            "unknown twins 'negative': did you mean 'negatives'? known: ignored, negatives, positives",
        ),
        ({"precision": "fp16"}, "unknown precision 'fp16': did you mean 'bf16'? known: auto, fp32, bf16"),
        ({"audio_level": ["clip"]}, "unknown audio_level '['clip']': did you mean 'clip'? known: clip, segments"),
    ],
)
def test_a_recipe_knows_its_ranges(given: dict[str, Any], said: str) -> None:
    with pytest.raises(LabError) as error:
        Recipe(**given)
    assert str(error.value) == said


# -- what there is to set --------------------------------------------------------------------------------------------


def test_every_setting_of_a_recipe_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train_main(["--help"])
    told = capsys.readouterr().out
    for each in fields(Recipe):
        assert len(each.metadata["about"]) > 10, f"{each.name} says nothing of itself"
        assert re.search(
            rf"^{each.name} +{re.escape(str(each.default))} .* {re.escape(each.metadata['about'])}$", told, re.M
        )
    for name, told_range in (("seed", "0 and more"), ("lr", "0 and more"), ("warmup", "0 to 1")):
        assert re.search(rf"^{name} +\S+ +{told_range}  ", told, re.M)
    for name, head in HEADS.items():
        line = next(line for line in told.splitlines() if line.startswith(f"{name} "))
        assert [part.partition("=")[0].strip() for part in line.removeprefix(name).split(",")] == head_keywords(head)
    assert ABOUT_PRESETS.keys() == PRESETS.keys()
    assert all(f"{name}: " in told for name in PRESETS)


@pytest.mark.parametrize("head", HEADS)
def test_every_keyword_of_a_head_says_what_it_is(head: str, capsys: pytest.CaptureFixture[str]) -> None:
    known = head_settings(HEADS[head])
    assert list(known) == head_keywords(HEADS[head])
    for key, (_, about) in known.items():
        assert len(about) > 10, f"{key} of {head} says nothing of itself"
    assert cli.run(train_main, [head, "--settings", "--preset", "paper", "--protocol", "msvd", "--set", "batch=7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0]: line.split()[1] for line in lines[1:] if line.startswith(("lr", "batch"))} == {
        "lr": "1e-05",
        "batch": "7",
    }
    of_head = {line.split()[0]: line.split()[1] for line in lines[lines.index("") + 2 :]}
    assert list(of_head) == list(known)
    assert of_head.get("dropout", "0.4") == "0.4"  # the preset's for this data set
    assert of_head.get("video_keywords", ".dropout=0.4") == ".dropout=0.4"


def test_heads_of_ones_own_can_be_asked_for_their_settings() -> None:
    class Own(nn.Module):
        """A head.

        ``sharp``  how sharp
                   it looks.
        """

        def __init__(self, dim: int, sharp: float, *, blunt: int | None = None) -> None:
            super().__init__()

    assert head_settings(Own) == {"sharp": (None, "how sharp it looks"), "blunt": (None, "")}


# -- presets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "lr", "dropout"),
    [("1k-A-9k", 3e-5, 0.3), ("1k-A-7k", 1e-5, 0.4), ("msvd", 1e-5, 0.4), ("lsmdc", 1e-5, 0.3), ("full", 1e-5, 0.3)],
)
def test_the_preset_of_the_papers(protocol: str, lr: float, dropout: float) -> None:
    """X-Pool's recipes by data set, and the rate of the second paper's audio side."""
    recipe, keywords = plan("xpool", preset="paper", protocol=protocol, logit_scale=99.5)
    wanted = (lr, 5e-5, 1e-6, 99.5, 32, 5, 0.2, 0.1, 1.0)
    names = "lr audio_lr scale_lr logit_scale batch epochs weight_decay warmup clip_norm"
    assert tuple(getattr(recipe, name) for name in names.split()) == wanted
    assert keywords == {"dropout": dropout}
    assert recipe.twins == "negatives"


def test_without_a_preset_it_is_the_one_for_frozen_features() -> None:
    assert plan("mean") == (Recipe(), {})
    assert plan("xpool")[1] == {"dropout": PRESETS["frozen"][""]["dropout"]}


def test_what_is_given_comes_before_the_preset() -> None:
    recipe, keywords = plan(
        "xpool", preset="paper", logit_scale=20, recipe={"lr": 1, "logit_scale": 7}, keywords={"dropout": 0}
    )
    assert (recipe.lr, recipe.logit_scale, recipe.audio_lr) == (1, 7, 5e-5)
    assert keywords == {"dropout": 0}


@pytest.mark.parametrize(
    ("keywords", "wanted"),
    [
        ({}, {"video_keywords": {"dropout": 0.4}}),
        ({"video": "xpool", "audio_dim": 3}, {"video": "xpool", "audio_dim": 3, "video_keywords": {"dropout": 0.4}}),
        ({"video": "mean"}, {"video": "mean"}),
        ({"video_keywords": {"width": 9, "dropout": 0}}, {"video_keywords": {"width": 9, "dropout": 0}}),
    ],
)
def test_dropout_reaches_the_head_within_a_head(keywords: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert plan("cmfi", preset="paper", protocol="msvd", keywords=keywords)[1] == wanted


def test_every_preset_can_be_made_for_every_protocol_that_it_names() -> None:
    for name, protocols in PRESETS.items():
        for protocol, settings in protocols.items():
            recipe, keywords = plan("xpool", preset=name, protocol=protocol)
            made = {key: getattr(recipe, key, keywords.get(key)) for key in settings}
            assert made == settings


# -- key=value -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("x=1", 1),
        ("x = 1e-4", 1e-4),
        ("x=true", True),
        ("x=inf", math.inf),
        ("x=[1, 2]", [1, 2]),
        ('x="a b"', "a b"),
        ("x=mgfi", "mgfi"),
        ("x=my_module:MyHead", "my_module:MyHead"),
        ("x=a=b", "a=b"),
        ("x=1\ny=2", "1\ny=2"),
    ],
)
def test_a_value_is_toml_and_else_a_word(pair: str, value: object) -> None:
    found = parse_settings([pair])
    assert found == {"x": value}
    assert type(found["x"]) is type(value)


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (["lr"], "--set takes key=value, got 'lr': for example --set lr=1e-4"),
        (["=1"], "--set takes key=value, got '=1'"),
        (["lr="], "--set takes key=value, got 'lr='"),
        (["lr=1", "lr=2"], "--set lr is given twice, as 1 and '2': keep one"),
    ],
)
def test_what_is_no_pair(pairs: list[str], said: str) -> None:
    with pytest.raises(LabError) as error:
        parse_settings(pairs)
    assert str(error.value).startswith(said)


class Clashing(nn.Module):
    """A head of somebody's own with a keyword that the recipe has, too."""

    def __init__(self, dim: int, *, lr: float = 1, seed: int = 0) -> None:
        super().__init__()


class Anything(nn.Module):
    """One that takes whatever it is given."""

    def __init__(self, dim: int, **_: Any) -> None:
        super().__init__()


CLASHING, ANYTHING = f"{__name__}:Clashing", f"{__name__}:Anything"


@pytest.mark.parametrize(
    ("head", "settings", "recipe", "keywords"),
    [
        ("xpool", {"lr": 1, "dropout": 2}, {"lr": 1}, {"dropout": 2}),
        ("xpool", {"train.lr": 1, "head.dropout": 2}, {"lr": 1}, {"dropout": 2}),
        (CLASHING, {"train.lr": 1, "head.lr": 2, "head.seed": 3}, {"lr": 1}, {"lr": 2, "seed": 3}),
        (ANYTHING, {"lr": 1, "depth": 2, "head.lr": 3}, {"lr": 1}, {"depth": 2, "lr": 3}),
        (
            "cmfi",
            {"video": "xpool", "video_keywords.dropout": 1, "head.video_keywords.width": 2},
            {},
            {"video": "xpool", "video_keywords": {"dropout": 1, "width": 2}},
        ),
    ],
)
def test_settings_go_where_they_belong(
    head: str, settings: dict[str, Any], recipe: dict[str, Any], keywords: dict[str, Any]
) -> None:
    assert divide(head, settings) == (recipe, keywords)


@pytest.mark.parametrize(
    ("head", "settings", "said"),
    [
        ("xpool", {"dropuot": 1}, "unknown setting 'dropuot': did you mean 'dropout'? known: epochs, "),
        ("topk", {"topk": 3}, "unknown setting 'topk': did you mean 'top_k'? known: epochs, "),
        ("xpool", {"train.dropout": 1}, "unknown setting 'dropout'; known: epochs, "),
        ("xpool", {"head.lr": 1}, "unknown setting 'lr'; known: dropout"),
        ("xpool", {"lr.x": 1}, "unknown setting 'lr'"),
        (CLASHING, {"lr": 1}, f"both the recipe and the head '{CLASHING}' have 'lr': write train.lr or head.lr"),
        ("cmfi", {"video_keywords": {"a": 1}, "video_keywords.b": 2}, None),
        ("cmfi", {"video_keywords.b": 2, "video_keywords": 1}, "'video_keywords' is given whole and in parts"),
        ("cmfi", {"video_keywords": 1, "video_keywords.b": 2}, "'video_keywords' is given whole and in parts"),
    ],
)
def test_settings_that_belong_nowhere(head: str, settings: dict[str, Any], said: str | None) -> None:
    if said is None:  # a table and more of its entries
        assert divide(head, settings) == ({}, {"video_keywords": {"a": 1, "b": 2}})
        return
    with pytest.raises(LabError) as error:
        divide(head, settings)
    assert str(error.value).startswith(said)


def test_no_head_of_the_lab_has_a_keyword_of_the_recipe() -> None:
    from lab.heads import HEADS, head_keywords

    for head in HEADS.values():
        assert not set(head_keywords(head)) & set(RECIPE_KEYS)


def test_two_tables_are_merged_at_any_depth_and_left_as_they_were() -> None:
    one, other = {"a": 1, "t": {"x": 1, "u": {"v": 1, "w": 2}}, "s": {"k": 1}}, {"t": {"u": {"w": 3}, "y": 4}, "s": 5}
    assert merged(one, other) == {"a": 1, "t": {"x": 1, "u": {"v": 1, "w": 3}, "y": 4}, "s": 5}
    assert merged({"s": 5}, {"s": {"k": 1}, "b": 2}) == {"s": {"k": 1}, "b": 2}
    assert one["t"] == {"x": 1, "u": {"v": 1, "w": 2}}
    assert other["t"] == {"u": {"w": 3}, "y": 4}

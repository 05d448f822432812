"""Study files: all mistakes of one are told together, and ranges mean what they say."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from lab import cli
from lab.errors import LabError
from lab.studies.files import STUDIES, read_study
from lab.studies.setups import OBJECTIVES, changes, digest
from lab.studies.space import corners, points, read_range, size
from lab.study import main

ROW = '[[rows]]\nhead = "mean"\n'
NUMBERS = str([float(number) for number in range(1, 201)]).encode()


def read(folder: Path, text: str | bytes, *settings: str) -> Any:
    file = folder / "mine.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_study(str(file), settings)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"head = ", "is not valid TOML: "),
        (b'head = "\xff"', "is not valid TOML: "),
        (b"", "'head' is missing: one of mean"),
        (b'kind = "grid"\n[[rows]]\nname = "a"', "'rows 1.head' is missing: one of mean"),
        (b"\xef\xbb\xbfhead = 5", "unknown head '5'; known: mean"),
        (b"a = " + b"[" * 50_000, "is not valid TOML: "),
        (b'head = "xpool"\n[train]\nlr' + b".a" * 5_000 + b" = 1", "is not valid TOML: "),
        (b'kind = "serach"', "unknown kind 'serach': did you mean 'search'? known: search, grid, sweep"),
        (b'head = "x-pool"', "unknown head 'x-pool': did you mean 'xpool'? known: mean"),
        (b'head = "rigde"', "did you mean 'ridge'?"),
        (b'head = "xpool"\n[trian]', "unknown key of a search 'trian': did you mean 'train'?"),
        (b'head = "xpool"\ntrain = 5', "[train] must be a table, got 5"),
        (b'head = "xpool"\n[train]\nepoch = 5', "unknown key of [train] 'epoch': did you mean 'epochs'?"),
        (b'head = "xpool"\n[train]\nseed = 5', "unknown key of [train] 'seed'"),
        (b'head = "xpool"\n[train]\nepochs = 0', "1 <= epochs must hold, got epochs=0"),
        (b'head = "xpool"\n[keywords]\ndropuot = 0.1', "unknown key of [keywords] 'dropuot': did you mean 'dropout'?"),
        (b'head = "xpool"\ntrials = 0', "'trials' must be a whole number from 1 to 100000, got 0"),
        (b'head = "xpool"\ntrials = true', "'trials' must be a whole number from 1 to 100000, got True"),
        (b'head = "xpool"\ntrials = 1_000_000_000', "'trials' must be a whole number from 1 to 100000, got 1000000000"),
        (b'head = "xpool"\nseeds = 1_000_000_000', "'seeds' must be a whole number from 1 to 1000, got 1000000000"),
        (b'head = "xpool"\nstack = 1_000_000_000', "'stack' must be a whole number from 1 to 1000, got 1000000000"),
        (b'head = "xpool"\nseed = 9_999_999_999_999_999_999', "'seed' must be a whole number from 0 to 92233720368547"),
        (b'head = "xpool"\nseconds = -1.0', "'seconds' must be a number > 0, got -1.0"),
        (b'head = "xpool"\nsampler = "tpa"', "'sampler' must be one of auto, tpe, random, gp, each, got 'tpa'"),
        (b'head = "xpool"\nobjective = "R1"', "'objective' must be one of gm(R@1,5,10), R@1"),
        (b'head = "xpool"\nbaseline = "x"', "unknown head 'x'"),
        (b'head = "xpool"\nrows = []', "unknown key of a search 'rows'"),
        (b'kind = "grid"', "[[rows]] must be one table or more, got None"),
        (b'kind = "grid"\ntrials = 3\n[[rows]]\nhead = "mean"', "unknown key of a grid 'trials'"),
        (b'kind = "grid"\nbaseline = "maen"\n[[rows]]\nhead = "mean"', "unknown baseline 'maen': did you mean 'mean'?"),
        (b'kind = "grid"\n[[rows]]\nhead = "mean"\n[[rows]]\nhead = "mean"', "two rows are called 'mean'"),
        (b'kind = "grid"\n[[rows]]\nhead = "mean"\nkeyword = 1', "unknown key of [rows 1] 'keyword'"),
        (b'head = "cmfi"\nchoose = 1', "[choose] must be a table, got 1"),
        (
            b'head = "cmfi"\nkeywords.video_keywords = 5\nchoose.video_keywords.top_k = [1]',
            "[keywords.video_keywords] must be a table, got 5",
        ),
        (
            b'kind = "grid"\n[[rows]]\nhead = "cmfi"\nkeywords.audio_keywords = 5\n'
            b"search.audio_keywords.top_k.int = [1, 3]",
            "[rows 1.keywords.audio_keywords] must be a table, got 5",
        ),
        (b'head = "cmfi"\n[choose]\nfusion_wieght = [1]', "did you mean 'fusion_weight'?"),
        (b'head = "cmfi"\n[choose]\nfusion_weight = 1', "'fusion_weight' must be choice = [...] of different"),
        (
            b'head = "cmfi"\nkeywords.video = "softmax"\nchoose.fusion_weight = %b\n'
            b"choose.video_keywords.temperature = %b" % (NUMBERS, NUMBERS),
            "[choose] must span at most 10000 points, each of which is scored",
        ),
        (b'head = "cmfi"\n[choose]\nlr = [1e-3]', "'lr' of [choose] changes the training of 'cmfi'"),
        (
            b'head = "cmfi"\nsearch.fusion_weight = { float = [0.0, 1.0] }\nchoose.fusion_weight = [1]',
            "'fusion_weight' stands in both [search] and [choose]: keep one",
        ),
        (b'head = "xpool"\nbaseline = { head = "mean", follow = ["rl"] }', "unknown setting to follow 'rl'"),
        (b'kind = "sweep"\nsweep = "d"\n[[rows]]\nhead = "mean"', "'sweep' must be one of diversity, got 'd'"),
        (
            b'kind = "sweep"\ndraws = 1_000_000_000\n[[rows]]\nhead = "mean"',
            "'draws' must be a whole number from 1 to 1000, got 1000000000",
        ),
        (
            b'kind = "sweep"\ninserted = [-1]\n[[rows]]\nhead = "mean"',
            "'inserted' must be a list of whole numbers >= 0",
        ),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(LabError) as told:
        read(tmp_path, content)
    assert said in str(told.value)
    assert str(told.value).startswith(str(tmp_path / "mine.toml"))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("content", "setting", "part"),
    [
        ('head = "xpool"\nsearch = 5', "lr=1e-3", "[search]"),
        ('head = "xpool"\ntrain = 5', "lr=1e-3", "[train]"),
        ('head = "xpool"\nkeywords = 5', "dropout=0.1", "[keywords]"),
        ('head = "xpool"\nchoose = 5', "dropout=0.1", "[choose]"),
        (f'kind = "grid"\ntrain = 5\n{ROW}', "lr=1e-3", "[train]"),
        (f'kind = "grid"\n{ROW}train = 5', "lr=1e-3", "[rows 1.train]"),
        (f'kind = "grid"\n{ROW}keywords = 5', "mean.projection=none", "[rows 1.keywords]"),
    ],
)
def test_a_setting_in_place_of_what_is_no_table(tmp_path: Path, content: str, setting: str, part: str) -> None:
    with pytest.raises(LabError) as told:
        read(tmp_path, content, setting)
    assert str(told.value) == f"{tmp_path / 'mine.toml'}: {part} must be a table, got 5"


def test_a_setting_where_rows_are_none(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"\[\[rows\]\] must be one table or more, got 5"):
        read(tmp_path, 'kind = "grid"\nrows = 5', "lr=1e-3")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("5", "'lr' must be a range, got 5: write lr = { log = [1e-5, 1e-3] }"),
        ("{ lgo = [1, 2] }", "unknown key of the range 'lr' 'lgo': did you mean 'log'?"),
        ("{ log = [1e-3, 1e-5] }", "low <= high must hold in the range 'lr', got [0.001, 1e-05]"),
        ("{ log = [0.0, 1.0] }", "low > 0 must hold in the log range 'lr'"),
        ("{ int = [1, 2.5] }", "'lr' must be int = [low, high] of two whole numbers, got [1, 2.5]"),
        ("{ float = [1] }", "'lr' must be float = [low, high] of two numbers, got [1]"),
        ("{ float = [0.0, 1.0], int = [1, 2] }", "'lr' must have exactly one of int, float, log, choice"),
        ("{ float = [0.0, 1.0], step = 0.3 }", "'lr': steps of 0.3 must lead from 0.0 to 1.0"),
        ("{ float = [0.0, nan] }", "'lr' must be float"),
        (f"{{ float = [0, 1{400 * '0'}] }}", "'lr' must be float = [low, high] of two numbers"),
        ("{ choice = [] }", "'lr' must be choice = [...] of different"),
        ("{ choice = [0.1, 0.1] }", "'lr' must be choice = [...] of different"),
        ("{ choice = [1, true] }", "'lr' must be choice = [...] of different"),
        ("{ float = [-1.0, 1.0] }", "0 <= lr must hold, got lr=-1.0"),
    ],
)
def test_a_range_that_is_none(tmp_path: Path, value: str, said: str) -> None:
    with pytest.raises(LabError) as told:
        read(tmp_path, f'head = "xpool"\n[search]\nlr = {value}\n')
    assert said in str(told.value)


def test_all_mistakes_are_told_together(tmp_path: Path) -> None:
    with pytest.raises(LabError) as told:
        read(
            tmp_path,
            'head = "topk"\ntrials = 0\n[train]\nepochs = 0\nbatch = 1\n'
            "[search]\ntopk = { int = [1, 5] }\nseed = { int = [1, 5] }\nlr = { log = [1.0, 0.1] }\n",
            "nonsense=1",
        )
    for said in ("'trials' must be", "1 <= epochs", "2 <= batch", "'topk': did you mean 'top_k'?",
                 "'seed' cannot be searched", "low <= high must hold in the range 'lr'", "'nonsense'"):  # fmt: skip
        assert said in str(told.value)


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ({"int": [1, 4]}, [1, 2, 3, 4]),
        ({"int": [2, 8], "step": 3}, [2, 5, 8]),
        ({"float": [0.0, 0.6], "step": 0.2}, [0.0, 0.2, 0.4, 0.6]),
        ({"float": [0.0, 0.6], "step": 0.1}, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
        ({"choice": ["a", 2, True]}, ["a", 2, True]),
        ({"log": [8, 11]}, [8, 9, 10, 11]),
        ({"float": [0.0, 1.0]}, None),
        ({"log": [1e-5, 1e-3]}, None),
    ],
)
def test_what_a_range_can_give(given: dict[str, Any], values: list[Any] | None) -> None:
    each = read_range("x", given)
    assert each.values() == (pytest.approx(values) if values and isinstance(values[0], float) else values)
    if values is not None:
        assert "choice" in given or max(each.values() or []) <= each.high  # Optuna refuses what is above
        assert size({"x": each, "y": each}) == len(values) ** 2
        assert len({tuple(point.values()) for point in points({"x": each, "y": each})}) == len(values) ** 2
    ends = [point["x"] for point in corners({"x": each})]
    assert len(ends) == (len(values) if "choice" in given and values else 2)


def test_a_place_in_a_log_range_is_on_its_scale() -> None:
    assert read_range("x", {"log": [1e-4, 1e-2]}).place(1e-3) == pytest.approx(0.5)
    assert read_range("x", {"float": [0.0, 4.0]}).place(1.0) == pytest.approx(0.25)


def test_a_range_of_more_values_than_are_tried_is_not_written_out() -> None:
    for given in ({"int": [1, 10**18]}, {"log": [1, 10**18]}, {"float": [0.0, 1e18], "step": 0.5}):
        assert read_range("x", given).values() is None
        assert size({"x": read_range("x", given)}) is None


def test_dotted_settings_reach_inner_heads(tmp_path: Path) -> None:
    text = (
        'head = "cmfi"\n[keywords]\nvideo = "softmax"\nvideo_keywords = { temperature = 0.5 }\n'
        "[search]\nvideo_keywords.top_k = { int = [1, 3] }\nfusion_weight = { float = [0.0, 1.0] }\n"
    )
    study = read(tmp_path, text)
    assert list(study.searched.search) == ["video_keywords.top_k", "fusion_weight"]
    point = {"video_keywords.top_k": 2, "fusion_weight": 0.5}
    assert study.searched.at(point).keywords == {
        "video": "softmax", "video_keywords": {"temperature": 0.5, "top_k": 2}, "fusion_weight": 0.5
    }  # fmt: skip
    fixed = read(tmp_path, text, "video_keywords.top_k=1")
    assert list(fixed.searched.search) == ["fusion_weight"]
    assert fixed.searched.keywords["video_keywords"] == {"temperature": 0.5, "top_k": 1}


def test_more_trials_and_seeds_are_the_same_study_and_another_range_is_not(tmp_path: Path) -> None:
    text = 'head = "xpool"\n[search]\nlr = { log = [1e-5, 1e-3] }\n'
    key = digest(read(tmp_path, text).definition())
    assert digest(read(tmp_path, text, "trials=7", "seeds=9", "seconds=5").definition()) == key
    for changed in ("lr={log=[1e-5, 1e-2]}", "epochs=2", "dropout=0.1", "seed=1", "objective=R@1", "pruner=none"):
        assert digest(read(tmp_path, text, changed).definition()) != key


def test_settings_keep_their_place_and_so_a_result_its_hash(tmp_path: Path) -> None:
    """A finished grid is found again by its rows as they print: those of a command with --set, too."""
    text = 'kind = "grid"\n[train]\nepochs = 2\nbatch = 32\n[[rows]]\nhead = "xpool"\ntrain.lr = 1e-4\n'
    (row,) = read(tmp_path, text, "epochs=3", "warmup=0.1").rows
    assert list(row.recipe.items()) == [("epochs", 3), ("batch", 32), ("warmup", 0.1), ("lr", 1e-4)]
    (row,) = read(tmp_path, text, "lr=2e-4").rows
    assert list(row.recipe.items()) == [("epochs", 2), ("batch", 32), ("lr", 2e-4)]


def test_a_setting_that_becomes_empty_is_a_change() -> None:
    one, other = ({"rows": [{"keywords": keywords}]} for keywords in ({}, {"hidden": []}))
    assert list(changes(one, other)) == ["rows.0.keywords.hidden was nothing, is []"]
    assert list(changes({"a": [1]}, {"a": []})) == ["a was nothing, is []", "a.0 was 1, is nothing"]


OWN = """
import pathlib

from lab.heads import MeanPooling

pathlib.Path({proof!r}).touch()


class Own(MeanPooling):
    pass
"""
OWN_NAME = "own_head_of_a_study:Own"


@pytest.mark.parametrize(
    "text",
    [
        f'head = "{OWN_NAME}"',
        f'head = "mean"\nbaseline = "{OWN_NAME}"',
        f'head = "mean"\nbaseline = "{OWN_NAME}"\nrows = []',
        f'head = "cmfi"\nkeywords.video = "{OWN_NAME}"',
        f'head = "cmfi"\nsearch.video = {{ choice = ["sf", "{OWN_NAME}"] }}',
        f'head = "cmfi"\nsearch.lr = {{ log = [1e-5, 1e-3] }}\nchoose.video = ["sf", "{OWN_NAME}"]',
        f'kind = "grid"\nbaseline = "a: b"\n{ROW}name = "a: b"\n[[rows]]\nhead = "{OWN_NAME}"',
    ],
)
def test_code_that_a_file_names_runs_only_if_it_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    proof = tmp_path / "imported"
    (tmp_path / "own_head_of_a_study.py").write_text(OWN.format(proof=str(proof)))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "own_head_of_a_study", raising=False)
    with pytest.raises(LabError, match="which is code that the lab does not know"):
        read(tmp_path, text)
    command = [str(tmp_path / "mine.toml"), "--dry-run"]
    assert cli.run(main, command) == 2
    assert capsys.readouterr().err.endswith(f"if you know it, run the same with --trust {OWN_NAME}\n")
    assert not proof.exists()
    refused = "choose" in text or "rows = []" in text  # a choice of heads is no setting after a training
    assert cli.run(main, [*command, "--trust", OWN_NAME]) == (2 if refused else 0)
    assert "code that the lab does not know" not in capsys.readouterr().err


def test_a_head_of_ones_own_that_cannot_be_imported_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_head_of_a_study.py").write_text("import no_such_package")
    monkeypatch.syspath_prepend(tmp_path)
    name = "broken_head_of_a_study:Own"
    (tmp_path / "mine.toml").write_text(f'head = "{name}"')
    with pytest.raises(LabError, match=rf"no head '{name}' \(No module named 'no_such_package'\)"):
        read_study(str(tmp_path / "mine.toml"), trust=[name])


def test_code_that_is_named_on_the_command_line_is_trusted(
    tmp_path: Path, full: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_head_of_a_study.py").write_text(OWN.format(proof=str(tmp_path / "imported")))
    monkeypatch.syspath_prepend(tmp_path)
    assert read(tmp_path, 'head = "cmfi"', f"video={OWN_NAME}").searched.keywords == {"video": OWN_NAME}
    row = f'[[rows]]\nhead = "{OWN_NAME}"\nkeywords.projection = "linear"\n'
    (tmp_path / "mine.toml").write_text(f'kind = "grid"\nseeds = 1\n{ROW}{row}')
    command = [str(tmp_path / "mine.toml"), "--trust", OWN_NAME, "--store", str(full), "--runs", str(tmp_path)]
    assert cli.run(main, [*command, "--set", "epochs=1"]) == 0
    (result,) = tmp_path.glob("mine-*/result.json")
    result.unlink()
    capsys.readouterr()
    assert cli.run(main, [*command, "--set", "epochs=1"]) == 0
    assert "was trained before" in capsys.readouterr().err


@pytest.mark.parametrize("file", sorted(STUDIES.glob("*.toml")), ids=lambda file: file.stem)
def test_every_study_of_ours_is_read(file: Path) -> None:
    study = read_study(file.stem)
    assert study.objective in OBJECTIVES
    assert json.dumps(study.definition())
    assert study.baseline in [row.name for row in study.rows]


def test_the_studies_that_the_papers_call_for_are_there() -> None:
    names = {file.stem for file in STUDIES.glob("*.toml")}
    assert names >= {"xpool_head", "topk", "softmax", "mgfi_head", "cmfi_fusion", "seqtransf", "ablation", "diversity"}
    rows = [row for row in read_study("ablation").rows if not row.name.endswith(", weight 1")]
    parts = [(row.head, row.keywords.get("video")) for row in rows]
    assert parts == [("mean", None), ("sf", None), ("wf", None), ("mgfi", None), ("cmfi", "wf"), ("cmfi", "sf"),
                     ("cmfi", "mgfi")]  # fmt: skip
    assert read_study("diversity").inserted == tuple(range(11))


@pytest.mark.parametrize(("named", "kept"), [("xpool", False), ("lab.heads.xpool-XPool", False), ("plain", True)])
def test_a_baseline_has_a_place_of_its_own_for_its_runs(tmp_path: Path, named: str, kept: bool) -> None:
    head = "xpool" if named == "xpool" else "lab.heads.xpool:XPool"
    study = read(tmp_path, f'head = "{head}"\nbaseline = {{ head = "mean", name = "{named}" }}\n')
    assert study.rows[0].name == study.baseline == (named if kept else f"{named} (baseline)")

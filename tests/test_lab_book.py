"""Headers of study files and the table of docs/studies.md are made from results."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lab.studies.files import read_study
from lab.studies.setups import digest
from lab.studies.tables import SHOWN

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import lab_book
import table

STUDY = """# Which k?
#
# command    python -m lab.study mine
# time       not measured yet
# result     none yet

# This is no part of the header.
head = "topk"
search.top_k = { int = [1, 3] }
"""


def value(mean: float) -> dict[str, Any]:
    return {"mean": mean, "std": 0.5, "seeds": [mean], "low": mean - 2, "high": mean + 2}


def result() -> dict[str, Any]:
    def row(name: str, mean: float, against: dict[str, Any]) -> dict[str, Any]:
        told = {"name": name, "keywords": {}, "after_training": {}, "against_baseline": against}
        test = dict.fromkeys(SHOWN, value(mean))
        return told | {"head": name, "val": {"R@1": value(mean + 3), study.objective: value(mean)}, "test": test}

    splits = {"train": {"videos": 600}, "val": {"videos": 100}, "test": {"videos": 400}}
    study = read_study("xpool_head")
    return {
        "study": "xpool_head",
        "hash": "h",
        "definition": study.definition(),
        "trials": study.trials,
        "seeds": study.seeds,
        "store": {
            "dataset": "toy",
            "path": "toy.zarr",
            "protocol": "p",
            "splits": splits,
            "passport": {"dataset": {}, "frames": {"world": 1}},
        },
        "objective": study.objective,
        "baseline": "mean",
        "reads": {"before": 0},
        "seconds": 372.0,
        "machine": "a machine, 2 cores, no GPU",
        "time": "2026-01-02T03:04:05+00:00",
        "rows": [row("mean", 33.1, {}), row("topk", 40.7, {"R@1": {"difference": 7.6, "p_value": 0.0001}})],
        "search": {"finished": 3, "pruned": 0, "best": {"params": {"top_k": 3}}},
    }


def test_a_header_is_rewritten_and_the_study_stays_the_same(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(STUDY)
    before = digest(read_study(str(file)).definition())
    lab_book.rewrite(file, result())
    text = file.read_text()
    lab_book.rewrite(file, result())
    assert file.read_text() == text
    header, below = text.split("\n\n", 1)
    assert below == STUDY.split("\n\n", 1)[1]
    assert header.splitlines()[:3] == STUDY.splitlines()[:3]
    assert header.splitlines()[3:] == [
        "# time       6.2 min on a machine, 2 cores, no GPU, on toy (600 train, 100 val, 400 test videos), 2026-01-02",
        "# result     3 trials, 0 of them pruned; the best has top_k = 3",
        "#            R@1 in percent with 95 % intervals that draw videos:",
        "#            mean: test 33.1 [31.1, 35.1], validation 36.1 [34.1, 38.1]",
        "#            topk: test 40.7 [38.7, 42.7], validation 43.7 [41.7, 45.7]; +7.6 on test, p = 0.0001",
    ]
    assert digest(read_study(str(file)).definition()) == before
    file.write_text(text.replace("[1, 3]", "[1, 4]"))
    assert digest(read_study(str(file)).definition()) != before


def test_the_table_of_the_readme(tmp_path: Path) -> None:
    (tmp_path / "xpool_head-toy").mkdir()
    (tmp_path / "xpool_head-toy" / "result.json").write_text(json.dumps(result()))
    (tmp_path / "mgfi_head-toy").mkdir()
    (tmp_path / "mgfi_head-toy" / "result.json").write_text(json.dumps(result()))  # another study's settings
    lines = lab_book.block(tmp_path, "toy").splitlines()
    assert lines[2] == "| `xpool_head` | mean | 36.1 [34.1, 38.1] | 33.1 [31.1, 35.1] | 0.5 |  | 6.2 min |"
    assert lines[3] == "|  | topk | 43.7 [41.7, 45.7] | 40.7 [38.7, 42.7] | 0.5 | +7.6, p = 0.0001 |  |"
    assert lines[4] == "| `mgfi_head` | not run |  |  |  |  |  |"


def test_results_on_other_features_and_damaged_ones_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "xpool_head-toy" / "result.json"
    file.parent.mkdir()
    file.write_text(json.dumps(result()))
    for passport, said in (
        ({"frames": {"world": 1}}, ""),
        ({"frames": {"world": 1}, "audio": {}}, ""),  # sound was added since
        ({"frames": {"world": 2}}, f"{file} was run on other features than toy.zarr holds: left out\n"),
    ):
        store: Any = SimpleNamespace(passport={"dataset": {}} | passport, path="toy.zarr")
        assert (lab_book.read(tmp_path, "xpool_head", "toy", store) is None) == bool(said)
        assert capsys.readouterr().out == said
    assert "| `xpool_head` | not run |" in lab_book.block(tmp_path, "toy", store)
    assert lab_book.store_of(tmp_path, "toy") is None
    file.write_text("{")
    capsys.readouterr()
    assert lab_book.read(tmp_path, "xpool_head", "toy") is None
    assert capsys.readouterr().out.startswith(f"{file} is damaged (")


def test_of_a_study_that_was_resumed_only_the_last_start_is_timed() -> None:
    told = result() | {"resumed": True}
    assert next(lab_book.entry(told)).startswith("# time       6.2 min since its last start on a machine,")
    assert lab_book.minutes(result() | {"resumed": False}) == lab_book.minutes(result()) == "6.2 min"


def test_a_study_without_a_result_keeps_its_rows(tmp_path: Path) -> None:
    page = lab_book.BOOK.read_text(encoding="utf-8")
    rows = lab_book.held(page)
    assert set(rows) == set(lab_book.SHOWN)
    assert len(rows["xpool_head"]) == 2
    made = lab_book.block(tmp_path, "toy", None, rows)
    assert table.placed(page, "studies", made) == page
    assert "| `xpool_head` | not run |" in lab_book.block(tmp_path, "toy")


def test_a_block_is_placed_between_its_marks() -> None:
    text = "a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n"
    assert table.placed(text, "x", "new\n") == text.replace("old", "new")
    with pytest.raises(SystemExit, match="one pair of marks"):
        table.placed(text, "y", "new")


def test_what_was_not_measured_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    made = {"date": "2026-01-02T03", "device": "a machine", "settings": {}}
    seconds = {"slow": 0.03, "lab.train": 0.02, "bare": 0.01}
    (tmp_path / "train.json").write_text(json.dumps(made | {"results": {"seconds": seconds}}))
    lines = table.block().splitlines()
    assert "| decoding 12 frames, six rendered clips of 5 to 15 s | not measured |  |" in lines
    told = "| 50.0 steps/s | 1.50 × an item-by-item loop; 2.00 of its bare matrix products |"
    assert any(line.endswith(told) for line in lines)
    assert lines[-1] == "Medians of one run each (train: a machine, 2026-01-02)."

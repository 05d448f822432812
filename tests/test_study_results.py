"""What is made of a study's numbers: noise floor, plateau, verdict, published rows, studies side by side."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from lab import cli
from lab.errors import LabError
from lab.reads import log_file
from lab.significance import GEOMETRIC_MEAN, holm
from lab.store import open_store
from lab.studies import learned
from lab.studies.learned import learned_lines
from lab.studies.published import published, published_for
from lab.studies.report import read_ranks, read_result, read_trials, write_result, write_trials
from lab.studies.space import Range
from lab.studies.tables import latex, markdown
from lab.study import main


def trial(value: float, **params: Any) -> optuna.trial.FrozenTrial:
    kinds: dict[str, Any] = {"x": FloatDistribution(1e-4, 1.0, log=True), "c": CategoricalDistribution(["a", "b"])}
    return optuna.trial.create_trial(value=value, params=params, distributions={key: kinds[key] for key in params})


def metrics(value: float) -> dict[str, float]:
    return {"R@1": value, "R@5": value, "R@10": value, "MRR": value / 100}


def test_the_noise_floor_is_the_spread_between_seeds_and_no_less_than_a_query() -> None:
    seeds = [metrics(40.0), metrics(42.0), metrics(44.0)]
    assert learned.noise_floor(seeds, "R@1", 1000) == pytest.approx(2.0)
    assert learned.noise_floor(seeds, GEOMETRIC_MEAN, 1000) == pytest.approx(2.0)
    assert learned.noise_floor(seeds, "MRR", 1000) == pytest.approx(0.02)
    assert learned.noise_floor([metrics(40.0)] * 3, "R@1", 500) == pytest.approx(0.2)
    assert learned.noise_floor([metrics(40.0)], "R@1", 500) is None


@pytest.mark.parametrize(
    ("seeds", "queries", "said"),
    [
        (
            [38.0, 40.0, 42.0],
            1000,
            "3 of 3 completed trials cannot be told from the best, within twice the 2.00 between ",
        ),
        (
            [62.5, 62.5],
            8,
            "3 of 3 completed trials cannot be told from the best, within twice the 12.50 that one query ",
        ),
    ],
)
def test_what_one_query_is_worth_is_not_called_a_spread(seeds: list[float], queries: int, said: str) -> None:
    fits = [metrics(value) for value in seeds]
    flat = {"trials": 3, "of": 3, "settings": {"lr": {"low": 0.1, "high": 0.2, "width": 0.5}}}
    search = {
        "finished": 3, "pruned": 0, "diverged": 0, "objective": "R@1", "exhausted": False, "importance": {},
        "best": {"number": 0, "value": 62.5, "params": {"lr": 0.1}}, "plateau": flat,
        "noise_floor": learned.noise_floor(fits, "R@1", queries),
    }  # fmt: skip
    row = {"val": {"R@1": {"mean": statistics.fmean(seeds), "std": statistics.stdev(seeds)}}}
    result = {"objective": "R@1", "search": search, "rows": [{"val": {}}, row]}
    assert learned_lines(result)[-1].startswith(said)
    search["plateau"] = flat | {"trials": 1, "of": 1}
    assert len(learned_lines(result)) == 1, "of one trial there is nothing to say"
    search["plateau"], search["noise_floor"] = flat, None
    assert "cannot be told from the best, by a paired test on validation: lr" in learned_lines(result)[-1]


def test_importance_from_few_trials_has_a_caveat() -> None:
    search = {
        "finished": 10, "pruned": 0, "diverged": 0, "objective": "R@1", "exhausted": False,
        "best": {"number": 0, "value": 62.5, "params": {"lr": 0.1}}, "importance": {"lr": 0.83, "dropout": 0.17},
    }  # fmt: skip
    for completed, caveat in ((4, " (4 trials: little to go by)"), (9, " (9 trials: little to go by)"), (10, "")):
        lines = learned_lines({"objective": "R@1", "search": search | {"completed": completed}})
        assert lines[-1] == f"importance: lr 83%, dropout 17%{caveat}"


def test_the_plateau_is_what_cannot_be_told_from_the_best() -> None:
    space = {"x": Range("log", 1e-4, 1.0), "c": Range("choice", choices=("a", "b"))}
    trials = [trial(50, x=1e-3, c="a"), trial(49, x=1e-2, c="a"), trial(48, x=1e-1, c="a"), trial(40, x=1.0, c="b")]
    for number, each in enumerate(trials):
        each.number = number
    level = learned.within_noise(trials, 50.0, 1.0, "R@1")
    assert level == {0, 1, 2}
    assert learned.within_noise(trials, 40.0, 4.0, "MdR") == {2, 3}
    found = learned.plateau(trials, space, level)
    assert (found["trials"], found["of"]) == (3, 4)
    assert found["settings"]["x"] == {"low": 1e-3, "high": 1e-1, "width": 0.5}
    assert found["settings"]["c"] == {"values": ["a"]}


def test_untrained_trials_are_told_apart_by_their_queries() -> None:
    rng = np.random.default_rng(0)
    target = np.repeat(np.arange(50), 4)
    ranks = {1e-3: rng.integers(1, 4, 200).astype(float)}
    ranks[1e-2] = ranks[1e-3].copy()
    ranks[1e-2][0] += 1  # one query of 200
    ranks[1e-1] = ranks[1e-3] + 2
    cached: Any = SimpleNamespace(target=target, ranks=lambda point: ranks[point["x"]])
    trials = [trial(0.0, x=x) for x in ranks]
    for number, each in enumerate(trials):
        each.number = number
    assert learned.tied_with(trials[0], trials, cached, "R@1") == {0, 1}


def test_importance_tells_the_setting_that_matters() -> None:
    study, rng = optuna.create_study(direction="maximize"), np.random.default_rng(0)
    for _ in range(40):
        x, c = float(10 ** rng.uniform(-4, 0)), str(rng.choice(["a", "b"]))
        study.add_trial(trial(-((np.log10(x) + 2) ** 2), x=x, c=c))
    found = learned.importance(study)
    assert next(iter(found)) == "x"
    assert found["x"] > 0.8
    assert learned.importance(optuna.create_study()) == {}


def test_trials_come_back_as_they_were_written(tmp_path: Path) -> None:
    write_trials(tmp_path, [trial(50.0, x=1e-3, c="a"), trial(40.0, x=1.0)])
    rows = read_trials(tmp_path)
    assert [(row["state"], row["value"], row["setting.x"], row["setting.c"]) for row in rows] == [
        ("complete", 50.0, 1e-3, "a"), ("complete", 40.0, 1.0, None)
    ]  # fmt: skip
    for damage in (lambda file: file.write_bytes(b"PAR1 no"), Path.unlink):
        damage(tmp_path / "trials.parquet")
        with pytest.raises(LabError, match=r"trials\.parquet is gone or damaged"):
            read_trials(tmp_path)


@pytest.mark.parametrize(
    ("difference", "p", "spread", "ends"),
    [
        (3.0, 0.001, 0.5, "a gain larger than the noise."),
        (-3.0, 0.001, 0.5, "a loss larger than the noise."),
        (3.0, 0.2, 0.5, "no more than the noise of the test queries."),
        (3.0, 0.001, 2.0, "more than the noise of the queries, but not 2 times the spread between seeds."),
        (3.0, 0.001, None, "a gain larger than the noise."),
    ],
)
def test_the_verdict(difference: float, p: float, spread: float | None, ends: str) -> None:
    test = {"difference": difference, "low": difference - 1, "high": difference + 1, "p_value": p}
    (told,) = learned.verdicts([judged("mean", None, None), judged("xpool", test, spread)], "mean")
    assert told.endswith(ends)
    assert told.startswith(f"xpool is 3.0 points of R@1 {'above' if difference > 0 else 'below'} mean on test")
    assert ("; seeds spread by" in told) == (spread is not None)


def judged(name: str, test: dict[str, float] | None, spread: float | None) -> dict[str, Any]:
    """A row of a result as far as its verdict needs it."""
    return {"name": name, "against_baseline": {} if test is None else {"R@1": test}, "test": {"R@1": {"std": spread}}}


def test_the_spread_between_seeds_is_that_of_the_difference() -> None:
    test = {"difference": 3.0, "low": 2.0, "high": 4.0, "p_value": 0.001}
    (told,) = learned.verdicts([judged("mean", None, 3.0), judged("xpool", test, 4.0)], "mean")
    assert "; seeds spread by 5.0: more than the noise of the queries, but not" in told


def test_one_of_many_comparisons_is_judged_by_its_adjusted_p() -> None:
    test = {"difference": 3.0, "low": 0.5, "high": 5.5}
    found = {"a": 0.001, "b": 0.03, "c": 0.5, "d": 0.02}
    rows = [judged("mean", None, None), *(judged(name, test | {"p_value": p}, None) for name, p in found.items())]
    assert learned.adjusted(rows, "R@1") == pytest.approx({"a": 0.004, "b": 0.06, "c": 0.5, "d": 0.06})
    assert learned.adjusted(rows, "MdR") == {}
    a, b, c, _ = learned.verdicts(rows, "mean")
    assert a.endswith("p = 0.001, 0.004 adjusted for 4 comparisons): a gain larger than the noise.")
    assert b.endswith("p = 0.03, 0.06 adjusted for 4 comparisons): no more than the noise where so many are compared.")
    assert c.endswith(": no more than the noise of the test queries.")


def test_tables_show_the_adjusted_p_where_several_rows_are_tested() -> None:
    number = {"mean": 40.0, "std": None, "seeds": [40.0]}

    def row(name: str, p: float | None) -> dict[str, Any]:
        return {
            "name": name, "head": "xpool", "keywords": {}, "parameters": 7, "seconds": [1.0], "val": {"R@1": number},
            "test": dict.fromkeys(("R@1", "R@5", "R@10", "MdR", "MnR"), number),
            "against_baseline": {} if p is None else {"R@1": {"p_value": p}},
        }  # fmt: skip

    result = {"study": "s", "command": "c", "time": "t", "hash": "h", "baseline": "mean", "verdicts": [],
              "rows": [row("mean", None), row("one", 0.01), row("two", 0.04)], "caveats": [], "reads": {"before": 0},
              "store": {"dataset": "toy", "protocol": "toy", "fingerprint": "f",
                        "splits": {"test": {"captions": 20, "videos": 10}}}}  # fmt: skip
    text, tex = markdown(result), latex(result)
    assert "resampling videos, each by itself; 'p, Holm' is adjusted for 2 comparisons." in text
    assert "| p | p, Holm |" in text
    assert "| one | 40.0 | 40.0 | 40.0 | 40.0 | 40.0 | - | 0.0100 | 0.0200 | 40.0 |" in text
    assert "| mean | 40.0 | 40.0 | 40.0 | 40.0 | 40.0 | - | - | - | 40.0 |" in text
    assert r"two & 40.0 & 40.0 & 40.0 & 40.0 & 40.0 & - & 0.0400 & 0.0400 & 40.0 & - \\" in tex
    result["rows"].pop()
    assert "Holm" not in markdown(result) + latex(result)


# -- published rows --------------------------------------------------------------------------------------------------


def test_every_published_row_is_there_with_its_source() -> None:
    counts: dict[str, int] = {}
    for row in published():
        counts[row["source"]] = counts.get(row["source"], 0) + 1
        assert 0 < row["R@1"] < row["R@5"] <= (row["R@10"] or 100)
        assert row["how"]
    xpool, mgfi = "X-Pool (Gorti et al., CVPR 2022)", "MGFI and CMFI (Li et al., arXiv 2407.12798)"
    assert counts == {f"{xpool}, table {i}": n for i, n in ((1, 10), (2, 7), (3, 9), (4, 10))} | {
        f"{mgfi}, table {i}": n for i, n in ((1, 7), (2, 7), (3, 7), (4, 5))
    }


@pytest.mark.parametrize(
    ("dataset", "protocol", "method", "r1"),
    [
        ("msrvtt", "1k-A-9k", "MGFI + CMFI", 48.4),
        ("msrvtt", "1k-A-7k", "X-Pool", 43.9),
        ("msvd", "msvd", "X-Pool", 47.2),
        ("lsmdc", "lsmdc", "X-Pool", 25.2),
        ("didemo", "didemo", "MGFI + CMFI", 46.1),
    ],
)
def test_rows_stand_beside_their_own_data_and_are_marked(dataset: str, protocol: str, method: str, r1: float) -> None:
    rows = [row for row in published_for(dataset, protocol) if row["method"] == method]
    assert {row["R@1"] for row in rows} == {r1}
    assert {row["how"] for row in rows} == {"fine-tuned end to end"}


def test_a_protocol_that_the_papers_do_not_have_has_no_rows() -> None:
    assert published_for("toy", "toy") == published_for("msrvtt", "full") == []


def test_published_rows_stand_in_the_tables() -> None:
    number = {"mean": 40.0, "std": 1.0, "seeds": [39.0, 41.0]}
    row = {"name": "x_pool", "head": "xpool", "keywords": {}, "against_baseline": {}, "parameters": 7, "seconds": [1.0],
           "test": dict.fromkeys(("R@1", "R@5", "R@10", "MdR", "MnR"), number), "val": {"R@1": number}}  # fmt: skip
    result = {"study": "s", "command": "c", "time": "t", "hash": "h", "baseline": "mean", "rows": [row],
              "verdicts": [], "caveats": [], "reads": {"before": 0},
              "store": {"dataset": "msvd", "protocol": "msvd", "fingerprint": "f",
                        "splits": {"test": {"captions": 27763, "videos": 670}}}}  # fmt: skip
    text = markdown(result)
    assert "| X-Pool | 47.2 | 77.4 | 86 | 2 | 9.3 | fine-tuned end to end |" in text
    assert "| CLIP | 37 | 64.1 | 73.8 | 3 | - | zero-shot CLIP, nothing trained |" in text
    tex = latex(result)
    assert r"x\_pool & 40.0 $\pm$ 1.0 &" in tex
    assert "X-Pool (fine-tuned end to end) & 47.2" in tex
    note = "table 3): MSVD's clips are distributed without sound, so none of this can come from it"
    assert f"- MGFI + CMFI (MGFI and CMFI (Li et al., arXiv 2407.12798), {note}\n" in text
    assert rf"(Li et al., arXiv 2407.12798), {note}\par}}" in tex


def test_a_note_names_a_row_of_its_table() -> None:
    told = json.loads(files("lab.studies").joinpath("published.json").read_text(encoding="utf-8"))
    noted = {(name, table["data"]) for table in told["tables"] for name in table.get("notes", {})}
    assert noted == {("X-Pool", "MSR-VTT 9k"), ("MGFI + CMFI", "MSVD")}
    assert {(row["method"], row["data"]) for row in published() if row["note"]} == noted
    rows = [row for row in published_for("msrvtt", "1k-A-9k") if row["method"] == "X-Pool"]
    ours, quoted = ([row[name] for name in ("R@1", "R@5", "R@10", "MdR", "MnR")] for row in rows)
    assert quoted != ours
    note = next(row["note"] for row in published() if row["method"] == "X-Pool" and row["note"])
    assert note == f"X-Pool's own paper has {', '.join(map(str, ours))}"


# -- side by side ----------------------------------------------------------------------------------------------------


@pytest.fixture
def runs(full: Path, tmp_path: Path) -> Path:
    shutil.copytree(full, tmp_path / "toy.zarr")
    rows = '[[rows]]\nhead = "mean"\n[[rows]]\nhead = "topk"\nkeywords.top_k = {}\n'
    for k in (1, 2):
        (tmp_path / "mine.toml").write_text('kind = "grid"\n' + rows.format(k))
        where = ["--store", str(tmp_path / "toy.zarr"), "--runs", str(tmp_path / "runs"), "--name", f"k{k}"]
        assert cli.run(main, [str(tmp_path / "mine.toml"), *where]) == 0
    return tmp_path / "runs"


def test_studies_side_by_side(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert cli.run(main, ["compare", "k1", str(runs / "k2"), "k1:mean", "--runs", str(runs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[1:5]] == [
        ["k1", "mean", "*"], ["k1", "topk", "*"], ["k2", "mean", "toy"], ["k2", "topk", "*"]
    ]  # fmt: skip
    with np.load(runs / "k1" / "ranks.npz") as one, np.load(runs / "k2" / "ranks.npz") as two:
        wins = int((one["t2v_1"] < two["t2v_1"]).sum())
        losses = int((one["t2v_1"] > two["t2v_1"]).sum())
        level = one["t2v_1"].size - wins - losses
    against = next(line for line in lines if line.startswith("k2 (topk)"))
    assert against.split()[2:5] == [str(wins), str(losses), str(level)]
    raw, adjusted = zip(*([float(cell) for cell in line.split()[-2:]] for line in lines[7:9]), strict=True)
    assert adjusted == pytest.approx(holm(raw), abs=2e-4)
    assert cli.run(main, ["compare", "k1", "k2", "--runs", str(runs)]) == 0
    assert "Holm" not in capsys.readouterr().out


def test_captions_that_one_study_wins_and_loses_are_of_validation(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert cli.run(main, ["compare", "k1", "k2", "--captions", "2", "--runs", str(runs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("captions of validation that k1 (topk) wins, and loses, by most against k2 (topk):")
    store, one, two = open_store(runs.parent / "toy.zarr"), *(read_ranks(runs / k, 1, "val") for k in ("k1", "k2"))
    (mine,), (theirs,) = one.ranks, two.ranks
    assert one.caption.tolist() == [row for row, each in enumerate(store.captions) if each["splits"]["whole"] == "val"]
    assert set(one.video) == {store.captions[row]["video"] for row in one.caption}
    shown = {}
    for line in lines[start + 2 :]:
        (t,) = (t for t, row in enumerate(one.caption) if line.startswith(f"{store.captions[row]['text']}  "))
        video, *ranks = line.removeprefix(store.captions[one.caption[t]]["text"]).split()
        assert video == store.videos[one.video[t]]["id"]
        assert [float(rank) for rank in ranks] == [mine[t], theirs[t]]
        shown[t] = float(theirs[t] / mine[t])
    rises = (theirs / mine).tolist()
    wins, losses = (sorted(rise for rise in rises if (rise > 1) == won and rise != 1) for won in (True, False))
    assert sorted(shown.values()) == pytest.approx(losses[:2] + wins[-2:])
    assert list(shown.values()) == sorted(shown.values(), reverse=True)
    assert not list(runs.parent.glob("*.reads.jsonl")) or "val" not in log_file(store).read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["k1", "--captions", "2"], "--captions compares two results or more, got one: name another"),
        (["k1", "k2", "--captions", "-1"], "0 <= captions must hold, got --captions -1"),
        (
            ["k1", "old", "--captions", "1"],
            "was made before ranks on 'val' were kept: run the study anew under another name (--name)",
        ),
        (["k1", "other", "--captions", "1"], "have other captions: --captions compares studies on the same"),
    ],
)
def test_captions_that_cannot_be_compared(
    runs: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("old", "other"):
        shutil.copytree(runs / "k2", runs / name)
    with np.load(runs / "old" / "ranks.npz") as arrays:
        np.savez(runs / "old" / "ranks.npz", **{name: arrays[name] for name in arrays if "val_" not in name})
    with np.load(runs / "other" / "ranks.npz") as arrays:
        np.savez(runs / "other" / "ranks.npz", **{**arrays, "val_caption": arrays["val_caption"] + 1})
    assert cli.run(main, ["compare", *arguments, "--runs", str(runs)]) == 2
    assert said in capsys.readouterr().err


def test_captions_of_another_collection_are_not_shown(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = runs.parent / "toy.zarr"
    group = json.loads((path / "zarr.json").read_text())
    group["attributes"]["passport"]["dataset"]["version"] = "2"
    (path / "zarr.json").write_text(json.dumps(group))
    assert cli.run(main, ["compare", "k1", "k2", "--captions", "1", "--runs", str(runs)]) == 2
    assert f"{path} is of another collection than {runs / 'k1'}: --captions needs" in capsys.readouterr().err


def test_studies_whose_directories_share_a_name(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = runs.parent / "more" / "k1"
    shutil.copytree(runs / "k2", other)
    capsys.readouterr()
    assert cli.run(main, ["compare", "k1", str(other), "k2", "--runs", str(runs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    studies = [line.split()[0] for line in lines[1:7]]
    assert studies == ["runs/k1", "runs/k1", "more/k1", "more/k1", "k2", "k2"]
    assert lines[7].startswith("query by query, runs/k1 (topk) against")
    assert [line.split()[0] for line in lines[9:]] == ["more/k1", "k2"]


@pytest.mark.parametrize("change", [{"name": "msvd"}, {"version": "2"}])
def test_other_queries_are_not_compared(change: dict[str, str], runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = json.loads((runs / "k2" / "result.json").read_text())
    result["store"]["passport"]["dataset"] |= change
    (runs / "k2" / "result.json").write_text(json.dumps(result))
    capsys.readouterr()
    assert cli.run(main, ["compare", "k1", "k2", "--runs", str(runs)]) == 0
    told = capsys.readouterr().out
    assert "other queries" in told
    shown = [line.split()[2:5] for line in told.splitlines()[1:5]]
    if "version" in change:  # one name for two collections, as all folders have it
        assert (shown[1], shown[3]) == (["*", "toy", "1"], ["*", "toy", "2"])
    else:
        assert (shown[1], shown[3]) == (["*", "toy", "whole"], ["*", "msvd", "whole"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "compare needs results to compare"),
        (["k3"], "unknown result 'k3': did you mean 'k"),
        (["k1:tokp"], "unknown row of k1 'tokp': did you mean 'topk'?"),
    ],
)
def test_what_cannot_be_compared(
    runs: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert cli.run(main, ["compare", *arguments, "--runs", str(runs)]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("how", ["cut", "other bytes", "other queries"])
def test_ranks_that_cannot_be_read_are_one_line(how: str, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = runs / "k1" / "ranks.npz"
    content = bytearray(file.read_bytes())
    if how == "cut":
        file.write_bytes(content[:-100])
    elif how == "other bytes":
        content[60:70] = bytes(range(246, 256))
        file.write_bytes(content)
    else:
        with np.load(file) as arrays:
            np.savez(file, **{**arrays, "video": arrays["video"][:3]})
    capsys.readouterr()
    assert cli.run(main, ["compare", "k1", "k2", "--runs", str(runs)]) == 2
    err = capsys.readouterr().err
    assert "ranks.npz is gone or damaged (" in err
    assert err.count("\n") == 1


def test_a_damaged_result_is_one_line(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "k1" / "ranks.npz").write_bytes(b"PK no")
    (runs / "k2" / "result.json").write_text("{")
    capsys.readouterr()
    for name, said in (("k1", "ranks.npz is gone or damaged"), ("k2", "result.json is damaged")):
        assert cli.run(main, ["compare", name, "--runs", str(runs)]) == 2
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda told: told.update(store=5), "store is not what it is in one"),
        (lambda told: told.update(rows=[]), "rows is not"),
        (lambda told: told["rows"][0].pop("name"), "rows.0.name is not"),
        (lambda told: told["rows"][1]["test"].update({"R@1": float("inf")}), "rows.1.test.R@1 is not"),
        (lambda told: told["rows"][1]["val"].pop(told["objective"]), "rows.1.val.gm(R@1,5,10) is not"),
        (lambda told: told["store"]["passport"].pop("dataset"), "store.passport.dataset is not"),
    ],
)
def test_a_result_of_another_form_is_one_line(
    runs: Path, change: Callable[[Any], Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.loads((runs / "k1" / "result.json").read_text())
    change(told)
    (runs / "k1" / "result.json").write_text(json.dumps(told))
    capsys.readouterr()
    assert cli.run(main, ["compare", "k1", "k2", "--runs", str(runs)]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_setting_without_bounds_is_the_same_after_reading_and_what_is_unknown_is_null(
    runs: Path, tmp_path: Path
) -> None:
    result = read_result(runs / "k1")
    assert result is not None
    result["rows"][0]["keywords"] = {"temperature": float("inf"), "unknown": float("nan")}
    write_result(tmp_path, result)
    assert "Infinity" not in (tmp_path / "result.json").read_text()
    assert "NaN" not in (tmp_path / "result.json").read_text()
    again = read_result(tmp_path)
    assert again is not None
    assert again["rows"][0]["keywords"] == {"temperature": float("inf"), "unknown": None}

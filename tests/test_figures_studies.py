"""Figures of finished studies: what they show is what results and trials say, and what is missing says its command."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from pictured import leaving, make, texts_of

from lab import cli
from lab.figures import STUDY_FIGURES, NoData, diversity, published, rows, style, trials
from lab.figures.__main__ import main
from lab.figures.finished import Studies, Trial, named, newest
from lab.store import open_store
from lab.study import main as study

TRAIN = "seeds = 1\n[train]\nepochs = 1\nbatch = 12\naudio_epochs = 1\n"
#: One small study of each kind, by name.
FILES = {
    "search": 'kind = "search"\nhead = "xpool"\nbaseline = "mean"\ntrials = 5\npruner = "none"\n' + TRAIN
    + "[search]\nlr = { log = [1e-5, 1e-2] }\ndropout = { float = [0.0, 0.6], step = 0.1 }\n",
    "pooling": 'kind = "search"\nhead = "topk"\nbaseline = "mean"\ntrials = 9\n[search]\ntop_k = { int = [1, 6] }\n',
    "heads": 'kind = "grid"\nbaseline = "mean"\n' + TRAIN + '[[rows]]\nhead = "mean"\n[[rows]]\nhead = "topk"\n'
    'search.top_k = { int = [1, 4] }\n[[rows]]\nhead = "xpool"\n',
    "parts": 'kind = "grid"\nbaseline = "base"\n' + TRAIN + '[[rows]]\nname = "base"\nhead = "mean"\n'
    '[[rows]]\nname = "s-f"\nhead = "sf"\n[[rows]]\nname = "w-f"\nhead = "wf"\n'
    '[[rows]]\nname = "s-f a-s"\nhead = "cmfi"\nkeywords.video = "sf"\n',
    "longer": 'kind = "sweep"\nsweep = "diversity"\ninserted = [0, 1, 3]\ndraws = 2\nbaseline = "mean"\n' + TRAIN
    + '[[rows]]\nhead = "mean"\n[[rows]]\nhead = "topk"\nkeywords.top_k = 2\n',
}  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made") / "made.zarr")


@pytest.fixture(scope="module")
def home(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where each of the studies was run to its end."""
    folder = tmp_path_factory.mktemp("studies")
    for name, told in FILES.items():
        (folder / f"{name}.toml").write_text(told)
        assert cli.run(study, [str(folder / f"{name}.toml"), "--store", str(path), "--runs", str(folder)]) == 0
    file = folder / "search-made" / "result.json"
    result = json.loads(file.read_text())
    result["search"]["importance"] = {"lr": 0.8, "dropout": 0.2}  # five trials are too few to tell
    file.write_text(json.dumps(result))
    return folder


@pytest.fixture(scope="module")
def studies(path: Path, home: Path) -> Studies:
    return newest(open_store(path), "made", home)


@pytest.fixture(scope="module")
def drawn(studies: Studies, home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Figure]:
    papers = posing(home / "heads-made", tmp_path_factory.mktemp("papers"))
    return {name: draw(papers if name == "published" else studies) for name, draw in STUDY_FIGURES.items()}


def posing(home: Path, folder: Path, **store: str) -> Studies:
    """A study as if it had been run on a data set of the papers."""
    result = json.loads((home / "result.json").read_text())
    result["store"] |= {"dataset": "msrvtt", "protocol": "1k-A-9k", "path": "gone.zarr"} | store
    shutil.copytree(home, folder / home.name, ignore=shutil.ignore_patterns("runs"), dirs_exist_ok=True)
    (folder / home.name / "result.json").write_text(json.dumps(result))
    return named([str(folder / home.name)])


def told_on(figure: Figure) -> str:
    return "\n".join(" ".join(text.get_text().split()) for text in texts_of(figure))


# -- what every figure has -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "labels"),
    {
        "grid": ["study heads-made (20", "R@1 (%)", "R@10 (%)", "validation: 10 videos", "xpool", "made.zarr"],
        "ablation": ["study parts-made", "s-f", "w-f", "a-s", "R@5 (%)", "validation"],
        "published": [
            "frozen features, this lab",
            "fine-tuned end to end",
            "MGFI + CMFI [2]",
            "X-Pool [1]",
            "[2] MGFI",
            "X-Pool [2]: X-Pool's own paper has 46.9, 72.8, 82.2",
        ],
        "importance": ["study search-made", "lr", "dropout", "change (%)", "PED-ANOVA", "trials (little to go by)"],
        "history": ["study search-made", "trial", "best so far", "mean: ", "val gm(R@1,5,10) (%)", "the best: "],
        "plateau": ["study pooling-made", "k frames averaged", "shaded: spanned by the"],
        "diversity": ["study longer-made", "median rank (1 is best)", "inserted videos", "means of 2 draws", "topk"],
    }.items(),
)
def test_a_figure_is_legible_and_says_what_it_shows(name: str, labels: list[str], drawn: dict[str, Figure]) -> None:
    figure = drawn[name]
    shown = list(texts_of(figure))
    assert figure.get_size_inches()[0] in (style.COLUMN, style.TEXT)
    assert figure.get_size_inches()[1] < 9.5
    assert min(text.get_fontsize() for text in shown) >= 7
    assert not leaving(figure, shown)
    told = told_on(figure)
    for label in labels:
        assert label in told, f"'{label}' is not among:\n{told}"


def test_heads_have_their_colours(drawn: dict[str, Figure]) -> None:
    colours = {to_hex(bar.get_facecolor()) for bar in drawn["importance"].axes[0].patches}
    assert colours == {style.colour("xpool").lower()}
    lines = {line.get_label(): to_hex(line.get_color()) for line in drawn["diversity"].axes[0].lines}
    assert lines["mean"] == style.colour("mean").lower()
    assert lines["topk"] == style.colour("topk").lower()


# -- numbers -------------------------------------------------------------------------------------------------------


def test_importance_is_the_results(studies: Studies, drawn: dict[str, Figure]) -> None:
    one = next(one for one in studies.found if one.home.name == "search-made")
    widths = [bar.get_width() / 100 for bar in drawn["importance"].axes[0].patches]
    assert widths == pytest.approx(list(one.result["search"]["importance"].values())) == [0.8, 0.2]


def test_history_shows_each_trial_and_the_best_so_far() -> None:
    values = [40.0, 45.0, None, 43.0, 50.0]
    states = ["complete", "complete", "pruned", "pruned", "complete"]
    done = [Trial(i, state, value, {}) for i, (state, value) in enumerate(zip(states, values, strict=True))]
    axes = trials.history_dots(done, "R@1", "#0072B2").axes[0]
    found = {line.get_label(): line for line in axes.lines}
    assert found["trial"].get_ydata().tolist() == [40, 45, 50]
    assert list(found["best so far"].get_ydata()) == [40, 45, 50, 50]
    assert list(found["pruned"].get_xdata()) == [2, 3]
    assert found["pruned"].get_ydata()[0] == axes.get_ylim()[0]  # it has no value
    assert found["pruned"].get_ydata()[1] == 43
    least = trials.history_dots(done, "MdR", "#0072B2", highest=False).axes[0]
    best = next(line for line in least.lines if line.get_label() == "best so far")
    assert list(best.get_ydata()) == [40, 40, 40, 40]


def test_the_plateau_is_what_the_result_says(studies: Studies, drawn: dict[str, Figure]) -> None:
    one = next(one for one in studies.found if one.home.name == "pooling-made")
    axes = drawn["plateau"].axes[0]
    span = one.result["search"]["plateau"]["settings"]["top_k"]
    ends = [
        line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1 and line.get_marker() == "None"
    ]
    assert ends == [span["low"], span["high"]]
    curve = next(line for line in axes.lines if len(line.get_xdata()) == 6)
    assert dict(zip(curve.get_xdata(), curve.get_ydata(), strict=True)) == {
        each.settings["top_k"]: each.value for each in one.trials
    }


def test_a_grid_shows_what_it_chose_by(home: Path) -> None:
    axes = trials.plateau(named([str(home / "heads-made")])).axes[0]
    tried = json.loads((home / "heads-made" / "result.json").read_text())["choices"]["topk"]
    assert axes.lines[0].get_ydata().tolist() == [each["value"] for each in tried]
    assert axes.get_xlabel() == "k frames averaged"


def test_settings_of_several_heads_are_named_whole() -> None:
    tried = {"topk": "top_k", "softmax": "temperature", "cmfi": "fusion_weight"}
    panels = [trials.Tried(setting, [1, 2], [1.0, 2.0], head=head) for head, setting in tried.items()]
    labels = [axes.get_xlabel() for axes in trials.tried_panels(panels, "R@1").axes]
    assert labels == ["topk: k frames averaged", "softmax: temperature", "cmfi: weight of the sound"]


def test_trained_searches_have_a_panel_a_setting(home: Path) -> None:
    figure = trials.plateau(named([str(home / "search-made")]))
    assert sorted(axes.get_xlabel() for axes in figure.axes) == ["dropout", "lr"]
    assert next(axes for axes in figure.axes if axes.get_xlabel() == "lr").get_xscale() == "log"
    choice = trials.Tried("projection", ["none", "linear"], [1.0, 2.0], head="mean")
    labels = trials.tried_panels([choice], "MRR").axes[0].get_xticklabels()
    assert [text.get_text() for text in labels] == ["linear", "none"]


def test_the_sweep_shows_each_draw(studies: Studies, drawn: dict[str, Figure]) -> None:
    one = next(one for one in studies.found if one.result["kind"] == "sweep")
    for label, found in one.result["sweep"]["rows"].items():
        line = next(line for line in drawn["diversity"].axes[0].lines if line.get_label() == label)
        np.testing.assert_allclose(line.get_ydata(), np.mean(found["MdR"], 1))
    with pytest.raises(NoData, match=r"python -m lab\.study diversity --dataset made"):
        diversity.diversity(Studies([], "made", "nowhere"))


def test_validation_stands_below_test_with_the_interval_of_the_result(studies: Studies) -> None:
    one = next(one for one in studies.found if one.home.name == "heads-made")
    for row in one.rows:
        found = rows.row_of(one, row)
        assert list(found.splits) == ["test", "validation"]
        for metric in rows.METRICS:
            for name, split in (("test", "test"), ("validation", "val")):
                interval, told = found.splits[name][metric], row[split][metric]
                assert (interval.value, interval.low, interval.high) == (told["mean"], told["low"], told["high"])
        alone = {metric: {"mean": 50.0} for metric in row["val"]}  # of one video
        assert list(rows.row_of(one, row | {"val": alone}).splits) == ["test"]


def test_a_head_that_a_result_names_is_drawn_and_not_run(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose result it is may be anyone; what is drawn stands in it, without store or runs, and validation does too."""
    (tmp_path / "evil_head.py").write_text("import sys\nsys.evil = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    one = posing(home / "heads-made", tmp_path, dataset="made")
    for change in ({"head": "evil_head:Head"}, {"head": "cmfi", "keywords": {"video": "evil_head:Head"}}):
        one.found[0].rows[-1].update(change)
        figure = rows.grid(one)
        assert "validation: 10 videos" in told_on(figure)
        hollow = [line for line in figure.axes[0].lines if line.get_mfc() == "white"]
        assert len(hollow) == len(one.found[0].rows)
    assert not hasattr(sys, "evil")


def test_the_ablation_knows_the_parts_and_the_papers_table(home: Path, tmp_path: Path) -> None:
    one = posing(home / "parts-made", tmp_path)
    assert [rows._parts_of(row) for row in one.found[0].rows] == [(), ("s-f",), ("w-f",), ("s-f", "a-s")]
    figure = rows.ablation(one)
    assert "in the paper, fine-tuned end to end" in told_on(figure)
    values = [line.get_xdata()[0] for line in figure.axes[1].lines if line.get_marker() == "D"]
    assert values == [43.1, 46.8, 46.7, 48.2]  # MGFI, table 1, R@1


def test_published_numbers_stand_apart_and_once(home: Path, tmp_path: Path, drawn: dict[str, Figure]) -> None:
    told = told_on(drawn["published"])
    assert told.count("CLIP4Clip-meanP [1,2]") == 1
    assert "base +" not in told
    hollow = [
        line for line in drawn["published"].axes[0].lines if line.get_marker() == "D" and line.get_mfc() == "white"
    ]
    assert len(hollow) >= 10
    assert all(to_hex(line.get_color()) == style.PRINT.lower() for line in hollow)
    with pytest.raises(NoData, match="the papers have no table of made, only of msrvtt 1k-A-9k"):
        published.published(named([str(home / "heads-made")]))
    both = [str(home / "heads-made"), str(home / "parts-made")]
    for each in both:
        posing(Path(each), tmp_path)
    figure = published.published(named([str(tmp_path / Path(each).name) for each in both]))
    assert "mean (heads)" in told_on(figure)
    assert "s-f (parts)" in told_on(figure)


def test_the_numbers_behind_each_figure_are_the_studies(studies: Studies, drawn: dict[str, Figure]) -> None:
    by_name = {one.home.name: one for one in studies.found}
    tables = {name: figure.table for name, figure in drawn.items()}
    assert all(tables.values())
    grid = {(row["row"], row["split"], row["metric"]): row for row in tables["grid"]}
    for row in by_name["heads-made"].rows:
        for name, split in (("test", "test"), ("validation", "val")):
            told, found = row[split]["R@5"], grid[row["name"], name, "R@5"]
            assert (found["value"], found["low"], found["unit"]) == (told["mean"], told["low"], "%")
    assert {row["setting"]: row["share"] for row in tables["importance"]} == {"lr": 0.8, "dropout": 0.2}
    *tried, base = tables["history"]
    assert [(row["trial"], row["value"]) for row in tried] == [
        (trial.number, trial.value) for trial in by_name["search-made"].trials
    ]
    assert set(tried[0]) >= {"state", "metric", "unit", "lr", "dropout"}
    dashed = next(line for line in drawn["history"].axes[0].lines if line.get_linestyle() == "--")
    assert (base["state"], base["trial"], base["row"], base["head"]) == ("baseline", None, "mean", "mean")
    assert [base["value"]] * 2 == list(dashed.get_ydata())
    assert base["metric"] == tried[0]["metric"]
    drawn_of = by_name["longer-made"].result["sweep"]["rows"]["topk"]["MdR"]
    of_topk = [row for row in tables["diversity"] if row["row"] == "topk"]
    assert [(row["inserted_videos"], row["draw"]) for row in of_topk] == [(n, d) for n in (0, 1, 3) for d in (1, 2)]
    assert [row["median_rank"] for row in of_topk] == [value for draws in drawn_of for value in draws]
    settings = {row["setting_value"]: row["value"] for row in tables["plateau"]}
    assert settings == {each.settings["top_k"]: each.value for each in by_name["pooling-made"].trials}
    assert {row["trained"] for row in tables["published"]} > {"frozen features, this lab", "fine-tuned end to end"}


def test_the_papers_numbers_stand_in_the_ablations_table(home: Path, tmp_path: Path) -> None:
    table = rows.ablation(posing(home / "parts-made", tmp_path)).table
    printed = [row["value"] for row in table if row["split"] == "paper" and row["metric"] == "R@1"]
    assert printed == [43.1, 46.8, 46.7, 48.2]


# -- which studies, and the command --------------------------------------------------------------------------------


def figures(*arguments: object) -> int:
    return cli.run(main, [str(argument) for argument in arguments])


def test_the_newest_study_of_these_features_is_taken(home: Path, path: Path, tmp_path: Path) -> None:
    for name, changes in {"old": {"time": "2001"}, "new": {"time": "2999"}, "other": {}, "broken": {}}.items():
        shutil.copytree(home / "pooling-made", tmp_path / name)
        result: dict[str, Any] = json.loads((tmp_path / name / "result.json").read_text()) | changes
        if name == "other":
            result["store"]["passport"]["frames"] = {"model": "another"}
        (tmp_path / name / "result.json").write_text("{" if name == "broken" else json.dumps(result))
    assert [one.home.name for one in newest(open_store(path), "made", tmp_path).found] == ["new", "old"]


def test_a_study_by_name_needs_no_store(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--study", "search-made", "--studies", home, "--out", tmp_path]
    assert figures("importance", "history", *asked) == 0
    written = {file.name for file in tmp_path.iterdir()}
    assert written == {"importance.pdf", "importance.png", "history.pdf", "history.png"}
    assert f"2 figures of the studies search-made in {tmp_path}/" in capsys.readouterr().out
    assert figures(*asked) == 0  # all that it has
    told = capsys.readouterr().err
    assert "\nleft out, for want of data: grid, ablation, published, diversity (name one to hear why)\n" in told
    assert "warning" not in told
    assert figures("history", "diversity", *asked) == 0
    told = capsys.readouterr().err
    assert "diversity left out: no sweep of inserted videos in search-made: python -m lab.study diversity" in told
    assert told.rstrip().endswith(f"lab.study diversity --dataset made --runs {home}")
    assert "for want of data" not in told


def test_what_is_missing_says_its_command(
    home: Path, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = {
        "grid": "heads", "ablation": "ablation", "published": "heads", "importance": "xpool_head",
        "history": "xpool_head", "plateau": "topk", "diversity": "diversity",
    }  # fmt: skip
    assert commands.keys() == STUDY_FIGURES.keys()
    assert figures(*commands, "--store", path, "--studies", tmp_path, "--out", tmp_path) == 1
    told = " ".join(capsys.readouterr().err.split())
    for name, command in commands.items():
        assert f"{name} left out: no " in told
        assert f"on the features of made.zarr: python -m lab.study {command} --store {path} --runs {tmp_path}" in told
    assert figures("history", "--study", tmp_path / "xpool_head-toy", "--studies", tmp_path) == 2
    assert "xpool_head-toy: python -m lab.study xpool_head makes one" in capsys.readouterr().err
    assert figures("history", "--study", "serch-made", "--studies", home) == 2
    assert "did you mean 'search-made'?" in capsys.readouterr().err
    shutil.copytree(home / "search-made", tmp_path / "search-made")
    (tmp_path / "search-made" / "trials.parquet").unlink()
    assert figures("history", "--study", tmp_path / "search-made", "--out", tmp_path) == 1
    assert "trials.parquet is gone or damaged" in capsys.readouterr().err

"""What rows of a study share is trained once, and what needs no training is chosen after it."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import start_study
from safetensors.torch import load_file

from lab import cli
from lab.runs import Run, load_run
from lab.similarity import similarity_matrix
from lab.store import open_store
from lab.studies import trainings
from lab.studies.cached import settle
from lab.studies.guard import SealedStore
from lab.studies.rows import Chosen, train_all
from lab.studies.saved import claimed
from lab.studies.setups import Setup, Study, quality
from lab.studies.splits import Fitted, Splits
from lab.study import main
from lab.training.loop import train
from lab.training.task import train_on

HOW = {"epochs": 2, "audio_epochs": 1, "batch": 256, "lr": 1e-2, "audio_lr": 1e-2}
SEEN = Setup("seen", "xpool", HOW)
HEARD = Setup("heard", "cmfi", HOW, {"video": "xpool"})
WEIGHTS = (0.0, 0.3, 1.0)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is trained."""
    done, train = [], trainings.train_stack

    def counted(members: Any, *given: Any, **options: Any) -> Any:
        done.extend(type(member.head).__name__ for member in members)
        return train(members, *given, **options)

    monkeypatch.setattr(trainings, "train_stack", counted)
    return done


def splits_of(store: Path, *setups: Setup) -> Splits:
    return Splits(SealedStore(open_store(store)), Study("g", "grid", setups, setups[0].name, seeds=1), "cpu")


def test_a_video_side_is_trained_once(full: Path, trained: list[str]) -> None:
    splits = splits_of(full, SEEN, HEARD)
    seen, heard = splits.fit(SEEN), splits.fit(HEARD)
    assert trained == ["XPool", "CMFI"]
    side: Any = heard.head.video
    weights = seen.head.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in side.state_dict().items())
    assert [(epoch.epoch, epoch.stage) for epoch in heard.epochs] == [(1, "video"), (2, "video"), (3, "audio")]
    assert heard.run.seconds > seen.run.seconds
    assert heard.run.recipe["logit_scale"] == seen.run.recipe["logit_scale"]
    again = splits.fit(HEARD)
    assert trained == ["XPool", "CMFI"]
    assert again.metrics == heard.metrics
    splits.fit(SEEN, seed=1)
    splits.fit(Setup("other", "xpool", HOW | {"lr": 1e-3}))
    assert trained == ["XPool", "CMFI", "XPool", "XPool"]


def test_it_makes_no_difference_who_comes_first(full: Path) -> None:
    alone = splits_of(full, HEARD).fit(HEARD)
    splits = splits_of(full, SEEN, HEARD)
    reports: list[int] = []
    splits.fit(SEEN)

    def on_epoch(epoch: int, told: dict[int, dict[str, float]]) -> list[int]:
        reports.append(epoch)
        return []

    ((_, after),) = splits.fit_all({7: (HEARD, None)}, on_epoch)
    assert isinstance(after, Fitted)
    assert reports == [1, 2, 3]
    assert all(torch.equal(value, after.head.state_dict()[name]) for name, value in alone.head.state_dict().items())


def test_a_study_trains_a_head_with_sound_as_the_command_does(full: Path) -> None:
    """One recipe with one seed is one head, whoever trains its first stage, and whether it has sound beside it."""
    splits = splits_of(full, SEEN, HEARD)
    splits.fit(SEEN)
    task = splits.task(HEARD, *splits.build(HEARD))
    alone, fitted = train_on(task), splits.fit(HEARD)
    assert alone.head is not fitted.head
    assert alone.run.kept["epoch"] == fitted.run.kept["epoch"] == 3
    assert [epoch.loss for epoch in alone.history.epochs] == [epoch.loss for epoch in fitted.epochs]
    weights = fitted.head.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in alone.head.state_dict().items())


def test_only_a_first_of_two_stages_can_be_over(full: Path) -> None:
    splits = splits_of(full, SEEN)
    task = splits.task(SEEN, *splits.build(SEEN))
    done = train_on(task).history
    with pytest.raises(ValueError, match="after its first stage where it has two"):
        train(task.head, *task.training, task.recipe, after=done)


def test_heads_without_a_sound_beside_them_are_not_kept(full: Path, trained: list[str]) -> None:
    splits = splits_of(full, SEEN)
    splits.fit(SEEN)
    splits.fit(SEEN)
    assert trained == ["XPool", "XPool"]


def test_a_weight_is_chosen_by_the_mean_over_seeds(full: Path) -> None:
    setup = Setup("heard", "cmfi", HOW, {"video": "mean"}, choose={"fusion_weight": WEIGHTS})
    study = Study("g", "grid", (setup,), "heard", objective="MRR")
    splits = Splits(SealedStore(open_store(full)), study, "cpu")
    settled, tried = settle(setup, splits, [splits.fit(setup, seed) for seed in (1, 2)])
    by_hand = []
    for weight in WEIGHTS:
        fixed = setup.with_after({"fusion_weight": weight})
        by_hand.append(sum(quality(splits.fit(fixed, seed).metrics, "MRR") for seed in (1, 2)) / 2)
    assert [value for _, value in tried] == pytest.approx(by_hand)
    best = WEIGHTS[by_hand.index(max(by_hand))]
    assert [each.setup.after for each in settled] == [{"fusion_weight": best}] * 2
    assert [each.run.after for each in settled] == [{"fusion_weight": best}] * 2
    assert not any("fusion_weight" in each.run.keywords for each in settled)
    assert [getattr(each.head, "fusion_weight") for each in settled] == [best] * 2  # noqa: B009 - mypy


def test_a_run_gives_way_with_all_that_stands_beside_it(full: Path, tmp_path: Path, trained: list[str]) -> None:
    splits, runs = splits_of(full, SEEN), tmp_path / "g" / "runs"

    def made(setup: Setup) -> dict[str, Any]:
        train_all([Chosen(setup)], splits, runs)
        assert [path.name for path in runs.iterdir()] == ["seen-s1"]
        told: dict[str, Any] = json.loads((runs / "seen-s1" / "run.json").read_text())
        return told

    made(SEEN)
    (runs / "seen-s1" / "ranks-val-whole.parquet").touch()  # as lab.evaluate leaves it
    other = replace(SEEN, recipe=HOW | {"lr": 1e-3})
    assert made(other)["recipe"]["lr"] == 1e-3
    assert not (runs / "seen-s1" / "ranks-val-whole.parquet").exists()
    (runs / "seen-s1" / "run.json").unlink()  # as a removal left it that was killed
    shutil.copytree(runs / "seen-s1", runs / ".seen-s1.gone")
    assert made(other)["recipe"]["lr"] == 1e-3
    assert trained == ["XPool"] * 3
    made(other)
    assert trained == ["XPool"] * 3


def test_a_weight_that_was_chosen_leaves_that_of_the_training(full: Path, tmp_path: Path, trained: list[str]) -> None:
    def setup(trained: float, *weights: float) -> Setup:
        return Setup(
            "heard", "cmfi", HOW, {"video": "mean", "fusion_weight": trained}, choose={"fusion_weight": weights}
        )

    def run_all(setup: Setup) -> tuple[float, Run]:
        """The weight of the head that the study goes on with, and what its run says, which loads as the same head."""
        splits = splits_of(full, setup)
        _, done = train_all([Chosen(setup)], splits, tmp_path / "runs")
        fitted = done[0][0]
        assert fitted.path is not None
        head, run = load_run(fitted.path)
        pairs = splits.load("val")
        assert torch.allclose(similarity_matrix(head, *pairs), similarity_matrix(fitted.head, *pairs), atol=1e-6)
        return float(getattr(head, "fusion_weight")), run  # noqa: B009 - mypy

    weight, run = run_all(setup(1.0, 0.1))
    assert (weight, run.keywords["fusion_weight"], run.after) == (0.1, 1.0, {"fusion_weight": 0.1})
    weight, again = run_all(setup(1.0, 0.3))  # weighed anew, and not trained
    assert (weight, again.keywords, again.after) == (0.3, run.keywords, {"fusion_weight": 0.3})
    assert trained == ["CMFI"]
    assert len((tmp_path / "runs" / "heard-s1" / "log.jsonl").read_text().splitlines()) == 1
    weight, other = run_all(setup(0.1, 0.3))  # another training, though its head was once weighed like this one
    assert (weight, other.keywords["fusion_weight"]) == (0.3, 0.1)
    assert trained == ["CMFI"] * 2
    weights = load_file(tmp_path / "runs" / "heard-s1" / "head.safetensors")
    by_hand = splits_of(full, HEARD).fit(Setup("mine", "cmfi", HOW, other.keywords), 1).head.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in by_hand.items())


STUDY = """
kind = "grid"
seeds = 2
train = { epochs = 1, audio_epochs = 1, batch = 256 }
[[rows]]
head = "xpool"
[[rows]]
name = "heard"
head = "cmfi"
keywords.video = "xpool"
choose.fusion_weight = [0.0, 0.5, 1.0]
[[rows]]
name = "heard, weight 1"
head = "cmfi"
keywords.video = "xpool"
"""


def test_a_grid_chooses_saves_and_resumes(full: Path, tmp_path: Path, trained: list[str]) -> None:
    shutil.copytree(full, tmp_path / "toy.zarr")
    (tmp_path / "mine.toml").write_text(STUDY)
    home = tmp_path / "runs" / "g"
    command = [str(tmp_path / "mine.toml"), "--store", str(tmp_path / "toy.zarr"), "--runs", str(tmp_path / "runs")]
    assert cli.run(main, [*command, "--name", "g"]) == 0
    assert trained == ["XPool"] * 2 + ["CMFI"] * 2
    assert not (home / "claims").exists()
    result = json.loads((home / "result.json").read_text())
    tried = {each["point"]["fusion_weight"]: each["value"] for each in result["choices"]["heard"]}
    weight = result["rows"][1]["keywords"]["fusion_weight"]
    assert tried[weight] == max(tried.values())
    saved = json.loads((home / "runs" / "heard-s1" / "run.json").read_text())
    assert saved["after"] == {"fusion_weight": weight}
    assert "fusion_weight" not in saved["keywords"]  # it was trained at the default
    assert saved["kept"]["metrics"] == pytest.approx(
        {name: result["rows"][1]["val"][name]["seeds"][0] for name in saved["kept"]["metrics"]}
    )
    for row in result["rows"]:
        for split in ("val", "test"):
            assert row[split]["R@1"]["low"] <= row[split]["R@1"]["mean"] <= row[split]["R@1"]["high"]
    shutil.rmtree(home / "runs" / "heard--weight-1-s2")
    (home / "result.json").unlink()
    trained.clear()
    assert cli.run(main, [*command, "--name", "g"]) == 0
    assert trained == ["CMFI"]  # over the video side that was read from disk
    again = json.loads((home / "result.json").read_text())
    assert (result["resumed"], again["resumed"]) == (False, True)  # whose clock knows not of the first start
    assert [row["test"] for row in again["rows"]] == [row["test"] for row in result["rows"]]


def test_a_search_weighs_its_trials_and_its_baseline_follows(full: Path, tmp_path: Path) -> None:
    shutil.copytree(full, tmp_path / "toy.zarr")
    (tmp_path / "mine.toml").write_text("""
head = "cmfi"
baseline = { head = "xpool", name = "without sound", follow = ["lr"] }
trials = 3
seeds = 1
pruner = "none"
train = { epochs = 1, audio_epochs = 1, batch = 256 }
keywords.video = "xpool"
choose.fusion_weight = [0.0, 1.0]
search.lr = { choice = [1e-5, 1e-2] }
search.audio_lr = { log = [1e-3, 1e-2] }
""")
    command = [str(tmp_path / "mine.toml"), "--store", str(tmp_path / "toy.zarr"), "--runs", str(tmp_path / "runs")]
    assert cli.run(main, [*command, "--name", "s"]) == 0
    result = json.loads((tmp_path / "runs" / "s" / "result.json").read_text())
    base, best = result["rows"]
    assert base["recipe"]["lr"] == best["recipe"]["lr"] == result["search"]["best"]["params"]["lr"]
    assert best["after_training"]["fusion_weight"] in (0.0, 1.0)
    assert len(result["choices"]["cmfi"]) == 2


def test_processes_share_the_trainings_of_a_grid(full: Path, tmp_path: Path) -> None:
    shutil.copytree(full, tmp_path / "toy.zarr")
    (tmp_path / "mine.toml").write_text(STUDY)
    home = tmp_path / "runs" / "g"
    command = [str(tmp_path / "mine.toml"), "--store", str(tmp_path / "toy.zarr"), "--runs", str(tmp_path / "runs")]
    command += ["--name", "g"]
    joined = start_study([*command, "--join"], tmp_path / "joined.txt")
    end = time.monotonic() + 240
    while not any((home / "claims").glob("*")):  # else the first might have done all by itself
        assert joined.is_alive(), (tmp_path / "joined.txt").read_text()
        assert time.monotonic() < end
        time.sleep(0.01)
    first = start_study(command, tmp_path / "first.txt")
    for process in (joined, first):
        process.join(240)
        assert process.exitcode == 0, (tmp_path / "first.txt").read_text()
    said = (tmp_path / "first.txt").read_text()
    assert "was trained before" in said  # by the one that joined
    names = ("heard", "heard--weight-1", "xpool")
    assert {path.name for path in (home / "runs").iterdir()} == {f"{name}-s{seed}" for name in names for seed in (1, 2)}
    result = json.loads((home / "result.json").read_text())
    assert [row["seeds"] for row in result["rows"]] == [[1, 2]] * 3


def test_one_process_makes_a_run(tmp_path: Path) -> None:
    with claimed(tmp_path / "runs" / "a-s1") as mine, claimed(tmp_path / "runs" / "a-s1", wait=False) as other:
        assert (mine, other) == (True, False)
    with claimed(tmp_path / "runs" / "a-s1", wait=False) as free:
        assert free


def test_claims_may_be_taken_away_while_one_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a process that is at its end, between the directory and the file."""
    mkdir, times = Path.mkdir, [0]

    def taken_away(path: Path, *given: Any, **how: Any) -> None:
        mkdir(path, *given, **how)
        times[0] += 1
        if times[0] == 1:
            path.rmdir()

    monkeypatch.setattr(Path, "mkdir", taken_away)
    with claimed(tmp_path / "runs" / "a-s1") as mine:
        assert mine
    assert times == [2]

"""Evaluation: ranks in both directions, the table, the parquet, and what stands below."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import zarr
from searchable import save_heads
from synthetic import World

from lab import cli
from lab.caveats import caveats, left_out
from lab.embeddings import Texts, Videos
from lab.evaluate import by_sound, evaluate, main
from lab.figures.finished import named
from lab.heads import build_head
from lab.metrics import dual_softmax, ranks, retrieval_metrics, v2t_metrics, v2t_ranks
from lab.reads import count_reads, log_file
from lab.runs import read_run
from lab.similarity import similarity_matrix
from lab.store import PRESENCE, Coverage, Store, open_store
from lab.study import main as study_main
from lab.train import main as train_main


@pytest.fixture
def store(full: Path, tmp_path: Path) -> Store:
    """A copy: reading a test split leaves a file beside it."""
    shutil.copytree(full, tmp_path / "features" / "toy.zarr")
    return open_store(tmp_path / "features" / "toy.zarr")


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The last line on stderr of a command that is refused."""
    assert cli.run(main, list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    line = err.splitlines()[-1]
    assert line.startswith("lab.evaluate: error: ")
    return line.removeprefix("lab.evaluate: error: ")


# -- the function ----------------------------------------------------------------------------------------------------


def test_both_directions_by_hand() -> None:
    """Videos along the axes; texts 0 and 1 belong to video 0, text 2 to video 1. Text 1 lies nearer to video 1."""
    videos = Videos(torch.eye(3)[:, None])
    texts = Texts(torch.tensor([[3.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 3.0, 1.0]]), video=torch.tensor([0, 0, 1]))
    found = evaluate(build_head("mean", 3), texts, videos)
    assert {name: rank.tolist() for name, rank in found.items()} == {
        "t2v": [1, 2, 1],
        "v2t groups": [1, 1],  # video 2 has no caption and asks nothing
        "v2t captions": [1, 1],
    }


def test_the_dual_softmax_stands_apart(store: Store) -> None:
    texts, videos = store.load("test")
    head = build_head("mean", texts.dim)
    found = evaluate(head, texts, videos, dsl=True)
    similarity, target = similarity_matrix(head, texts, videos).numpy(), texts.video.numpy()  # type: ignore[union-attr]
    assert list(found) == ["t2v", "v2t groups", "v2t captions", "t2v DSL", "v2t DSL"]
    assert np.array_equal(found["t2v DSL"], ranks(dual_softmax(similarity), target))
    assert np.array_equal(found["v2t DSL"], v2t_ranks(dual_softmax(similarity, over="videos"), target))
    assert np.array_equal(found["t2v"], evaluate(head, texts, videos)["t2v"])


# -- the command -----------------------------------------------------------------------------------------------------


def test_an_untrained_head(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    arguments = ["topk", "--set", "top_k=2", "--store", str(store.path), "--runs", str(runs)]
    assert cli.run(main, arguments) == 0
    out, err = capsys.readouterr()
    first, header, *rows, reads, few, random = out.splitlines()
    texts, videos = store.load("test")
    assert first == f"topk-top_k=2 on the split 'test' of {store.path} (whole), {len(videos)} videos"
    assert header.split() == ["direction", "R@1", "R@5", "R@10", "MdR", "MnR", "MRR", "queries"]
    similarity = similarity_matrix(build_head("topk", texts.dim, top_k=2), texts, videos).numpy()
    target = texts.video.numpy()  # type: ignore[union-attr]
    heard = (store.read("audio_presence")[videos.rows] == PRESENCE["present"])[target]
    wanted = {
        "t2v": (retrieval_metrics(similarity, target), len(texts)),
        "v2t groups": (v2t_metrics(similarity, target, "groups"), len(videos)),
        "v2t captions": (v2t_metrics(similarity, target, "captions"), len(videos)),
        "t2v, own video with sound": (retrieval_metrics(similarity[heard], target[heard]), heard.sum()),
        "t2v, own video without": (retrieval_metrics(similarity[~heard], target[~heard]), (~heard).sum()),
    }
    for row, (direction, (metrics, queries)) in zip(rows, wanted.items(), strict=True):
        assert row.startswith(direction)
        shown = [f"{metrics[name]:.1f}" for name in ("R@1", "R@5", "R@10", "MdR", "MnR")]
        assert row.removeprefix(direction).split() == [*shown, f"{metrics['MRR']:.3f}", str(queries)]
    assert reads == f"reads of the split 'test' of {store.path} so far: 1"
    assert few == "! 8 test videos: this shows that the head runs, and tells nothing about it"
    assert random.startswith("! RANDOM WEIGHTS")
    line = json.loads(log_file(store).read_text())
    assert (line["head"], line["run"]) == ("topk-top_k=2", None)
    assert line["command"] == f"python -m lab.evaluate {' '.join(arguments)}"
    file = runs / "untrained" / "topk-top_k=2" / "ranks-toy-whole-test.parquet"
    assert f"every query's rank: {file}" in err
    assert cli.run(main, [*arguments, "--split", "val"]) == 0
    assert "reads of" not in capsys.readouterr().out  # validation is there to be read
    assert len(log_file(store).read_text().splitlines()) == 1


def test_every_rank_is_in_the_parquet(store: Store, world: World, tmp_path: Path) -> None:
    file = tmp_path / "mine" / "ranks.parquet"
    assert main(["mean", "--store", str(store.path), "--ranks", str(file)]) == 0
    frame = pl.read_parquet(file)
    assert frame.schema == {
        "direction": pl.String,
        "video": pl.String,
        "caption": pl.Int64,
        "text": pl.String,
        "rank": pl.Float64,
    }
    texts, videos = store.load("test")
    found = evaluate(build_head("mean", texts.dim), texts, videos)
    for direction, rank in found.items():
        assert frame.filter(direction=direction)["rank"].to_list() == rank.tolist()
    t2v = frame.filter(direction="t2v")
    assert t2v["caption"].to_list() == texts.rows.tolist()  # type: ignore[union-attr]
    assert t2v["text"].to_list() == [store.captions[row]["text"] for row in t2v["caption"]]
    owners = [world.collection.captions[row].video for row in t2v["caption"]]
    assert t2v["video"].to_list() == [world.collection.videos[row].id for row in owners]
    assert frame.filter(direction="v2t groups")["video"].to_list() == sorted(set(t2v["video"]))


def test_the_similarities_can_be_had(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine" / "val.npy"
    where = ["mean", "--store", str(store.path), "--split", "val", "--runs", str(tmp_path)]
    assert cli.run(main, [*where, "--similarity", str(file), "--ranks", str(file)]) == 2
    assert f"--ranks writes .parquet, {file} is named otherwise: {file}.parquet would do" in capsys.readouterr().err
    assert main([*where, "--similarity", str(file)]) == 0
    found, told_of = np.load(file), json.loads((tmp_path / "mine" / "val.npy.json").read_text())
    texts, videos = store.load("val")
    assert found.dtype == np.float32
    assert np.array_equal(found, similarity_matrix(build_head("mean", texts.dim), texts, videos).numpy())
    assert told_of == {
        "captions": texts.rows.tolist(),  # type: ignore[union-attr]
        "texts": [store.captions[row]["text"] for row in texts.rows.tolist()],  # type: ignore[union-attr]
        "videos": [store.videos[row]["id"] for row in videos.rows.tolist()],  # type: ignore[union-attr]
    }
    capsys.readouterr()
    line = told(capsys, *where, "--similarity", str(tmp_path))
    assert line == f"--similarity must be a file, {tmp_path} is a directory: {tmp_path / 'similarity.npy'} would do"


def test_queries_whose_video_has_sound_are_told_apart(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    texts, videos = store.load("val")
    presence = store.read("audio_presence")[videos.rows]
    heard = presence[texts.video] == PRESENCE["present"]
    assert 0 < heard.sum() < len(texts)
    rank = evaluate(build_head("mean", texts.dim), texts, videos)["t2v"]
    found = by_sound(rank, store, texts, videos)
    assert [part.tolist() for part in found.values()] == [rank[heard].tolist(), rank[~heard].tolist()]
    arguments = ["mean", "--store", str(store.path), "--split", "val", "--runs", str(store.path.parent / "runs")]
    assert cli.run(main, arguments) == 0
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    queries = {line[0]: int(line[-1]) for line in lines if line[0].startswith("t2v")}
    assert queries == {
        "t2v": len(texts),
        "t2v, own video with sound": heard.sum(),
        "t2v, own video without": (~heard).sum(),
    }
    every: Any = zarr.open_group(store.path, mode="a")["audio_presence"]
    every[:] = PRESENCE["present"]
    assert by_sound(rank, open_store(store.path), texts, videos) == {}


def test_a_directory_for_the_ranks_is_refused_before_anything_is_read(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reads = count_reads(store, "test")
    assert cli.run(main, ["mean", "--store", str(store.path), "--ranks", str(tmp_path)]) == 2
    told = f"--ranks must be a file, {tmp_path} is a directory: {tmp_path / 'ranks.parquet'} would do"
    assert told in capsys.readouterr().err
    (tmp_path / "afile").touch()
    assert cli.run(main, ["mean", "--store", str(store.path), "--ranks", str(tmp_path / "afile" / "x.parquet")]) == 2
    assert f"a part of {tmp_path / 'afile' / 'x.parquet'} is a file" in capsys.readouterr().err
    assert count_reads(store, "test") == reads


@pytest.mark.parametrize("option", ["--ranks", "--similarity", "--runs"])
def test_what_cannot_be_written_is_refused_before_anything_is_read(
    option: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody may write to /proc, root included."""
    file = {"--ranks": "/proc/new/a.parquet", "--similarity": "/proc/a.npy", "--runs": "/proc/runs"}[option]
    where = ["mean", "--store", str(store.path), *(["--runs", str(store.path.parent)] if option != "--runs" else [])]
    line = told(capsys, *where, option, file)
    file += "/untrained/mean/ranks-toy-whole-test.parquet" if option == "--runs" else ""
    assert line.startswith(f"{file} cannot be written (")
    assert line.endswith("): name one elsewhere with --ranks or --similarity")
    assert count_reads(store, "test") == 0


def test_a_link_that_leads_nowhere_is_refused_before_anything_is_read(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As ``studies/runs`` may lead to a disk that is not mounted."""
    (tmp_path / "runs").symlink_to(tmp_path / "disk" / "runs")
    line = told(capsys, "mean", "--store", str(store.path), "--runs", str(tmp_path / "runs"))
    assert line == f"{tmp_path / 'runs'} is a link that leads nowhere: mount what it leads to, or name another path"
    assert count_reads(store, "test") == 0


def test_what_no_file_may_replace_is_refused_before_anything_is_read(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A link by any name of a user's, the .json beside the similarities; where ranks go by default only no file."""
    where = ["mean", "--store", str(store.path), "--runs", str(tmp_path / "runs")]
    for option, name, link in (
        ("--ranks", "a.parquet", "a.parquet"),
        ("--similarity", "a.npy", "a.npy"),
        ("--similarity", "b.npy", "b.npy.json"),
    ):
        (tmp_path / link).symlink_to(tmp_path / "target")
        assert told(capsys, *where, option, str(tmp_path / name)) == f"{tmp_path / link} is a link: name a file"
    default = tmp_path / "runs" / "untrained" / "mean" / "ranks-toy-whole-test.parquet"
    default.mkdir(parents=True)
    assert told(capsys, *where) == f"{default} is a directory: name a file"
    assert count_reads(store, "test") == 0
    default.rmdir()
    default.symlink_to(tmp_path / "target")
    assert main(where) == 0
    assert default.is_file()
    assert not (tmp_path / "target").exists()


def test_a_trained_run(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = ["--runs", str(tmp_path / "runs")]
    features = ["--features", str(store.path.parent)]
    train = ["xpool", *features, *runs, "--name", "mine", "--set", "epochs=1", "--set", "batch=256"]
    assert cli.run(train_main, train) == 0
    assert f"saved as {tmp_path / 'runs' / 'mine'}; the test split: " in capsys.readouterr().out.splitlines()[-1]
    assert cli.run(main, ["mine", *features, *runs, "--split", "val", "--dataset", "toy"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"mine on the split 'val' of {store.path} (whole), 6 videos\n")
    told_by_training = json.loads((tmp_path / "runs/mine/run.json").read_text())["kept"]["metrics"]
    assert out.splitlines()[2].split()[1] == f"{told_by_training['R@1']:.1f}"
    assert (tmp_path / "runs/mine/ranks-toy-whole-val.parquet").is_file()
    assert "as they begin" not in err
    assert cli.run(main, [str(tmp_path / "runs" / "mine"), "--store", str(store.path), "--split", "test"]) == 0
    assert json.loads(log_file(store).read_text())["run"] == str(tmp_path / "runs" / "mine")
    capsys.readouterr()
    assert told(capsys, "mine", *features, *runs, "--set", "dropout=0") == (
        f"{tmp_path / 'runs' / 'mine'} is trained, its settings are fixed: leave --set out, or give a head's name"
    )
    assert told(capsys, "mnie", *features, *runs).startswith("unknown head or run 'mnie': did you mean 'mine'? known: ")


def test_a_run_of_a_study_is_found_by_its_name(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for study in ("one", "two"):
        save_heads(store.path, tmp_path / "runs" / study / "runs", {"xpool": {}} if study == "one" else {"mgfi": {}})
    arguments = ["--store", str(store.path), "--runs", str(tmp_path / "runs"), "--split", "val"]
    assert cli.run(main, ["xpool-s0", *arguments]) == 0
    assert capsys.readouterr().out.startswith("xpool-s0 on the split 'val'")
    assert "did you mean 'xpool-s0'" in told(capsys, "xpol-s0", *arguments)
    save_heads(store.path, tmp_path / "runs" / "two" / "runs", {"xpool": {}})
    assert "2 runs are called 'xpool-s0', give one's path" in told(capsys, "xpool-s0", *arguments)


def test_a_run_of_another_protocol_is_said_to_be_one(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_heads(store.path, tmp_path, {"xpool": {}})
    file = tmp_path / "xpool-s0" / "run.json"
    arguments = ["xpool-s0", "--store", str(store.path), "--runs", str(tmp_path), "--split", "val"]
    assert cli.run(main, arguments) == 0
    assert "trained under" not in capsys.readouterr().out
    file.write_text(file.read_text().replace('"protocol": "whole"', '"protocol": "other"'))
    assert cli.run(main, arguments) == 0
    out = capsys.readouterr().out
    assert "! trained under the protocol 'other', which this store does not know: it may have seen these" in out
    store.protocols = ("whole", "other")
    tested = [video for video in store.videos if video["splits"]["whole"] == "val"]
    for video, split in zip(tested, ["train", "val", "test"], strict=False):
        video["splits"]["other"] = split
    lines = list(caveats(store, "val", "whole", read_run(tmp_path / "xpool-s0")))
    assert f"! trained under the protocol 'other', whose train and val hold 2 of these {len(tested)} videos" in lines


def without_frames(store: Store, *videos: int) -> None:
    """As if these could not be decoded."""
    counts: Any = zarr.open_group(store.path, mode="a")["frame_count"]
    for video in videos:
        counts[video] = 0


def test_a_smaller_gallery_is_said_below_the_numbers(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    whole = store.coverage("test")
    without_frames(store, 30, 34)
    held = store.coverage("test")
    said = f"! test: 6 of 8 listed videos and {held.captions} of {whole.captions} captions: a smaller gallery makes"
    assert cli.run(main, ["mean", "--store", str(store.path), "--runs", str(store.path.parent / "runs")]) == 0
    assert f"{said} every number better\n" in capsys.readouterr().out
    assert not [line for line in caveats(store, "val") if "listed" in line]
    few = Coverage(videos=8, videos_listed=8, captions=90, captions_listed=100)
    assert left_out(few) == "90 of 100 captions: those that are left out ask nothing"


def test_a_smaller_gallery_is_said_with_a_studys_tables(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without_frames(store, 30, 34)
    held = store.coverage("test")
    (tmp_path / "mine.toml").write_text('kind = "grid"\n[[rows]]\nhead = "mean"\n[[rows]]\nhead = "topk"\n')
    where = ["--store", str(store.path), "--runs", str(tmp_path), "--name", "g"]
    assert cli.run(study_main, [str(tmp_path / "mine.toml"), *where]) == 0
    said = f"6 of 8 listed videos and {held.captions} of {held.captions_listed} captions: a smaller gallery makes every"
    assert said in capsys.readouterr().out
    assert said in (tmp_path / "g" / "result.md").read_text()
    assert rf"\par{{\footnotesize test: {said}" in (tmp_path / "g" / "result.tex").read_text()
    assert said in named(["g"], tmp_path).found[0].source().replace("\n", " ")


def test_where_two_stores_fit_one_must_be_chosen(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = store.path.with_name("other.zarr")
    shutil.copytree(store.path, other)
    arguments = ["--features", str(store.path.parent), "--runs", str(tmp_path / "runs"), "--dataset", "toy"]
    said = f"2 stores fit, choose one with --store PATH: {other}, {store.path}"
    assert told(capsys, "mean", *arguments) == said
    assert cli.run(train_main, ["mean", *arguments]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"lab.train: error: {said}"
    assert told(capsys, "mean", "--store", str(other), "--dataset", "msvd") == (
        f"{other} is a store of toy, not of msvd: leave one of the two out"
    )
    assert cli.run(main, ["mean", "--store", str(other), "--split", "val", *arguments]) == 0


def test_where_several_stores_fit_a_run_means_its_own(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features, runs = store.path.parent, tmp_path / "runs"
    for name in ("copied", "anew made"):
        shutil.copytree(store.path, features / f"{name}.zarr")
    anew = features / "anew made.zarr"
    zarr.open_group(anew, mode="a").attrs["passport"] = {
        **store.passport,
        "frames": {**store.passport["frames"], "sampling": "other-5"},
    }
    train = ["xpool", "--set", "epochs=1", "--set", "batch=512", "--runs", str(runs)]
    for path in (anew, store.path):
        assert cli.run(train_main, [*train, "--store", str(path), "--name", path.stem]) == 0
        pasted = shlex.split(capsys.readouterr().out.splitlines()[-1].rpartition("the test split: ")[2])
        assert cli.run(main, pasted[3:]) == 0
        assert f" on the split 'test' of {path} " in capsys.readouterr().out
        for dataset in ([], ["--dataset", "toy"]):
            asked = [
                path.stem.replace(" ", "-"),
                *dataset,
                "--features",
                str(features),
                "--runs",
                str(runs),
                "--split",
                "val",
            ]
            assert cli.run(main, asked) == 0
            assert f" on the split 'val' of {path} " in capsys.readouterr().out
    shutil.rmtree(store.path)
    shutil.copytree(features / "copied.zarr", features / "again.zarr")
    said = f"2 stores fit, choose one with --store PATH: {features / 'again.zarr'}, {features / 'copied.zarr'}"
    assert told(capsys, "toy", "--features", str(features), "--runs", str(runs)) == said


def test_a_store_without_a_test_split_has_none_to_offer(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = Store.splits_of
    monkeypatch.setattr(Store, "splits_of", lambda *asked: tuple(s for s in splits(*asked) if s != "test"))
    where = ["--store", str(store.path), "--runs", str(tmp_path), "--name", "mine"]
    assert cli.run(train_main, ["mean", *where]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"saved as {tmp_path / 'mine'}"


def test_untrained_weights_are_said_to_be_so(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--store", str(store.path), "--split", "val", "--runs", str(tmp_path / "runs")]
    assert cli.run(main, ["xpool", *arguments]) == 0
    said = "warning: xpool has parameters, and they are as they begin: python -m lab.train xpool --store "
    assert f"{said}{store.path}\n" in capsys.readouterr().err
    assert told(capsys, "xpool", *arguments, "--set", "lr=1") == (
        "'lr' is for training, which python -m lab.train does: leave it out here"
    )
    assert cli.run(main, ["seqlstm", *arguments, "--set", "seed=1", "--dsl"]) == 0
    out = capsys.readouterr().out
    assert "DSL is transductive" in out
    assert "; its softmax is over 100 × cosine (CAMoE's code divides by 1000 unless told otherwise" in out
    assert [line.split()[:2] for line in out.splitlines()[5:7]] == [["t2v", "DSL"], ["v2t", "DSL"]]


def test_without_polars_the_table_is_there_all_the_same(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    monkeypatch.setattr("lab.evaluate.require_room_for", lambda file: pytest.fail("nothing is to be written"))
    assert cli.run(main, ["mean", "--store", str(store.path), "--runs", str(tmp_path), "--split", "val"]) == 0
    out, err = capsys.readouterr()
    assert "t2v" in out
    assert "warning: polars is not installed, so the ranks of single queries are not written" in err


OWN = """
import torch
from torch.nn.functional import normalize


class First(torch.nn.Module):
    def __init__(self, dim, *, scale=1.0):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.full((dim,), float(scale)))

    def forward(self, texts, videos):
        return normalize(texts.sentences * self.scale, dim=1) @ normalize(videos.frames[:, 0], dim=1).T
"""


def test_a_head_of_ones_own_trains_and_evaluates(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_head.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    arguments = ["--store", str(store.path), "--runs", str(tmp_path / "runs")]
    train = ["own_head:First", *arguments, "--set", "scale=2", "--set", "epochs=1", "--name", "own"]
    assert cli.run(train_main, train) == 0
    pasted = shlex.split(capsys.readouterr().out.splitlines()[-1].rpartition("the test split: ")[2])
    assert "which is code that the lab does not know" in told(capsys, "own", *arguments)
    assert pasted[:3] == ["python", "-m", "lab.evaluate"]
    assert cli.run(main, pasted[3:]) == 0
    assert "own on the split 'test'" in capsys.readouterr().out
    assert cli.run(main, ["own_head:First", *arguments, "--set", "scale=3"]) == 0
    assert "own_head:First-scale=3 on the split 'test'" in capsys.readouterr().out

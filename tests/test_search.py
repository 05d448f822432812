"""Search: the right video and the right seconds, the same as the exact scores, and a clear line for what cannot be."""

from __future__ import annotations

import logging
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from searchable import HEADS, THINGS, make, save_heads, shown
from torch import nn

import lab
from lab import cli
from lab.choose import Candidate, choose_head, locate_run, run_or_head, untrained_head
from lab.demo.answers import Answers
from lab.demo.heads import menu
from lab.errors import LabError
from lab.gallery import not_searched
from lab.query import READ, Encoder, foreign
from lab.reads import log_file
from lab.runs.fitting import Fitting
from lab.search import Searcher, attended, main
from lab.similarity import similarity_matrix
from lab.store import Store, open_store


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("searchable"), files=False)


@pytest.fixture(scope="module")
def store(path: Path) -> Store:
    return open_store(path)


@pytest.fixture(scope="module")
def runs(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    save_heads(path, folder / "a-study" / "runs", HEADS)
    return folder


@pytest.fixture(scope="module")
def encoder(store: Store) -> Encoder:
    return Encoder(store)


@pytest.mark.parametrize("name", ["topk", "softmax", "xpool-s0", "mgfi-s0", "cmfi-s0"])
def test_a_text_finds_its_videos_and_looks_at_its_seconds(
    store: Store, runs: Path, encoder: Encoder, name: str
) -> None:
    trained = name.endswith("s0")
    one = choose_head(store, name if trained else None, None if trained else name, runs=runs)
    hits = Searcher(store, one, encoder=encoder).search(THINGS[2], top=4)
    assert len(hits) == 4
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    best = hits[0]
    assert 2 in shown(best.row)  # a video that shows it
    assert sum(best.weights) == pytest.approx(1, abs=1e-4)
    assert len(best.times_s) == len(best.weights) == 6
    if name != "cmfi-s0":
        first, second = sum(best.weights[:3]), sum(best.weights[3:])
        assert (first > second) == (shown(best.row)[0] == 2)


def test_search_is_the_exact_similarity(store: Store, runs: Path, encoder: Encoder) -> None:
    """A caption that is typed gets the scores of the caption that is stored, on all videos of its split."""
    for name in ("xpool-s0", "mgfi-s0", "cmfi-s0"):
        one = choose_head(store, name, runs=runs)
        searcher = Searcher(store, one, split="val", encoder=encoder)
        texts, videos = store.load("val")
        assert texts.rows is not None
        assert searcher.rows.tolist() == videos.rows.tolist()  # type: ignore[union-attr]
        exact = similarity_matrix(one.head, texts, videos).numpy()
        for text in (0, 5):
            typed = store.captions[int(texts.rows[text])]["text"]
            np.testing.assert_allclose(searcher.scores(encoder(typed).texts)[0], exact[text], atol=2e-4)


def test_all_videos_are_searched_and_no_read_is_logged(store: Store, encoder: Encoder) -> None:
    one = untrained_head("mean", store)
    everywhere = Searcher(store, one, encoder=encoder)
    assert len(everywhere.search(THINGS[0], top=99)) == len(store.videos)
    found = Searcher(store, one, split="test", encoder=encoder).search(THINGS[0], top=99)
    assert {store.videos[hit.row]["splits"]["made"] for hit in found} == {"test"}
    assert not log_file(store).exists()


def test_the_function_is_the_command(path: Path, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hits = lab.search(THINGS[3], store=path, run="xpool-s0", runs=runs, top=3)
    assert main([THINGS[3], "--store", str(path), "--run", "xpool-s0", "--runs", str(runs), "--top", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("xpool-s0 over 16 videos of")
    assert [line.split()[1:3] for line in lines[2:5]] == [[hit.video, f"{hit.score:.3f}"] for hit in hits]
    assert " s (" in lines[2]


def test_where_several_stores_fit_a_run_means_its_own(
    path: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        shutil.copytree(path, tmp_path / f"{name}.zarr")
    passport = open_store(path).passport
    frames = {**passport["frames"], "sampling": "other-6"}
    zarr.open_group(tmp_path / "a.zarr", mode="a").attrs["passport"] = {**passport, "frames": frames}
    where = ["--features", str(tmp_path), "--runs", str(runs)]
    assert main([THINGS[3], "--run", "xpool-s0", *where]) == 0
    assert f"of {tmp_path / 'b.zarr'}" in capsys.readouterr().out
    assert lab.search(THINGS[3], run="xpool-s0", features=tmp_path, runs=runs)
    assert cli.run(main, [THINGS[3], "--dataset", "made", *where]) == 2
    assert "2 stores fit, choose one with --store PATH" in capsys.readouterr().err


def test_a_store_whose_pass_is_not_at_its_end_says_so(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    made = open_store(shutil.copytree(path, tmp_path / "half made.zarr"))
    counts = zarr.open_array(made.path / "frame_count")
    counts[:] = np.where(np.arange(16) < 7, counts[:], 0)  # five of train, two of val
    told = "of 16 videos have features, the others cannot be found: python -m lab.inspect '"
    assert main([THINGS[3], "--store", str(made.path), "--head", "mean"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith(f"! 7 {told}"), lines
    lab.search(THINGS[3], store=made, head="mean")
    assert f"7 {told}" in caplog.text
    assert not_searched(made, "val").startswith("2 of 7 videos of split 'val' have features")
    assert not_searched(made, "train") == ""
    about = Answers(made, menu(made, tmp_path), "val").about()
    assert [note[:11] for note in about["notes"]] == ["2 of 7 vide"]


def test_lab_search_can_be_called_before_and_after_its_import(path: Path) -> None:
    assert callable(lab.search)
    assert lab.search is sys.modules["lab.search"]
    assert [hit.video for hit in lab.search(THINGS[1], store=path, head="topk", top=1)]


def test_a_head_of_ones_own_has_no_seconds(store: Store, encoder: Encoder) -> None:
    class Own(nn.Module):
        def forward(self, texts: lab.Texts, videos: lab.Videos) -> torch.Tensor:
            return texts.sentences @ videos.frames.nan_to_num(0).mean(1).T

    hit = Searcher(store, Candidate(Own(), "own"), encoder=encoder).search("a dog", top=1)[0]
    assert hit.weights == () == hit.attended


@pytest.mark.usefixtures("tf32")
def test_a_search_is_of_float32_whatever_a_program_asks_for(store: Store, encoder: Encoder) -> None:
    seen = []

    class Looks(nn.Module):
        def index(self, videos: lab.Videos) -> torch.Tensor:
            seen.append(torch.get_float32_matmul_precision())
            return videos.frames.nan_to_num(0).mean(1)

        def score(self, texts: lab.Texts, index: torch.Tensor) -> torch.Tensor:
            seen.append(torch.get_float32_matmul_precision())
            return texts.sentences @ index.T

    Searcher(store, Candidate(Looks(), "looks"), encoder=encoder).search("a dog", top=1)
    assert seen == ["highest", "highest"]
    assert torch.get_float32_matmul_precision() == "high"


def test_an_index_that_is_too_large_is_not_kept(
    store: Store, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = untrained_head("topk", store)
    kept = Searcher(store, one, encoder=encoder)
    monkeypatch.setattr(sys.modules["lab.search"], "MOST_MB", 0)
    blocks = Searcher(store, one, encoder=encoder)
    assert blocks.index is None
    query = encoder("a dog")
    np.testing.assert_allclose(kept.scores(query.texts), blocks.scores(query.texts), atol=1e-5)


@pytest.mark.parametrize("reads", [True, False])
def test_a_head_is_given_the_words_that_it_says_it_reads_and_no_others(
    reads: bool, store: Store, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its index kept or not, and for its weights, as where it was trained and evaluated."""
    seen = []

    class Asks(nn.Module):
        needs_words = reads

        def forward(self, texts: lab.Texts, videos: lab.Videos) -> torch.Tensor:
            seen.append(texts.words is not None)
            return texts.sentences @ videos.frames.nan_to_num(0).mean(1).T

        def frame_weights(self, texts: lab.Texts, videos: lab.Videos) -> torch.Tensor:
            seen.append(texts.words is not None)
            return videos.frame_mask[None] / videos.frame_mask.sum(-1, keepdim=True)

    monkeypatch.setattr(sys.modules["lab.search"], "MOST_MB", 0)
    searcher = Searcher(store, Candidate(Asks(), "asks"), encoder=encoder)
    assert searcher.index is not None  # the videos, which take no more room
    searcher.search("a dog", top=1)
    searcher.index = None
    searcher.search("a dog", top=1)
    assert len(seen) >= 4
    assert set(seen) == {reads}


# -- which head ------------------------------------------------------------------------------------------------------


def test_the_newest_run_is_taken_and_said(store: Store, runs: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert choose_head(store, runs=runs).label == "cmfi-s0"
    assert "the newest run on made:" in caplog.text


def test_without_a_run_the_mean_is_taken_and_said(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert choose_head(store, runs=tmp_path).label == "mean"
    assert f"mean pooling, untrained; python -m lab.train xpool --store {store.path} trains a head" in caplog.text
    whole = open_store(store.path)
    whole.__dict__["videos"] = [row | {"splits": {"made": "all"}} for row in store.videos]
    assert choose_head(whole, runs=tmp_path).label == "mean"
    assert caplog.text.endswith(": mean pooling, untrained\n")  # there is nothing to train on


def test_runs_that_do_not_fit_are_one_line(
    path: Path, runs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every folder's store is of the data set ``folder``, so another folder's runs are met again and again."""
    other = open_store(path)
    other.passport = {**other.passport, "dataset": {"name": "made", "version": "another"}}
    own = tmp_path / "runs"
    shutil.copytree(runs, own)
    save_heads(path, own, {"mean": {}})
    told = own / "mean-s0" / "run.json"
    told.write_text(told.read_text().replace('"head": "mean"', '"head": "my_head:MyHead"'))
    caplog.set_level(logging.INFO)
    for choose in (lambda: choose_head(other, runs=own).label, lambda: menu(other, own).first):
        caplog.clear()
        assert choose() in ("mean", "topk")
        assert [r.getMessage() for r in caplog.records if "left out" in r.getMessage()] == [
            f"left out: 4 runs that do not fit {path} (-v says why)"
        ]
    assert [why for name, why in menu(other, own).left_out.items() if name == "mean-s0" and "'another' in" in why]
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    choose_head(other, runs=own)
    assert caplog.text.count("dataset.version: 'another' in the store") == 4
    caplog.clear()
    assert "mean-s0" in menu(open_store(path), own).left_out
    assert "left out, code that the lab does not know: add --trust my_head:MyHead if you know it" in caplog.text


def test_runs_and_heads_that_there_are_not(store: Store, runs: Path, full: Path, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"unknown run 'xpol-s0': did you mean 'xpool-s0'\? known: xpool-s0, "):
        locate_run("xpol-s0", runs)
    with pytest.raises(LabError, match=r"there is no run 'xpool' in .*lab\.train"):
        locate_run("xpool", tmp_path)
    with pytest.raises(LabError, match="unknown head 'tpok': did you mean 'topk'"):
        choose_head(store, head="tpok")
    with pytest.raises(LabError, match="exclude each other"):
        choose_head(store, run="xpool-s0", head="mean", runs=runs)
    with pytest.raises(LabError, match=r"passport|holds no"):  # another store's
        choose_head(open_store(full), run="xpool-s0", runs=runs)
    with pytest.raises(LabError, match="its settings are fixed"):
        choose_head(store, run="xpool-s0", settings=["top_k=3"], runs=runs)
    with pytest.raises(LabError, match=r"--set top_k=3 is for a head without training.* give --head NAME"):
        choose_head(store, settings=["top_k=3"], runs=runs)
    with pytest.raises(LabError, match="is for training"):
        choose_head(store, head="topk", settings=["lr=1"])
    assert choose_head(store, head="topk", settings=["top_k=2"]).label == "topk-top_k=2"
    save_heads(store.path, tmp_path / "b", {"xpool": {}})
    save_heads(store.path, tmp_path / "c", {"xpool": {}})
    with pytest.raises(LabError, match="2 runs are called 'xpool-s0', give one's path"):
        locate_run("xpool-s0", tmp_path)


def test_a_run_that_is_called_like_a_head_goes_before_it(path: Path, store: Store, tmp_path: Path) -> None:
    save_heads(path, tmp_path, {"mean": {}})
    (tmp_path / "mean-s0").rename(tmp_path / "mean")
    assert run_or_head("mean", tmp_path) == run_or_head("mean", tmp_path, ["mean"]) == tmp_path / "mean"
    assert run_or_head("xpool", tmp_path) is run_or_head("my:Own", tmp_path) is None
    made = menu(store, tmp_path)
    assert list(made.entries) == ["mean", "mean untrained", "topk", "softmax"]
    assert [made.head(key).run for key in made.entries] == [tmp_path / "mean", None, None, None]
    (tmp_path / "mean").rename(tmp_path / "xpool-s0")
    for heads, kind in ((None, "head or run"), (["mean"], "head or run"), ([], "run")):
        with pytest.raises(LabError, match=f"unknown {kind} 'xpol-s0': did you mean 'xpool-s0'"):
            run_or_head("xpol-s0", tmp_path, heads)
    with pytest.raises(LabError, match="unknown head or run 'my:Own'"):  # where only some heads are offered
        run_or_head("my:Own", tmp_path, ["mean"])


def test_of_many_runs_the_nearest_names_are_told(path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_heads(path, tmp_path, {"mean": {}})
    for number in range(20):
        shutil.copytree(tmp_path / "mean-s0", tmp_path / f"run-{number:02d}")
    with pytest.raises(LabError, match=r"did you mean 'run-19'\? known: (\S+, ){11}\S+ and 9 other runs$"):
        locate_run("run19", tmp_path)
    caplog.set_level(logging.INFO)
    fitting = Fitting(open_store(path), tmp_path, protocol="other")
    assert list(fitting) == []
    fitting.say()
    assert re.search(r"another protocol than other: (\S+ \(made\), ){12}9 others$", caplog.text.strip())


# -- what is typed ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "&nbsp;", "\x00"])
def test_nothing_is_refused(encoder: Encoder, text: str) -> None:
    with pytest.raises(LabError, match="at least one word"):
        encoder(text)


def test_ten_thousand_words_are_cut_with_a_note(encoder: Encoder) -> None:
    long = encoder("dog " * 10_000)
    assert len(long.words) == encoder.clip.context_length - 2
    assert "longer than the text tower reads: cut after" in long.notes[0]
    torch.testing.assert_close(long.texts.sentences, encoder("dog " * 200).texts.sentences)
    assert encoder("x" * 50 * READ).notes  # one word without an end


@pytest.mark.parametrize("text", ["собака лает", "犬が吠える", "كلب ينبح", "🐕", "\ud800 dog", "?"])
def test_any_script_gets_an_answer(store: Store, encoder: Encoder, text: str) -> None:
    query = encoder(text)
    assert bool(query.notes) == foreign(text)
    hits = Searcher(store, untrained_head("topk", store), encoder=encoder).search(query, top=2)
    assert np.isfinite([hit.score for hit in hits]).all()


def test_a_store_that_does_not_tell_its_network(full: Path, store: Store, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"does not say which network encoded its captions.*--clip MODEL:WEIGHTS"):
        Encoder(open_store(full))
    other = open_store(store.path)
    other.passport = {**store.passport, "text": {**store.passport["text"], "weights_sha256": "0"}}
    with pytest.raises(LabError, match=r"toy is not the network that encoded .* weights_sha256 differ"):
        Encoder(other)
    other.passport["text"]["name"] = "ViT-B-16:mine.pt"
    with pytest.raises(LabError, match=r"were encoded by 'ViT-B-16:mine\.pt', which cannot be loaded: .*--clip"):
        Encoder(other)


def test_absent_weights_are_not_to_be_fetched_by_a_search(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETRIEVAL_LAB_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    other = open_store(store.path)
    other.passport = {**store.passport, "text": {**store.passport["text"], "name": "ViT-B-32-quickgelu:openai"}}
    with pytest.raises(LabError, match=r"are not on this machine: put the file of http.* or name your own") as told:
        Encoder(other)
    assert "--download" not in str(told.value)
    assert "random" not in str(told.value)


def test_no_store_says_which_command_makes_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(main, ["a dog", "--dataset", "toy", "--features", str(tmp_path)]) == 2
    assert "make one with python -m lab.cache --dataset toy" in capsys.readouterr().err


def test_stretches() -> None:
    times = np.array([1.0, 3.0, 5.0, 7.0])
    assert attended(times, np.full(4, 0.25)) == ()
    assert attended(times, np.array([0.4, 0.0, 0.0, 0.6]), 9.0) == ((6.0, 9.0, 0.6), (0.0, 2.0, 0.4))
    assert attended(times, np.array([0.0, 0.0, 0.0, 1.0]))[0][:2] == (6.0, 7.0)
    assert attended(np.full(4, np.nan), np.array([1.0, 0, 0, 0])) == ()

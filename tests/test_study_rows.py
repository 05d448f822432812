"""Setups on a store: kept products score as heads do, baselines are what they claim, the sweep lengthens videos."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge as SklearnRidge
from synthetic import D
from synthetic import F as FRAMES
from torch.nn import functional as F  # noqa: N812

from lab import cli
from lab.embeddings import Texts, Videos
from lab.errors import LabError
from lab.heads import build_head
from lab.heads.sweep import Pairs, keep
from lab.metrics import retrieval_metrics
from lab.similarity import similarity_matrix
from lab.store import open_store
from lab.studies.cached import Cached, after_training
from lab.studies.classic import CCA, PCA, Ridge
from lab.studies.diversity import lengthened, pick, timeline
from lab.studies.guard import SealedStore
from lab.studies.result import of_ends
from lab.studies.setups import Setup, Study
from lab.studies.space import Range, points
from lab.studies.splits import Splits
from lab.study import main

K, TAU = Range("int", 1, 5), Range("choice", choices=(0.003, 0.1, 3.0))
POOLING = {
    "topk": Setup("a", "topk", search={"top_k": K}),
    "softmax": Setup("a", "softmax", search={"temperature": TAU, "top_k": K}),
    "raw": Setup("a", "softmax", keywords={"normalize": False}, search={"temperature": TAU}),
    "fused": Setup(
        "a",
        "cmfi",
        {"audio_epochs": 1, "batch": 256},
        {"video": "softmax", "audio": "topk", "audio_keywords": {"top_k": 1}},
        {"fusion_weight": Range("choice", choices=(0.0, 0.7, 2.0)), "video_keywords.top_k": K},
    ),
}


def splits_of(store: Path, *setups: Setup) -> Splits:
    return Splits(SealedStore(open_store(store)), Study("g", "grid", setups, setups[0].name, seeds=1), "cpu")


@pytest.mark.parametrize("name", POOLING)
def test_kept_products_score_as_the_head_does(full: Path, name: str) -> None:
    setup = POOLING[name]
    assert after_training(setup)
    splits = splits_of(full, setup)
    cached = Cached(setup, splits)
    texts, videos = splits.load("val")
    for point in points(setup.search):
        metrics = cached.metrics(point)
        similarity = cached.kept.similarity(setup.with_after(point).after)
        direct = similarity_matrix(splits.fit(setup.with_after(point)).head, texts, videos)
        assert torch.allclose(similarity, direct, atol=1e-5)
        assert texts.video is not None
        wanted = retrieval_metrics(similarity.numpy(), texts.video.numpy())
        assert metrics == pytest.approx(wanted)


@pytest.mark.usefixtures("tf32")
def test_kept_products_are_of_float32_whatever_a_program_asks_for(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        def look(*given: Any) -> Any:
            seen.append(torch.get_float32_matmul_precision())
            return call(*given)

        return look

    monkeypatch.setattr(Pairs, "__init__", watched(Pairs.__init__))
    monkeypatch.setattr(Pairs, "score", watched(Pairs.score))
    cached = Cached(POOLING["raw"], splits_of(full, POOLING["raw"]))
    cached.metrics({"temperature": 0.1})
    assert len(seen) >= 2
    assert set(seen) == {"highest"}
    assert torch.get_float32_matmul_precision() == "high"


def agree(texts: Texts, videos: Videos, name: str, built: dict[str, Any], **settings: Any) -> None:
    """Kept products at some settings, and a head that was built with them, to 1e-5."""
    found = keep(build_head(name, texts.dim, **built), texts, videos).similarity(settings)
    assert torch.allclose(found, build_head(name, texts.dim, **built, **settings)(texts, videos), atol=1e-5, rtol=0)


@pytest.mark.parametrize("k", [1, 2, 128, 129, 130])
def test_kept_products_of_many_frames(k: int) -> None:
    rng = torch.Generator().manual_seed(0)
    texts, videos = Texts(torch.randn(4, 7, generator=rng)), Videos(torch.randn(3, 130, 7, generator=rng))
    agree(texts, videos, "topk", {}, top_k=k)


@pytest.mark.parametrize("k", range(1, 8))
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("name", "settings"), [("topk", {}), ("softmax", {"temperature": 0.3})])
def test_kept_products_and_heads_choose_k_frames_where_some_are_alike(
    name: str, settings: dict[str, float], normalize: bool, k: int
) -> None:
    """A dark scene, a last frame that is repeated: more frames than k reach the k-th cosine."""
    rng = torch.Generator().manual_seed(0)
    frames = torch.randn(5, 3, 7, generator=rng)[:, [0, 1, 1, 0, 2, 2, 2]]
    texts, videos = (
        Texts(torch.randn(4, 7, generator=rng)),
        Videos(frames, torch.arange(7) < torch.tensor([[7], [4], [7], [2], [6]])),
    )
    agree(texts, videos, name, {"normalize": normalize}, top_k=k, **settings)


@pytest.mark.parametrize("top_k", [None, 3])
def test_an_infinite_temperature_is_searched_over_videos_with_padding(top_k: int | None) -> None:
    rng = torch.Generator().manual_seed(0)
    mask = torch.arange(5) < torch.tensor([[5], [2], [4]])
    texts, videos = Texts(torch.randn(4, 7, generator=rng)), Videos(torch.randn(3, 5, 7, generator=rng), mask)
    agree(texts, videos, "softmax", {}, temperature=math.inf, top_k=top_k)


@pytest.mark.parametrize(
    "setup",
    [
        Setup("a", "topk", search={}),
        Setup("a", "topk", keywords={"projection": "linear"}, search={"top_k": K}),
        Setup("a", "xpool", search={"dropout": Range("float", 0.0, 0.5)}),
        Setup("a", "topk", search={"top_k": K, "lr": Range("log", 1e-4, 1e-3)}),
        Setup("a", "cmfi", keywords={"video": "xpool"}, search={"video_keywords.dropout": Range("float", 0.0, 0.5)}),
        Setup("a", "cmfi", search={"fusion_weight": Range("float", 0.0, 1.0), "audio_dim": K}),
    ],
)
def test_what_changes_the_training_is_trained(setup: Setup) -> None:
    assert not after_training(setup)


# -- baselines of scikit-learn ---------------------------------------------------------------------------------------


def _made(rng: torch.Generator, dim: int = 7, videos: int = 61) -> tuple[Texts, Videos]:
    """Captions are a rotation of their video, and a shift, with a little noise."""
    owner = torch.arange(videos).repeat_interleave(3)
    seen = F.normalize(torch.randn(videos, dim, generator=rng), dim=-1)
    turn = torch.linalg.qr(torch.randn(dim, dim, generator=rng)).Q
    read = seen[owner] @ turn + 0.5 + 0.02 * torch.randn(len(owner), dim, generator=rng)
    return Texts(read, video=owner), Videos(seen[:, None].repeat(1, 3, 1))


@pytest.mark.parametrize("head", [Ridge(7, alpha=0.01), CCA(7, components=7, shrink=0.01), PCA(7, components=7)])
def test_a_linear_map_finds_a_rotation_and_principal_directions_do_not(head: Any) -> None:
    texts, videos = _made(torch.Generator().manual_seed(0))
    head.fit(texts, videos)
    assert texts.video is not None
    found = retrieval_metrics(similarity_matrix(head, texts, videos).numpy(), texts.video.numpy())["R@1"]
    assert found < 10 if isinstance(head, PCA) else found > 90


def test_ridge_is_scikit_learns() -> None:
    texts, videos = _made(torch.Generator().manual_seed(1))
    head = Ridge(7, alpha=0.3)
    head.fit(texts, videos)
    read = F.normalize(texts.sentences, dim=-1)
    seen = F.normalize(videos.frames.mean(1), dim=-1)
    fitted = SklearnRidge(alpha=0.3).fit(seen[texts.video].numpy(), read.numpy())
    wanted = read @ F.normalize(torch.from_numpy(fitted.predict(seen.numpy())), dim=-1).T
    assert torch.allclose(head(texts, videos), wanted, atol=1e-5)


@pytest.mark.parametrize(("keywords", "said"), [({"components": 0}, "components >= 1"), ({"shrink": 2}, "0 <= shrink")])
def test_a_baseline_refuses(keywords: dict[str, Any], said: str) -> None:
    with pytest.raises(LabError, match=said):
        CCA(7, **keywords)


# -- the sweep -------------------------------------------------------------------------------------------------------


def test_a_timeline_holds_every_second_once() -> None:
    lengths = np.array([2.0, 3.0, 5.0, 7.0, 11.0])
    for draw in range(20):
        shown, starts, ends = timeline(0, np.array([3, 1, 4]), lengths, np.random.default_rng(draw))
        for video in (0, 1, 3, 4):
            pieces = sorted(zip(starts[shown == video], ends[shown == video], strict=True))
            assert pieces[0][0] == 0
            assert pieces[-1][1] == lengths[video]
            assert all(one[1] == other[0] for one, other in itertools.pairwise(pieces))
        assert set(shown) == {0, 1, 3, 4}


def test_without_insertions_every_frame_stays() -> None:
    lengths = np.array([3.0, 6.0, 12.0])
    times = ((np.arange(5) + 0.5) / 5 * lengths[:, None]).astype(np.float32)
    video, frame = pick(times, lengths, np.ones((3, 5), bool), 0, np.random.default_rng(0))
    assert (video == np.arange(3)[:, None]).all()
    assert (frame == np.arange(5)).all()


def test_a_video_keeps_its_share_of_the_time() -> None:
    lengths = np.array([1.0] * 6 + [6.0])
    times = ((np.arange(60) + 0.5) / 60 * lengths[:, None]).astype(np.float32)
    video, frame = pick(times, lengths, np.ones((7, 60), bool), 6, np.random.default_rng(0))
    for row in video:  # all seven are in each: 60 frames of 12 seconds
        assert np.bincount(row, minlength=7) == pytest.approx([5, 5, 5, 5, 5, 5, 30], abs=2)
    assert frame.min() >= 0


def test_frames_that_are_not_there_are_not_picked() -> None:
    times = np.full((3, 5), np.nan, np.float32)
    real = np.zeros((3, 5), bool)
    for row, count in enumerate((1, 2, 5)):
        times[row, :count], real[row, :count] = np.arange(count), True
    video, frame = pick(times, np.array([1.0, 2.0, 5.0]), real, 2, np.random.default_rng(0))
    assert real[video, frame].all()
    frames = torch.full((3, 5, 7), float("nan"))
    frames[torch.from_numpy(real)] = 1.0
    longer = lengthened(Videos(frames, torch.from_numpy(real)), video, frame)
    assert torch.isfinite(longer.frames).all()
    assert longer.frame_mask is not None
    assert longer.frame_mask.all()


def test_the_sweep_from_its_command(full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(full, tmp_path / "toy.zarr")
    text = 'kind = "sweep"\ninserted = [0, 2]\ndraws = 3\nseeds = 1\n[[rows]]\nhead = "mean"\n[[rows]]\nhead = "topk"\n'
    (tmp_path / "mine.toml").write_text(text)
    where = ["--store", str(tmp_path / "toy.zarr"), "--runs", str(tmp_path / "runs")]
    assert cli.run(main, [str(tmp_path / "mine.toml"), *where]) == 0
    assert "MdR, inserted" in capsys.readouterr().out
    sweep = json.loads((tmp_path / "runs" / "mine-toy-whole" / "result.json").read_text())["sweep"]
    mdr = sweep["rows"]["mean"]["MdR"]
    assert [len(draws) for draws in mdr] == [3, 3]
    assert len(set(mdr[0])) == 1  # nothing inserted, nothing drawn
    assert "stored ones" in sweep["note"]
    assert "| MdR, inserted | mean | topk |" in (tmp_path / "runs" / "mine-toy-whole" / "result.md").read_text()
    assert cli.run(main, [str(tmp_path / "mine.toml"), *where, "--set", "inserted=[8]"]) == 2
    assert "inserted < 8 test videos must hold, got inserted=8" in capsys.readouterr().err


def test_a_sweep_is_refused_to_heads_that_hear(full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.toml").write_text('kind = "sweep"\n[[rows]]\nhead = "cmfi"\n')
    assert cli.run(main, [str(tmp_path / "mine.toml"), "--store", str(full), "--runs", str(tmp_path)]) == 2
    assert "sound is not stored finely enough" in capsys.readouterr().err


def test_softmax_among_the_closest_is_top_k_at_infinite_temperature() -> None:
    rng = torch.Generator().manual_seed(0)
    texts = Texts(torch.randn(5, 7, generator=rng))
    videos = Videos(torch.randn(11, 6, 7, generator=rng), torch.arange(6) < torch.arange(1, 12)[:, None])
    wide = build_head("softmax", 7, temperature=1e9, top_k=3)
    assert torch.allclose(wide(texts, videos), build_head("topk", 7, top_k=3)(texts, videos), atol=1e-6)
    every = build_head("softmax", 7, temperature=0.1, top_k=6)
    assert torch.allclose(every(texts, videos), build_head("softmax", 7, temperature=0.1)(texts, videos))
    with pytest.raises(LabError, match="1 <= top_k <= 6 frames must hold, got top_k=7"):
        build_head("softmax", 7, top_k=7)(texts, replace(videos))


# -- ends of what was tried ------------------------------------------------------------------------------------------


def at_ends(store: Path, head: str, value: float, tried: Range, key: str) -> list[str]:
    """What is said of a search that chose a value of a key."""
    setup = Setup("row", head, keywords={"video": "xpool"} if head == "cmfi" else {}, search={key: tried})
    study = Study("s", "search", (Setup("mean", "mean"), setup), "mean", seeds=1)
    told = {"search": {"best": {"params": {key: value}}}, "choices": {}}
    return list(of_ends(Splits(SealedStore(open_store(store)), study, "cpu"), told))


LIST, LOG = Range("choice", choices=(0.1, 0.003, 0.3)), Range("log", 1e-3, 1.0)


@pytest.mark.parametrize(
    ("head", "key", "tried", "value", "said"),
    [
        ("softmax", "temperature", LIST, 0.3, "is the end of what was tried (0.003 to 0.3)"),
        ("softmax", "temperature", LIST, 0.003, "is the end of what was tried (0.003 to 0.3)"),
        ("softmax", "temperature", LOG, 0.9, "is near the end of what was tried (0.001 to 1)"),
        ("softmax", "temperature", LOG, 0.00114, "is near the end of what was tried (0.001 to 1)"),
        ("xpool", "lr", Range("log", 1e-5, 1e-3), 1e-3, "is the end of what was tried (1e-05 to 0.001)"),
        ("xpool", "dropout", Range("float", 0.0, 0.6), 0.6, "is the end of what was tried (0 to 0.6)"),
        ("topk", "top_k", Range("int", 2, 4), 2, "is the end of what was tried (2 to 4)"),
        ("topk", "top_k", Range("int", 2, 4), 4, "is the end of what was tried (2 to 4)"),
        ("cmfi", "fusion_weight", Range("float", 0.0, 2.0), 2.0, "is the end of what was tried (0 to 2)"),
        ("cmfi", "video_keywords.dropout", Range("float", 0.0, 0.6), 0.6, "is the end of what was tried (0 to 0.6)"),
        ("lab.studies.classic:PCA", "components", Range("int", 2, 4), 4, "is the end of what was tried (2 to 4)"),
    ],
)
def test_a_value_at_an_end_of_what_was_tried_is_told(
    full: Path, head: str, key: str, tried: Range, value: float, said: str
) -> None:
    assert at_ends(full, head, value, tried, key) == [f"row: {key} = {value:.4g} {said}: better ones may lie beyond"]


@pytest.mark.parametrize(
    ("head", "key", "tried", "value"),
    [
        ("softmax", "temperature", LIST, 0.1),
        ("softmax", "temperature", LOG, 0.8),
        ("softmax", "temperature", Range("choice", choices=(0.1, math.inf)), math.inf),
        ("softmax", "temperature", Range("choice", choices=(0.1,)), 0.1),
        ("topk", "top_k", Range("int", 1, FRAMES), 1),
        ("topk", "top_k", Range("int", 1, FRAMES), FRAMES),
        ("xpool", "dropout", Range("float", 0.0, 1.0), 0.0),
        ("xpool", "dropout", Range("float", 0.0, 1.0), 0.995),
        ("xpool", "warmup", Range("float", 0.0, 1.0), 1.0),
        ("cmfi", "fusion_weight", Range("float", 0.0, 1.0), 0.0),
        ("cmfi", "fusion_weight", Range("float", 0.0, 1.0), 1.0),
        ("softmax", "projection", Range("choice", choices=("none", "linear")), "none"),
        ("softmax", "normalize", Range("choice", choices=(True, False)), True),
        ("lab.studies.classic:PCA", "components", Range("int", 2, D), D),
    ],
)
def test_nothing_is_told_within_or_where_a_setting_ends_itself(
    full: Path, head: str, key: str, tried: Range, value: Any
) -> None:
    assert at_ends(full, head, value, tried, key) == []


def test_what_rows_left_to_validation_is_told_with_each_rows_own_values(full: Path) -> None:
    row = Setup("heard", "cmfi", {}, {"video": "xpool"}, {"lr": LIST}, choose={"fusion_weight": (0.1, 0.5, 2.0)})
    rates = [{"point": {"lr": lr}, "value": value} for lr, value in ((0.1, 10.0), (0.003, 90.0), (0.3, 20.0))]
    weights = [{"point": {"fusion_weight": w}, "value": value} for w, value in ((0.1, 30.0), (0.5, 40.0), (2.0, 50.0))]
    told = list(of_ends(splits_of(full, row), {"choices": {"heard": [*rates, *weights]}}))
    assert [line.partition(" is ")[0] for line in told] == ["heard: lr = 0.003", "heard: fusion_weight = 2"]
    weights[1]["value"] = 60.0
    told = list(of_ends(splits_of(full, row), {"choices": {"heard": [*rates, *weights]}}))
    assert [line.partition(" is ")[0] for line in told] == ["heard: lr = 0.003"]

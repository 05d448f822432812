"""What only a GPU can show: recorded steps are the plain ones, nothing is waited for, and a broken recording is over.

Skipped where there is none. There, beside torch, zarr alone is needed: python -m pytest --noconftest tests/test_gpu.py
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from turned import SOUND, D, V, toy

from lab.backbones.devices import fetching, to_device
from lab.embeddings import RaggedWords, Texts, Videos
from lab.heads import build_head
from lab.needs import needed
from lab.training.capture import CudaGraphs, Replayed
from lab.training.loop import train
from lab.training.loss import Truth
from lab.training.recipe import Recipe
from lab.training.stacked import Member, train_stack
from lab.training.stages import History, only, stages_of
from lab.training.step import Step

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

HEADS: dict[str, dict[str, Any]] = {
    "mean": {"projection": "linear"},
    "topk": {"projection": "linear", "top_k": 2},
    "softmax": {"projection": "linear"},
    "seqlstm": {},
    "seqtransf": {"layers": 2},
    "xpool": {"dropout": 0.0},
    "sf": {"dropout": 0.0},
    "wf": {"dropout": 0.0},
    "mgfi": {"dropout": 0.0},
    "cmfi": {"audio_dim": SOUND, "video": "xpool", "video_keywords": {"dropout": 0.0}},
}
HOW = Recipe(epochs=3, batch=8, lr=1e-3, audio_lr=1e-3, logit_scale=10, seed=4, precision="fp32")
every_head = pytest.mark.parametrize("name", HEADS)


def on_gpu() -> tuple[Texts, Videos]:
    texts, videos = toy()
    return texts.to("cuda"), videos.to("cuda")


def head_of(name: str, **keywords: Any) -> nn.Module:
    torch.manual_seed(1)
    return build_head(name, D, **HEADS[name] | keywords)


def losses(head: nn.Module, texts: Texts, videos: Videos, how: Recipe = HOW, **options: Any) -> list[float]:
    return [epoch.loss for epoch in train(head, texts, videos, how, **options).epochs]


@every_head
def test_recorded_steps_are_the_plain_ones(name: str, caplog: pytest.LogCaptureFixture) -> None:
    texts, videos = on_gpu()
    with caplog.at_level(logging.WARNING):
        recorded = losses(head_of(name), texts, videos, validation=(texts, videos))
    assert not caplog.records  # it was recorded
    assert recorded == pytest.approx(losses(head_of(name), texts, videos, capture=False), rel=1e-3)
    assert recorded == pytest.approx(losses(head_of(name), *toy()), rel=1e-3)


@every_head
def test_within_an_epoch_the_host_waits_for_nothing(name: str) -> None:
    texts, videos = on_gpu()
    head = head_of(name).to("cuda")
    stage = stages_of(head, HOW)[-1]
    texts, videos = needed(stage.module, texts, videos)
    assert texts.video is not None
    counts = texts.words.counts.cpu() if isinstance(texts.words, RaggedWords) else None
    scale = nn.Parameter(torch.tensor(2.0, device="cuda"))
    step = Step(stage, texts, videos, Truth(texts.video, V, None), scale, HOW, torch.ones(30))
    steps = Replayed(step, CudaGraphs(scale.device))
    with only(head, stage):
        for epoch in range(2):  # in the first one the step is recorded, which waits
            order = torch.randperm(2 * V)
            with waits_are_errors(epoch == 1):
                step.begin(order)
                with steps.running():
                    for rows in order.split(HOW.batch):
                        steps(len(rows), int(counts[rows].max()) if counts is not None else None)
                        step.arrived()
    assert len(steps.graphs) == 1
    assert torch.isfinite(step.losses).all()


@contextmanager
def waits_are_errors(now: bool) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this mode is a prototype, torch says
        torch.cuda.set_sync_debug_mode("error" if now else "default")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_dropout_is_drawn_anew_in_each_replay() -> None:
    recorder, found = CudaGraphs(torch.device("cuda", 0)), torch.zeros(4, 999, device="cuda")
    ones, at = torch.ones(999, device="cuda"), torch.zeros(1, dtype=torch.int64, device="cuda")

    def work() -> None:
        found.index_copy_(0, at, nn.functional.dropout(ones, 0.5)[None])
        at.add_(1)

    with recorder.running():
        replay = recorder(work)
        for _ in range(3):
            replay()
        work()
    masks = {tuple(row) for row in found.tolist()}
    assert len(masks) == 4
    assert 0.9 < found.mean().item() < 1.1


class Looks(nn.Module):
    """Says that it can be recorded and looks at a value all the same."""

    capturable = True

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(D, D)

    def forward(self, texts: Texts, videos: Videos) -> Tensor:
        found: Tensor = self.map(texts.sentences) @ videos.frames.mean(1).T
        return found / found.abs().max().item()


def test_a_recording_that_breaks_off_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    texts, videos = on_gpu()
    with caplog.at_level(logging.WARNING):
        torch.manual_seed(1)
        broken = losses(Looks(), texts, videos)
    (said,) = [record.getMessage() for record in caplog.records]
    assert "previous error" not in said
    torch.manual_seed(1)
    assert broken == pytest.approx(losses(Looks(), texts, videos, capture=False), rel=1e-3)
    torch.cuda.empty_cache()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        losses(head_of("xpool", dropout=0.3), texts, videos)
    assert not caplog.records


@pytest.mark.parametrize("name", [name for name in HEADS if name != "seqlstm"])
def test_a_recorded_stack_is_its_members_one_by_one(name: str, caplog: pytest.LogCaptureFixture) -> None:
    texts, videos = on_gpu()
    recipes = [Recipe(**vars(HOW) | {"lr": 1e-3 * (1 + i), "seed": i}) for i in range(3)]
    members = [Member(head_of(name), recipe) for recipe in recipes]
    with caplog.at_level(logging.WARNING):
        told = dict(train_stack(members, texts, videos))
    assert not caplog.records
    for number, recipe in enumerate(recipes):
        outcome = told[number]
        assert isinstance(outcome, History)
        alone = losses(head_of(name), texts, videos, recipe)
        assert [epoch.loss for epoch in outcome.epochs] == pytest.approx(alone, rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_vectors_come_back_as_they_are(dtype: torch.dtype) -> None:
    values = torch.randn(50, 7).to(dtype)
    moved = to_device(values.float().numpy(), torch.device("cuda")).to(dtype)
    assert (fetching(moved)() == values.float().numpy()).all()

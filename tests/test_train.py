"""Training: the loss, the schedule, and that something is learned."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - its usual name

from lab.embeddings import Texts, Videos
from lab.errors import LabError
from lab.heads import build_head
from lab.metrics import retrieval_metrics
from lab.train import Recipe, contrastive_loss, similarities, train

V, D, FRAMES = 31, 13, 3


def toy(seed: int = 0) -> tuple[Texts, Videos]:
    """Two captions a video, which see its frames through a turned and mirrored space: a linear map undoes that."""
    torch.manual_seed(seed)
    frames = torch.randn(V, 1, D) + 0.1 * torch.randn(V, FRAMES, D)
    turn = torch.linalg.qr(torch.randn(D, D))[0]
    video = torch.arange(V).repeat_interleave(2)
    sentences = frames.mean(1)[video] @ turn + 0.1 * torch.randn(2 * V, D)
    return Texts(sentences, video=video), Videos(frames)


# -- loss ------------------------------------------------------------------------------------------------------------


def test_without_twins_it_is_the_mean_of_two_cross_entropies() -> None:
    torch.manual_seed(0)
    similarity, own = torch.randn(5, 5), torch.arange(5)
    wanted = (F.cross_entropy(3 * similarity, own) + F.cross_entropy(3 * similarity.T, own)) / 2
    found = contrastive_loss(similarity, torch.tensor([4, 9, 2, 0, 7]), torch.tensor(3.0))
    assert torch.allclose(found, wanted)


def test_by_hand() -> None:
    """Two pairs, s = [[1, 0], [0, 1]] at scale ln 3: each row and column gives -log(3 / (3 + 1))."""
    found = contrastive_loss(torch.eye(2), torch.tensor([0, 1]), torch.tensor(math.log(3)))
    assert found.item() == pytest.approx(math.log(4 / 3))


def test_a_twin_is_no_negative() -> None:
    """Rows 0 and 2 are one video: to them only row 1 is a negative, and what they score at each other is free."""
    torch.manual_seed(0)
    similarity, video = torch.randn(3, 3), torch.tensor([5, 8, 5])
    logits = similarity.tolist()
    negatives = {0: [1], 1: [0, 2], 2: [1]}

    def entropy(row: list[float], own: int) -> float:
        return math.log(sum(math.exp(row[j]) for j in [own, *negatives[own]])) - row[own]

    wanted = sum(entropy(logits[i], i) + entropy([logits[j][i] for j in range(3)], i) for i in range(3)) / 6
    one = torch.tensor(1.0)
    assert contrastive_loss(similarity, video, one).item() == pytest.approx(wanted)
    similarity[0, 2] = similarity[2, 0] = 1e4
    assert contrastive_loss(similarity, video, one).item() == pytest.approx(wanted)


def test_a_batch_of_one_video_teaches_nothing() -> None:
    similarity = torch.randn(3, 3, requires_grad=True)
    loss = contrastive_loss(similarity, torch.tensor([1, 1, 1]), torch.tensor(50.0))
    loss.backward()
    assert loss.item() == 0
    assert similarity.grad is not None
    assert not similarity.grad.any()


# -- schedule --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "warmup", "wanted"),
    [
        (10, 0.2, [1 / 2, 1, *(0.5 * (1 + math.cos(math.pi * k / 8)) for k in range(8))]),
        (
            4,
            0.0,
            [1, 1, 0.75, 0.25],
        ),  # a warm-up of one step is none; then cos(0), cos(60°), cos(120°) make 1, 3/4, 1/4
        (3, 1.0, [1 / 3, 2 / 3, 1]),
        (1, 0.1, [1]),
    ],
)
def test_the_rate_rises_and_falls(
    total: int, warmup: float, wanted: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen from outside: the rates at which the optimiser steps, one batch an epoch."""
    rates: list[float] = []
    step = torch.optim.AdamW.step

    def noted(self: torch.optim.AdamW, *args: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    texts, videos = toy()
    recipe = Recipe(epochs=total, batch=2 * V, lr=0.5, warmup=warmup, logit_scale=5)
    train(build_head("xpool", D), texts, videos, recipe)
    assert rates == pytest.approx([0.5 * share for share in wanted])


# -- training --------------------------------------------------------------------------------------------------------


def test_the_loss_falls_and_the_ranks_improve() -> None:
    texts, videos = toy()
    assert texts.video is not None
    head = build_head("xpool", D, dropout=0.0)
    before = retrieval_metrics(similarities(head, texts, videos), texts.video.numpy())
    losses = train(head, texts, videos, Recipe(epochs=16, lr=1e-2, logit_scale=10))
    after = retrieval_metrics(similarities(head, texts, videos), texts.video.numpy())
    assert len(losses) == 16
    assert losses[-1] < losses[0] / 4
    assert before["R@1"] < 25
    assert after["R@1"] > 75


def test_the_seed_decides_everything() -> None:
    texts, videos = toy()
    runs = []
    for seed in (3, 3, 5):
        head = build_head("xpool", D)
        losses = train(head, texts, videos, Recipe(epochs=2, seed=seed))
        runs.append((losses, similarities(head, texts, videos)))
    assert runs[0][0] == runs[1][0]
    assert np.array_equal(runs[0][1], runs[1][1])
    assert runs[0][0] != runs[2][0]


def test_features_are_not_written_to() -> None:
    texts, videos = toy()
    sentences, frames = texts.sentences.clone(), videos.frames.clone()
    train(build_head("xpool", D), texts, videos, Recipe(epochs=1))
    assert torch.equal(texts.sentences, sentences)
    assert torch.equal(videos.frames, frames)


def test_a_run_that_diverges_is_told() -> None:
    texts, videos = toy()
    broken = Videos(torch.where(torch.arange(V)[:, None, None] == 7, float("inf"), videos.frames))
    with pytest.raises(LabError, match=r"the loss is nan at step 0: lower the rate, lr=0.25 diverges"):
        train(build_head("xpool", D), texts, broken, Recipe(epochs=1, batch=2 * V, lr=0.25))


def test_texts_must_name_their_videos() -> None:
    texts, videos = toy()
    with pytest.raises(ValueError, match="training texts must name their videos"):
        train(build_head("xpool", D), Texts(texts.sentences), videos, Recipe())
    with pytest.raises(ValueError, match="training needs at least one text, got none"):
        train(build_head("xpool", D), texts.select(torch.arange(0)), videos, Recipe())


@pytest.mark.parametrize("tile", [1, 7, 100])
def test_tiles_change_nothing(tile: int) -> None:
    texts, videos = toy()
    head = build_head("xpool", D)
    found = similarities(head, texts, videos, tile)
    assert (found.shape, found.dtype) == ((2 * V, V), np.float32)
    assert np.allclose(found, head(texts, videos).detach().numpy(), atol=1e-6)
    assert not head.training
    assert similarities(head, texts.select(torch.arange(0)), videos, tile).shape == (0, V)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"epochs": 0}, "1 <= epochs must hold, got epochs=0"),
        ({"batch": 1}, "2 <= batch must hold, got batch=1"),
        ({"batch": 2.0}, "batch must be a whole number, got batch=2.0"),
        ({"lr": -1}, "0 <= lr must hold, got lr=-1"),
        ({"lr": "fast"}, "lr must be a number, got lr='fast'"),
        ({"lr": math.nan}, "0 <= lr must hold, got lr=nan"),
        ({"lr": True}, "lr must be a number, got lr=True"),
        ({"warmup": 1.5}, "0 <= warmup <= 1 must hold, got warmup=1.5"),
        ({"logit_scale": 0}, "1 <= logit_scale must hold, got logit_scale=0"),
    ],
)
def test_a_recipe_knows_its_ranges(given: dict[str, Any], said: str) -> None:
    with pytest.raises(LabError) as error:
        Recipe(**given)
    assert str(error.value) == said

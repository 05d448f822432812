"""Heads that train together come out as they would alone: same losses, same epochs, same similarities."""

from __future__ import annotations

import logging
import math
import weakref
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from turned import SOUND, D, V, toy
from turned import alike as nearly_alike

from lab.embeddings import Texts, Videos
from lab.errors import LabError
from lab.heads import build_head
from lab.similarity import similarity_matrix
from lab.training.course import course_of, validate
from lab.training.lifted import Masks, StackedStep
from lab.training.loop import train
from lab.training.recipe import Recipe
from lab.training.stacked import Member, Outcome, alike, train_stack
from lab.training.stages import History

RECIPES = (
    {"lr": 1e-3, "seed": 3},
    {"lr": 1e-2, "scale_lr": 1e-2, "audio_lr": 1e-3, "weight_decay": 0.0, "seed": 4, "logit_scale": 7.0},
    {"lr": 3e-3, "audio_lr": 3e-2, "clip_norm": 0.1, "warmup": 0.5, "seed": 3, "logit_scale": 99.9, "scale_lr": 0.5},
)


def members(name: str, keywords: tuple[dict[str, Any], ...], **recipe: Any) -> list[Member]:
    made = []
    for own, how in zip(keywords, RECIPES, strict=True):
        torch.manual_seed(how["seed"])
        made.append(Member(build_head(name, D, **own), Recipe(**{"epochs": 3, "logit_scale": 10.0} | how | recipe)))
    return made


HEADS = {
    "xpool": ("xpool", ({"dropout": 0.3}, {"dropout": 0.0}, {"dropout": 0.6})),
    "sf": ("sf", ({"dropout": 0.3}, {"dropout": 0.1}, {"dropout": 0.6})),
    "wf": ("wf", ({"dropout": 0.3, "word_scale": 0.5}, {"word_scale": "sqrt"}, {})),
    "mgfi": ("mgfi", ({"dropout": 0.3}, {"dropout": 0.0}, {"dropout": 1.0})),
    "mgfi, two tails, at random": ("mgfi", ({"init": "random", "shared_tail": False, "shared_norm": False},) * 3),
    "softmax": ("softmax", tuple({"projection": "linear", "temperature": t} for t in (0.1, 0.05, 1.0))),
    "softmax, top k": ("softmax", ({"projection": "linear", "top_k": 2},) * 3),
    "topk": ("topk", ({"projection": "linear", "top_k": 2},) * 3),
    "mean": ("mean", ({"projection": "linear"},) * 3),
    "seqtransf": ("seqtransf", ({"layers": 2},) * 3),
    "cmfi": (
        "cmfi",
        tuple(
            {"audio_dim": SOUND, "video": "wf", "video_keywords": {"dropout": p}, "fusion_weight": w}
            for p, w in ((0.3, 1.0), (0.0, 0.5), (0.5, 2.0))
        ),
    ),
}


def compare(made: list[Member], outcomes: dict[int, Outcome], alone: list[Member], **options: Any) -> None:
    texts, videos = toy(padded=True)
    for number, (member, other) in enumerate(zip(made, alone, strict=True)):
        history = train(other.head, texts, videos, other.recipe, same_text=same_text(), **options)
        found = outcomes[number]
        assert isinstance(found, History)
        assert [epoch.loss for epoch in found.epochs] == pytest.approx([e.loss for e in history.epochs], rel=2e-4)
        scales = [epoch.logit_scale for epoch in found.epochs], [epoch.logit_scale for epoch in history.epochs]
        assert scales[0] == pytest.approx(scales[1], rel=1e-4)
        assert found.kept.epoch == history.kept.epoch
        same = similarity_matrix(member.head, texts, videos), similarity_matrix(other.head, texts, videos)
        torch.testing.assert_close(*same, atol=2e-4, rtol=0)
        assert not member.head.training


@pytest.mark.parametrize("which", HEADS)
def test_a_stack_is_what_its_members_are_alone(which: str, caplog: pytest.LogCaptureFixture) -> None:
    """Dropout, too: on a CPU each member draws what it would alone."""
    name, keywords = HEADS[which]
    made, alone = members(name, keywords), members(name, keywords)
    assert alike(made) == [[0, 1, 2]]
    texts, videos = toy(padded=True)
    outcomes = dict(train_stack(made, texts, videos))
    assert not caplog.records
    compare(made, outcomes, alone)


def same_text() -> Tensor:
    """Every tenth caption says what the one before it says, which only ``twins = positives`` asks for."""
    rows = torch.arange(2 * V)
    return torch.where(rows % 10 == 9, rows - 1, rows)


@pytest.mark.parametrize(("bound", "share"), [(None, 1.0), (math.inf, math.exp(0.2))])
def test_each_logit_scale_is_held_at_100_against_its_gradient(
    bound: float | None, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bound is not None:
        monkeypatch.setattr("lab.training.lifted.MAX_LOG_SCALE", bound)
    recipe = Recipe(epochs=2, lr=1e-9, scale_lr=0.1, logit_scale=100, precision="fp32")
    made = [Member(build_head("mean", D, projection="linear"), replace(recipe, logit_scale=s)) for s in (100, 50)]
    outcomes = dict(train_stack(made, *nearly_alike()))
    found = [outcomes[number].epochs[-1].logit_scale for number in range(2)]  # type: ignore[union-attr]
    assert found == pytest.approx([100 * share, 50 * math.exp(0.2)], rel=1e-3)  # two steps of 0.1 each
    assert course_of(made[0].head, replace(recipe, logit_scale=250), torch.device("cpu")).scale.exp() <= 100.001


@pytest.mark.parametrize(
    "recipe", [{"twins": "positives"}, {"twins": "negatives"}, {"precision": "bf16"}, {"batch": 2 * V - 1}]
)
def test_all_that_the_members_share_holds_for_each(recipe: dict[str, Any]) -> None:
    """A last batch of one text, too."""
    name, keywords = HEADS["mgfi"]
    made, alone = members(name, keywords, **recipe), members(name, keywords, **recipe)
    texts, videos = toy(padded=True)
    outcomes = dict(train_stack(made, texts, videos, same_text=same_text()))
    if "precision" in recipe:  # rounded to 8 bits, in another order
        for number, other in enumerate(alone):
            found = outcomes[number]
            assert isinstance(found, History)
            loss = [epoch.loss for epoch in train(other.head, texts, videos, other.recipe).epochs]
            assert [epoch.loss for epoch in found.epochs] == pytest.approx(loss, rel=0.03)
    else:
        compare(made, outcomes, alone)


def test_each_member_keeps_its_own_best_epoch() -> None:
    keywords = ({"dropout": 0.0},) * 3
    recipe = {"epochs": 6, "lr": 0.1, "logit_scale": 10.0, "clip_norm": 1.0, "warmup": 0.1}
    made, alone = members("xpool", keywords, **recipe), members("xpool", keywords, **recipe)
    texts, videos = toy(padded=True)
    outcomes = dict(train_stack(made, texts, videos, validation=(texts, videos)))
    kept = [outcome.kept.epoch for outcome in outcomes.values() if isinstance(outcome, History)]
    assert len(set(kept)) > 1
    assert min(kept) < 6
    for member, number in zip(made, outcomes, strict=True):
        outcome = outcomes[number]
        assert isinstance(outcome, History)
        assert outcome.kept.metrics == validate(member.head, texts, videos)
    compare(made, outcomes, alone, validation=(texts, videos))


# -- members that end ------------------------------------------------------------------------------------------------


def test_who_is_ended_leaves_the_others_as_they_would_be() -> None:
    """One after its first epoch, one in CMFI's second stage; the last goes on alone."""
    name, keywords = HEADS["cmfi"]
    made, alone = members(name, keywords, audio_epochs=3), members(name, keywords, audio_epochs=3)
    texts, videos = toy(padded=True)
    seen: list[tuple[int, list[int]]] = []

    def on_epoch(epoch: int, told: dict[int, dict[str, float]]) -> Collection[int]:
        seen.append((epoch, list(told)))
        return {1: [0], 4: [2]}.get(epoch, ())

    ended = list(train_stack(made, texts, videos, on_epoch=on_epoch))
    assert seen == [(1, [0, 1, 2]), (2, [1, 2]), (3, [1, 2]), (4, [1, 2]), (5, [1]), (6, [1])]
    assert [(number, outcome is None) for number, outcome in ended] == [(0, True), (2, True), (1, False)]
    compare(made[1:2], {0: ended[2][1]}, alone[1:2])


def test_who_diverges_ends_alone_and_says_what_it_would_say_alone() -> None:
    name, keywords = HEADS["xpool"]
    wild = [Recipe(lr=lr, epochs=3, logit_scale=10.0, seed=3) for lr in (1e-3, 1e30, 1e-2)]
    made, alone = (
        [Member(m.head, how) for m, how in zip(members(name, keywords), wild, strict=True)] for _ in range(2)
    )
    texts, videos = toy(padded=True)
    outcomes = dict(train_stack(made, texts, videos))
    with pytest.raises(LabError) as said:
        train(alone[1].head, texts, videos, wild[1])
    assert str(outcomes[1]) == str(said.value)
    compare([made[0], made[2]], {0: outcomes[0], 1: outcomes[2]}, [alone[0], alone[2]])


def test_all_may_end() -> None:
    name, keywords = HEADS["xpool"]
    texts, videos = toy(padded=True)
    ended = dict(train_stack(members(name, keywords), texts, videos, on_epoch=lambda _, told: told))
    assert ended == {0: None, 1: None, 2: None}


def test_weights_are_their_own_afterwards() -> None:
    """A slice of a stack, saved or kept, would keep all of it."""
    name, keywords = HEADS["xpool"]
    made = members(name, keywords)
    for _ in train_stack(made, *toy(padded=True)):
        pass
    for parameter in made[1].head.parameters():
        assert parameter.untyped_storage().nbytes() == parameter.nbytes
        assert parameter.grad is None
        assert parameter.requires_grad


# -- who can be stacked ----------------------------------------------------------------------------------------------


def test_who_is_alike() -> None:
    def member(name: str = "softmax", recipe: dict[str, Any] | None = None, **keywords: Any) -> Member:
        return Member(build_head(name, D, **keywords), Recipe(**recipe or {}))

    linear = {"projection": "linear"}
    given = [
        member(**linear, temperature=0.1),
        member("seqlstm"),
        member(**linear, temperature=0.2, recipe={"lr": 1.0, "seed": 5, "logit_scale": 3.0, "weight_decay": 0.0}),
        member(**linear, top_k=2),
        member(**linear, recipe={"batch": 8}),
        member("topk", **linear),
        member("seqlstm"),
        member(**linear, normalize=False),
        member(**linear, recipe={"batch": 8}),
    ]
    assert alike(given) == [[0, 2], [1], [3], [4, 8], [5], [6], [7]]
    assert alike([member("mgfi", dropout=0), member("mgfi", dropout=0.5), member("mgfi", activation="gelu")]) == [
        [0, 1],
        [2],
    ]


@pytest.mark.parametrize("held", [lambda: np.ones(3), lambda: {"a": torch.ones(2)}, lambda: [torch.ones(2)]])
def test_heads_that_hold_what_cannot_be_compared_are_not_alike(held: Callable[[], Any]) -> None:
    def member(value: Any) -> Member:
        made = Member(build_head("mean", D, projection="linear"), Recipe())
        made.head.held = value
        return made

    one = held()
    assert alike([member(one), member(held()), member(one)]) == [[0, 2], [1]]


class Looks(nn.Module):
    """A head of one's own that decides by a value, which a stack of members does not have."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim, self.weight = dim, nn.Parameter(torch.eye(dim))

    def forward(self, texts: Texts, videos: Videos) -> Tensor:
        assert videos.frame_mask is not None
        pooled = torch.where(videos.frame_mask[..., None], videos.frames, 0).mean(1)
        similarity: Tensor = texts.sentences @ self.weight @ pooled.T
        return similarity if float(similarity.detach().sum()) > 0 else similarity * 0.5


def test_a_head_that_cannot_be_lifted_trains_one_by_one_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    made, alone = ([Member(Looks(D), Recipe(**{"epochs": 2} | how)) for how in RECIPES] for _ in range(2))
    assert alike(made) == [[0, 1, 2]]
    texts, videos = toy(padded=True)
    seen: list[tuple[int, int]] = []

    def on_epoch(epoch: int, told: dict[int, dict[str, float]]) -> Collection[int]:
        seen.extend((epoch, number) for number in told)
        return [number for number in told if number == 1]

    with caplog.at_level(logging.WARNING):
        outcomes = dict(train_stack(made, texts, videos, on_epoch=on_epoch))
    assert len(caplog.records) == 1
    assert caplog.messages[0].startswith("these heads train one by one: RuntimeError: ")
    assert seen == [(1, 0), (2, 0), (1, 1), (1, 2), (2, 2)]
    assert outcomes[1] is None
    compare([made[0], made[2]], {0: outcomes[0], 1: outcomes[2]}, [alone[0], alone[2]])


def test_a_stack_that_is_too_large_trains_in_halves(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, keywords = HEADS["xpool"]
    made, alone = members(name, keywords), members(name, keywords)
    call, sizes = StackedStep.__call__, []

    full: list[weakref.ref[Tensor]] = []

    def narrow(self: StackedStep, *size: Any) -> None:
        if len(self.courses) > 2:
            full[:] = [weakref.ref(parameter) for parameter in self.stacks]
        elif not sizes or sizes[-1] > 2:  # the first step of the first half: nothing is left of the full stack
            assert not any(each() is not None for each in full)
            free = {id(parameter) for own in self.slices for parameter in own}
            for member in made:
                for parameter in member.head.parameters():
                    if id(parameter) not in free:
                        assert parameter.untyped_storage().nbytes() == parameter.nbytes
                        assert parameter.grad is None
        sizes.append(len(self.courses))
        call(self, *size)
        if len(self.courses) > 2 and int(self.done) == 2:
            raise torch.OutOfMemoryError

    monkeypatch.setattr(StackedStep, "__call__", narrow)
    texts, videos = toy(padded=True)
    outcomes = dict(train_stack(made, texts, videos))
    assert caplog.messages == ["3 heads at once are too much for the GPU's memory: they train in halves"]
    assert set(sizes) == {3, 2}
    compare(made, outcomes, alone)


def test_lstms_train_one_by_one_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    made, alone = (members("seqlstm", ({},) * 3, epochs=1) for _ in range(2))
    texts, videos = toy(padded=True)
    outcomes = dict(train_stack(made, texts, videos))
    assert caplog.messages == ["these heads train one by one: torch.vmap knows no recurrent layers"]
    compare(made, outcomes, alone)


def test_what_a_gpu_draws_for_all_has_each_ones_rate() -> None:
    rates = [0.0, 0.3, 1.0, 0.9]
    torch.manual_seed(0)
    masks = Masks(rates, [], torch.device("cpu")).draw_all((4, 100, 400), torch.empty(0))
    for mask, rate in zip(masks, rates, strict=True):
        assert (mask == 0).double().mean().item() == pytest.approx(rate, abs=0.01)
        assert mask[mask > 0].tolist() == pytest.approx([1 / max(1 - rate, 1e-6)] * int((mask > 0).sum()))
        assert mask.mean().item() == pytest.approx(float(rate < 1), abs=0.06)

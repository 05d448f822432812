"""The loss, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from lab.training.loss import TWINS, Truth, contrastive_loss

ONE = torch.tensor(1.0)


def owners(*video: int) -> Tensor:
    """Which texts are true of which videos, for pairs of these videos."""
    row = torch.tensor(video)
    return row[:, None] == row


def test_without_twins_it_is_the_mean_of_two_cross_entropies() -> None:
    torch.manual_seed(0)
    similarity, own = torch.randn(5, 5), torch.arange(5)
    wanted = (F.cross_entropy(3 * similarity, own) + F.cross_entropy(3 * similarity.T, own)) / 2
    for twins in TWINS:
        found = contrastive_loss(similarity, owners(4, 9, 2, 0, 7), torch.tensor(3.0), twins=twins)
        assert torch.allclose(found, wanted)


def test_by_hand() -> None:
    """Two pairs, s = [[1, 0], [0, 1]] at scale ln 3: each row and column gives -log(3 / (3 + 1))."""
    found = contrastive_loss(torch.eye(2), owners(0, 1), torch.tensor(math.log(3)))
    assert found.item() == pytest.approx(math.log(4 / 3))


def test_a_twin_is_a_negative_where_the_papers_loss_is_asked_for() -> None:
    """X-Pool eq. 15-16: the denominators go over all j, whatever is true of whom."""
    torch.manual_seed(0)
    similarity, own = torch.randn(5, 5), torch.arange(5)
    wanted = (F.cross_entropy(3 * similarity, own) + F.cross_entropy(3 * similarity.T, own)) / 2
    true = owners(4, 9, 4, 0, 4)
    assert torch.allclose(contrastive_loss(similarity, true, torch.tensor(3.0), twins="negatives"), wanted)
    assert not torch.allclose(contrastive_loss(similarity, true, torch.tensor(3.0)), wanted)


def test_a_twin_is_no_negative() -> None:
    """Rows 0 and 2 are one video: to them only row 1 is a negative, and what they score at each other is free."""
    torch.manual_seed(0)
    similarity, true = torch.randn(3, 3), owners(5, 8, 5)
    logits = similarity.tolist()
    negatives = {0: [1], 1: [0, 2], 2: [1]}

    def entropy(row: list[float], own: int) -> float:
        return math.log(sum(math.exp(row[j]) for j in [own, *negatives[own]])) - row[own]

    wanted = sum(entropy(logits[i], i) + entropy([logits[j][i] for j in range(3)], i) for i in range(3)) / 6
    assert contrastive_loss(similarity, true, ONE).item() == pytest.approx(wanted)
    similarity[0, 2] = similarity[2, 0] = 1e4
    assert contrastive_loss(similarity, true, ONE).item() == pytest.approx(wanted)


def test_a_twin_may_be_as_right_as_the_pair_itself() -> None:
    """Text 0 is true of videos 0 and 1, text 1 of video 1 alone. Weights of e^s: rows (1, 1), (1, 3).

    Rows: -(log 1/2 + log 1/2) / 2 and -log 3/4. Columns: video 0 has text 0 alone, -log 1/2; video 1 has both,
    -(log 1/4 + log 3/4) / 2.
    """
    similarity, true = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]]), torch.tensor([[True, True], [False, True]])
    half, quarter, rest = math.log(1 / 2), math.log(1 / 4), math.log(3 / 4)
    wanted = -((half + rest) / 2 + (half + (quarter + rest) / 2) / 2) / 2
    assert contrastive_loss(similarity, true, ONE, twins="positives").item() == pytest.approx(wanted)


@pytest.mark.parametrize("twins", TWINS)
def test_a_batch_of_one_video_teaches_nothing_but_where_twins_are_negatives(twins: str) -> None:
    similarity = torch.zeros(3, 3, requires_grad=True)
    loss = contrastive_loss(similarity, owners(1, 1, 1), torch.tensor(50.0), twins=twins)
    loss.backward()
    assert loss.item() == pytest.approx(0 if twins == "ignored" else math.log(3))
    assert similarity.grad is not None
    assert (similarity.grad.abs().max() > 1) == (twins == "negatives")
    assert twins == "negatives" or similarity.grad.abs().max() < 1e-6


def test_a_text_is_true_of_its_video_alone_unless_others_have_the_same() -> None:
    """Videos 0, 1, 2 with two captions each; caption 1 of video 0 and caption 0 of video 2 are the same words."""
    video = torch.tensor([0, 0, 1, 1, 2, 2])
    assert torch.equal(Truth(video, 3, None).of(torch.tensor([0, 3, 1])), owners(0, 1, 0))
    truth = Truth(video, 3, torch.tensor([0, 1, 2, 3, 1, 4]))
    rows = torch.tensor([1, 2, 5])  # videos 0, 1, 2: the other caption of video 2, but the same video
    assert truth.of(rows).tolist() == [[True, False, True], [False, True, False], [False, False, True]]
    rows = torch.tensor([5, 0, 4])  # videos 2, 0, 2
    assert truth.of(rows).tolist() == [[True, False, True], [False, True, False], [True, True, True]]


def test_texts_of_a_last_number_are_asked_of_later_videos_too() -> None:
    """Text 2 has the largest number and the first video: with video 2 it is a pair beyond all that are true."""
    video, same_text = torch.tensor([1, 2, 0]), torch.tensor([0, 0, 1])
    found = Truth(video, 3, same_text).of(torch.tensor([2, 0, 1]))
    assert found.tolist() == [[True, False, False], [False, True, True], [False, True, True]]

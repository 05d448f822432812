"""Texts and videos in memory: shapes that fit, selections, and words that stay ragged."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lab import RaggedWords, Texts, Videos

T, W, D, V, F, S, A = 11, 3, 7, 5, 2, 13, 17


def ragged(counts: list[int], gap: int = 0) -> RaggedWords:
    """Words with a junk of NaN between texts, as the store's units leave it."""
    starts, cursor = [], gap
    for count in counts:
        starts.append(cursor)
        cursor += count + gap
    values = torch.full((cursor, D), float("nan"), dtype=torch.float16)
    for start, count in zip(starts, counts, strict=True):
        values[start : start + count] = torch.randint(-8, 8, (count, D)).half()
    return RaggedWords(values, torch.tensor(starts, dtype=torch.int64), torch.tensor(counts, dtype=torch.int64))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sentences": torch.zeros(D)}, r"sentences must be two-dimensional, got \(7,\)"),
        ({"words": torch.zeros(T, W, D + 1)}, r"words must be \(T=11, W, D=7\), got \(11, 3, 8\)"),
        ({"words": torch.zeros(T - 1, W, D)}, r"words must be \(T=11, W, D=7\), got \(10, 3, 7\)"),
        (
            {"words": torch.zeros(T, W, D), "word_mask": torch.zeros(T, W)},
            r"word_mask must be a bool tensor of shape \(11, 3\), got torch.float32 \(11, 3\)",
        ),
        (
            {"words": torch.zeros(T, W, D), "word_mask": torch.ones(T, W + 1, dtype=torch.bool)},
            r"word_mask must be a bool tensor of shape \(11, 3\), got torch.bool \(11, 4\)",
        ),
        ({"words": ragged([1] * 3)}, "ragged words must cover 11 texts, got 3"),
        (
            {"words": RaggedWords(torch.zeros(4, D + 2), torch.zeros(T, dtype=torch.int64), torch.zeros(T).long())},
            "words must have D=7, got 9",
        ),
        ({"video": torch.zeros(T + 1, dtype=torch.int64)}, r"video must be int64 of shape \(T=11,\)"),
        ({"video": torch.zeros(T)}, r"video must be int64 of shape \(T=11,\)"),
        ({"rows": torch.zeros(T, 1, dtype=torch.int64)}, r"rows must be int64 of shape \(T=11,\)"),
    ],
)
def test_texts_that_do_not_fit(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Texts(**({"sentences": torch.zeros(T, D)} | given))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"frames": torch.zeros(V, D)}, r"frames must be \(V, F, D\), got \(5, 7\)"),
        (
            {"frame_mask": torch.ones(V, F)},
            r"frame_mask must be a bool tensor of shape \(5, 2\), got torch.float32 \(5, 2\)",
        ),
        (
            {"frame_mask": torch.tensor([[True, False]] * 3 + [[False, False]] * 2)},
            r"every video needs at least one real frame in frame_mask, videos \[3, 4\] have none",
        ),
        ({"audio": torch.zeros(V, A)}, r"audio must be \(V=5, S, A\), got \(5, 17\)"),
        ({"audio": torch.zeros(V + 1, S, A)}, r"audio must be \(V=5, S, A\), got \(6, 13, 17\)"),
        (
            {"audio": torch.zeros(V, S, A), "audio_mask": torch.ones(V, A, dtype=torch.bool)},
            r"audio_mask must be a bool tensor of shape \(5, 13\), got torch.bool \(5, 17\)",
        ),
    ],
)
def test_videos_that_do_not_fit(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Videos(**({"frames": torch.zeros(V, F, D)} | given))


def test_ragged_words_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"words.values must be \(N, D\), got \(4,\)"):
        RaggedWords(torch.zeros(4), torch.zeros(2), torch.zeros(2))
    with pytest.raises(ValueError, match="one entry a text"):
        RaggedWords(torch.zeros(4, D), torch.zeros(2), torch.zeros(3))
    with pytest.raises(
        ValueError, match=r"words.starts and words.counts must be int64, got torch.float32 and torch.int64"
    ):
        RaggedWords(torch.zeros(4, D), torch.zeros(2), torch.zeros(2).long())


def test_no_mask_means_all_is_real() -> None:
    videos = Videos(torch.zeros(V, F, D), audio=torch.zeros(V, S, A))
    assert videos.frame_mask is not None
    assert videos.audio_mask is not None
    assert videos.frame_mask.all()
    assert videos.audio_mask.all()
    _, mask = Texts(torch.zeros(T, D), torch.zeros(T, W, D)).padded_words()
    assert tuple(mask.shape) == (T, W)
    assert mask.all()


def test_a_video_may_be_without_sound_but_not_without_a_picture() -> None:
    mask = torch.ones(V, S, dtype=torch.bool)
    mask[2] = False
    Videos(torch.zeros(V, F, D), audio=torch.zeros(V, S, A), audio_mask=mask)


def test_no_words_is_told() -> None:
    with pytest.raises(ValueError, match="these texts carry no word features"):
        Texts(torch.zeros(T, D)).padded_words()


@pytest.mark.parametrize("gap", [0, 2])
@pytest.mark.parametrize("counts", [[2, 0, 3], [0, 0], [1], [], [5, 1, 0, 0, 2]])
def test_padding_equals_a_loop(counts: list[int], gap: int) -> None:
    words = ragged(counts, gap)
    padded, mask = words.pad()
    width = max(counts, default=0)
    wanted, real = torch.zeros(len(counts), width, D), torch.zeros(len(counts), width, dtype=torch.bool)
    for t, (start, count) in enumerate(zip(words.starts.tolist(), counts, strict=True)):
        for w in range(count):
            wanted[t, w], real[t, w] = words.values[start + w].float(), True
    assert padded.dtype == torch.float32
    assert torch.equal(padded, wanted)
    assert torch.equal(mask, real)


def test_a_selection_of_ragged_words_shares_the_values() -> None:
    words = ragged([2, 0, 3, 1], gap=1)
    rows = torch.tensor([3, 0, 0])
    part = words.select(rows)
    assert part.values.data_ptr() == words.values.data_ptr()
    padded, mask = part.pad()
    whole, whole_mask = words.pad()
    assert mask.sum(1).tolist() == [1, 2, 2]
    assert torch.equal(padded, whole[rows][:, :2])
    assert torch.equal(mask, whole_mask[rows][:, :2])


def texts(words: Tensor | RaggedWords) -> Texts:
    return Texts(torch.randn(T, D), words, None, torch.arange(T) % V, torch.arange(100, 100 + T))


@pytest.mark.parametrize("words", [torch.arange(T * W * D).view(T, W, D).half(), ragged([1, 2, 0] * 3 + [3, 3])])
def test_a_selection_of_texts(words: Tensor | RaggedWords) -> None:
    whole = texts(words)
    rows = torch.tensor([10, 0, 4, 4])
    part = whole.select(rows)
    assert (len(part), part.dim) == (4, D)
    assert torch.equal(part.sentences, whole.sentences[rows])
    assert part.video is not None
    assert part.video.tolist() == [0, 0, 4, 4]
    assert part.rows is not None
    assert part.rows.tolist() == [110, 100, 104, 104]
    padded, mask = whole.padded_words()
    mine, my_mask = part.padded_words()
    width = mine.shape[1]
    assert torch.equal(mine, padded[rows][:, :width])
    assert torch.equal(my_mask, mask[rows][:, :width])


def test_a_selection_of_videos() -> None:
    mask = torch.tensor([[True, False]] * 2 + [[True, True]] * 3)
    whole = Videos(torch.randn(V, F, D), mask, torch.randn(V, S, A), None, torch.arange(40, 45))
    rows = torch.tensor([4, 1, 1])
    part = whole.select(rows)
    assert (len(part), part.dim) == (3, D)
    for name in ("frames", "frame_mask", "audio", "audio_mask", "rows"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[rows])
    assert len(whole.select(torch.zeros(0, dtype=torch.int64))) == 0


def test_nothing_is_written_to_inputs() -> None:
    words = ragged([1] * T, gap=1)
    held = [words.values.clone(), words.starts.clone(), words.counts.clone()]
    whole = texts(words)
    sentences = whole.sentences.clone()
    whole.select(torch.tensor([3, 1])).padded_words()
    whole.to("cpu")
    assert torch.equal(whole.sentences, sentences)
    for now, before in zip((words.values, words.starts, words.counts), held, strict=True):
        assert torch.equal(now.nan_to_num(), before.nan_to_num())


def test_to_moves_everything() -> None:
    """On the meta device, which every machine has."""
    moved = texts(ragged([1] * T)).to("meta")
    assert isinstance(moved.words, RaggedWords)
    assert {t.device.type for t in (moved.sentences, moved.video, moved.rows, *vars(moved.words).values())} == {"meta"}
    padded = texts(torch.zeros(T, W, D)).to("cpu")
    assert padded.word_mask is not None
    videos = Videos(torch.zeros(V, F, D), audio=torch.zeros(V, S, A), rows=torch.arange(V)).to("cpu")
    assert videos.audio_mask is not None
    assert videos.rows is not None


def test_words_can_be_padded_to_a_width_that_is_known() -> None:
    words = RaggedWords(torch.arange(10.0).reshape(5, 2), torch.tensor([0, 2]), torch.tensor([2, 3]))
    values, mask = words.pad(4)
    assert values.shape == (2, 4, 2)
    assert mask.tolist() == [[True, True, False, False], [True, True, True, False]]
    assert torch.equal(values[:, :3], words.pad()[0])


def test_selected_videos_share_nothing_with_the_whole() -> None:
    videos = Videos(torch.randn(3, 2, 2), torch.tensor([[True, False], [True, True], [False, True]]))
    part = videos.select(torch.tensor([2, 0, 2]))
    part.frames.zero_()
    assert part.frame_mask is not None
    assert part.frame_mask.tolist() == [[False, True], [True, False], [False, True]]
    assert len(videos) == 3
    assert videos.frames.all()


def test_what_is_printed_is_a_line() -> None:
    words = RaggedWords(torch.zeros(5, 4), torch.tensor([0, 2]), torch.tensor([2, 3]))
    assert repr(words) == "RaggedWords(2 texts, 5 words × 4)"
    assert repr(Texts(torch.zeros(2, 4), words)) == "Texts(2 × 4, words)"
    assert repr(Texts(torch.zeros(2, 4))) == "Texts(2 × 4, no words)"
    assert repr(Videos(torch.zeros(3, 2, 4))) == "Videos(3, frames 2 × 4, no sound)"
    assert repr(Videos(torch.zeros(3, 2, 4), audio=torch.zeros(3, 1, 6))) == "Videos(3, frames 2 × 4, sound 1 × 6)"

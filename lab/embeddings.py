"""What heads see: the features of some texts and some videos, as tensors with masks.

The axes have one name each, everywhere in the lab:

====================  =====================================================================
``texts`` T           captions, or a typed query
``videos`` V          the gallery
``frames`` F          sampled frames of a video; short videos have fewer, ``frame_mask`` says which are real
``words`` W           tokens of a text without start, end and padding; ragged
``segments`` S        stretches of sound in time order, or one vector for the clip
``dim`` D             the joint space of texts and frames (``A``: the audio network's own width)
====================  =====================================================================

A similarity matrix is always texts × videos. Nothing here is normalised: heads do that themselves, since X-Pool
consumes raw features (facts of the authors' code) and mean pooling normalised ones. Whatever lies under a mask may be
anything, NaN included.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class RaggedWords:
    """Word features of T texts without padding: text t owns ``values[starts[t] : starts[t] + counts[t]]``.

    MSR-VTT's 200,000 captions padded to 77 tokens are 16 GB in float16; ragged they are 2 GB, so they stay ragged in
    memory and only a batch is ever padded.
    """

    values: Tensor  # (N, D), float16 as stored
    starts: Tensor  # (T,), int64
    counts: Tensor  # (T,), int64

    def __post_init__(self) -> None:
        _must(self.values.ndim == 2, f"words.values must be (N, D), got {tuple(self.values.shape)}")
        _must(self.starts.shape == self.counts.shape, "words.starts and words.counts must have one entry a text")
        whole = self.starts.dtype == self.counts.dtype == torch.int64
        _must(whole, f"words.starts and words.counts must be int64, got {self.starts.dtype} and {self.counts.dtype}")

    def __len__(self) -> int:
        return len(self.starts)

    def __repr__(self) -> str:
        return f"RaggedWords({len(self)} texts, {len(self.values)} words × {self.values.shape[1]})"

    def select(self, rows: Tensor) -> RaggedWords:
        """The words of some texts, in the order of ``rows``; the values are shared, not copied."""
        rows = rows.to(self.starts.device)
        return replace(self, starts=self.starts[rows], counts=self.counts[rows])

    def pad(self, width: int | None = None) -> tuple[Tensor, Tensor]:
        """Padded float32 words (T, W, D), zeros in the padding, and their mask (T, W); W is the longest text here.

        ``width`` is that W, for a caller who knows it already: to ask a GPU for it is to wait for the GPU.
        """
        if width is None:
            width = int(self.counts.max()) if len(self) else 0
        steps = torch.arange(width, device=self.values.device)
        mask = steps < self.counts[:, None]
        rows = (self.starts[:, None] + steps).masked_fill(~mask, 0)
        return self.values[rows].float().masked_fill(~mask[..., None], 0.0), mask

    def to(self, device: torch.device | str) -> RaggedWords:
        """The same on another device."""
        return RaggedWords(self.values.to(device), self.starts.to(device), self.counts.to(device))


@dataclass(frozen=True)
class Texts:
    """Texts in the joint space. A user can fill this by hand; ``store.load`` fills it from a store.

    Raises ``ValueError`` where the shapes do not fit each other.
    """

    sentences: Tensor  # (T, D)
    words: Tensor | RaggedWords | None = None  # (T, W, D), or ragged
    word_mask: Tensor | None = None  # (T, W) bool, True = a real word; needed only beside padded words
    video: Tensor | None = None  # (T,) int64: the row of each text's true video; None for a free query
    rows: Tensor | None = None  # (T,) int64: rows of the store's caption table, where they came from one

    def __post_init__(self) -> None:
        _must(self.sentences.ndim == 2, f"sentences must be two-dimensional, got {tuple(self.sentences.shape)}")
        count, dim = self.sentences.shape
        if isinstance(self.words, Tensor):
            shape = tuple(self.words.shape)
            _must(
                len(shape) == 3 and shape[0] == count and shape[2] == dim,
                f"words must be (T={count}, W, D={dim}), got {shape}",
            )
            _mask(self, "word_mask", self.words)
        elif self.words is not None:
            _must(len(self.words) == count, f"ragged words must cover {count} texts, got {len(self.words)}")
            _must(self.words.values.shape[1] == dim, f"words must have D={dim}, got {self.words.values.shape[1]}")
        for name, column in (("video", self.video), ("rows", self.rows)):
            fits = column is None or (tuple(column.shape) == (count,) and column.dtype == torch.int64)
            _must(fits, f"{name} must be int64 of shape (T={count},)")

    def __len__(self) -> int:
        return len(self.sentences)

    def __repr__(self) -> str:
        return f"Texts({len(self)} × {self.dim}, {'no words' if self.words is None else 'words'})"

    @property
    def dim(self) -> int:
        """D, the width of the joint space."""
        return int(self.sentences.shape[1])

    def select(self, rows: Tensor) -> Texts:
        """Some of the texts, in the order of ``rows`` (T',), an index tensor."""
        taken: dict[str, Any] = {name: _take(column, rows) for name, column in _there(self)}
        return replace(self, **taken)

    def padded_words(self) -> tuple[Tensor, Tensor]:
        """Words (T, W, D) in float32 with their mask (T, W), whichever way they are held; ValueError without words."""
        if self.words is None:
            raise ValueError(
                "these texts carry no word features: load a store whose pass had the text modality; a head that reads "
                "them must say so, `needs_words = True`"
            )
        if isinstance(self.words, RaggedWords):
            return self.words.pad()
        return self.words.float(), self.word_mask  # type: ignore[return-value]

    def padded(self, width: int | None = None) -> Texts:
        """The same with padded words where they are ragged; ``width`` as for ``RaggedWords.pad``."""
        if not isinstance(self.words, RaggedWords):
            return self
        words, mask = self.words.pad(width)
        return replace(self, words=words, word_mask=mask)

    def to(self, device: torch.device | str) -> Texts:
        """The same on another device."""
        return replace(self, **{name: column.to(device) for name, column in _there(self)})


@dataclass(frozen=True)
class Videos:
    """Videos in the joint space, with their sound where there is any. Raises ``ValueError`` on shapes that do not fit.

    A row of ``audio_mask`` that is all False is a video without sound to go by, which is a fact about it; a row of
    ``frame_mask`` that is all False would be a video without a picture, which no head can rank: that is an error.
    """

    frames: Tensor  # (V, F, D)
    frame_mask: Tensor = None  # type: ignore[assignment]  # (V, F) bool, True = a real frame; all where not given
    audio: Tensor | None = None  # (V, S, A)
    audio_mask: Tensor | None = None  # (V, S) bool, True = real sound; all where there is audio and no mask is given
    rows: Tensor | None = None  # (V,) int64: rows of the store's video table, where they came from one

    def __post_init__(self) -> None:
        shape = tuple(self.frames.shape)
        _must(len(shape) == 3, f"frames must be (V, F, D), got {shape}")
        _mask(self, "frame_mask", self.frames)
        if may_look(self.frame_mask):
            self.check_frames()
        if self.audio is not None:
            sound = tuple(self.audio.shape)
            _must(len(sound) == 3 and sound[0] == shape[0], f"audio must be (V={shape[0]}, S, A), got {sound}")
            _mask(self, "audio_mask", self.audio)

    def check_frames(self) -> None:
        """Raises ``ValueError`` for a video without a real frame. On a GPU, which it has to wait for, only if asked."""
        empty = (~self.frame_mask.any(1)).nonzero().flatten().tolist()
        _must(not empty, f"every video needs at least one real frame in frame_mask, videos {empty[:5]} have none")

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        sound = "no sound" if self.audio is None else f"sound {' × '.join(map(str, self.audio.shape[1:]))}"
        return f"Videos({len(self)}, frames {self.frames.shape[1]} × {self.dim}, {sound})"

    @property
    def dim(self) -> int:
        """D, the width of the joint space."""
        return int(self.frames.shape[2])

    def select(self, rows: Tensor) -> Videos:
        """Some of the videos, in the order of ``rows`` (V',), an index tensor."""
        part = copy(self)  # not made anew: rows of what was checked need no check, which would make a GPU wait
        for name, column in _there(self):
            object.__setattr__(part, name, _take(column, rows))
        return part

    def to(self, device: torch.device | str) -> Videos:
        """The same on another device."""
        return replace(self, **{name: column.to(device) for name, column in _there(self)})


# -- looking at values ------------------------------------------------------------------------------------------------

_unseen = ContextVar("unseen", default=False)


@contextmanager
def unseen() -> Iterator[None]:
    """Inside, ``may_look`` says no, as under ``torch.vmap``, where one tensor stands for many and has no values."""
    before = _unseen.set(True)
    try:
        yield
    finally:
        _unseen.reset(before)


def may_look(values: Tensor) -> bool:
    """Whether the host may look at values in the middle of things: on a GPU it would have to wait for them."""
    return not (values.is_cuda or _unseen.get())


def _must(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)


def _mask(owner: Texts | Videos, name: str, features: Tensor) -> None:
    """The mask of features (N, M, width) is bool (N, M); where none is given all are real."""
    shape = tuple(features.shape[:2])
    if getattr(owner, name) is None:
        object.__setattr__(owner, name, torch.ones(shape, dtype=torch.bool, device=features.device))
    mask: Tensor = getattr(owner, name)
    fits = mask.dtype == torch.bool and tuple(mask.shape) == shape
    _must(fits, f"{name} must be a bool tensor of shape {shape}, got {mask.dtype} {tuple(mask.shape)}")


def _there(owner: Texts | Videos) -> Iterator[tuple[str, Any]]:
    """The columns that are not None, by name."""
    yield from ((name, column) for name, column in vars(owner).items() if column is not None)


def _take(column: Tensor | RaggedWords, rows: Tensor) -> Tensor | RaggedWords:
    return column.select(rows) if isinstance(column, RaggedWords) else column[rows.to(column.device)]

"""How a store is laid out: its units, its arrays, the codes in them, and where the words of a caption lie.

``features/README.md`` describes the whole; what is here is what a writer and a reader must agree on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Version of the layout. A store of a newer one is refused; older ones are read as long as this reader knows them.
SCHEMA = 1
#: Videos in a chunk: 64 × 12 × 512 × 2 bytes are 0.8 MB, where reading is fastest (one video a chunk is 9 × slower).
CHUNK_VIDEOS = 64
#: Videos in a unit of work, which is what a killed pass loses at most. Divides the chunk.
UNIT_VIDEOS = 16
#: Captions in a unit of work, and in a chunk.
UNIT_CAPTIONS = 512
#: The group of what is no array: tables, ledger, locks. A group of its own, so that zarr can list the arrays in peace.
TABLES = "tables"
#: What ``audio_presence`` holds. Papers that feed zeros for absent sound cannot tell these apart.
PRESENCE = {"unknown": 0, "absent": 1, "silent": 2, "present": 3}


NAN = float("nan")


@dataclass(frozen=True)
class Spec:
    """An array: rows along its first axis, so many of them in a chunk, and what stands where nothing was written.

    The fill of a feature is NaN, never 0: a row that was not written must not look like one.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    rows: int
    fill: float

    @property
    def chunks(self) -> tuple[int, ...]:
        """Whole rows, so that a chunk on disk is a piece of the array as it lies in memory."""
        return (self.rows, *self.shape[1:])


def video_arrays(V: int) -> tuple[Spec, ...]:
    """What is known of V videos without any features."""
    return (Spec("duration_s", (V,), "f4", CHUNK_VIDEOS, NAN),)


def frame_arrays(V: int, F: int, D: int) -> tuple[Spec, ...]:
    """Up to F frames of D a video."""
    return (
        Spec("frames", (V, F, D), "f2", CHUNK_VIDEOS, NAN),
        Spec("frame_times_s", (V, F), "f4", CHUNK_VIDEOS, NAN),
        Spec("frame_count", (V,), "i2", CHUNK_VIDEOS, 0),
    )


def audio_arrays(V: int, S: int, A: int) -> tuple[Spec, ...]:
    """A clip vector and up to S segment vectors of A a video."""
    return (
        Spec("audio", (V, A), "f2", CHUNK_VIDEOS, NAN),
        Spec("audio_segments", (V, S, A), "f2", CHUNK_VIDEOS, NAN),
        Spec("audio_presence", (V,), "i1", CHUNK_VIDEOS, PRESENCE["unknown"]),
        Spec("audio_segment_count", (V,), "i2", CHUNK_VIDEOS, 0),
    )


def text_arrays(T: int, N: int, width: int, D: int) -> tuple[Spec, ...]:
    """T captions with places for N words of D, ``width`` of them a unit (``placed_words``)."""
    return (
        Spec("sentences", (T, D), "f2", UNIT_CAPTIONS, NAN),
        Spec("words", (N, D), "f2", width, NAN),
        Spec("encoded", (T,), "i1", UNIT_CAPTIONS, 0),
        Spec("word_start", (T,), "i8", UNIT_CAPTIONS, 0),
        Spec("word_count", (T,), "i4", UNIT_CAPTIONS, 0),
        Spec("token_ids", (N,), "i4", width, -1),
        Spec("token_word", (N,), "i4", width, -1),
    )


#: What is written of a unit of videos, in this order: the counts last, which make the others visible.
FRAMES = ("duration_s", *(spec.name for spec in frame_arrays(1, 1, 1)))
AUDIO = tuple(spec.name for spec in audio_arrays(1, 1, 1))
#: By the names of all arrays: how many axes, and the kind of the numbers (NumPy's f or i).
SHAPES: dict[str, tuple[int, str]] = {
    spec.name: (len(spec.shape), np.dtype(spec.dtype).kind)
    for spec in (*video_arrays(1), *frame_arrays(1, 1, 1), *audio_arrays(1, 1, 1), *text_arrays(1, 1, 1, 1))
}


def placed_words(count: NDArray[Any]) -> tuple[NDArray[np.int64], int, int]:
    """Where the words of captions with ``count`` words each start (T,), the width of a unit, the length of all."""
    T = len(count)
    if not T:
        return np.zeros(0, np.int64), 1, 1
    firsts = np.arange(0, T, UNIT_CAPTIONS)
    width = max(1, int(np.add.reduceat(count, firsts, dtype=np.int64).max()))
    before = np.cumsum(count, dtype=np.int64) - count
    unit = np.arange(T) // UNIT_CAPTIONS
    return unit * width + before - before[firsts][unit], width, len(firsts) * width


def token_rows(start: NDArray[Any], count: NDArray[Any]) -> NDArray[np.int64]:
    """The rows of the tokens of ragged texts, text after text: text t has ``count[t]`` of them from ``start[t]`` on."""
    before = np.cumsum(count, dtype=np.int64) - count
    return np.repeat(start - before, count) + np.arange(int(count.sum()))

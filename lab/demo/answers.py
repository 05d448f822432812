"""What the page shows, as plain data: what there is, a text's answer, a video's captions.

One split is shown at a time, the validation split unless another is asked for.
"""

from __future__ import annotations

import math
import threading
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lab.by_word import stored_words
from lab.demo import looking
from lab.demo.captions import LISTED, Captions
from lab.demo.files import Files
from lab.demo.heads import Menu
from lab.embeddings import Texts
from lab.errors import LabError
from lab.gallery import gallery_rows, not_searched
from lab.metrics import best_own_rank, rank_of
from lab.query import Encoder, Query
from lab.reads import OPEN, count_reads
from lab.search import Hit, Searcher
from lab.similarity import evaluating, similarity_matrix
from lab.store import Store
from lab.store.reader import UNKNOWN

#: Captions that video to text shows.
TOLD = 10


@dataclass(frozen=True)
class Asked:
    """A text with what is known of it: its own video's row and its seconds, if it is a caption of the store."""

    text: str
    texts: Texts
    words: list[str]
    word_of_token: NDArray[np.int64]
    notes: tuple[str, ...] = ()
    caption: int | None = None
    truth: int | None = None


class Answers:
    """All that the page asks for. One question is worked on at a time, whoever asks."""

    def __init__(
        self,
        store: Store,
        menu: Menu,
        split: str = "val",
        protocol: str | None = None,
        *,
        command: str = "lab.demo",
        clip: str | None = None,
        files: Files | None = None,
    ) -> None:
        self.store, self.menu, self.split = store, menu, split
        self.files = files or Files(store)
        self.protocol = protocol or store.protocols[0]
        self._clip = clip
        self.rows = gallery_rows(store, split, protocol)
        self.busy = threading.RLock()
        self._encoder: Encoder | None = None
        self._searchers: dict[str, Searcher] = {}
        self.captions = Captions(store, menu, split, self.protocol, self.rows, command)

    # -- what there is -----------------------------------------------------------------------------------------------

    def about(self) -> dict[str, Any]:
        """The page's head: store, split, heads, and what must be said."""
        notes = [*self.store.warnings, *filter(None, [not_searched(self.store, self.split, self.protocol)])]
        if self.split not in OPEN:
            notes.append(
                f"The split '{self.split}' is held out: a look at a caption's own video is logged, once for each head "
                f"({count_reads(self.store, self.split)} reads so far)"
            )
        return {
            "store": self.store.path.name, "name": self.store.name, "protocol": self.protocol, "split": self.split,
            "others": [split for split in self.store.splits_of(self.protocol) if split != self.split],
            "videos": len(self.rows), "captions": len(self.captions.rows), "fingerprint": self.store.fingerprint[:12],
            "heads": [entry.__json__() for entry in self.menu.entries.values()],
            "left_out": self.menu.left_out, "first": self.menu.first, "notes": notes, "typed": True,
        }  # fmt: skip

    def list_videos(self, wanted: str = "", count: int = LISTED) -> dict[str, Any]:
        """Videos whose id holds a text."""
        fitting = [row for row in self.rows.tolist() if wanted.lower() in self.store.videos[row]["id"].lower()]
        return {"of": len(fitting), "videos": [self._video(row) for row in fitting[:count]]}

    # -- text to video -----------------------------------------------------------------------------------------------

    def typed(self, text: str, heads: list[str], video: int | None = None, top: int = 5) -> dict[str, Any]:
        """The answer of some heads to a typed text. Raises ``LabError`` for one without a word."""
        with self.busy:
            query: Query = self.encoder(text)
            if self.split not in OPEN and self.captions.knows(text):
                self.captions.look(heads)
            asked = Asked(query.text, query.texts, list(query.words), query.word_of_token, query.notes)
            return self._answer(asked, heads, video, top)

    def picked(self, caption: int, heads: list[str], video: int | None = None, top: int = 5) -> dict[str, Any]:
        """The answer of some heads to a caption of the split, with the ground truth. ``LabError`` for another row."""
        with self.busy:
            if caption not in self.captions.rows:
                raise LabError(f"caption {caption} is none of the split '{self.split}': pick one of the list")
            texts = self.captions.look(heads)
            one = texts.select((rows_of(texts) == caption).nonzero().flatten())
            row = self.store.captions[caption]
            asked = Asked(row["text"], one, *stored_words(self.store, caption), (), caption, int(row["video"]))
            return self._answer(asked, heads, video, top)

    def _answer(self, asked: Asked, heads: list[str], video: int | None, top: int) -> dict[str, Any]:
        scores = {key: self._searcher(key).scores(asked.texts)[0] for key in heads}
        if video is None:
            first = scores[heads[0]]
            shown = asked.truth if asked.truth is not None else int(self.rows[int(np.argmax(first))])
        else:
            shown = self._row(video)
        target = asked.truth if asked.truth is not None else shown
        known = self.store.captions[asked.caption] if asked.caption is not None else UNKNOWN
        told = known["start_s"] is not None and known["end_s"] is not None
        return {
            "text": asked.text, "notes": list(asked.notes), "caption": asked.caption,
            "truth": asked.truth, "seconds": [known["start_s"], known["end_s"]] if told else None,
            "needs_sound": known["needs_sound"], "video": self._video(shown), "of": len(self.rows),
            "heads": {key: self._of_head(key, asked, scores[key], shown, target, top) for key in heads},
        }  # fmt: skip

    def _of_head(
        self, key: str, asked: Asked, scores: NDArray[np.float32], shown: int, target: int, top: int
    ) -> dict[str, Any]:
        searcher = self._searcher(key)
        head, column, own = searcher.one.head, self._column(shown), self._column(target)
        best = np.argsort(-scores, kind="stable")[:top]
        hits = searcher.hits(asked.texts, best, scores[best])
        there = searcher.hits(asked.texts, np.array([column]), scores[[column]])[0]
        clip = searcher.videos.select(torch.tensor([column]))
        with evaluating(head):
            words = looking.words_by_frames(
                head, asked.texts, clip, len(there.times_s), asked.word_of_token, asked.words
            )
        return {
            "rank": rank_of(scores, own), "score": float(scores[own]),
            "shown": self._hit(there, asked.truth), "top": [self._hit(hit, asked.truth) for hit in hits],
            "words": words, "without": looking.ranks_without(searcher, asked.texts, own),
            "sound": looking.sound(searcher, asked.texts, shown),
        }  # fmt: skip

    # -- video to text -----------------------------------------------------------------------------------------------

    def told_of(self, video: int, heads: list[str], count: int = TOLD) -> dict[str, Any]:
        """The captions of the split that some heads rank highest for a video, and the rank of its own best one."""
        with self.busy:
            row = self._row(video)
            texts = self.captions.look(heads)
            captions = rows_of(texts).tolist()
            own = np.array([self.store.captions[caption]["video"] == row for caption in captions])
            found = {}
            for key in heads:
                searcher = self._searcher(key)
                clip = searcher.videos.select(torch.tensor([self._column(row)]))
                scores = similarity_matrix(searcher.one.head, texts, clip).numpy()[:, 0]
                best = np.argsort(-scores, kind="stable")[:count].tolist()
                found[key] = {
                    "rank": best_own_rank(scores, own) if own.any() else None,
                    "captions": [
                        {**self.captions.one(captions[i]), "score": float(scores[i]), "own": bool(own[i])} for i in best
                    ],
                }
            return {"video": self._video(row), "of": len(texts), "heads": found}

    # -- parts -------------------------------------------------------------------------------------------------------

    @property
    def encoder(self) -> Encoder:
        """The store's text tower, loaded on first use. Raises ``LabError`` where it cannot be had."""
        with self.busy:
            if self._encoder is None:
                self._encoder = Encoder(self.store, self._clip)
            return self._encoder

    def _searcher(self, key: str) -> Searcher:
        if key not in self._searchers:
            one = self.menu.head(key)
            self._searchers[key] = Searcher(self.store, one, split=self.split, protocol=self.protocol)
        return self._searchers[key]

    def _row(self, video: int) -> int:
        if video not in self.rows:
            raise LabError(f"video {video} is none of the split '{self.split}': choose one of the list")
        return video

    def _column(self, row: int) -> int:
        return int(np.searchsorted(self.rows, row))

    def _video(self, row: int) -> dict[str, Any]:
        duration = float(self.store.read("duration_s", slice(row, row + 1))[0])
        return {
            "row": row, "id": self.store.videos[row]["id"], "pictures": len(self.files.pictures(row)),
            "duration": duration if math.isfinite(duration) else None, "file": self.files.video(row) is not None,
        }  # fmt: skip

    def _hit(self, hit: Hit, truth: int | None) -> dict[str, Any]:
        """A hit as JSON, which knows no NaN."""
        times = [time if math.isfinite(time) else None for time in hit.times_s]
        pictures = len(self.files.pictures(hit.row))
        return {**asdict(hit), "times_s": times, "pictures": pictures, "truth": hit.row == truth}


def rows_of(texts: Texts) -> torch.Tensor:
    """The store's rows (T,) of a split's captions."""
    if texts.rows is None:
        raise ValueError("the texts of a store know their rows")
    return texts.rows

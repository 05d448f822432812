"""Texts of one's own in place of a split's captions: how heads weigh the frames of videos for them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence

from lab.embeddings import Texts, Videos
from lab.figures.material import Material
from lab.figures.strips import BARS, attending, strip_of, strips
from lab.figures.style import Figure
from lab.gallery import gallery_rows, load_gallery
from lab.needs import Needs
from lab.query import Encoder, Query
from lab.store.reader import UNKNOWN

log = logging.getLogger(__name__)


class Asked(Material):
    """The videos and heads of a ``Material``, asked with some texts that are no captions of it.

    What draws a text of a ``Material`` draws one of these: ``words.words(asked, 0)``. As the video of a text counts the
    one that the last head finds first, or the column ``video`` of the split for all of them. The split's own captions
    are not read, so it may have none.

    Raises ``LabError`` for a text without a word, and where the store's CLIP cannot be had (see ``lab.query.Encoder``).
    """

    def __init__(self, material: Material, texts: Sequence[str], video: int | None = None, clip: str | None = None):
        super().__init__(
            material.store, list(material.heads.values()), material.split, material.protocol, material.command
        )
        encoder = Encoder(material.store, clip)
        self.queries, self._video = [encoder(text) for text in texts], video
        self._texts, self._galleries = joined(self.queries), dict[str | None, Videos]()
        self._other = encoder("something else")
        for note in dict.fromkeys(note for query in self.queries for note in query.notes):
            log.warning("%s", note)

    def load(self, needs: Needs, label: str, run: Path | None = None) -> tuple[Texts, Videos]:
        """The texts, and the split's videos with the sound that is needed."""
        if needs.audio not in self._galleries:
            rows = gallery_rows(self.store, self.split, self.protocol)
            self._galleries[needs.audio] = load_gallery(self.store, rows, needs.audio)[0]
        return self._texts, self._galleries[needs.audio]

    @cached_property
    def target(self) -> NDArray[np.int64]:
        """The column (T,) of each text's video."""
        if self._video is not None:
            return np.full(len(self.queries), self._video)
        return np.asarray([self.best(text)[0] for text in range(len(self.queries))])

    @cached_property
    def captions(self) -> list[dict[str, Any]]:
        """A row for each text, of which nothing else is known."""
        return [UNKNOWN | {"text": query.text} for query in self.queries]

    @cached_property
    def has_sound(self) -> NDArray[np.float64]:
        """Unknown: a text of one's own is of no video."""
        return np.full(len(self.queries), np.nan)

    def words_of(self, text: int) -> tuple[Sequence[str], NDArray[np.int64]]:
        """The words of a text, and which of them each token belongs to."""
        return self.queries[text].words, self.queries[text].word_of_token

    def source(self, *labels: str) -> str:
        """The small print: that of the split, and that it was asked with other texts."""
        return f"{super().source(*labels)}\nasked with a text of one's own"

    def best(self, text: int = 0, by: str | None = None, most: int = 1) -> list[int]:
        """The columns of the videos that a head (default: the last) finds first for a text."""
        label = by or list(self.heads)[-1]
        found: list[int] = np.argsort(-self.similarity(label)[text], kind="stable")[:most].tolist()
        return found

    def strips(self, videos: int | Sequence[int] = 2, by: str | None = None) -> Figure:
        """Frames of the best videos for the first text (or of these columns) and how heads weigh them for all texts."""
        columns = self.best(0, by, videos) if isinstance(videos, int) else videos
        beside = copy(self)  # whether a head looks at the text is only seen beside another text
        beside._texts = joined([*self.queries, self._other])
        labels = attending(beside)
        rows = [strip_of(self, column, range(len(self.queries)), labels) for column in columns]
        ids = ", ".join(self.video_id(column) for column in columns)
        return strips(rows, f"{self.source(*labels)}: videos {ids}\n{BARS} among {len(self.video_rows)}")


def joined(queries: Sequence[Query]) -> Texts:
    """Typed queries as one ``Texts`` (T), their words padded."""
    words = [query.texts.padded_words()[0][0] for query in queries]
    mask = [torch.ones(len(each), dtype=torch.bool) for each in words]
    sentences = torch.cat([query.texts.sentences for query in queries])
    return Texts(sentences, pad_sequence(words, batch_first=True), pad_sequence(mask, batch_first=True))

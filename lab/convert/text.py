"""Text features that somebody already has: a file for each query, named by its number, as Moment-DETR keeps them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lab.convert.layouts.features import files_sha256
from lab.convert.layouts.folders import load_query
from lab.errors import LabError
from lab.store import UNIT_CAPTIONS
from lab.store.writer import StoreWriter

log = logging.getLogger(__name__)


class Spoken:
    """Sentences and tokens of the captions, each in a file named by its qid; surveyed."""

    def __init__(self, folder: Path, qids: Sequence[str]) -> None:
        if not folder.is_dir():
            raise LabError(f"{folder} is no directory: --text names one that holds qid*.npz")
        self.folder, self.qids = folder, qids
        self.counts = np.zeros(len(qids), np.int64)
        self.dim = 0
        for row, qid in enumerate(qids):
            found = load_query(folder, qid)
            if found is None:
                continue
            if self.dim not in (0, len(found[0])):
                raise LabError(
                    f"{folder}: qid{qid}.npz has {len(found[0])} dims, others have {self.dim}: all must agree"
                )
            self.dim, self.counts[row] = len(found[0]), len(found[1])
        if not self.dim:
            raise LabError(f"{folder} has no file for any caption: they must be named like qid{qids[0]}.npz")


def write_texts(writer: StoreWriter, spoken: Spoken, about: Mapping[str, Any]) -> None:
    """Give a store its texts; captions without a file stay unencoded."""
    lacking = int((spoken.counts == 0).sum())
    if lacking:
        log.warning("%s: %d of %d captions have no features", spoken.folder, lacking, len(spoken.counts))
    section = {
        **about,
        "imported": {"layout": "moment-detr", "sha256": files_sha256(spoken.folder, "qid*.npz")},
        "dim": spoken.dim,
        "words": "all tokens of the imported, start and end too if it has them",
        "dtype": "float16",
    }
    tokens, ends = int(spoken.counts.sum()), np.cumsum(spoken.counts)
    numbers = np.arange(tokens) - np.repeat(ends - spoken.counts, spoken.counts)  # each token a word of its own
    writer.add_text(section, spoken.dim, spoken.counts, np.full(tokens, -1), numbers)
    for first in range(0, len(spoken.counts), UNIT_CAPTIONS):
        rows = first + np.flatnonzero(spoken.counts[first : first + UNIT_CAPTIONS])
        found = [both for row in rows.tolist() if (both := load_query(spoken.folder, spoken.qids[row])) is not None]
        if not found:
            continue
        sentences, words = np.stack([both[0] for both in found]), np.concatenate([both[1] for both in found])
        writer.write_text(rows, sentences.astype(np.float32), words.astype(np.float32))
        writer.record_text(rows)

"""Which captions a pass has to encode, by the ledger, by the videos that are there, and up to a limit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lab.extraction import units
from lab.extraction.units import Share, caption_units
from lab.store.ledger import Entry, Ledger, text_block

#: The video of each of nine captions, in units of four.
OWNERS = [0, 0, 1, 1, 2, 2, 3, 3, 4]


@pytest.mark.parametrize(
    ("absent", "done", "share", "wanted"),
    [
        ([], {}, {}, [[0, 1, 2, 3], [4, 5, 6, 7], [8]]),
        ([1, 4], {}, {}, [[0, 1], [4, 5, 6, 7]]),
        ([], {0: ["v0", "v1"]}, {}, [[4, 5, 6, 7], [8]]),
        ([], {1: ["v2"]}, {}, [[0, 1, 2, 3], [4, 5, 6, 7], [8]]),  # its other video failed
        ([], {0: ["v0"], 2: ["v4"]}, {}, [[0, 1, 2, 3], [4, 5, 6, 7]]),  # a unit is encoded whole
        ([], {1: ["v0", "v1", "v4"]}, {}, [[0, 1, 2, 3], [4, 5, 6, 7], [8]]),  # in another unit is not in this one
        ([], {}, {"limit": 3}, [[0, 1, 2, 3], [4, 5]]),
        ([0], {}, {"limit": 1}, [[2, 3]]),  # videos that are not there do not count
        ([], {0: ["v1"], 1: ["v2"]}, {"limit": 1}, [[0, 1, 2, 3]]),  # what is done stays, limit or not
        ([1], {0: ["v1"]}, {}, [[0, 1], [4, 5, 6, 7], [8]]),  # but not without its video
        ([], {}, {"limit": 0}, []),
        ([], {}, {"index": 1, "count": 2}, [[0, 1, 2, 3], [8]]),
        ([], {}, {"index": 2, "count": 2}, [[4, 5, 6, 7]]),
    ],
)
def test_captions_to_encode(
    absent: list[int],
    done: dict[int, list[str]],
    share: dict[str, int],
    wanted: list[list[int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(units, "UNIT_CAPTIONS", 4)
    ledger = Ledger(tmp_path)
    for unit, names in done.items():
        ledger.write(text_block(unit), [Entry(name, "text", "ok") for name in names] + [Entry("v3", "text", "crashed")])
    collection: Any = SimpleNamespace(
        videos=[SimpleNamespace(id=f"v{video}") for video in range(5)],
        captions=[SimpleNamespace(video=video) for video in OWNERS],
    )
    present = ~np.isin(np.arange(5), absent)
    found = caption_units(collection, ledger, Share(**share), present)
    assert [rows.tolist() for rows in found] == wanted

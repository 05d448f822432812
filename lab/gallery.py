"""The videos of a store without its captions: what a search ranks.

A caption with its video is evidence, and reading one of a held-out split is logged (``lab.reads``). Videos alone are
none: ranking them for a typed query tells nothing of how often a head is right. So nothing here is logged.
"""

from __future__ import annotations

import shlex
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lab.embeddings import Videos
from lab.errors import LabError
from lab.reads import require_audio, require_split
from lab.store import Store
from lab.store.find import pass_command


def gallery_rows(store: Store, split: str | None = None, protocol: str | None = None) -> NDArray[np.int64]:
    """Rows of the videos that have frames: of a split, or of the whole store. Raises ``LabError`` if there are none."""
    if "frames" not in store.passport:
        raise LabError(f"{store.path} holds no frames: add them with {pass_command(store, 'frames')}")
    rows = np.flatnonzero(_listed(store, split, protocol) & (store.read("frame_count") > 0))
    if not len(rows):
        raise store.nothing_of(split, protocol)
    return rows


def not_searched(store: Store, split: str | None = None, protocol: str | None = None) -> str:
    """What a gallery lacks, as before a pass is at its end, and what tells more; '' where it lacks nothing."""
    held, listed = len(gallery_rows(store, split, protocol)), int(_listed(store, split, protocol).sum())
    of = f"videos of split '{split}'" if split else "videos"
    more = shlex.join(["python", "-m", "lab.inspect", str(store.path)])
    told = f"{held:,} of {listed:,} {of} have features, the others cannot be found: {more} tells of them"
    return told if held < listed else ""


def _listed(store: Store, split: str | None, protocol: str | None) -> NDArray[np.bool_]:
    if split is None:
        return np.ones(len(store.videos), bool)
    require_split(store, split, protocol)
    view = protocol or store.protocols[0]
    return np.array([video["splits"].get(view) == split for video in store.videos], bool)


def load_gallery(
    store: Store, rows: NDArray[np.int64], audio: Literal["clip", "segments"] | None = None
) -> tuple[Videos, NDArray[np.float32], NDArray[np.float32]]:
    """Videos (V) of some rows in memory, the times of their frames (V, F) and their lengths (V,), both in seconds.

    ``audio`` as in ``Store.load``. Raises ``LabError`` for a store without sound, if that is asked for.
    """
    if audio is not None:
        require_audio(store)
    return store.videos_of(rows, audio), store.frame_times_s(rows), store.read("duration_s")[rows]

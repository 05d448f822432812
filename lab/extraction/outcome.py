"""What came of a unit's files: what of it is written, and the rows of the ledger that say so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lab.extraction.encode import Clips
from lab.extraction.units import Unit
from lab.media import Clip, MediaError
from lab.store.ledger import FACTS, Entry

if TYPE_CHECKING:
    from lab.datasets import Video


def ledger_rows(unit: Unit, videos: Sequence[Video], clips: Clips, modality: str) -> Iterator[Entry]:
    """The rows of a unit, whose ``videos`` these are; none for what is not ``writable``."""
    for video, clip, file in zip(videos, clips, unit.found, strict=True):
        if clip is None or file is None:
            continue
        status, reason = outcome(clip, modality)
        seconds = round(clip.seconds, 4) if isinstance(clip, Clip) else 0.0
        digest = clip.digest if isinstance(clip, Clip | MediaError) else ""
        yield Entry(video.id, modality, status, reason, seconds, file.size, digest, file.modified_ns)


def writable(unit: Unit, clips: Clips, modality: str) -> Clips:
    """What is written of a modality: nothing where a file cannot be read now whose features are stored."""
    return [
        None if clip is None or (modality in kept and outcome(clip, modality)[0] not in FACTS) else clip
        for clip, kept in zip(clips, unit.kept, strict=True)
    ]


def outcome(clip: Clip | Exception, modality: str) -> tuple[str, str]:
    """The status and the reason that go to the ledger."""
    if isinstance(clip, MediaError):
        # Found under the root, yet not there to be opened: a link into nowhere, or a file that went away meanwhile.
        return "gone" if clip.status == "missing" else clip.status, str(clip)
    if isinstance(clip, TimeoutError):
        return "timeout", str(clip)
    if isinstance(clip, Exception):
        return "crashed", f"{type(clip).__name__}: {clip}"
    if modality == "frames":
        return clip.frames_status, clip.frames_reason
    return clip.audio_status, clip.audio_reason

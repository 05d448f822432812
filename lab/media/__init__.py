"""One file → the frames asked for and 32 kHz mono. With its parts ``lab.media`` the only codec user; imports no torch.

A decode process calls :func:`read_clip` for each video, ``doctor`` calls :func:`probe`. Both raise MediaError with a
status for the ledger and a one-line reason, whatever lies under the path.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.media.audio import Listener, Wave
from lab.media.file import Deadline, MediaError, brief, digest_of, open_media, require_file
from lab.media.length import Cut, cut_short
from lab.media.listing import Listing, best_video, scan, told_by_packets
from lab.media.packets import Source
from lab.media.picture import thumbnail
from lab.media.video import decode_frames, require_frame
from lab.preprocess import ImageSpec, fit
from lab.sampling import Sampling, parse_sampling

__all__ = ["Clip", "MediaError", "Probe", "Sampling", "parse_sampling", "probe", "read_clip"]

_KEEP_BYTES = 192 * 2**20  # compressed packets held in memory; a longer file is read a second time instead


@dataclass
class Clip:
    """What a video file gave: NumPy and bytes only, so that it crosses process borders cheaply."""

    pictures: NDArray[np.uint8]  # (F, size, size, 3), through preprocess.fit
    times_s: NDArray[np.float64]  # (F,) presentation time of each, from the first displayed frame
    thumbnails: list[bytes]  # JPEG of each, long side 160 px (smaller pictures stay as they are)
    duration_s: float
    frames_status: str  # ok | truncated: some frames could not be had, the choice is over those that could
    frames_reason: str
    audio: Wave | None  # (N,) mono in [-1, 1]; sample i sounds i/hz seconds after the first displayed frame
    audio_status: str  # ok | truncated | silent | too_short | no_audio | undecodable
    audio_reason: str
    seconds: float  # CPU time that the decoding took
    digest: str = ""  # of the file's size and ends


def read_clip(
    path: Path | str,
    sampling: Sampling,
    spec: ImageSpec,
    *,
    frames: bool = True,
    audio_hz: int | None = 32000,
    deadline_s: float = 120.0,
    max_audio_s: float = 600.0,
) -> Clip:
    """Decode the frames that ``sampling`` names and the sound of the default audio stream.

    ``frames=False`` or ``audio_hz=None`` leave out that half (pictures (0, size, size, 3); audio None, status
    "skipped"). Raises MediaError where no frame can be had; trouble with the sound alone is a status. Both have the
    digest of the file.
    """
    path = Path(path).absolute()
    # Before it is opened: of a file that is replaced meanwhile the digest is then the old one's, and the next pass
    # reads it again. Taken afterwards, it would vouch for features that are not its file's.
    digest = digest_of(path)
    try:
        clip = _read_clip(path, sampling, spec, frames, audio_hz, Deadline(deadline_s), max_audio_s)
    except MediaError as error:
        error.digest = digest
        raise
    clip.digest = digest
    return clip


def _read_clip(
    path: Path,
    sampling: Sampling,
    spec: ImageSpec,
    frames: bool,
    audio_hz: int | None,
    deadline: Deadline,
    max_audio_s: float,
) -> Clip:
    started = time.process_time()
    _, cut = _look(path)
    with open_media(path, deadline, cut) as container:
        video = _video(container, cut, needed=frames)
        listener = _listener(container, audio_hz, max_audio_s)
        hear = listener.feed if listener else None
        listing = scan(container, video, cut, hear, deadline, keep_bytes=_KEEP_BYTES if frames else 0)
        found = None
        if frames:
            source = _source(path, video, listing, deadline)
            found = decode_frames(
                source,
                sampling.indices,
                lambda picture: (fit(picture, spec), thumbnail(picture)),
                told=told_by_packets(container, video),
            )
        start_s, duration_s = (found.start_s, found.duration_s) if found else listing.span_s()
        audio, audio_status, audio_reason = _sound(container, listener, audio_hz, start_s, cut, listing.stopped)
    if duration_s == 0 and audio is not None and audio_hz:
        duration_s = len(audio) / audio_hz
    kept = found.pictures if found else []
    return Clip(
        pictures=np.stack([p for p, _ in kept]) if kept else np.zeros((0, spec.size, spec.size, 3), np.uint8),
        times_s=found.times_s if found else np.zeros(0),
        thumbnails=[t for _, t in kept],
        duration_s=duration_s,
        frames_status="skipped" if not found else "truncated" if found.damage else "ok",
        frames_reason=found.damage if found else "",
        audio=audio,
        audio_status=audio_status,
        audio_reason=audio_reason,
        seconds=time.process_time() - started,
    )


def _look(path: Path) -> tuple[int, Cut | None]:
    """Size in bytes, and where the file breaks off."""
    size = require_file(path)
    try:
        return size, cut_short(path, size)
    except (OSError, struct.error) as error:  # a disk that fails, a file that shrinks
        raise MediaError("unreadable", brief(error).lower()) from None


def _video(container: Any, cut: Cut | None, *, needed: bool) -> Any | None:
    """The video stream; None where there is none and none is needed."""
    try:
        return best_video(container)
    except MediaError as error:
        if not needed:
            return None
        if cut is not None and error.status == "no_video":
            raise MediaError("undecodable", f"{cut.reason}, and what is there names no video stream") from None
        raise


def _listener(container: Any, hz: int | None, max_s: float) -> Listener | None:
    stream = container.streams.best("audio") if hz else None
    return Listener(stream, hz, max_s) if stream is not None and hz and stream.codec_context is not None else None


def _sound(
    container: Any, listener: Listener | None, hz: int | None, start_s: float, cut: Cut | None, stopped: str
) -> tuple[Wave | None, str, str]:
    if hz is None:
        return None, "skipped", ""
    if listener is not None:
        wave, status, reason = listener.result(start_s)
        short = cut is not None and (cut.header or not listener.complete)
        if listener.full or not (stopped or short):
            return wave, status, reason
        told = cut.reason if cut is not None and short else stopped
        # A silence or a sound too short remains one; a stream of which nothing is left is no film without sound.
        status = {"ok": "truncated", "no_audio": "undecodable"}.get(status, status)
        return wave, status, "; ".join(part for part in (told, reason) if part)
    if container.streams.best("audio") is not None:
        return None, "undecodable", "no decoder for the audio stream's codec"
    if cut is not None and cut.header:
        return None, "undecodable", f"{cut.reason}, and what is there names no audio stream"
    return None, "no_audio", "no audio stream"


def _source(path: Path, video: Any, listing: Listing, deadline: Deadline) -> Source:
    if not listing.pts:
        raise MediaError("undecodable", listing.damage or "the video stream holds no packets")

    def again() -> Iterator[Any]:
        with open_media(path, deadline) as other:
            yield from (p for p in other.demux() if p.size and p.stream_index == video.index)

    return Source(video.codec_context, listing, again, deadline)


@dataclass(frozen=True)
class Probe:
    """What ``doctor`` says of a file without decoding it all: the headers, a count of packets and one decoded frame."""

    size: int  # bytes
    format: str
    duration_s: float
    codec: str
    width: int
    height: int
    fps: float
    frames: int  # displayed, as the packets tell
    video_streams: int
    audio_streams: int
    audio_codec: str  # "" without an audio stream
    status: str  # ok | truncated
    reason: str

    @property
    def has_audio(self) -> bool:
        """Whether there is an audio stream (which may still be silent)."""
        return self.audio_streams > 0


def probe(path: Path | str, *, deadline_s: float = 20.0) -> Probe:
    """Look at a file as ``read_clip`` would, decoding its first frame only. Raises the same MediaErrors."""
    path = Path(path).absolute()
    deadline = Deadline(deadline_s)
    size, cut = _look(path)
    with open_media(path, deadline, cut) as container:
        video: Any = _video(container, cut, needed=True)
        sound = container.streams.best("audio")
        listing = scan(container, video, cut, None, deadline, keep_bytes=_KEEP_BYTES)
        _, duration_s = listing.span_s()
        require_frame(_source(path, video, listing, deadline))
        context = video.codec_context
        return Probe(
            size=size,
            format=container.format.name,
            duration_s=duration_s,
            codec=context.codec.canonical_name,
            width=context.width,
            height=context.height,
            fps=listing.fps(),
            frames=sum(listing.shown),
            video_streams=len(container.streams.video),
            audio_streams=len(container.streams.audio),
            audio_codec=sound.codec_context.codec.canonical_name if sound is not None and sound.codec_context else "",
            status="truncated" if listing.damage else "ok",
            reason=listing.damage,
        )

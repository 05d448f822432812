"""One file → the frames asked for and 32 kHz mono. With its parts ``media_*`` the only codec user; imports no torch.

A decode process calls :func:`read_clip` for each video, ``doctor`` calls :func:`probe`. Both raise MediaError with a
status for the ledger and a one-line reason, whatever lies under the path.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av.error
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lab.media_audio import Listener, Wave
from lab.media_file import Deadline, MediaError, brief, open_media, require_file
from lab.media_video import Decoder, Frames, Listing, Picture, best_video, told_by_packets
from lab.preprocess import ImageSpec, fit
from lab.sampling import Sampling, parse_sampling

__all__ = ["Clip", "MediaError", "Probe", "Sampling", "parse_sampling", "probe", "read_clip"]

THUMBNAIL_SIDE = 160
_THUMBNAIL_QUALITY = 80
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
    audio_status: str  # ok | silent | too_short | no_audio | undecodable
    audio_reason: str
    seconds: float  # CPU time that the decoding took


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
    "skipped"). Raises MediaError where no frame can be had; trouble with the sound alone is a status.
    """
    path = Path(path).absolute()
    started = time.process_time()
    deadline = Deadline(deadline_s)
    require_file(path)
    with open_media(path, deadline) as container:
        video = best_video(container) if frames else _video_or_none(container)
        listener = _listener(container, audio_hz, max_audio_s)
        listing = _scan(container, video, listener, deadline, keep=frames)
        if frames:
            seen, thumbnails, found = _pictures(container, path, video, listing, sampling, spec, deadline)
            start_s, duration_s = found.start_s, found.duration_s
        else:
            seen, thumbnails, found = np.zeros((0, spec.size, spec.size, 3), np.uint8), [], None
            start_s, duration_s = _times(listing, video)
        audio, audio_status, audio_reason = _sound(listener, audio_hz, start_s)
    damage = found.damage if found else ""
    return Clip(
        pictures=seen,
        times_s=found.times_s if found else np.zeros(0),
        thumbnails=thumbnails,
        duration_s=duration_s if duration_s > 0 or audio is None or not audio_hz else len(audio) / audio_hz,
        frames_status="skipped" if not frames else "truncated" if damage else "ok",
        frames_reason=damage,
        audio=audio,
        audio_status=audio_status,
        audio_reason=audio_reason,
        seconds=time.process_time() - started,
    )


def _video_or_none(container: Any) -> Any | None:
    try:
        return best_video(container)
    except MediaError:
        return None


def _listener(container: Any, hz: int | None, max_s: float) -> Listener | None:
    stream = container.streams.best("audio") if hz else None
    return Listener(stream, hz, max_s) if stream is not None and hz and stream.codec_context is not None else None


def _sound(listener: Listener | None, hz: int | None, start_s: float) -> tuple[Wave | None, str, str]:
    if hz is None:
        return None, "skipped", ""
    return listener.result(start_s) if listener else (None, "no_audio", "no audio stream")


def _scan(container: Any, video: Any, listener: Listener | None, deadline: Deadline, *, keep: bool) -> Listing:
    """Read the file once: list the video's packets, decode the sound. What breaks the reading is noted, not raised."""
    listing = Listing()
    sound = listener.index if listener else -1
    try:
        for packet in container.demux():
            deadline.check()
            if packet.size == 0:
                continue
            if video is not None and packet.stream_index == video.index:
                listing.add(packet, _KEEP_BYTES if keep else 0)
            elif listener is not None and packet.stream_index == sound:
                listener.feed(packet)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        deadline.check()
        listing.damage = f"reading stops after {len(listing.pts)} video packets: {brief(error)}"
    if listing.torn and not listing.damage:
        listing.damage = f"{listing.torn} video packets are incomplete"
    stated = int(video.frames) if video is not None else 0
    if listing.damage and stated > len(listing.pts):
        listing.damage += f" ({stated} listed in the header)"
    return listing


def _times(listing: Listing, video: Any) -> tuple[float, float]:
    """(start, duration) in seconds as the packets tell, without decoding."""
    times = [t for t, shown in zip(listing.pts, listing.shown, strict=True) if shown and t is not None]
    if not times or video is None or not video.time_base:
        return 0.0, 0.0
    tick = float(video.time_base)
    return min(times) * tick, (max(times) - min(times) + listing.last_duration) * tick


def _pictures(
    container: Any,
    path: Path,
    video: Any,
    listing: Listing,
    sampling: Sampling,
    spec: ImageSpec,
    deadline: Deadline,
) -> tuple[NDArray[np.uint8], list[bytes], Frames]:
    if not listing.pts:
        raise MediaError("undecodable", listing.damage or "the video stream holds no packets")
    told = told_by_packets(container, video)
    video.codec_context.thread_count = 1

    def again() -> Iterator[Any]:
        with open_media(path, deadline) as other:
            yield from (p for p in other.demux() if p.size and p.stream_index == video.index)

    decoder = Decoder(video, listing, again, told, deadline)
    found = decoder.frames(sampling.indices, lambda picture: (fit(picture, spec), _thumbnail(picture)))
    return np.stack([p for p, _ in found.pictures]), [t for _, t in found.pictures], found


def _thumbnail(picture: Picture) -> bytes:
    image = Image.fromarray(picture)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=_THUMBNAIL_QUALITY)
    return out.getvalue()


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
    size = require_file(path)
    with open_media(path, deadline) as container:
        video = best_video(container)
        sound = container.streams.best("audio")
        listing = _scan(container, video, None, deadline, keep=True)
        first = Sampling("midpoints", 1)
        _, duration_s = _times(listing, video)
        _pictures(container, path, video, listing, first, ImageSpec(size=32), deadline)
        context = video.codec_context
        return Probe(
            size=size,
            format=container.format.name,
            duration_s=duration_s,
            codec=context.name,
            width=context.width,
            height=context.height,
            fps=float(video.average_rate or 0.0),
            frames=sum(listing.shown),
            video_streams=len(container.streams.video),
            audio_streams=len(container.streams.audio),
            audio_codec=sound.codec_context.name if sound is not None and sound.codec_context else "",
            status="truncated" if listing.damage else "ok",
            reason=listing.damage,
        )

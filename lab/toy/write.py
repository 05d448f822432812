"""Video files of our own making: what the lab renders itself, and what its tests and benchmarks decode.

The other direction of ``lab.media``: nothing here is needed to read a video.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import ArrayLike, NDArray

Picture = NDArray[np.uint8]

_TICK = Fraction(1, 90000)  # fine enough for every frame rate in use, and what MPEG counts in
_X264 = {"preset": "veryfast", "crf": "18"}


@dataclass(frozen=True)
class Track:
    """One video stream of a file to be written."""

    pictures: Iterable[Picture]  # (N, H, W, 3), an array or a generator
    fps: float = 25.0
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    options: Mapping[str, str] = field(default_factory=dict)
    times_s: Sequence[float] | None = None  # variable rate: when each picture shows; None: evenly
    start_s: float = 0.0


@dataclass(frozen=True)
class Sound:
    """The audio stream of a file to be written."""

    samples: NDArray[np.float32]  # (N,) or (C, N) in [-1, 1]
    hz: int = 32000
    codec: str = "aac"
    layout: str | None = None  # None: mono or stereo, as the samples are
    start_s: float = 0.0


def write_clip(
    path: Path | str,
    pictures: Iterable[Picture],
    fps: float = 25.0,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    times_s: Sequence[float] | None = None,
    start_s: float = 0.0,
    audio: ArrayLike | None = None,
    audio_hz: int = 32000,
    audio_codec: str = "aac",
    more: Sequence[Track] = (),
    muxer: Mapping[str, str] | None = None,
) -> Path:
    """Write pictures, RGB (N, H, W, 3), and a waveform, (N,) or (C, N) in [-1, 1], into a file named by its suffix.

    ``more`` adds video streams, ``muxer`` passes options to the container. Same input and FFmpeg, same bytes.
    """
    track = Track(pictures, fps, codec, pix_fmt, options or {}, times_s, start_s)
    sound = None if audio is None else Sound(np.asarray(audio, np.float32), audio_hz, audio_codec)
    return write_tracks(path, [track, *more], sound, muxer=muxer)


def write_tracks(
    path: Path | str, tracks: Sequence[Track], sound: Sound | None = None, *, muxer: Mapping[str, str] | None = None
) -> Path:
    """Write several video streams and at most one of sound; what :func:`write_clip` is short for."""
    path = Path(path)
    with av.open(str(path), "w", options={"fflags": "+bitexact", **(muxer or {})}) as container:
        iterators = [iter(track.pictures) for track in tracks]
        firsts = [next(pictures) for pictures in iterators]
        streams = [_video_stream(container, track, first) for track, first in zip(tracks, firsts, strict=True)]
        heard = _audio_stream(container, sound) if sound is not None else None
        for track, stream, first, rest in zip(tracks, streams, firsts, iterators, strict=True):
            _encode_video(container, stream, track, first, rest)
        if sound is not None:
            _encode_audio(container, heard, sound)
    return path


def _video_stream(container: Any, track: Track, first: Picture) -> Any:
    rate = Fraction(track.fps).limit_denominator(1001)
    options = {**(_X264 if track.codec == "libx264" else {}), **track.options}
    stream = container.add_stream(track.codec, rate=rate, options=options)
    stream.height, stream.width = first.shape[:2]
    stream.pix_fmt = track.pix_fmt
    stream.codec_context.thread_count = 1  # the number of threads changes what x264 writes
    if track.times_s is not None or track.start_s:
        stream.codec_context.time_base = _TICK
    return stream


def _encode_video(container: Any, stream: Any, track: Track, first: Picture, rest: Iterable[Picture]) -> None:
    tick = stream.codec_context.time_base or 1 / Fraction(track.fps).limit_denominator(1001)
    for i, picture in enumerate(chain([first], rest)):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        at_s = track.times_s[i] if track.times_s is not None else i / track.fps
        frame.pts = round((at_s + track.start_s) / tick)
        frame.time_base = tick
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _audio_stream(container: Any, sound: Sound) -> Any:
    stream = container.add_stream(sound.codec, rate=sound.hz)
    stream.codec_context.layout = _layout(sound)
    return stream


def _layout(sound: Sound) -> str:
    return sound.layout or ("mono" if sound.samples.ndim == 1 else "stereo")


def _encode_audio(container: Any, stream: Any, sound: Sound) -> None:
    samples = np.atleast_2d(np.ascontiguousarray(sound.samples, np.float32))
    for first in range(0, samples.shape[1], 1024):
        block = np.ascontiguousarray(samples[:, first : first + 1024])
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=_layout(sound))
        frame.sample_rate = sound.hz
        frame.time_base = Fraction(1, sound.hz)
        frame.pts = first + round(sound.start_s * sound.hz)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def tone(hz: float, seconds: float, rate: int = 32000, level: float = 0.5) -> NDArray[np.float32]:
    """A sine of amplitude ``level``, (N,)."""
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)

"""Video files of our own making: numbered frames for tests, and a folder of colour-and-tone clips for the demo.

    python -m lab.toy.clips --root /tmp/toy --n 96

renders 96 short clips with sound and their ``captions.csv``, the same bytes from the same seed. Nothing here is needed
to read videos; it is the other direction.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from lab.errors import LabError

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
    for i, picture in enumerate([first, *rest] if isinstance(rest, list) else _chain(first, rest)):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        at_s = track.times_s[i] if track.times_s is not None else i / track.fps
        frame.pts = round((at_s + track.start_s) / tick)
        frame.time_base = tick
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _chain(first: Picture, rest: Iterable[Picture]) -> Iterable[Picture]:
    yield first
    yield from rest


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


# -- pictures that tell their number --------------------------------------------------------------------------------


def numbered(i: int, size: int = 64) -> Picture:
    """A picture (size, size, 3) whose 4 × 4 blocks, black or white, spell ``i`` < 1024 so that codecs keep it."""
    if not 0 <= i < 1024:
        raise ValueError(f"`0 <= i < 1024` must hold for a frame number, got {i}")
    bits = [(_code(i) >> k) & 1 for k in range(16)]
    grid = np.array(bits, dtype=np.uint8).reshape(4, 4) * 255
    edges = np.arange(size) * 4 // size
    return np.repeat(grid[edges][:, edges][..., None], 3, axis=2)


def read_number(picture: Picture) -> int:
    """The number that :func:`numbered` wrote; -1 where the picture shows none (its check bits do not fit)."""
    size_y, size_x = picture.shape[:2]
    code = 0
    for k in range(16):
        y, x = divmod(k, 4)
        block = picture[
            (4 * y + 1) * size_y // 16 : (4 * y + 3) * size_y // 16,
            (4 * x + 1) * size_x // 16 : (4 * x + 3) * size_x // 16,
        ]
        code |= int(block.mean() > 127.5) << k
    return code & 1023 if code == _code(code & 1023) else -1


def _code(i: int) -> int:
    return i | ((i * 37 + 21) % 64) << 10


def tone(hz: float, seconds: float, rate: int = 32000, level: float = 0.5) -> NDArray[np.float32]:
    """A sine of amplitude ``level``, (N,)."""
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


# -- the folder for the demo ----------------------------------------------------------------------------------------

COLOURS = {
    "red": (214, 40, 40),
    "orange": (240, 140, 30),
    "yellow": (240, 215, 40),
    "green": (40, 160, 70),
    "blue": (40, 80, 210),
    "purple": (130, 50, 170),
    "white": (240, 240, 240),
}
SHAPES = ("square", "circle", "triangle", "cross")
MOVES = {
    "moves left": "slides to the left",
    "moves right": "slides to the right",
    "rises": "floats upwards",
    "falls": "drops to the ground",
    "grows": "gets bigger and bigger",
}
SOUNDS = {
    "low": ("while a low tone sounds", "with a deep hum", 220.0),
    "middle": ("while a middle tone sounds", "with a steady beep", 660.0),
    "high": ("while a high tone sounds", "with a shrill whistle", 1980.0),
    "silent": ("without a sound", "in silence", None),
    "absent": ("", "on the screen", None),
}
SIDE, FPS, SECONDS = 128, 8, 3.0


def render_sample(root: Path | str, n: int = 96, seed: int = 0) -> Path:
    """Render ``n`` clips into ``root`` and write its ``captions.csv`` (video,caption,split), two captions a clip.

    A clip is a coloured shape that moves, with a tone, a silent track or no audio stream; no two are alike. Of eight
    clips five are train, one val and two test. Returns the path of the csv. LabError when n is out of range.
    """
    root = Path(root)
    kinds = list(product(COLOURS, SHAPES, MOVES, SOUNDS))
    if not 1 <= n <= len(kinds):
        raise LabError(f"`1 <= n <= {len(kinds)}` clips must hold, got n={n}")
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    rows = []
    for i, kind in enumerate(rng.permutation(len(kinds))[:n].tolist()):
        colour, shape, move, sound = kinds[kind]
        name = f"clip{i:04d}.mp4"
        shade = int(rng.integers(15, 60))
        _render(root / name, colour, shape, move, SOUNDS[sound][2], sound != "absent", shade)
        split = ("train", "train", "val", "train", "test", "train", "test", "train")[i % 8]
        first = f"a {colour} {shape} {move} {SOUNDS[sound][0]}".strip()
        rows += [(name, first, split), (name, f"the {colour} {shape} {MOVES[move]} {SOUNDS[sound][1]}", split)]
    table = root / "captions.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("video", "caption", "split"), *rows])
    return table


def _render(path: Path, colour: str, shape: str, move: str, hz: float | None, heard: bool, shade: int) -> None:
    count = round(SECONDS * FPS)
    pictures = [_draw(colour, shape, move, i / (count - 1), shade) for i in range(count)]
    audio = None
    if heard:
        audio = tone(hz, SECONDS) if hz else np.zeros(round(SECONDS * 32000), np.float32)
    write_clip(path, pictures, FPS, audio=audio)


def _draw(colour: str, shape: str, move: str, t: float, shade: int) -> Picture:
    """The scene at ``t`` in [0, 1], drawn at twice the size and scaled down for smooth edges."""
    x = y = SIDE
    radius = SIDE * 0.35
    way = (2 * t - 1) * SIDE * 0.6
    if move in ("moves left", "moves right"):
        x = round(SIDE + (way if move == "moves right" else -way))
    elif move in ("rises", "falls"):
        y = round(SIDE + (way if move == "falls" else -way))
    else:
        radius = SIDE * (0.15 + 0.6 * t)
    image = Image.new("RGB", (2 * SIDE, 2 * SIDE), (shade, shade, shade + 10))
    _shape(ImageDraw.Draw(image), shape, x, y, radius, COLOURS[colour])
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def _shape(draw: ImageDraw.ImageDraw, shape: str, x: float, y: float, r: float, fill: tuple[int, int, int]) -> None:
    if shape == "square":
        draw.rectangle((x - r, y - r, x + r, y + r), fill=fill)
    elif shape == "circle":
        draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)
    elif shape == "triangle":
        draw.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=fill)
    else:
        draw.rectangle((x - r, y - r / 3, x + r, y + r / 3), fill=fill)
        draw.rectangle((x - r / 3, y - r, x + r / 3, y + r), fill=fill)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of :func:`render_sample`."""
    parser = argparse.ArgumentParser(
        prog="python -m lab.toy.clips",
        description="Render short colour-and-tone clips and their captions.csv.",
        epilog="example: python -m lab.toy.clips --root /tmp/toy --n 96",
    )
    parser.add_argument("--root", type=Path, required=True, help="folder to write into; made if it is not there")
    parser.add_argument("--n", type=int, default=96, help="how many clips (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other clips (default %(default)s)")
    args = parser.parse_args(argv)
    try:
        table = render_sample(args.root, args.n, args.seed)
    except LabError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{args.n} clips and {table}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

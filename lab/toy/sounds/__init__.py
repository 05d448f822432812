"""Sounds of the toy world: kinds that a person can tell apart, from a seed to a waveform."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lab.errors import unknown
from lab.toy.sounds.farm import FARM
from lab.toy.sounds.machines import MACHINES
from lab.toy.sounds.music import MUSIC
from lab.toy.sounds.nature import NATURE
from lab.toy.sounds.parts import HZ, Draw, Wave, drift, hiss, pick, samples, tone, unit
from lab.toy.sounds.verbs import VERBS
from lab.toy.sounds.wild import WILD

__all__ = ["BEDS", "HZ", "SOUNDS", "VERBS", "Part", "ambience", "soundtrack", "synthesise"]

SOUNDS: dict[str, Callable[[int, Draw], Wave]] = {**FARM, **WILD, **MUSIC, **MACHINES, **NATURE}
#: Faint backgrounds: what they sound like is of no importance, only that two clips differ.
BEDS = ("room", "hum", "air", "street")

_EDGE_S = 0.01  # every sound fades in and out: a hard edge is a click


class Part(NamedTuple):
    """One sound of a clip: which kind, when (seconds), its peak relative to the kind's own, and its seed."""

    kind: str
    start_s: float
    end_s: float
    seed: int
    gain: float = 1.0


def synthesise(kind: str, seconds: float, seed: int) -> NDArray[np.float32]:
    """``seconds`` of one kind at 32 kHz, (round(seconds · 32000),), peak between 0.5 and 0.7.

    Pitch, rate, pauses and loudness vary with ``seed`` (any whole number from 0 up). The sound goes on, or comes
    again, to the end. Raises LabError for an unknown kind.
    """
    if kind not in SOUNDS:
        raise unknown("sound", kind, list(SOUNDS))
    n = round(seconds * HZ)
    if n <= 0:
        return np.zeros(0, np.float32)
    draw = _draw(kind, seed)
    level = draw.uniform(0.5, 0.7)
    # A grain may be longer than the clip: the room to sound in full keeps it from being normalised by its onset alone.
    wave = SOUNDS[kind](max(n, samples(0.3)), draw)[:n]
    return (level * unit(_edged(wave - wave.mean()))).astype(np.float32)


def ambience(kind: str | None, seconds: float, seed: int) -> NDArray[np.float32]:
    """A faint background (n,): one of BEDS, None for any; its peak is between 0.004 and 0.02, so it is not silence."""
    draw = _draw("ambience", seed)
    kind = BEDS[int(draw.random_sample() * len(BEDS))] if kind is None else kind
    if kind not in BEDS:
        raise unknown("ambience", kind, list(BEDS))
    n = round(seconds * HZ)
    level = draw.uniform(0.004, 0.02)
    if n <= 0:
        return np.zeros(0, np.float32)
    if kind == "room":
        wave = hiss(n, draw, 80, draw.uniform(800, 2500), 1.0)
    elif kind == "hum":
        wave = 3 * tone(n, pick(draw, (50, 60)), (1.0, 0.8, 0.3, 0.3)) + hiss(n, draw, 80, 4000, 0.8)
    elif kind == "air":
        wave = hiss(n, draw, 200, draw.uniform(4000, 9000), 0.4)
    else:
        wave = hiss(n, draw, 60, 1200, 0.6) * (1 + 0.5 * drift(n, draw, 1.5))
    return (level * unit(wave)).astype(np.float32)


def soundtrack(parts: Iterable[Part], seconds: float, seed: int, *, bed: bool = True) -> NDArray[np.float32]:
    """A clip's sound (n,): its parts, added up, over a faint background; scaled down where it would clip.

    Without parts and without ``bed`` it is digital silence.
    """
    n = round(seconds * HZ)
    wave = ambience(None, seconds, seed) if bed else np.zeros(n, np.float32)
    for part in parts:
        first, last = max(0, round(part.start_s * HZ)), min(n, round(part.end_s * HZ))
        if last > first:
            wave[first:last] += np.float32(part.gain) * synthesise(part.kind, (last - first) / HZ, part.seed)
    peak = float(np.abs(wave).max(initial=0.0))
    return wave if peak <= 0.95 else wave * np.float32(0.95 / peak)


def _draw(name: str, seed: int) -> Draw:
    """The frozen stream of a name and a seed of any size."""
    if seed < 0:
        raise ValueError(f"a seed must be a whole number from 0 up, got {seed}")
    words = [zlib.crc32(name.encode())]
    while seed:
        seed, word = divmod(seed, 1 << 32)
        words.append(word)
    return Draw(words)


def _edged(wave: Wave) -> Wave:
    """``wave`` with its first and last 10 ms faded, in place."""
    m = min(round(_EDGE_S * HZ), len(wave) // 2)
    if m:
        ramp = np.linspace(0.0, 1.0, m)
        wave[:m] *= ramp
        wave[-m:] *= ramp[::-1]
    return wave

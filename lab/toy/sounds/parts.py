"""What synthesised sounds are made of: tones, shaped noise, resonances, envelopes, grains. NumPy alone, no recursion.

Every draw comes from a ``RandomState``: its stream is frozen, where that of ``default_rng`` may change with NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

HZ = 32_000
Wave = NDArray[np.float64]
Draw = np.random.RandomState
Peak = tuple[float, float, float]  # Hz, half width in Hz, gain

_CEILING = 14_000.0  # Hz; what a PANN hears, and AAC keeps


def samples(seconds: float) -> int:
    """How many samples last ``seconds``, at least one."""
    return max(1, round(seconds * HZ))


def time(n: int) -> Wave:
    """Seconds since the start, (n,)."""
    return np.arange(n) / HZ


def pick(draw: Draw, options: Sequence[float]) -> float:
    """One of ``options``. (``choice`` and ``randint`` depend on how wide a platform's integers are.)"""
    return options[int(draw.random_sample() * len(options))]


def around(draw: Draw, value: float, spread: float = 0.1) -> float:
    """``value`` times a factor between exp(-spread) and exp(spread)."""
    return value * float(np.exp(draw.uniform(-spread, spread)))


def glide(n: int, *points: float) -> Wave:
    """A curve (n,) through evenly spaced points, smoothed at the corners by a raised cosine between neighbours."""
    at = np.linspace(0.0, len(points) - 1.0, n)
    low = np.minimum(at.astype(np.int64), max(0, len(points) - 2))
    share = 0.5 - 0.5 * np.cos(np.pi * (at - low))
    values: Wave = np.asarray(points, dtype=np.float64)
    curve: Wave = values[low] * (1.0 - share) + values[low + 1] * share
    return curve


def drift(n: int, draw: Draw, per_s: float) -> Wave:
    """A slow random curve in [-1, 1], (n,), with about ``per_s`` turns a second."""
    return glide(n, *draw.uniform(-1.0, 1.0, 2 + round(n / HZ * per_s)))


def tone(n: int, hz: float | Wave, amplitudes: Sequence[float] | Wave = (1.0,), *, start: float = 0.0) -> Wave:
    """Harmonics 1, 2, ... of a fixed or moving pitch, (n,). Those above 14 kHz are left out."""
    if isinstance(hz, np.ndarray):
        angle, top = 2.0 * np.pi * np.cumsum(hz) / HZ, float(hz.max())
    else:
        angle, top = 2.0 * np.pi * hz * time(n), hz
    # sin(kx) = 2 cos(x) sin((k-1)x) - sin((k-2)x): two sines for all harmonics.
    before, now, twice = np.zeros(n), np.sin(angle + start), 2.0 * np.cos(angle)
    before += np.sin(start)
    wave = amplitudes[0] * now
    for amplitude in amplitudes[1 : max(1, int(_CEILING / top))]:
        before, now = now, twice * now - before
        wave += amplitude * now
    return wave


def partials(n: int, hz: float, parts: Sequence[tuple[float, float, float]]) -> Wave:
    """A struck body: sines at ``hz`` × ratio that fade in a time; each part is (ratio, amplitude, seconds)."""
    at, wave = time(n), np.zeros(n)
    for ratio, amplitude, fade_s in parts:
        if hz * ratio < _CEILING:
            heard = at[: samples(9.0 * fade_s)]  # -78 dB: nobody hears the rest
            wave[: len(heard)] += amplitude * np.exp(-heard / fade_s) * np.sin(2.0 * np.pi * hz * ratio * heard)
    return wave


def hiss(n: int, draw: Draw, low: float = 60.0, high: float = _CEILING, slope: float = 0.0) -> Wave:
    """Noise between two frequencies, its amplitude falling as f ** -slope; unit variance, (n,)."""
    size = _quick(n)
    hz = np.maximum(np.fft.rfftfreq(size, 1.0 / HZ), 1.0)
    below, above = (low / hz) ** 2, (hz / high) ** 2
    for _ in range(2):  # to the eighth power, without the slow general power
        below, above = below * below, above * above
    shape = 1.0 / np.sqrt((1.0 + below) * (1.0 + above))
    if slope:
        shape *= (hz / 1000.0) ** -slope
    # White noise is complex white noise over frequencies, so one transform is enough.
    spectrum = draw.standard_normal(2 * len(hz)).view(np.complex128) * shape
    wave: Wave = np.fft.irfft(spectrum, size)[:n]
    wave /= wave.std() + 1e-9
    return wave


def resonate(wave: Wave, peaks: Sequence[Peak], floor: float = 0.02) -> Wave:
    """``wave`` through a body or a mouth: resonances (Hz, half width, gain) over a floor."""
    size = _quick(len(wave))
    hz = np.fft.rfftfreq(size, 1.0 / HZ)
    shape = np.full(len(hz), floor)
    for centre, width, gain in peaks:
        shape += gain / (1.0 + ((hz - centre) / width) ** 2)
    return np.fft.irfft(np.fft.rfft(wave, size) * shape, size)[: len(wave)]


def voice(
    n: int,
    draw: Draw,
    hz: Wave,
    peaks: Sequence[Peak],
    *,
    roll: float = 1.0,
    breath: float = 0.03,
    rough: float = 0.0,
) -> Wave:
    """A throat of pitch ``hz`` (n,): harmonics k ** -roll and breath through resonances; ``rough`` is jitter, 0-1."""
    if rough:
        hz = hz * (1.0 + rough * 0.5 * drift(n, draw, 90.0))
    count = int(min(48, max(3.0, 9000.0 / float(hz.mean()))))
    wave = tone(n, hz, np.arange(1.0, count + 1) ** -roll)
    return resonate(wave + breath * draw.standard_normal(n), peaks)


def unit(wave: Wave) -> Wave:
    """``wave`` scaled to a peak of one; silence stays silence."""
    return wave / max(float(np.abs(wave).max(initial=0.0)), 1e-9)


def swell(n: int, rise_s: float = 0.02, fall_s: float = 0.05) -> Wave:
    """An envelope (n,) that rises, stays at one, and falls."""
    at = time(n)
    edges = np.minimum(at / rise_s, (n / HZ - at) / fall_s)
    return 0.5 - 0.5 * np.cos(np.pi * np.clip(edges, 0.0, 1.0))


def fade(n: int, fade_s: float, rise_s: float = 0.002) -> Wave:
    """An envelope (n,) that rises at once and dies away exponentially."""
    at = time(n)
    return np.minimum(at / rise_s, 1.0) * np.exp(-at / fade_s)


def beats(n: int, draw: Draw, period_s: float, *, jitter: float = 0.06, first_s: float = 0.08) -> list[float]:
    """When events of a rhythm begin, in seconds, to the end of n samples; the first soon after the start."""
    at, times = draw.uniform(0.0, first_s), []
    while at < n / HZ:
        times.append(at)
        at += period_s * (1.0 + jitter * draw.uniform(-1.0, 1.0))
    return times


def place(n: int, grains: Sequence[Wave], times: Sequence[float], gains: Sequence[float] | None = None) -> Wave:
    """Grains laid at times (seconds), taken in turn and added up, (n,). What runs over the end is cut."""
    wave = np.zeros(n)
    for i, at in enumerate(times):
        first = round(at * HZ)
        if not 0 <= first < n:
            continue
        grain = grains[i % len(grains)][: n - first]
        wave[first : first + len(grain)] += grain * (gains[i] if gains is not None else 1.0)
    return wave


def repeat(
    n: int, draw: Draw, make: Callable[[], Wave], period_s: float, *, jitter: float = 0.06, kinds: int = 3
) -> Wave:
    """A rhythm of ``kinds`` grains of ``make``, each of its own loudness, (n,)."""
    times = beats(n, draw, period_s, jitter=jitter)
    grains = [unit(make()) * draw.uniform(0.75, 1.0) for _ in range(min(kinds, max(1, len(times))))]
    return place(n, grains, times)


def _quick(n: int) -> int:
    """A length of at least n for which FFTs are fast: a few odd factors, else powers of two."""
    step = 1 << max(0, n.bit_length() - 4)
    return -(-n // step) * step

"""Instruments and bells. Each function gives ``n`` samples of its kind, varied by the draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lab.toy.sounds.parts import (
    Draw,
    Wave,
    around,
    beats,
    fade,
    glide,
    hiss,
    partials,
    pick,
    place,
    resonate,
    samples,
    swell,
    time,
    tone,
    unit,
)

_MAJOR = (0, 2, 4, 5, 7, 9, 11, 12)


def _step(semitones: float) -> float:
    return float(2.0 ** (semitones / 12.0))


def _tune(draw: Draw, count: int) -> list[float]:
    """``count`` steps of a random walk over a major scale, as pitch ratios."""
    at, ratios = int(draw.uniform(0, 5)), []
    for _ in range(count):
        ratios.append(_step(_MAJOR[at]))
        at = int(np.clip(at + pick(draw, (-2, -1, 1, 2)), 0, 7))
    return ratios


def _melody(n: int, draw: Draw, note: Callable[[float], Wave], period_s: float, distinct: int = 5) -> Wave:
    """Notes of a walk over the scale in a steady beat; ``note`` takes the ratio to the lowest pitch."""
    times = beats(n, draw, period_s, jitter=0.02)
    notes = [note(ratio) for ratio in _tune(draw, min(distinct, max(1, len(times))))]
    return place(n, notes, times, [float(gain) for gain in draw.uniform(0.8, 1.0, len(times))])


def _string(n: int, hz: float, fade_s: float, bright: float) -> Wave:
    """A plucked string: harmonics k ** -bright, each of which dies sooner than the one below it."""
    at = time(n)
    damp = np.exp(-0.35 * at / fade_s)
    # As in ``tone``, with a damping from each harmonic to the next.
    before, now = np.zeros(n), damp * np.sin(2.0 * np.pi * hz * at)
    twice, square, wave = 2.0 * damp * np.cos(2.0 * np.pi * hz * at), damp * damp, now.copy()
    for k in range(2, 1 + min(18, int(9000 / hz))):
        before, now = now, twice * now - square * before
        wave += k**-bright * now
    return wave * np.exp(-at / fade_s)


def bell(n: int, draw: Draw) -> Wave:
    """Tolls: the inharmonic partials of a cast bell, hum note and minor third."""
    pitch = around(draw, 480, 0.15)
    parts = [
        (0.5, 0.5, 1.2),
        (1, 1, 0.9),
        (1.2, 0.7, 0.7),
        (1.5, 0.4, 0.6),
        (2, 0.9, 0.5),
        (2.67, 0.4, 0.3),
        (4.1, 0.3, 0.2),
    ]
    stroke = unit(partials(samples(2.5), pitch, parts))
    return place(n, [stroke], beats(n, draw, around(draw, 1.1), jitter=0.02))


def drum(n: int, draw: Draw) -> Wave:
    """Beats: bass drum and snare in turn, a hi-hat between."""
    m, s, h = samples(0.25), samples(0.2), samples(0.06)
    pitch = around(draw, 62, 0.12)
    bass = unit(tone(m, pitch * (1 + 1.6 * np.exp(-time(m) / 0.025)))) * fade(m, 0.09)
    snare = unit(hiss(s, draw, 900, 9000)) * fade(s, 0.05) + 0.5 * partials(s, 190, [(1.0, 1.0, 0.04)])
    hat = 0.35 * unit(hiss(h, draw, 7000, 13000)) * fade(h, 0.015)
    period = around(draw, 0.22)
    times = beats(n, draw, period, jitter=0.0)
    return place(n, [bass, hat, snare, hat], times)


def guitar(n: int, draw: Draw) -> Wave:
    """Strums: chords of six strings, one string after the other."""
    pitch, period = around(draw, 98, 0.1), around(draw, 0.55)
    m = samples(1.0)
    chords = []
    for root in pick(draw, (0, 3)), pick(draw, (5, 7)):
        strings = [_string(m, pitch * _step(root + up), 0.9, 0.8) for up in (0, 7, 12, 16, 19, 24)]
        down = place(m, strings, [0.014 * k for k in range(6)])
        chords.append(unit(resonate(down, [(110, 60, 0.8), (220, 100, 0.8), (2000, 1500, 0.6)], floor=0.3)))
    return place(n, chords, beats(n, draw, period, jitter=0.05))


def piano(n: int, draw: Draw) -> Wave:
    """Plays a tune: struck strings of the middle register."""
    pitch = around(draw, 330, 0.15)

    def note(ratio: float) -> Wave:
        m = samples(0.9)
        hammer = 0.05 * hiss(m, draw, 200, 2500) * fade(m, 0.01)
        return unit(_string(m, pitch * ratio, 0.6, 1.5)) + hammer

    return _melody(n, draw, note, around(draw, 0.27, 0.15))


def banjo(n: int, draw: Draw) -> Wave:
    """Picks: fast, dry and twangy."""
    pitch = around(draw, 294, 0.1)

    def note(ratio: float) -> Wave:
        m = samples(0.3)
        return unit(resonate(_string(m, pitch * ratio, 0.16, 0.25), [(700, 300, 0.6), (2600, 800, 1.0)], 0.15))

    return _melody(n, draw, note, around(draw, 0.125), 6)


def violin(n: int, draw: Draw) -> Wave:
    """Plays: bowed notes with vibrato."""
    pitch, vibrato = around(draw, 440, 0.12), around(draw, 5.8)

    def note(ratio: float) -> Wave:
        m = samples(0.62)
        hz = pitch * ratio * (1 + 0.012 * np.sin(2 * np.pi * vibrato * time(m)) * np.minimum(1, time(m) / 0.15))
        bow = tone(m, hz, np.arange(1.0, 24) ** -0.9) + 0.04 * hiss(m, draw, 2000, 8000)
        return unit(resonate(bow, [(500, 200, 0.7), (1100, 300, 0.8), (2800, 700, 1.0)], 0.1)) * swell(m, 0.08, 0.12)

    return _melody(n, draw, note, around(draw, 0.52))


def _brass(n: int, hz: Wave, bright: Wave, count: int = 16) -> Wave:
    """Harmonics whose upper half follows ``bright`` (n,): what makes brass blare."""
    k = np.arange(1.0, count + 1)
    return tone(n, hz, k**-1.6) * (1 - bright) + 0.7 * tone(n, hz, k**-0.35 * np.exp(-k / 9)) * bright


def trumpet(n: int, draw: Draw) -> Wave:
    """Plays a fanfare: tongued notes of a triad."""
    pitch = around(draw, 466, 0.08)

    def note(semitones: int, seconds: float) -> Wave:
        m = samples(seconds)
        hz = pitch * _step(semitones) * (1 + 0.03 * np.exp(-time(m) / 0.02))
        return unit(_brass(m, hz, glide(m, 0.2, 1.0, 0.8, 0.7))) * swell(m, 0.015, 0.04)

    beat = around(draw, 0.13)
    pattern: Sequence[tuple[int, int]] = [(0, 1), (0, 1), (0, 1), (4, 2), (0, 1), (4, 1), (7, 3), (4, 2)]
    notes = [note(semitones, beat * length * 0.95) for semitones, length in pattern]
    starts = np.cumsum([0, *(length for _, length in pattern)]) * beat
    phrases = beats(n, draw, float(starts[-1]), jitter=0.0)
    return place(n, notes, [at + float(start) for at in phrases for start in starts[:-1]])


def saxophone(n: int, draw: Draw) -> Wave:
    """Plays: low reedy notes that are bent upwards, with breath."""
    pitch = around(draw, 175, 0.1)

    def note(ratio: float) -> Wave:
        m = samples(0.55)
        hz = pitch * ratio * glide(m, 0.9, 1.0, 1.0, 1.0) * (1 + 0.01 * np.sin(2 * np.pi * 5 * time(m)))
        reed = tone(m, hz, np.arange(1.0, 30) ** -0.5) + 0.25 * hiss(m, draw, 1000, 6000)
        return unit(resonate(reed, [(520, 180, 1.0), (1350, 300, 0.7), (2300, 400, 0.3)], 0.02)) * swell(m, 0.05, 0.08)

    return _melody(n, draw, note, around(draw, 0.48))


def flute(n: int, draw: Draw) -> Wave:
    """Plays: nearly pure high notes in a stream of air."""
    pitch = around(draw, 880, 0.1)

    def note(ratio: float) -> Wave:
        m = samples(0.4)
        shake = np.sin(2 * np.pi * 5.2 * time(m))
        air = hiss(m, draw, 1500, 7000, 0.5)
        sound = tone(m, pitch * ratio * (1 + 0.006 * shake), (1.0, 0.18, 0.06)) * (1 + 0.15 * shake)
        return (sound + 0.06 * air) * swell(m, 0.05, 0.07)

    return _melody(n, draw, note, around(draw, 0.34))


def accordion(n: int, draw: Draw) -> Wave:
    """Plays: oom-pah-pah of detuned reeds, a bass and two chords."""
    pitch = around(draw, 262, 0.1)

    def chord(ratios: Sequence[float], seconds: float) -> Wave:
        m = samples(seconds)
        wave = np.zeros(m)
        for ratio in ratios:
            for detune in (0.994, 1.006):
                wave += tone(m, pitch * ratio * detune, np.arange(1.0, 14) ** -0.7)
        return unit(wave) * swell(m, 0.03, 0.05)

    period = around(draw, 0.26)
    high = chord([_step(s) for s in (0, 4, 7)], 0.8 * period)
    return place(n, [chord([0.5], 0.9 * period), high, high], beats(n, draw, period, jitter=0.0))


def maracas(n: int, draw: Draw) -> Wave:
    """Rattle: a shaken rhythm of dry high noise."""
    low = around(draw, 4500, 0.1)

    def shake(seconds: float) -> Wave:
        m = samples(seconds)
        return unit(hiss(m, draw, low, 12500)) * swell(m, 0.02, 0.03)

    times = beats(n, draw, around(draw, 0.12), jitter=0.02)
    return place(n, [shake(0.08), 0.5 * shake(0.06), 0.6 * shake(0.06), 0.5 * shake(0.06)], times)


MUSIC: dict[str, Callable[[int, Draw], Wave]] = {
    make.__name__: make
    for make in (
        *(bell, drum, guitar, piano, banjo, violin),
        *(trumpet, saxophone, flute, accordion, maracas),
    )
}

"""Vehicles, devices and tools. Each function gives ``n`` samples of its kind, varied by the draws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lab.toy.sounds.parts import (
    HZ,
    Draw,
    Wave,
    around,
    beats,
    drift,
    fade,
    glide,
    hiss,
    partials,
    pick,
    place,
    repeat,
    resonate,
    samples,
    swell,
    time,
    tone,
    unit,
)

_REED = np.arange(1.0, 20) ** -0.6
_SQUARE = [1 / k if k % 2 else 0.0 for k in range(1, 12)]


def _turns(hz: Wave) -> Wave:
    """How many periods a moving rate has run, (n,)."""
    return np.cumsum(hz) / HZ


def car(n: int, draw: Draw) -> Wave:
    """Honks: two notes a third apart, short and long."""
    pitch = around(draw, 415, 0.08)

    def honk() -> Wave:
        m = samples(0.42)
        both = tone(m, pitch, _REED) + tone(m, 1.26 * pitch, _REED)
        short = both[: samples(0.14)]
        return place(samples(0.66), [short * swell(len(short), 0.01, 0.02), both * swell(m, 0.01, 0.03)], [0.0, 0.2])

    return repeat(n, draw, honk, around(draw, 0.85), kinds=1)


def siren(n: int, draw: Draw) -> Wave:
    """Wails: one tone that climbs and falls without a pause."""
    rate, start = around(draw, 0.75, 0.15), draw.uniform(0, 2 * np.pi)
    hz = around(draw, 950, 0.08) * np.exp(0.45 * np.sin(2 * np.pi * rate * time(n) + start))
    return tone(n, hz, (1.0, 0.4, 0.4, 0.2, 0.2))


def ambulance(n: int, draw: Draw) -> Wave:
    """Nee-naw: two fixed tones in turn."""
    pitch, half = around(draw, 700, 0.06), around(draw, 0.36)
    high = np.floor((time(n) + draw.uniform(0, 2 * half)) / half) % 2
    return tone(n, pitch * np.where(high > 0, 1.335, 1.0), (1.0, 0.5, 0.45, 0.2, 0.2))


def train(n: int, draw: Draw) -> Wave:
    """Whistles a steamy chord, and chuffs."""
    pitch = around(draw, 560, 0.08)

    def whistle() -> Wave:
        m = samples(around(draw, 0.6))
        hz = pitch * glide(m, 0.92, 1.0, 1.0, 0.97)
        chord = sum((tone(m, hz * ratio, (1.0, 0.3, 0.1)) for ratio in (1.0, 1.19, 1.5)), np.zeros(m))
        return (unit(chord) + 0.12 * hiss(m, draw, 1000, 8000)) * swell(m, 0.05, 0.1)

    m = samples(0.1)
    chuff = unit(hiss(m, draw, 150, 3500, 0.5)) * fade(m, 0.03, 0.01)
    chuffs = place(n, [chuff, 0.6 * chuff], beats(n, draw, around(draw, 0.15), jitter=0.02))
    return repeat(n, draw, whistle, around(draw, 1.15)) + 0.55 * chuffs


def helicopter(n: int, draw: Draw) -> Wave:
    """Chops: thirteen low thuds a second over a whine."""
    rate = around(draw, 13, 0.12)
    blade = np.maximum(0.0, np.sin(2 * np.pi * rate * time(n))) ** 5
    return hiss(n, draw, 50, 900, 0.8) * (0.12 + blade) + 0.25 * tone(n, around(draw, 1150, 0.05), (1.0, 0.4))


def plane(n: int, draw: Draw) -> Wave:
    """Drones: jet noise and turbines that sink slowly."""
    fall = glide(n, 1.06, 0.94)
    whine = tone(n, around(draw, 2500, 0.1) * fall, (1.0, 0.5)) + 0.7 * tone(n, around(draw, 3350, 0.1) * fall)
    return unit(hiss(n, draw, 90, 5000, 0.45)) + 0.16 * whine


def motorcycle(n: int, draw: Draw) -> Wave:
    """Vrooms: exhaust pulses that race up and down."""
    period, base = around(draw, 0.9), around(draw, 42, 0.12)
    rev = (0.5 - 0.5 * np.cos(2 * np.pi * (time(n) / period + draw.uniform()))) ** 1.5
    firing = _turns(base * (1 + 2.2 * rev))
    pulses = np.exp(-6.0 * (firing % 1.0)) - 0.16
    exhaust = resonate(
        pulses * (1 + 0.5 * draw.standard_normal(n)), [(160, 80, 1.0), (420, 150, 0.7), (1200, 600, 0.4)]
    )
    return exhaust * (0.45 + 0.55 * rev)


def ship(n: int, draw: Draw) -> Wave:
    """Blows its horn: very low, long and full."""
    pitch = around(draw, 98, 0.1)

    def horn() -> Wave:
        m = samples(around(draw, 1.2))
        blast = tone(m, pitch, _REED) + tone(m, pitch * 1.505, _REED)
        return resonate(blast, [(220, 150, 1.0), (600, 300, 0.5)], 0.05) * swell(m, 0.1, 0.15)

    return repeat(n, draw, horn, around(draw, 1.5), kinds=1)


def bicycle(n: int, draw: Draw) -> Wave:
    """Rings: two bright strokes of a small bell."""
    pitch = around(draw, 2450, 0.08)

    def ring() -> Wave:
        m = samples(0.5)
        stroke = partials(m, pitch, [(1, 1, 0.15), (1.004, 0.8, 0.15), (2.74, 0.6, 0.08), (5.1, 0.3, 0.03)])
        return place(samples(0.7), [stroke], [0.0, 0.045, 0.09, 0.22, 0.265, 0.31])

    return repeat(n, draw, ring, around(draw, 0.8), kinds=1)


def alarm(n: int, draw: Draw) -> Wave:
    """Beeps: four short beeps and a pause, as a digital clock."""
    m, pitch = samples(0.06), around(draw, 2050, 0.06)
    beep = tone(m, pitch, (1.0, 0.0, 0.35, 0.0, 0.2)) * swell(m, 0.003, 0.003)
    starts = beats(n, draw, around(draw, 0.62), jitter=0.0)
    return place(n, [beep], [at + 0.1 * k for at in starts for k in range(4)])


def phone(n: int, draw: Draw) -> Wave:
    """Rings: a clapper between two gongs, 22 strokes a second, on and off."""
    pitch, rate = around(draw, 1250, 0.07), around(draw, 22, 0.06)
    m = samples(0.12)
    gongs = [
        unit(partials(m, pitch * ratio, [(1, 1, 0.05), (2.3, 0.7, 0.03), (3.9, 0.4, 0.02)])) for ratio in (1.0, 1.25)
    ]
    starts = beats(n, draw, around(draw, 0.95), jitter=0.0)
    return place(n, gongs, [at + k / rate for at in starts for k in range(14)])


def clock(n: int, draw: Draw) -> Wave:
    """Ticks: dry clicks, high and low in turn."""
    m, body = samples(0.04), around(draw, 2300, 0.1)

    def click(ratio: float) -> Wave:
        return unit(partials(m, body * ratio, [(1, 1, 0.004), (1.9, 0.6, 0.003), (0.45, 0.4, 0.007)]))

    return place(n, [click(1.0), click(0.74)], beats(n, draw, around(draw, 0.3, 0.12), jitter=0.0))


def camera(n: int, draw: Draw) -> Wave:
    """Clicks: mirror, shutter, and the whirr of the film."""

    def shot() -> Wave:
        m, w = samples(0.03), samples(around(draw, 0.2))
        click = unit(hiss(m, draw, 1500, 9000)) * fade(m, 0.005)
        motor = tone(w, glide(w, 300, 520, 560), _REED) * swell(w, 0.02, 0.03)
        whirr = 0.25 * unit(resonate(motor, [(2600, 900, 1.0)], 0.05))
        return place(samples(0.4), [click, 0.8 * click, whirr], [0.0, 0.075, 0.12])

    return repeat(n, draw, shot, around(draw, 0.6, 0.15))


def keyboard(n: int, draw: Draw) -> Wave:
    """Typing: uneven soft clacks."""

    def key() -> Wave:
        m = samples(0.05)
        clack = resonate(hiss(m, draw, 500, 9000), [(draw.uniform(1300, 1900), 250, 1.0), (3800, 700, 0.6)])
        return unit(clack * fade(m, 0.007)) * draw.uniform(0.5, 1.0)

    return place(n, [key() for _ in range(6)], beats(n, draw, around(draw, 0.1), jitter=0.7))


def hammer(n: int, draw: Draw) -> Wave:
    """Knocks: wood and a ringing nail."""
    wood, nail = around(draw, 210, 0.12), around(draw, 3100, 0.1)

    def blow() -> Wave:
        m = samples(0.25)
        knock = partials(m, wood, [(1, 1, 0.04), (1.7, 0.7, 0.03), (2.9, 0.5, 0.02)])
        return knock + 0.5 * partials(m, nail, [(1, 1, 0.05), (1.47, 0.6, 0.04)]) + hiss(m, draw) * fade(m, 0.003)

    return repeat(n, draw, blow, around(draw, 0.4, 0.12))


def saw(n: int, draw: Draw) -> Wave:
    """Rasps: to and fro, higher on the way to."""
    period, teeth = around(draw, 0.3), around(draw, 75, 0.1)

    def stroke(low: float, high: float) -> Wave:
        m = samples(0.9 * period)
        rasp = hiss(m, draw, low, high) * (0.4 + np.abs(np.sin(np.pi * teeth * time(m))) ** 3)
        return unit(rasp) * swell(m, 0.06, 0.06)

    return place(n, [stroke(1800, 5200), 0.7 * stroke(900, 2600)], beats(n, draw, period, jitter=0.04))


def robot(n: int, draw: Draw) -> Wave:
    """Bleeps: a string of square tones at random pitches."""

    def bleep() -> Wave:
        m = samples(around(draw, 0.085, 0.2))
        first = 400 * 2.0 ** draw.uniform(0, 2.4)
        return tone(m, glide(m, first, first * pick(draw, (0.7, 1.0, 1.0, 1.5))), _SQUARE) * swell(m, 0.004, 0.006)

    return place(n, [unit(bleep()) for _ in range(8)], beats(n, draw, around(draw, 0.105), jitter=0.25))


def rocket(n: int, draw: Draw) -> Wave:
    """Roars: a deep thunder of exhaust that crackles all the time."""
    crackle = np.maximum(0.0, np.abs(hiss(n, draw, 20, 60)) - 0.9)
    return unit(hiss(n, draw, 45, 500, 0.9)) + 0.6 * unit(hiss(n, draw, 300, 2500) * crackle) * (
        0.8 + 0.2 * drift(n, draw, 6)
    )


MACHINES: dict[str, Callable[[int, Draw], Wave]] = {
    make.__name__: make
    for make in (
        *(car, siren, ambulance, train, helicopter, plane, motorcycle, ship, bicycle, rocket),
        *(alarm, phone, clock, camera, keyboard, hammer, saw, robot),
    )
}

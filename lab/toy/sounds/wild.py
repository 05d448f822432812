"""Animals of the wild, great and small. Each function gives ``n`` samples of its kind, varied by the draws."""

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
    pick,
    place,
    repeat,
    resonate,
    samples,
    swell,
    time,
    tone,
    unit,
    voice,
)


def bird(n: int, draw: Draw) -> Wave:
    """Sings: trills of whistled sweeps between 2.5 and 5.5 kHz."""
    pitch = around(draw, 3600, 0.12)

    def trill() -> Wave:
        m = samples(around(draw, 0.07, 0.2))
        curve = pitch * draw.uniform(0.75, 1.3, 3)
        note = tone(m, glide(m, *curve)) * swell(m, 0.01, 0.02)
        count = int(pick(draw, (2, 3, 4)))
        return place(samples(0.1 * count), [note], [0.085 * k for k in range(count)])

    return repeat(n, draw, trill, around(draw, 0.36, 0.15), jitter=0.2, kinds=4)


def owl(n: int, draw: Draw) -> Wave:
    """Hoots: soft, hollow and low; one, then two."""
    pitch = around(draw, 370, 0.12)

    def hoot(seconds: float) -> Wave:
        m = samples(seconds)
        hz = glide(m, 0.93 * pitch, pitch, 0.94 * pitch)
        return (tone(m, hz, (1.0, 0.12, 0.04)) + 0.02 * hiss(m, draw, 200, 900)) * swell(m, 0.07, 0.1)

    def call() -> Wave:
        return place(samples(1.0), [hoot(0.3), hoot(0.16), hoot(0.32)], [0.0, 0.4, 0.6])

    return repeat(n, draw, call, around(draw, 1.2))


def frog(n: int, draw: Draw) -> Wave:
    """Croaks: rib-bit, two bursts of pulses, the second higher."""
    rate, body = around(draw, 42, 0.12), around(draw, 750, 0.15)

    def ribbit() -> Wave:
        halves = []
        for seconds, lift in ((0.16, 1.0), (0.2, 1.45)):
            m = samples(around(draw, seconds))
            pulses = np.maximum(0.0, np.sin(2 * np.pi * np.cumsum(glide(m, rate, 1.4 * rate)) / HZ)) ** 8
            sound = tone(m, glide(m, body * lift, 1.2 * body * lift), (1.0, 0.5, 0.5, 0.2))
            halves.append(sound * pulses * swell(m, 0.03, 0.04))
        return np.concatenate(halves)

    return repeat(n, draw, ribbit, around(draw, 0.6))


def cricket(n: int, draw: Draw) -> Wave:
    """Chirps: three pulses of one high tone, over and over."""
    pitch, step = around(draw, 4600, 0.08), around(draw, 0.035)
    m = samples(0.026)
    pulse = tone(m, pitch) * swell(m, 0.008, 0.012)
    times = [at + k * step for at in beats(n, draw, around(draw, 0.27), jitter=0.03) for k in range(3)]
    return place(n, [pulse], times)


def bee(n: int, draw: Draw) -> Wave:
    """Buzzes: a rough saw-tooth whose pitch and loudness wander."""
    pitch = around(draw, 215, 0.12) * (1 + 0.1 * drift(n, draw, 3) + 0.02 * drift(n, draw, 40))
    wings = tone(n, pitch, np.arange(1.0, 30) ** -0.6)
    return resonate(wings, [(450, 250, 1.0), (1500, 600, 0.5), (3000, 900, 0.3)]) * (0.75 + 0.25 * drift(n, draw, 4))


def mosquito(n: int, draw: Draw) -> Wave:
    """Whines: a thin high tone that comes and goes."""
    pitch = around(draw, 640, 0.1) * (1 + 0.08 * drift(n, draw, 2.5))
    near = 0.55 + 0.45 * drift(n, draw, 2.0)
    return tone(n, pitch, (0.5, 1.0, 0.25, 0.5, 0.12, 0.3, 0.05, 0.1)) * near


def snake(n: int, draw: Draw) -> Wave:
    """Hisses: sharp high noise in long breaths."""
    low = around(draw, 4500, 0.12)

    def breath() -> Wave:
        m = samples(around(draw, 0.7))
        return hiss(m, draw, low, 11000) * glide(m, 0.0, 0.7, 1.0, 0.6, 0.0)

    return repeat(n, draw, breath, around(draw, 0.85), kinds=2)


def lion(n: int, draw: Draw) -> Wave:
    """Roars: a low, very rough throat with much breath."""
    pitch = around(draw, 95, 0.12)

    def roar() -> Wave:
        m = samples(around(draw, 1.1))
        hz = glide(m, 0.9 * pitch, 1.5 * pitch, 1.3 * pitch, 0.7 * pitch)
        throat = [(380, 120, 1.0), (750, 180, 0.6), (1500, 400, 0.25)]
        growl = 0.6 + 0.4 * np.sin(2 * np.pi * around(draw, 24) * time(m))
        return voice(m, draw, hz, throat, roll=0.5, breath=2.0, rough=0.5) * growl * swell(m, 0.12, 0.5)

    return repeat(n, draw, roar, around(draw, 1.35))


def wolf(n: int, draw: Draw) -> Wave:
    """Howls: one long clear cry that rises, stays and sinks."""
    pitch = around(draw, 520, 0.12)

    def howl() -> Wave:
        m = samples(around(draw, 1.6))
        hz = glide(m, 0.6 * pitch, 1.15 * pitch, 1.2 * pitch, 1.15 * pitch, 1.1 * pitch, 0.75 * pitch)
        hz = hz * (1 + 0.015 * np.sin(2 * np.pi * 5 * time(m)))
        return tone(m, hz, (1.0, 0.45, 0.2, 0.08)) * swell(m, 0.2, 0.5)

    return repeat(n, draw, howl, around(draw, 1.75), kinds=2)


def elephant(n: int, draw: Draw) -> Wave:
    """Trumpets: a blaring, breathy brass that shoots up."""
    pitch = around(draw, 430, 0.12)

    def blare() -> Wave:
        m = samples(around(draw, 0.75))
        hz = glide(m, 0.7 * pitch, 1.6 * pitch, 1.5 * pitch, 1.35 * pitch, pitch)
        trunk = [(1000, 400, 1.0), (2400, 700, 1.0), (5000, 1500, 0.7)]
        return voice(m, draw, hz, trunk, roll=0.2, breath=0.8, rough=0.12) * swell(m, 0.06, 0.2)

    return repeat(n, draw, blare, around(draw, 0.95))


def whale(n: int, draw: Draw) -> Wave:
    """Sings: slow moans and rising calls with an echo."""
    pitch = around(draw, 190, 0.15)

    def moan() -> Wave:
        m = samples(around(draw, 1.0, 0.15))
        hz = glide(m, *(pitch * draw.uniform(0.7, 2.2, 4)))
        call = tone(m, hz, (1.0, 0.5, 0.25, 0.1)) * swell(m, 0.15, 0.3)
        return place(samples(1.9), [call, 0.5 * call, 0.25 * call], [0.0, 0.28, 0.56])

    return repeat(n, draw, moan, around(draw, 1.1))


def dolphin(n: int, draw: Draw) -> Wave:
    """Clicks that quicken, then a whistle that sweeps up."""

    def call() -> Wave:
        gaps = np.geomspace(0.03, 0.006, 18)
        m = samples(0.004)
        click = hiss(m, draw, 3000, 13000) * fade(m, 0.001, 0.0003)
        clicks = place(samples(0.3), [unit(click)], np.cumsum(gaps) - gaps[0])
        w = samples(around(draw, 0.3))
        rise = tone(w, glide(w, *(around(draw, 1, 0.06) * np.array([6000.0, 8500, 7500, 11500])))) * swell(
            w, 0.03, 0.05
        )
        return np.concatenate([clicks, rise])

    return repeat(n, draw, call, around(draw, 0.75))


def monkey(n: int, draw: Draw) -> Wave:
    """Oo-oo-ah-ah: quick calls, two low and two high."""
    pitch = around(draw, 380, 0.12)

    def chatter() -> Wave:
        oo, ah = samples(0.13), samples(0.14)
        low = voice(oo, draw, glide(oo, 0.8 * pitch, 1.2 * pitch), [(450, 120, 1.0), (900, 150, 0.4)], roll=1.0)
        high = voice(ah, draw, glide(ah, 1.6 * pitch, 2.2 * pitch, 1.7 * pitch), [(1000, 250, 1.0), (1700, 300, 0.8)])
        calls = [unit(low) * swell(oo, 0.02, 0.04)] * 2 + [unit(high) * swell(ah, 0.02, 0.04)] * 2
        return place(samples(0.75), calls, [0.0, 0.17, 0.36, 0.55])

    return repeat(n, draw, chatter, around(draw, 0.85))


def mouse(n: int, draw: Draw) -> Wave:
    """Squeaks: very high, short and rising."""
    pitch = around(draw, 6800, 0.1)

    def squeak() -> Wave:
        m = samples(around(draw, 0.09, 0.2))
        return tone(m, glide(m, 0.8 * pitch, 1.15 * pitch, pitch), (1.0, 0.4)) * swell(m, 0.015, 0.03)

    return repeat(n, draw, squeak, around(draw, 0.2), jitter=0.3)


WILD: dict[str, Callable[[int, Draw], Wave]] = {
    make.__name__: make
    for make in (bird, owl, frog, cricket, bee, mosquito, snake, lion, wolf, elephant, whale, dolphin, monkey, mouse)
}

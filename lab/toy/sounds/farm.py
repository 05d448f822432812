"""Animals of the farm. Each function gives ``n`` samples of its kind, varied by the draws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lab.toy.sounds.parts import (
    HZ,
    Draw,
    Wave,
    around,
    beats,
    fade,
    glide,
    hiss,
    partials,
    place,
    repeat,
    resonate,
    samples,
    swell,
    time,
    unit,
    voice,
)


def dog(n: int, draw: Draw) -> Wave:
    """Barks in pairs: a short rough yell whose pitch jumps up and falls."""
    pitch = around(draw, 330, 0.25)

    def bark() -> Wave:
        m, base = samples(around(draw, 0.17)), pitch * draw.uniform(0.95, 1.05)
        hz = glide(m, base, 1.7 * base, 1.2 * base, 0.7 * base)
        mouth = [(750, 200, 1.0), (1350, 250, 0.8), (2700, 500, 0.3)]
        bark_ = voice(m, draw, hz, mouth, roll=0.7, breath=0.5, rough=0.15) * swell(m, 0.012, 0.09)
        return place(samples(0.42), [unit(bark_)], [0.0, around(draw, 0.22)])

    return repeat(n, draw, bark, around(draw, 0.62, 0.15))


def cat(n: int, draw: Draw) -> Wave:
    """Meows: the mouth opens from ee to ah and closes to oo."""
    pitch = around(draw, 560, 0.15)

    def meow() -> Wave:
        m = samples(around(draw, 0.75))
        hz = glide(m, 0.85 * pitch, 1.25 * pitch, 1.15 * pitch, 0.8 * pitch)
        closed = voice(m, draw, hz, [(600, 150, 1.0), (2600, 300, 0.5)], roll=0.8)
        opened = voice(m, draw, hz, [(1100, 250, 1.0), (1900, 300, 0.9), (3600, 500, 0.4)], roll=0.7)
        share = glide(m, 0.0, 0.8, 1.0, 0.4, 0.0)
        return (unit(closed) * (1 - share) + unit(opened) * share) * swell(m, 0.08, 0.25)

    return repeat(n, draw, meow, around(draw, 1.0))


def cow(n: int, draw: Draw) -> Wave:
    """Moos: long, low and nasal, opening in the middle."""
    pitch = around(draw, 150, 0.15)

    def moo() -> Wave:
        m = samples(around(draw, 1.15))
        hz = glide(m, 0.8 * pitch, 1.1 * pitch, 1.15 * pitch, 0.85 * pitch)
        closed = voice(m, draw, hz, [(260, 70, 1.0), (900, 150, 0.1)], roll=1.1)
        opened = voice(m, draw, hz, [(480, 100, 1.0), (850, 130, 0.6), (2300, 300, 0.1)], roll=0.9)
        share = glide(m, 0.0, 0.3, 1.0, 0.7)
        return (unit(closed) * (1 - share) + unit(opened) * share) * swell(m, 0.15, 0.25)

    return repeat(n, draw, moo, around(draw, 1.4))


def sheep(n: int, draw: Draw) -> Wave:
    """Baas: a vowel that trembles nine times a second."""
    pitch = around(draw, 300, 0.15)

    def baa() -> Wave:
        m, shake = samples(around(draw, 0.75)), around(draw, 9)
        tremble = np.sin(2 * np.pi * shake * time(m))
        hz = glide(m, 1.05 * pitch, pitch, 0.92 * pitch) * (1 + 0.05 * tremble)
        mouth = [(800, 150, 1.0), (1700, 200, 0.9), (2700, 300, 0.5)]
        return voice(m, draw, hz, mouth, roll=0.6, breath=0.1) * (1 + 0.6 * tremble) * swell(m, 0.04, 0.2)

    return repeat(n, draw, baa, around(draw, 1.0))


def pig(n: int, draw: Draw) -> Wave:
    """Oinks: a snort of slow pulses, then a nasal squeak."""
    rate = around(draw, 48, 0.15)

    def oink() -> Wave:
        m, q = samples(around(draw, 0.2)), samples(around(draw, 0.13))
        snort = hiss(m, draw, 150, 3000, 0.6) * np.abs(np.sin(np.pi * rate * time(m))) ** 4
        squeak = voice(q, draw, glide(q, 380, 700, 420), [(700, 200, 0.6), (2200, 400, 1.0)], roll=0.5, rough=0.1)
        grunt = unit(resonate(snort, [(380, 90, 1.0), (1150, 200, 0.7)])) * swell(m, 0.03, 0.04)
        return np.concatenate([grunt, 0.6 * unit(squeak) * swell(q, 0.02, 0.05)])

    return repeat(n, draw, oink, around(draw, 0.5, 0.15), jitter=0.15)


def horse(n: int, draw: Draw) -> Wave:
    """Gallops: three hooves and a pause."""
    body = around(draw, 900, 0.15)

    def hoof(ratio: float) -> Wave:
        m = samples(0.09)
        knock = partials(m, body * ratio, [(1.0, 1.0, 0.016), (1.53, 0.6, 0.012), (2.31, 0.4, 0.008)])
        return unit(knock + 0.2 * hiss(m, draw, 200, 4000) * fade(m, 0.006))

    period = around(draw, 0.44)
    starts = beats(n, draw, period, jitter=0.03)
    times = [at + step * period for at in starts for step in (0.0, 0.22, 0.46)]
    return place(n, [hoof(1.0), hoof(1.25), 0.9 * hoof(0.85)], times)


def rooster(n: int, draw: Draw) -> Wave:
    """Cock-a-doodle-doo: three short calls and a long one that falls."""
    pitch = around(draw, 620, 0.12)

    def crow() -> Wave:
        calls = []
        for seconds, curve in (
            (0.14, (0.9, 1.1)),
            (0.1, (1.3, 1.2)),
            (0.2, (1.2, 1.6, 1.4)),
            (0.62, (1.5, 1.75, 1.6, 0.9)),
        ):
            m = samples(around(draw, seconds, 0.06))
            hz = glide(m, *(pitch * step for step in curve))
            throat = [(1300, 300, 1.0), (2600, 400, 0.9), (4200, 600, 0.4)]
            calls += [unit(voice(m, draw, hz, throat, roll=0.5, breath=0.1, rough=0.04)) * swell(m, 0.02, 0.04)]
        return np.concatenate(calls)

    return repeat(n, draw, crow, around(draw, 1.35))


def duck(n: int, draw: Draw) -> Wave:
    """Quacks: short, reedy and nasal, falling in pitch."""
    pitch = around(draw, 230, 0.15)

    def quack() -> Wave:
        m = samples(around(draw, 0.16))
        nose = [(1150, 150, 1.0), (2350, 250, 0.8), (3400, 300, 0.3)]
        return voice(m, draw, glide(m, 1.1 * pitch, pitch, 0.75 * pitch), nose, roll=0.3) * swell(m, 0.015, 0.06)

    return repeat(n, draw, quack, around(draw, 0.33, 0.15), jitter=0.1)


def turkey(n: int, draw: Draw) -> Wave:
    """Gobbles: a fast warble that runs down."""
    pitch = around(draw, 700, 0.12)

    def gobble() -> Wave:
        m = samples(around(draw, 0.6))
        wobble = np.sin(2 * np.pi * np.cumsum(glide(m, 14, 20)) / HZ)
        hz = glide(m, 1.3 * pitch, pitch, 0.7 * pitch) * (1 + 0.35 * wobble)
        mouth = [(900, 200, 1.0), (1900, 300, 0.8), (2900, 300, 0.3)]
        return voice(m, draw, hz, mouth, roll=0.6) * (0.55 + 0.45 * wobble) * swell(m, 0.03, 0.1)

    return repeat(n, draw, gobble, around(draw, 0.85))


FARM: dict[str, Callable[[int, Draw], Wave]] = {
    make.__name__: make for make in (dog, cat, cow, sheep, pig, horse, rooster, duck, turkey)
}

"""Weather, fire and water, people and ghosts. Each function gives ``n`` samples of its kind, varied by the draws."""

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
    place,
    repeat,
    samples,
    swell,
    time,
    tone,
    unit,
    voice,
)


def rain(n: int, draw: Draw) -> Wave:
    """Patters: a steady bright hiss and many single drops."""
    m = samples(0.012)
    drops = [unit(hiss(m, draw, 1500, 9000)) * fade(m, 0.003) * draw.uniform(0.3, 1.0) for _ in range(6)]
    times = draw.uniform(0, n / HZ, round(n / HZ * 45))
    return 0.16 * hiss(n, draw, 1200, 12000, 0.3) + place(n, drops, list(times))


def thunder(n: int, draw: Draw) -> Wave:
    """Claps and rolls: a crack, then a rumble that dies away unevenly."""

    def clap() -> Wave:
        m, c = samples(around(draw, 1.5)), samples(0.3)
        rumble = hiss(m, draw, 35, 220, 0.8) * (0.6 + 0.4 * drift(m, draw, 9)) * fade(m, 0.6, 0.05)
        rumble[:c] += 0.9 * hiss(c, draw, 100, 5000, 0.4) * fade(c, 0.06)
        return rumble

    return repeat(n, draw, clap, around(draw, 1.6, 0.15), kinds=2)


def waves(n: int, draw: Draw) -> Wave:
    """Roll in: noise that swells, breaks and runs out."""

    def wave() -> Wave:
        m = samples(around(draw, 1.5))
        low, high = hiss(m, draw, 120, 900, 0.4), hiss(m, draw, 900, 7000, 0.5)
        return low * glide(m, 0, 0.5, 1.0, 0.4, 0) + high * glide(m, 0, 0.05, 0.9, 0.6, 0.2, 0)

    return repeat(n, draw, wave, around(draw, 1.25), kinds=2)


def wind(n: int, draw: Draw) -> Wave:
    """Howls: whistling bands of noise that rise and fall by turns."""
    base, total = around(draw, 420, 0.12), np.zeros(n)
    for ratio in (1.0, 1.35, 1.8, 2.4):
        gust = np.maximum(0.0, 0.35 + 0.65 * drift(n, draw, 2.2)) ** 1.5
        total += hiss(n, draw, base * ratio * 0.94, base * ratio * 1.06) * gust
    return total + 0.15 * hiss(n, draw, 100, 1500, 0.5)


def fire(n: int, draw: Draw) -> Wave:
    """Crackles: sharp pops of all sizes over a soft rush."""
    m = samples(0.02)
    pops = [unit(hiss(m, draw, 1000, 11000)) * fade(m, draw.uniform(0.0008, 0.004), 0.0004) for _ in range(8)]
    times = draw.uniform(0, n / HZ, round(n / HZ * around(draw, 14)))
    return 0.05 * hiss(n, draw, 80, 700, 0.5) + place(
        n, pops, list(times), list(draw.uniform(0.15, 1.0, len(times)) ** 2)
    )


def fireworks(n: int, draw: Draw) -> Wave:
    """Whistle up, burst and glitter."""

    def shell() -> Wave:
        w, b = samples(around(draw, 0.35)), samples(0.6)
        rise = 0.3 * tone(w, glide(w, 1800, 3800)) * glide(w, 0.3, 1.0)
        bang = hiss(b, draw, 60, 3000, 0.7) * fade(b, 0.07)
        m = samples(0.008)
        spark = unit(hiss(m, draw, 4000, 12000)) * fade(m, 0.002)
        glitter = place(b, [spark], list(draw.uniform(0.12, 0.6, 22)), list(draw.uniform(0.1, 0.35, 22)))
        return np.concatenate([rise, unit(bang) + glitter])

    return repeat(n, draw, shell, around(draw, 1.0))


def drip(n: int, draw: Draw) -> Wave:
    """Drips: single drops, each a short tone that leaps up."""

    def drop() -> Wave:
        m = samples(0.12)
        hz = around(draw, 900, 0.3) * (1 + 1.1 * np.minimum(1, time(m) / 0.05) ** 2)
        return tone(m, hz, (1.0, 0.15)) * fade(m, 0.03)

    return repeat(n, draw, drop, around(draw, 0.3, 0.12), jitter=0.25, kinds=4)


def ghost(n: int, draw: Draw) -> Wave:
    """Wails: a hollow ooh that wavers up and down."""
    pitch = around(draw, 300, 0.12)
    hz = pitch * np.exp(0.4 * drift(n, draw, 2.0)) * (1 + 0.03 * np.sin(2 * np.pi * around(draw, 6.5) * time(n)))
    ooh = voice(n, draw, hz, [(330, 120, 1.0), (800, 120, 0.35)], roll=1.3, breath=0.25)
    return ooh * (0.7 + 0.3 * drift(n, draw, 2.0))


def baby(n: int, draw: Draw) -> Wave:
    """Cries: waah, with a catch of breath between."""
    pitch = around(draw, 430, 0.1)

    def waah() -> Wave:
        m, b = samples(around(draw, 0.6)), samples(0.12)
        hz = glide(m, 0.85 * pitch, 1.3 * pitch, 1.25 * pitch, 1.1 * pitch, 0.8 * pitch)
        hz = hz * (1 + 0.02 * np.sin(2 * np.pi * 7 * time(m)))
        mouth = [(1050, 200, 1.0), (1650, 200, 0.5), (3300, 350, 0.8)]
        cry = voice(m, draw, hz, mouth, roll=0.5, breath=0.08, rough=0.05) * swell(m, 0.06, 0.12)
        return np.concatenate([unit(cry), 0.08 * unit(hiss(b, draw, 1200, 6000)) * swell(b, 0.04, 0.02)])

    return repeat(n, draw, waah, around(draw, 0.85))


def laugh(n: int, draw: Draw) -> Wave:
    """Ha-ha-ha: breathy syllables that step down."""
    pitch = around(draw, 210, 0.25)

    def fit() -> Wave:
        calls = []
        for k in range(5):
            h, m = samples(0.05), samples(0.11)
            hz = pitch * (1.25 - 0.09 * k) * glide(m, 1.05, 0.95)
            vowel = voice(m, draw, hz, [(800, 110, 1.0), (1250, 120, 0.8), (2600, 200, 0.25)], roll=0.8)
            calls += [0.2 * unit(hiss(h, draw, 800, 4000)) * swell(h, 0.02, 0.01), unit(vowel) * swell(m, 0.02, 0.03)]
        return np.concatenate(calls)

    return repeat(n, draw, fit, around(draw, 1.0))


def applause(n: int, draw: Draw) -> Wave:
    """Claps: many hands at once."""
    claps = []
    for _ in range(9):
        m, body = samples(0.04), draw.uniform(900, 2000)
        claps.append(unit(hiss(m, draw, body * 0.7, body * 1.6) * fade(m, 0.009)) * draw.uniform(0.3, 1.0))
    times = draw.uniform(0, n / HZ, round(n / HZ * around(draw, 55)))
    return place(n, claps, list(times))


def snore(n: int, draw: Draw) -> Wave:
    """Snores: a rattling breath in, a soft one out."""
    rate = around(draw, 27, 0.12)

    def breath() -> Wave:
        m, out = samples(around(draw, 0.6)), samples(0.4)
        rattle = np.exp(-5 * ((np.cumsum(glide(m, rate, 1.3 * rate)) / HZ) % 1.0))
        into = unit(hiss(m, draw, 120, 1600, 0.5) * rattle) * swell(m, 0.12, 0.1)
        return np.concatenate([into, 0.2 * unit(hiss(out, draw, 500, 4000)) * swell(out, 0.1, 0.2)])

    return repeat(n, draw, breath, around(draw, 1.1))


def heart(n: int, draw: Draw) -> Wave:
    """Thumps: lub-dub, dull and low."""

    def thump(hz: float) -> Wave:
        m = samples(0.16)
        return unit(tone(m, hz * (1 + 0.5 * np.exp(-time(m) / 0.02)), (1.0, 0.5, 0.2)) * fade(m, 0.04, 0.008))

    period = around(draw, 0.75, 0.15)
    starts = beats(n, draw, period, jitter=0.02)
    base = around(draw, 68, 0.1)
    return place(n, [thump(base), 0.75 * thump(1.3 * base)], [at + k * 0.22 for at in starts for k in (0, 1)])


def coins(n: int, draw: Draw) -> Wave:
    """Jingle: little metal discs, high and inharmonic."""

    def ping() -> Wave:
        m, hz = samples(0.25), draw.uniform(3800, 6200)
        return unit(partials(m, hz, [(1, 1, 0.06), (1.58, 0.8, 0.05), (2.3, 0.5, 0.03)])) * draw.uniform(0.4, 1.0)

    return place(n, [ping() for _ in range(7)], beats(n, draw, around(draw, 0.085), jitter=0.8))


NATURE: dict[str, Callable[[int, Draw], Wave]] = {
    make.__name__: make
    for make in (
        *(rain, thunder, waves, wind, fire, fireworks, drip),
        *(ghost, baby, laugh, applause, snore, heart, coins),
    )
}

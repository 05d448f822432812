"""The pictures of the toy world: a place, actors that move over it with a trail, darkness.

A trail of two ghosts stands for the blur of a real camera: it lets one frame tell that a thing falls rather than rises.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lab.toy.dice import Dice
from lab.toy.sprites import sprite
from lab.toy.world import Part, Scene

SIDE = 128
_TRAIL = ((0.14, 0.28), (0.07, 0.5))  # seconds before, as a share of the scene; opacity
_DARK = 0.03

Colour = tuple[int, int, int]
# place -> the colours of sky (top, bottom) and ground (top, bottom), and where the horizon lies
_PALETTES: dict[str, tuple[Colour, Colour, Colour, Colour, float]] = {
    "forest": ((150, 190, 160), (190, 220, 180), (60, 105, 55), (40, 75, 40), 0.62),
    "beach": ((120, 195, 240), (200, 230, 250), (240, 220, 160), (225, 195, 125), 0.60),
    "desert": ((250, 205, 140), (255, 230, 180), (220, 165, 90), (190, 130, 65), 0.55),
    "snow": ((205, 215, 230), (230, 236, 245), (250, 250, 255), (225, 232, 245), 0.58),
    "city": ((165, 175, 195), (200, 205, 215), (95, 95, 100), (70, 70, 75), 0.75),
    "room": ((235, 205, 185), (225, 190, 165), (150, 100, 65), (120, 78, 48), 0.72),
    "meadow": ((140, 205, 250), (205, 235, 250), (140, 205, 90), (95, 165, 60), 0.58),
    "sea": ((60, 150, 200), (35, 110, 170), (20, 75, 130), (10, 50, 100), 0.50),
    "mountains": ((170, 200, 235), (220, 230, 240), (125, 135, 110), (90, 100, 80), 0.68),
    "sunset": ((90, 60, 130), (250, 140, 90), (80, 50, 80), (45, 28, 55), 0.66),
}


def draw(scene: Scene, t: float, side: int = SIDE) -> NDArray[np.uint8]:
    """The picture (side, side, 3) of a scene at ``t`` in [0, 1] of its time."""
    if scene.dark:
        return _night(scene, side)
    picture = background(scene.place, scene.look, side).copy()
    for part in (*scene.extras, *scene.parts[1:]):
        _put(picture, part, 0.0, side, 1.0)
    main = scene.parts[0]
    for before, opacity in _TRAIL:
        _put(picture, main, t - before, side, opacity)
    _put(picture, main, t, side, 1.0)
    return np.asarray(picture)


def _night(scene: Scene, side: int) -> NDArray[np.uint8]:
    """The place with the light off. Nobody is drawn: what is in the dark cannot be seen, however one looks."""
    place = np.asarray(background(scene.place, scene.look, side), np.float32)
    return np.asarray(place.mean(2, keepdims=True) * _DARK + (0, 0, 4), np.float32).round().astype(np.uint8)


def _put(picture: Image.Image, part: Part, t: float, side: int, opacity: float) -> None:
    x, y, wide, high, angle = pose(part, t)
    width, height = max(2, round(wide * side)), max(2, round(high * side))
    image = _sized(part.noun, width, height, opacity)
    if angle:
        image = image.rotate(angle, Image.Resampling.BILINEAR, expand=True)
    picture.paste(image, (round(x * side - image.width / 2), round(y * side - image.height / 2)), image)


@lru_cache(maxsize=128)
def _sized(noun: str, width: int, height: int, opacity: float) -> Image.Image:
    image = sprite(noun).resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    if opacity < 1:
        image.putalpha(image.getchannel("A").point([round(a * opacity) for a in range(256)]))
    return image


def pose(part: Part, t: float) -> tuple[float, float, float, float, float]:
    """Centre x and y, width and height as shares of the picture's side, and the angle in degrees, at ``t``."""
    x, y, size, angle = part.x, part.y, part.size, 0.0
    wide = high = size
    turn = 2 * math.pi
    swing = math.sin(turn * (1.5 * t + part.phase))
    match part.move:
        case "fall":
            y = 0.02 + 0.96 * t
        case "rise":
            y = 0.98 - 0.96 * t
        case "right":
            x = 0.02 + 0.96 * t
        case "left":
            x = 0.98 - 0.96 * t
        case "bounce":
            height = abs(math.sin(turn * (1.25 * t + part.phase)))
            y, squash = 0.78 - 0.45 * height, 0.35 * max(0.0, 1 - 3 * height)
            wide, high = size * (1 + squash), size * (1 - squash)
        case "spin":
            angle = 360 * (1.5 * t + part.phase)
        case "grow":
            wide = high = size * (0.5 + 1.5 * max(0.0, t))
        case "shrink":
            wide = high = size * (2.0 - 1.5 * max(0.0, t))
        case "circle":
            x, y = 0.5 + 0.27 * math.cos(turn * (t + part.phase)), 0.5 + 0.27 * math.sin(turn * (t + part.phase))
        case "shake":
            x += 0.09 * math.sin(turn * (4.5 * t + part.phase))
        case "swing":
            x, y, angle = part.x + 0.2 * swing, 0.5 - 0.1 * swing * swing, 38 * swing
        case "zigzag":
            x, y = 0.05 + 0.9 * t, 0.5 + 0.28 * (2 * abs(2 * ((2 * t + part.phase) % 1) - 1) - 1)
    return x, y, wide, high, angle


@lru_cache(maxsize=64)
def background(place: str, look: int, side: int) -> Image.Image:
    """A place, its details drawn from ``look``."""
    sky_top, sky_low, ground_top, ground_low, horizon = _PALETTES[place]
    dice = Dice("background", place, look)
    line = round((horizon + dice.between(-0.06, 0.06)) * side)
    light = dice.between(0.85, 1.08)
    rows = np.empty((side, 3), np.float32)
    rows[:line] = _ramp(sky_top, sky_low, line)
    rows[line:] = _ramp(ground_top, ground_low, side - line)
    pixels = np.broadcast_to((rows * light).clip(0, 255)[:, None], (side, side, 3)).astype(np.uint8)
    picture = Image.fromarray(pixels)
    _details(ImageDraw.Draw(picture), place, dice, side, line)
    return picture


def _ramp(top: Colour, low: Colour, count: int) -> NDArray[np.float32]:
    steps = np.linspace(0, 1, count, dtype=np.float32)[:, None]
    return np.asarray(np.array(top, np.float32) * (1 - steps) + np.array(low, np.float32) * steps, np.float32)


def _details(pen: ImageDraw.ImageDraw, place: str, dice: Dice, side: int, line: int) -> None:
    """What makes a place one of its kind: trees, houses, waves; each as a few shapes."""

    def box(x: float, y: float, wide: float, high: float, fill: Colour) -> None:
        pen.rectangle((x * side, y, (x + wide) * side, y + high * side), fill=fill)

    if place in ("forest", "mountains"):
        for _ in range(7 if place == "forest" else 4):
            x, high = dice.between(0, 1), dice.between(0.2, 0.45)
            half = high * (0.28 if place == "forest" else 0.75)
            fill = (35, dice.below(40) + 75, 45) if place == "forest" else (120, 125, dice.below(30) + 135)
            pen.polygon(
                [((x - half) * side, line), (x * side, line - high * side), ((x + half) * side, line)], fill=fill
            )
    elif place == "city":
        for i in range(7):
            high = dice.between(0.15, 0.5)
            shade = 90 + dice.below(60)
            box(i / 7, line - high * side, 0.12, high, (shade, shade, shade + 12))
            for row in range(int(high * 12)):
                box(i / 7 + 0.03, line - high * side + (row + 0.3) * side / 12, 0.05, 0.03, (250, 235, 150))
    elif place == "room":
        box(dice.between(0.05, 0.3), 0.12 * side, 0.28, 0.3, (250, 250, 240))
        box(dice.between(0.6, 0.8), 0.2 * side, 0.16, 0.2, (140 + dice.below(90), 90, 100))
    elif place == "sea":
        for _ in range(14):
            x, y, r = dice.between(0, side), dice.between(0, side), dice.between(0.01, 0.03) * side
            pen.ellipse((x - r, y - r, x + r, y + r), outline=(150, 215, 240))
    elif place == "snow":
        for _ in range(40):
            x, y, r = dice.between(0, side), dice.between(0, side), 0.008 * side
            pen.ellipse((x - r, y - r, x + r, y + r), fill=(255, 255, 255))
    elif place == "meadow":
        for _ in range(22):
            x, y, r = dice.between(0, side), dice.between(line, side), 0.014 * side
            fill = dice.choice([(250, 240, 120), (240, 130, 160), (255, 255, 255)])
            pen.ellipse((x - r, y - r, x + r, y + r), fill=fill)
    elif place == "beach":
        box(0, line - 0.08 * side, 1, 0.08, (60, 140, 205))
    elif place == "desert":
        for _ in range(3):
            x, r = dice.between(0, side), dice.between(0.2, 0.4) * side
            pen.ellipse((x - r, line - 0.12 * side, x + r, line + 0.3 * side), fill=(225, 172, 100))
    elif place == "sunset":
        x, r = dice.between(0.2, 0.8) * side, 0.12 * side
        pen.pieslice((x - r, line - r, x + r, line + r), 180, 360, fill=(255, 220, 120))

"""What happens in each clip of a toy world, as data: scenes, actors, movements, sounds. Nothing is drawn here.

A clip follows from four things alone: ``VERSION``, the world, the split and the clip's number. They are the text that
seeds its dice, so clips of different worlds cannot share a seed:

=============  ========================================================================
world 0        the release: what ``--dataset toy`` renders; nothing was chosen by its test split
worlds 1-99    for development: everything was tuned on these
world -1       what the backbones were trained on
=============  ========================================================================

Change anything that alters a clip, a caption or a backbone, and ``VERSION`` must go up. The backbones are those of
version 1, trained on its strays and probed with its scenes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from lab.errors import LabError
from lab.toy.actors import ACTORS, SOUNDING
from lab.toy.dice import Dice

VERSION = 2
STRAYS = 1  # the version whose strays the shipped backbones were trained on
RELEASE, BACKBONES = 0, -1
SPLITS = {"train": 600, "val": 100, "test": 400}
FPS = 8

MOVES = ("fall", "rise", "bounce", "spin", "grow", "shrink", "right", "left", "circle", "shake", "swing", "zigzag")
PLACES = ("forest", "beach", "desert", "snow", "city", "room", "meadow", "sea", "mountains", "sunset")


SCENES = (0.62, 0.2, 0.11, 0.07)  # how often a clip has one, two, three, four
QUIET = tuple(noun for noun in ACTORS if noun not in SOUNDING)
#: Who is heard in a world: so few that each is in a dozen clips of the train split, for from fewer no audio side
#: learns what they sound like.
VOICES = tuple(
    """dog cat cow sheep pig rooster duck owl frog cricket snake lion wolf elephant horse bell clock telephone drum
    guitar piano violin trumpet car ambulance locomotive helicopter motorcycle ship wave fire hammer saw baby monkey
    bicycle""".split()  # noqa: SIM905 - thirty-six pairs of quotes
)


@dataclass(frozen=True)
class Part:
    """One actor's part in a scene: where it is (shares of the picture's side), how large, and how it moves."""

    noun: str
    move: str  # of MOVES, or "stand"
    x: float
    y: float
    size: float
    phase: float = 0.0


@dataclass(frozen=True)
class Scene:
    """One stretch of a clip between two cuts."""

    start_s: float
    end_s: float
    place: str
    look: int  # seeds the details of the background
    dark: bool  # nothing can be seen, only heard
    parts: tuple[Part, ...]  # the main one first, then a companion if there is one; captions may tell of these
    extras: tuple[Part, ...]  # small, still, and in no caption
    unseen: str | None  # somebody who is heard and not in the picture
    sound_seed: int | None  # None: the scene is quiet

    @property
    def heard(self) -> str | None:
        """The noun whose sound this scene has; None in a quiet one."""
        if self.sound_seed is None:
            return None
        return self.unseen or self.parts[0].noun


@dataclass(frozen=True)
class Clip:
    """A whole clip. ``audio`` is "sound", "silent" (a stream of zeros) or "absent" (no stream)."""

    id: str
    split: str
    scenes: tuple[Scene, ...]
    audio: str
    dice: tuple[object, ...]  # the seed that it grew from

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.scenes[-1].end_s


def world(number: int = RELEASE, sizes: dict[str, int] | None = None) -> Iterator[Clip]:
    """The clips of a world, split after split. A smaller world holds the first clips of each split of the full one.

    Raises ``LabError`` for a number outside 0..99.
    """
    if not 0 <= number <= 99:
        raise LabError(f"0 <= world <= 99 must hold, got {number}: 0 is the release, 1 to 99 are for development")
    for split, count in (sizes or SPLITS).items():
        for index in range(count):
            yield clip(number, split, index)


def clip(number: int, split: str, index: int) -> Clip:
    """One clip of a world."""
    seed = (f"toy-{VERSION}", f"world-{number}", split, index)
    dice = Dice(*seed)
    audio = dice.weighted(("sound", "silent", "absent"), (0.84, 0.08, 0.08))
    count = dice.weighted((1, 2, 3, 4), SCENES)
    # A clip that is dark from end to end is told from others like it by its sound alone.
    hidden = dice.below(count) if audio == "sound" and dice.chance(0.25) else None
    # no actor has two parts in a clip, so a caption names one scene
    cast = iter(dice.sample(QUIET, 4 * count))
    voices = iter(dice.sample(VOICES, 2 * count))
    scenes, start = [], 0.0
    for position in range(count):
        length = round(dice.between(1.5, 2.4) * FPS) / FPS
        made = _scene(dice, start, start + length, audio == "sound", position == hidden, cast, voices, 0.12)
        scenes.append(made)
        start += length
    return Clip(f"{split}{index:04d}", split, tuple(scenes), audio, seed)


def _scene(
    dice: Dice,
    start: float,
    end: float,
    audible: bool,
    dark: bool,
    cast: Iterator[str],
    voices: Iterator[str],
    off_screen: float,
) -> Scene:
    sounding = dark or dice.chance(0.45)
    noun = next(voices) if sounding else next(cast)
    main = _part(dice, noun, dice.between(0.34, 0.46), dice.choice(MOVES))
    parts = [main]
    if not dark and dice.chance(0.3):
        side = 0.22 if main.x > 0.5 else 0.78
        parts.append(Part(next(cast), "stand", side, dice.between(0.62, 0.75), dice.between(0.26, 0.32)))
    extras = [] if dark else [_extra(dice, next(cast)) for _ in range(dice.below(3))]
    unseen = next(voices) if audible and not sounding and dice.chance(off_screen) else None
    loud = audible and (dark or unseen is not None or (sounding and dice.chance(0.85)))
    seed = dice.below(2**31) if loud else None
    return Scene(start, end, dice.choice(PLACES), dice.below(2**31), dark, tuple(parts), tuple(extras), unseen, seed)


def _part(dice: Dice, noun: str, size: float, move: str) -> Part:
    return Part(noun, move, dice.between(0.35, 0.65), dice.between(0.4, 0.6), size, dice.between(0.0, 1.0))


def _extra(dice: Dice, noun: str) -> Part:
    return Part(noun, "stand", dice.between(0.08, 0.92), dice.choice((0.1, 0.9)), dice.between(0.12, 0.18))


def stray_dice(*seed: object) -> Dice:
    """The dice of what is in no world, and for training backbones."""
    return Dice(f"toy-{STRAYS}", f"world-{BACKBONES}", *seed)


def stray_scene(*seed: object) -> tuple[Dice, Scene]:
    """A scene of no world, for training backbones, and the dice that made it. Nothing in it is dark or unseen."""
    dice = stray_dice(*seed)
    cast = iter(dice.sample(QUIET, 4))
    made = _scene(dice, 0.0, 2.0, True, False, cast, iter(dice.sample(SOUNDING, 2)), 0.25)
    sound = 0 if ACTORS[made.parts[0].noun].sound else None
    return dice, replace(made, unseen=None, extras=(), sound_seed=sound)


def probe_scene(number: int, index: int, noun: str) -> tuple[Dice, Scene]:
    """A scene with one given actor, beside the clips of a world, and the dice that made it."""
    dice = Dice(f"toy-{STRAYS}", f"world-{number}", "probe", index)
    main = _part(dice, noun, dice.between(0.34, 0.46), dice.choice(MOVES))
    return dice, Scene(0.0, 2.0, dice.choice(PLACES), dice.below(2**31), False, (main,), (), None, None)

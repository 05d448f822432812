"""What people say of a toy clip: captions from a grammar, each about one scene, with the truth of it.

A caption names the actor and how it moves, often the place, sometimes a companion or the sound. It needs the sound
where its subject is heard and not seen, in the dark or out of the picture. The truth goes beside the text,
never into it.
"""

from __future__ import annotations

from dataclasses import dataclass

from lab.toy.actors import ACTORS
from lab.toy.dice import Dice
from lab.toy.sounds import VERBS
from lab.toy.world import Clip, Scene

CAPTIONS = {"train": 20, "val": 5, "test": 5}

# move -> (third person, participle); every wording of a move is used for it alone
MOVES: dict[str, tuple[tuple[str, str], ...]] = {
    "fall": (("falls down", "falling down"), ("drops to the ground", "dropping"), ("plunges", "plunging downwards")),
    "rise": (("rises", "rising"), ("floats up", "floating upwards"), ("climbs into the air", "going up")),
    "bounce": (("bounces", "bouncing"), ("hops up and down", "hopping"), ("jumps", "jumping again and again")),
    "spin": (("spins", "spinning"), ("turns around itself", "turning around itself"), ("rotates", "rotating")),
    "grow": (("grows", "growing"), ("gets bigger", "getting bigger and bigger"), ("comes closer", "coming closer")),
    "shrink": (
        ("shrinks", "shrinking"),
        ("gets smaller", "getting smaller"),
        ("fades into the distance", "going away"),
    ),
    "right": (("moves to the right", "moving to the right"), ("crosses from left to right", "heading right")),
    "left": (("moves to the left", "moving to the left"), ("crosses from right to left", "heading left")),
    "circle": (("circles", "circling"), ("goes round and round", "going round and round"), ("orbits", "flying loops")),
    "shake": (("shakes", "shaking"), ("trembles", "trembling"), ("shivers", "shivering")),
    "swing": (("swings", "swinging"), ("sways like a pendulum", "swaying"), ("rocks to and fro", "rocking to and fro")),
    "zigzag": (("zigzags", "zigzagging"), ("weaves about", "weaving about"), ("darts up and down", "darting about")),
}
PLACES: dict[str, tuple[str, ...]] = {
    "forest": ("in the forest", "among the trees", "in the woods"),
    "beach": ("on the beach", "by the shore", "on the sand by the sea"),
    "desert": ("in the desert", "among the dunes"),
    "snow": ("in the snow", "on a snowy day"),
    "city": ("in the city", "between tall buildings", "downtown"),
    "room": ("in a room", "indoors"),
    "meadow": ("in a meadow", "among the flowers", "on the grass"),
    "sea": ("under water", "in the deep sea", "among bubbles"),
    "mountains": ("in the mountains", "below the peaks"),
    "sunset": ("at sunset", "in the evening light"),
}
_BESIDE = ("next to", "beside", "near")
_DARK = ("in the dark", "in the darkness", "in the night", "with the lights off")
_UNSEEN = ("out of sight", "off screen", "somewhere")
_HEARD = ("the sound of {a}", "you can hear {a}", "{a} can be heard", "somebody hears {a}")


@dataclass(frozen=True)
class Line:
    """One caption with its truth."""

    text: str
    start_s: float
    end_s: float
    needs_sound: bool


def captions(clip: Clip, count: int | None = None) -> list[Line]:
    """The captions of a clip, all different; as many as its split asks for, or ``count``."""
    dice = Dice(*clip.dice, "captions")
    lines: dict[str, Line] = {}
    for _ in range(50 * (count or CAPTIONS[clip.split])):
        line = _line(dice, dice.choice(clip.scenes))
        lines.setdefault(line.text, line)
        if len(lines) == (count or CAPTIONS[clip.split]):
            break
    return list(lines.values())


def _line(dice: Dice, scene: Scene) -> Line:
    if scene.dark:
        text, needs = in_the_dark(dice, scene.parts[0].noun), True
    elif scene.unseen and dice.chance(0.5):
        text, needs = unseen(dice, scene.unseen, scene.place), True
    else:
        text, needs = seen(dice, scene), False
    return Line(text, scene.start_s, scene.end_s, needs)


def seen(dice: Dice, scene: Scene) -> str:
    """A caption of what is in the picture; where the main actor is heard too, now and then of its sound."""
    main = scene.parts[0]
    place = dice.choice(PLACES[scene.place])
    who = _who(dice, main.noun)
    sound = VERBS.get(ACTORS[main.noun].sound or "", ()) if scene.heard == main.noun else ()
    third, doing = dice.choice(MOVES[main.move])
    if sound and dice.chance(0.35):
        verb = dice.choice(sound)
        return dice.choice((f"{who} {verb} {place}", f"{who} {verb} and {third}", f"{place} {who} {verb} and {third}"))
    if len(scene.parts) > 1 and dice.chance(0.5):
        beside = f"{dice.choice(_BESIDE)} {_who(dice, scene.parts[1].noun)}"
        return dice.choice((f"{who} {third} {beside}", f"{who} is {doing} {beside}", f"{who} {doing} {beside} {place}"))
    return dice.choice(
        (
            f"{who} {third} {place}",
            f"{who} is {doing} {place}",
            f"{place} {who} {third}",
            f"there is {who} {doing} {place}",
            f"{who} {third}",
            f"a clip of {who} {doing}",
            f"{who} that {third} {place}",
        )
    )


def in_the_dark(dice: Dice, noun: str) -> str:
    """A caption of a scene in which nothing can be seen."""
    where = dice.choice(_DARK)
    if dice.chance(0.3):
        return f"{dice.choice(_HEARD).format(a=_who(dice, noun))} {where}"
    clause = f"{_who(dice, noun)} {_sound_verb(dice, noun)}"
    return dice.choice((f"{clause} {where}", f"{where} {clause}", f"it is dark and {clause}"))


def unseen(dice: Dice, noun: str, place: str) -> str:
    """A caption of a sound whose maker is not in the picture."""
    where = dice.choice(PLACES[place])
    if dice.chance(0.3):
        return f"{dice.choice(_HEARD).format(a=_who(dice, noun))} {where}"
    clause = f"{_who(dice, noun)} {_sound_verb(dice, noun)}"
    hidden = dice.choice(_UNSEEN)
    return dice.choice((f"{clause} {hidden} {where}", f"{hidden} {clause}", f"{where} {clause} {hidden}"))


def _who(dice: Dice, noun: str) -> str:
    return f"the {noun}" if dice.chance(0.2) else ACTORS[noun].article


def _sound_verb(dice: Dice, noun: str) -> str:
    return dice.choice(VERBS[ACTORS[noun].sound or ""])

"""Letters that the figures' own type lacks: shown in types of this machine, and named where it has none.

A caption may be Chinese, Arabic or an emoji. Latin, Greek and Cyrillic look alike on every machine, for their type
comes with matplotlib; other letters look as the machine's fonts have them, and are boxes where no font does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from matplotlib.font_manager import FontProperties, findfont, findSystemFonts, fontManager
from matplotlib.ft2font import FT2Font

log = logging.getLogger(__name__)

#: The type of all figures, which comes with matplotlib, so that a figure is the same on every machine.
FONT = "DejaVu Sans"
#: Letters of a message, for more are no help.
NAMED = 12

#: What has been looked for: letter → the type that shows it, '' for none.
_types: dict[str, str] = {}
#: Letters that are boxes, and were told of.
_told: set[str] = set()


def families(text: str) -> list[str]:
    """The types that show a text, the figures' own first; a letter that none here has is a box."""
    new = {letter for letter in text if letter not in _types}
    if new:
        _find(new)
    return list(dict.fromkeys([FONT, *(_types[letter] for letter in text if _types[letter])]))


def lacking(text: str) -> list[str]:
    """The letters of a text that no type on this machine has, each once."""
    families(text)
    return [letter for letter in dict.fromkeys(text) if not _types[letter]]


def tell(texts: Iterable[str]) -> None:
    """Says which letters are boxes, once for each, and what to do about it."""
    boxes = [letter for letter in lacking("".join(texts)) if letter not in _told]
    if boxes:
        _told.update(boxes)
        log.warning(
            "boxes in figures stand for letters that no font here has (%s%s): install one that does, such as Noto "
            "(Debian and Ubuntu: fonts-noto-core, fonts-noto-cjk, fonts-symbola for emoji)",
            "".join(boxes[:NAMED]),
            "…" if len(boxes) > NAMED else "",
        )


def slants(text: str) -> bool:
    """Whether the figures' type has all letters of a text in its slanted cut too, which lacks Arabic and others."""
    return all(map(_own(slanted=True).get_char_index, map(ord, text)))


def _find(letters: set[str]) -> None:
    """Asks the figures' own type, then the fonts of this machine, for letters that were never asked for."""
    own = _own()
    # What is not printed needs no type: line breaks, joiners, marks of direction.
    found = {letter: FONT for letter in letters if not letter.isprintable() or own.get_char_index(ord(letter))}
    missing = letters - found.keys()
    for path, name, here in sorted(_having(missing), key=lambda one: (-len(one[2]), _place(one[0]))):
        if here & missing:
            if path not in {font.fname for font in fontManager.ttflist}:  # installed after matplotlib made its list
                fontManager.addfont(path)
            found |= dict.fromkeys(here & missing, name)
            missing -= here
    _types.update({letter: found.get(letter, "") for letter in letters})


@cache
def _own(slanted: bool = False) -> FT2Font:
    return FT2Font(findfont(FontProperties(family=FONT, style="italic" if slanted else "normal")))


def _having(letters: set[str]) -> list[tuple[str, str, set[str]]]:
    """The fonts of this machine that have some letters: path, name, and which."""
    found = []
    for path in findSystemFonts() if letters else []:
        try:
            face = FT2Font(path)
        except (OSError, RuntimeError):  # broken
            continue
        here = {letter for letter in letters if face.get_char_index(ord(letter))}
        if here and face.scalable:  # matplotlib cannot draw a font of pictures, as one of coloured emoji is
            found.append((path, face.family_name, here))
    return found


def _place(path: str) -> tuple[bool, bool, int, str]:
    """The order of fonts that have as many letters: upright ones of usual weight without serifs first."""
    name = Path(path).stem
    styled = any(word in name for word in ("Bold", "Italic", "Oblique", "Light", "Thin", "Black", "Mono"))
    return styled, "Sans" not in name, len(name), path

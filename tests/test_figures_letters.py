"""Captions in scripts that the figures' own type lacks: shown by the machine's fonts, else named."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager
from matplotlib.text import Text

from lab.figures import letters, room, style

CHINESE, ARABIC = "小狗", "كلب"


@pytest.fixture(autouse=True)
def unasked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No letter was asked for yet, and no font is on this machine but what comes with matplotlib."""
    known = list(fontManager.ttflist)
    monkeypatch.setattr(letters, "_types", {})
    monkeypatch.setattr(letters, "_told", set())
    monkeypatch.setattr(letters, "findSystemFonts", list)
    room.inches.cache_clear()
    yield
    room.inches.cache_clear()
    fontManager.ttflist = known


def font(path: Path, name: str, shown: str, wide: int) -> str:
    """A font that has some letters, each a black square so many thousandths of its size wide."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 700), (wide - 50, 700), (wide - 50, 0)):
        pen.lineTo(corner)
    pen.closePath()
    square = pen.glyph()
    names = [".notdef", *(f"uni{ord(letter):04X}" for letter in shown)]
    made = FontBuilder(1000)
    made.setupGlyphOrder(names)
    made.setupCharacterMap({ord(letter): f"uni{ord(letter):04X}" for letter in shown})
    made.setupGlyf(dict.fromkeys(names, square))
    made.setupHorizontalMetrics(dict.fromkeys(names, (wide, 0)))
    made.setupHorizontalHeader(ascent=800, descent=-200)
    made.setupNameTable({"familyName": name, "styleName": "Regular"})
    made.setupOS2()
    made.setupPost()
    made.save(path)
    return str(path)


def figure_of(text: str) -> style.Figure:
    figure = style.new(style.COLUMN, 1)
    figure.text(0.1, 0.5, text, style="italic")
    return figure


def test_letters_that_no_font_has_are_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    assert letters.families("собака läuft 🙂 →") == [letters.FONT]
    assert letters.families(f"a {CHINESE}") == [letters.FONT]
    assert letters.lacking(f"a {CHINESE}{CHINESE}\n") == list(CHINESE)
    with caplog.at_level(logging.WARNING), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert style.png(figure_of(f"a {CHINESE}"))
        assert style.png(figure_of(CHINESE))
    assert len(caplog.messages) == 1
    assert f"({CHINESE})" in caplog.messages[0]
    assert "fonts-noto-cjk" in caplog.messages[0]
    letters.tell(map(chr, range(0x4E00, 0x4E20)))
    assert caplog.messages[1].count("…") == 1
    assert chr(0x4E00 + letters.NAMED) not in caplog.messages[1]


def test_a_font_of_the_machine_shows_what_the_own_type_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    boxes, wide = style.png(figure_of(CHINESE)), room.inches(CHINESE)
    room.inches.cache_clear()
    broken = tmp_path / "Broken.ttf"
    broken.write_bytes(b"no font")
    paths = [
        str(broken),
        font(tmp_path / "A-Half.ttf", "A Half", CHINESE[0], 3000),
        font(tmp_path / "Squares-Bold.ttf", "Heavy Squares", CHINESE, 3000),
        font(tmp_path / "Squares-Regular.ttf", "Squares", CHINESE, 2000),
    ]
    monkeypatch.setattr(letters, "findSystemFonts", lambda: paths)
    letters._types.clear()
    caplog.clear()
    assert letters.families(f"a {CHINESE}") == [letters.FONT, "Squares"]
    assert letters.lacking(CHINESE) == []
    assert room.inches(CHINESE) == pytest.approx(2 * 2 * room.SMALL / 72, rel=0.02) != pytest.approx(wide, rel=0.1)
    drawn = figure_of(CHINESE)
    assert style.png(drawn) != boxes
    assert drawn.findobj(Text)[0].get_fontfamily()[-1] == "Squares"
    assert not caplog.messages
    assert style.save(drawn, tmp_path, "drawn")[0].stat().st_size > 0


def test_a_script_without_slanted_letters_stands_upright() -> None:
    assert letters.slants("a dog, собака")
    assert not letters.slants(ARABIC)
    assert letters.lacking(ARABIC) == []
    figure = figure_of(ARABIC)
    style.png(figure)
    assert figure.findobj(Text)[0].get_fontstyle() == "normal"
    latin = figure_of("läuft")
    style.png(latin)
    assert latin.findobj(Text)[0].get_fontstyle() == "italic"

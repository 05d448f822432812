"""Pictures of a store's videos, and figures of them that are laid out by hand, in inches."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from PIL import Image

from lab.figures import room, style, tidy


def opened(jpeg: bytes) -> NDArray[np.uint8]:
    """The pixels (height, width, 3) of a JPEG."""
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))


def shape(pictures: Sequence[bytes]) -> float:
    """How high a picture is beside its width: the first of some, 0 where there is none."""
    return max((high / wide for high, wide, _ in (opened(one).shape for one in pictures[:1])), default=0.0)


def spread(count: int, most: int) -> list[int]:
    """At most so many of ``count`` places, from all parts of them."""
    return [int(place) for place in np.linspace(0, count - 1, min(most, count)).round()]


def sheet(height: float, source: str, table: Sequence[tidy.Row] = ()) -> tuple[style.Figure, Axes, float]:
    """A figure as wide as a page's text and so many inches high, with a small print below.

    With it come axes over all of it, in inches, and how high they are: what is drawn begins there.
    """
    lines = room.small_print(style.TEXT, source)
    below = 0.05 + style.LINE * len(lines)
    figure = style.new(style.TEXT, height + below, table=table)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, style.TEXT), ylim=(0, height + below))
    axes.axis("off")
    axes.text(0.01 * style.TEXT, 0.04, "\n".join(lines), fontsize=style.SMALL, color=style.PRINT, va="bottom")
    return figure, axes, height + below


def row(axes: Axes, pictures: Sequence[bytes], left: float, top: float, wide: float, high: float) -> None:
    """Pictures beside each other in boxes so ``wide`` and ``high``, each whole in its box."""
    for place, jpeg in enumerate(pictures):
        pixels = opened(jpeg)
        half = 0.47 * min(wide / pixels.shape[1], high / pixels.shape[0])
        x, y, across, up = left + (place + 0.5) * wide, top - 0.5 * high, half * pixels.shape[1], half * pixels.shape[0]
        axes.imshow(pixels, extent=(x - across, x + across, y - up, y + up))


def panel(sheet: Axes, left: float, top: float, wide: float, high: float) -> Axes:
    """Axes of their own on a sheet, in inches."""
    across, up = sheet.get_xlim()[1], sheet.get_ylim()[1]
    return sheet.figure.add_axes((left / across, (top - high) / up, wide / across, high / up))

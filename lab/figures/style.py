"""The one look of all figures: colours, sizes, small print, and how a figure becomes files.

Colours are Okabe and Ito's, which people with any kind of colour vision tell apart, and greys for heads that do not
look at the text; softmax has a dark brown, since their yellow is too light for a line on white paper. Each head has a
marker too, for print without colour. No figure touches pyplot or leaves a setting behind.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray
from PIL import Image

from lab.atomic import replace_bytes
from lab.figures import letters, room
from lab.significance import Interval

#: One colour a head, the same in every figure; ``OTHER`` for heads of your own, see ``own``.
HEAD_COLOURS = {
    "mean": "#606060",
    "seqlstm": "#C4C4C4",
    "seqtransf": "#3A3A3A",
    "topk": "#E69F00",
    "softmax": "#751A00",
    "xpool": "#0072B2",
    "sf": "#56B4E9",
    "wf": "#CC79A7",
    "mgfi": "#D55E00",
    "cmfi": "#000000",
}
OTHER, OTHER_MARKERS = ("#AA4499", "#88CCEE", "#882255"), ("h", "p", "d")
#: The same on a dark page: greys turn round, since black is not seen there, and no two come close to each other.
NIGHT_COLOURS = HEAD_COLOURS | {
    "mean": "#6A6A6A",
    "seqlstm": "#A8A8A8",
    "seqtransf": "#D2D2D2",
    "softmax": "#A0452A",
    "wf": "#D967A8",
    "cmfi": "#FFFFFF",
}
#: What is known to be true: the seconds that a caption tells of, the right video.
TRUTH = "#009E73"
#: What is no head: Tol's muted colours.
CATEGORIES = ("#332288", "#999933", "#AA4499", "#117733", "#88CCEE", "#882255", "#DDCC77", "#44AA99")
#: Captions by whether they need the sound.
SOUND = {"captions that need the sound": CATEGORIES[0], "captions that do not": CATEGORIES[1]}
#: Captions by whether their own video has sound, which real data sets know, too.
OWN_SOUND = {"captions of videos with sound": CATEGORIES[2], "captions of videos without": CATEGORIES[3]}
#: What chance would give, and all that is there for orientation.
CHANCE = "#8C8C8C"
FAINT = "#D9D9D9"
#: The small print.
PRINT = "#595959"
HEAD_MARKERS = {
    "mean": "o",
    "seqlstm": "<",
    "seqtransf": ">",
    "topk": "s",
    "softmax": "v",
    "xpool": "D",
    "sf": "^",
    "wf": "P",
    "mgfi": "X",
    "cmfi": "*",
}

#: Points of a marker where it is not 5: stars and crosses have less of it inside.
SIZES = {"*": 8.0, "P": 6.5, "X": 6.0}

#: Widths of a printed column and of the text of a page, in inches, and the smallest type in points.
COLUMN, TEXT = 3.3, 7.0
SMALL = room.SMALL
#: Inches that a line of the small print takes.
LINE = 0.13
#: Dots per inch of the PNG, and of one for a page, whose colours are few, too: 1,400 pixels across a page's text.
DPI, PAGE_DPI, PAGE_COLOURS = 300, 200, 256

RC: Any = {  # a literal of its 300 keys is what matplotlib would have
    "font.family": letters.FONT,
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "figure.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.titlelocation": "left",
    "axes.grid": False,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.05,
    "figure.constrained_layout.hspace": 0.03,
    "figure.constrained_layout.wspace": 0.03,
    "savefig.dpi": DPI,
    "pdf.fonttype": 42,  # letters stay letters: searchable, and what journals ask for
    "text.hinting": "no_hinting",  # hinted letters are up to 5 % wider at some resolutions: then small print is cut off
    "text.parse_math": False,  # a caption may hold a dollar sign
}


Arguments = ParamSpec("Arguments")


logging.getLogger("fontTools").setLevel(logging.WARNING)  # it lists each glyph, which takes longer than the figure


class Picture(Figure):
    """A matplotlib figure that shows itself in a notebook without pyplot, letters of all scripts included."""

    def draw(self, renderer: RendererBase) -> None:
        """Draws it; texts with letters that the figures' type lacks get types of this machine beside it."""
        shown = [text for text in self.findobj(Text) if not text.get_text().isascii()]
        for text in shown:
            text.set_fontfamily(letters.families(text.get_text()))
            text.set_fontstyle(text.get_fontstyle() if letters.slants(text.get_text()) else "normal")
        letters.tell(text.get_text() for text in shown)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from font")  # it was told of, all in one line
            super().draw(renderer)

    def _repr_png_(self) -> bytes:
        return png(self, dpi=150)


def styled(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """A drawing function under this style, with the settings of the process as they were afterwards."""

    @wraps(draw)
    def drawn(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        with mpl.rc_context(RC):
            return draw(*args, **kwargs)

    return drawn


def new(width: float, height: float, source: str = "") -> Figure:
    """An empty figure of so many inches; ``source`` comes below in small print, and makes it so much higher."""
    lines = room.small_print(width, source)
    figure = Picture(figsize=(width, height + LINE * len(lines)), layout="constrained")
    FigureCanvasAgg(figure)
    if lines:
        figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=SMALL, color=PRINT)
    return figure


def head_of(label: str) -> str:
    """The head that a label begins with: ``topk`` of ``topk k=3``."""
    return label.split(" ")[0].split("/")[0]


def colour(head: str) -> str:
    """A head's colour, by its name or by a label that begins with it."""
    name = head_of(head)
    return HEAD_COLOURS[name] if name in HEAD_COLOURS else OTHER[own(name) % len(OTHER)]


def marker(head: str) -> str:
    """A head's marker."""
    name = head_of(head)
    return HEAD_MARKERS[name] if name in HEAD_MARKERS else OTHER_MARKERS[own(name) // len(OTHER) % len(OTHER_MARKERS)]


#: The places of heads of one's own among their colours and markers.
_OWN: dict[str, int] = {}


def own(name: str) -> int:
    """The place of a head of one's own, from 0: by its name, but one that another head seen before has not taken."""
    looks = len(OTHER) * len(OTHER_MARKERS)
    if name not in _OWN:
        first = sum(name.encode()) % len(OTHER)
        taken = set(_OWN.values())
        order = sorted(range(looks), key=lambda place: (place // len(OTHER), (place - first) % len(OTHER)))
        _OWN[name] = next((place for place in order if place not in taken), first)
    return _OWN[name]


def banded(
    axes: Axes, x: Sequence[float] | NDArray[Any], y: Sequence[float] | NDArray[Any], low: Any, high: Any, **style: Any
) -> None:
    """A line of points with their intervals as a band."""
    line = axes.plot(x, y, **style)[0]
    axes.fill_between(np.asarray(x, float), low, high, color=line.get_color(), alpha=0.18, lw=0)


def dot(
    axes: Axes, height: float, one: Interval, colour: str, marker: str, scale: float = 1.0, hollow: bool = False
) -> None:
    """A value as a point with its interval as a line, in a row of ``dot_rows``; what is ``hollow`` stands back."""
    ends, wide = [scale * one.low, scale * one.high], 0.9 if hollow else 1.5
    axes.plot(ends, [height] * 2, color=colour, lw=wide, solid_capstyle="butt")
    size = SIZES.get(marker, 5.0) - hollow
    edge: dict[str, Any] = {"mfc": "white", "mec": colour, "mew": 0.9} if hollow else {"mec": "white", "mew": 0.4}
    axes.plot(scale * one.value, height, marker, color=colour, ms=size, clip_on=False, **edge)


def dot_rows(axes: Axes, labels: Sequence[str], width: float, lines: int = 2) -> None:
    """Rows for points, the first label on top at height len(labels) − 1; labels in so many lines of so many inches."""
    axes.set_yticks(range(len(labels))[::-1], room.names(labels, width, lines), linespacing=0.95)
    axes.set_ylim(-0.6, len(labels) - 0.4)
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def within_percent(low: float, high: float) -> tuple[float, float]:
    """The ends of an axis of percentages: no more below 0 and above 100 than a marker needs, and never no length."""
    if high - low < 1:
        low, high = (low + high) / 2 - 5, (low + high) / 2 + 5
    spare = 0.04 * (high - low)
    return max(low, -spare if low < 0 else low), min(high, 100 + spare)


def legend(figure: Figure, axes: Axes, width: float = COLUMN) -> None:
    """A legend of what ``axes`` shows above all of it, in as many columns as fit."""
    handles, labels = axes.get_legend_handles_labels()
    labels = [room.cut(label, width - 0.45) for label in labels]
    fitting = room.columns(labels, width - 0.1)
    figure.legend(handles, labels, loc="outside upper left", ncols=fitting, columnspacing=1)


def percent_ticks(axes: Axes) -> None:
    """Shares of one below each other as percent, with as many digits as they need."""
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))


def plain_ticks(axes: Axes, whole: Sequence[float] | None = None) -> None:
    """Numbers below the x axis as one writes them; a tick for each of ``whole`` if these are few and whole numbers."""
    if whole is not None and len(whole) <= 16 and all(float(value).is_integer() for value in whole):
        axes.set_xticks(list(whole))
    elif whole is not None:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=all(float(value).is_integer() for value in whole)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def save(figure: Figure, directory: Path, name: str, page: bool = False) -> tuple[Path, ...]:
    """Writes ``name.pdf`` and ``name.png``, for a ``page`` a small PNG alone; the same figure gives the same bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    if page:
        small = directory / f"{name}.png"
        replace_bytes(small, few_colours(png(figure, PAGE_DPI)))
        return (small,)
    paths = directory / f"{name}.pdf", directory / f"{name}.png"
    replace_bytes(paths[0], _bytes(figure, "pdf", metadata={"CreationDate": None, "ModDate": None}))
    replace_bytes(paths[1], png(figure))
    return paths


def png(figure: Figure, dpi: int = DPI) -> bytes:
    """The figure as a PNG."""
    return _bytes(figure, "png", dpi=dpi, metadata={"Software": None})


def few_colours(picture: bytes) -> bytes:
    """A PNG with a palette of its own, at a quarter of the size."""
    blob = io.BytesIO()
    # Rare colours keep a place in this palette, which one cut at medians loses: a purple umbrella came out grey.
    how: dict[str, Any] = {"method": Image.Quantize.MAXCOVERAGE, "kmeans": 1, "dither": Image.Dither.NONE}
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(PAGE_COLOURS, **how).save(blob, "PNG", optimize=True)
    return blob.getvalue()


def _bytes(figure: Figure, kind: str, **options: Any) -> bytes:
    blob = io.BytesIO()
    with mpl.rc_context(RC):
        figure.savefig(blob, format=kind, **options)
    return blob.getvalue()

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
import matplotlib.figure
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from lab.atomic import replace_bytes
from lab.errors import LabError
from lab.figures import letters, room, tidy

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
OTHER_BY_NIGHT = ("#C47CB8", "#88CCEE", "#BE85A2")
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
    "image.aspect": "auto",  # pictures fill the box that they are given
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

log = logging.getLogger(__name__)

Arguments = ParamSpec("Arguments")

logging.getLogger("fontTools").setLevel(logging.WARNING)  # it lists each glyph, which takes longer than the figure


class Figure(mpl.figure.Figure):
    """A matplotlib figure that shows itself in a notebook without pyplot, letters of all scripts included.

    ``table``: the numbers that it shows, an observation a row (``lab.figures.tidy``).
    """

    table: Sequence[tidy.Row] = ()

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


def new(width: float, height: float, source: str = "", table: Sequence[tidy.Row] = ()) -> Figure:
    """An empty figure of so many inches, and the numbers that it will show.

    ``source`` comes below in small print, and makes it so much higher.
    """
    lines = room.small_print(width, source)
    figure = Figure(figsize=(width, height + LINE * len(lines)), layout="constrained")
    figure.table = table
    FigureCanvasAgg(figure)
    if lines:
        figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=SMALL, color=PRINT)
    return figure


def head_of(label: str) -> str:
    """The head that a label begins with: ``topk`` of ``topk k=3``."""
    return label.split(" ")[0].split("/")[0]


def colour(head: str, night: bool = False) -> str:
    """A head's colour, by its name or by a label that begins with it; ``night``: the one on a dark page."""
    name, known, others = head_of(head), NIGHT_COLOURS if night else HEAD_COLOURS, OTHER_BY_NIGHT if night else OTHER
    return known[name] if name in known else others[own(name) % len(others)]


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


def save(figure: Figure, directory: Path, name: str, page: bool = False, csv: bool = False) -> tuple[Path, ...]:
    """Writes ``name.pdf`` and ``name.png``, for a ``page`` a small PNG alone; the same figure gives the same bytes.

    ``csv``: and what it shows as ``name.csv``, unless that is pictures alone. Raises ``LabError`` where that would take
    the place of a file that is no table of this figure, of which nothing is written then. Without ``csv`` the numbers
    of an earlier figure stay, of which a line warns.
    """
    numbers = directory / f"{name}.csv"
    if csv and figure.table and tidy.foreign(numbers, figure.table):
        raise LabError(f"--csv must not overwrite {numbers}, which is no table of this figure: give another --out")
    directory.mkdir(parents=True, exist_ok=True)
    files = {"png": few_colours(png(figure, PAGE_DPI)) if page else png(figure)}
    if not page:
        files["pdf"] = _bytes(figure, "pdf", metadata={"CreationDate": None, "ModDate": None})
    if csv and figure.table:
        files["csv"] = tidy.csv(figure.table).encode()
    elif tidy.former(numbers, figure.table):
        anew = "--csv writes it anew" if figure.table else "this one has no numbers"
        log.warning("%s is of an earlier figure: %s", numbers.name, anew)
    for kind, blob in files.items():
        replace_bytes(directory / f"{name}.{kind}", blob)
    return tuple(directory / f"{name}.{kind}" for kind in files)


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

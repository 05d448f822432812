"""Heads against what is known to be true of a made world's captions: where they look, and what they need to hear."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.lines import Line2D

from lab.figures import marks, style, tidy
from lab.figures.material import Material, NoData, interval
from lab.figures.style import Figure
from lab.figures.sweeps import fusions, groups
from lab.metrics import ranks
from lab.significance import Interval

#: Inches for the labels of rows in a figure as wide as a column.
LABELS = 1.05


@style.styled
def attention_dots(mass: Mapping[str, Interval], uniform: float, source: str = "") -> Figure:
    """The mean weight that each head puts on the frames of the told seconds, and what equal weights would put there."""
    table = [*tidy.rows(mass, "head"), {"head": "all frames alike", "value": uniform}]
    named = [row | {"metric": "weight on the told seconds", "unit": "1"} for row in table]
    figure = style.new(style.COLUMN, 0.55 + 0.22 * len(mass), source, named)
    axes = figure.subplots()
    axes.axvline(100 * uniform, color=style.CHANCE, lw=1, ls=":")
    alike = f"all frames alike: {100 * uniform:.0f} %"
    marks.note(axes, alike, (100 * uniform, 1), (3, 1), xycoords=("data", "axes fraction"), color=style.PRINT)
    for height, (label, one) in zip(range(len(mass))[::-1], mass.items(), strict=True):
        marks.dot(axes, height, one, style.colour(label), style.marker(label), scale=100)
        marks.beside(axes, height, f"{100 * one.value:.1f}")
    axes.set(xlabel="weight on the told seconds (%)", xlim=(0, 100))
    marks.dot_rows(axes, list(mass), LABELS)
    return figure


@style.styled
def sound_dots(rows: Mapping[str, Mapping[str, Interval]], source: str = "") -> Figure:
    """R@1 of each head on captions of two kinds, by what they have to do with sound, a colour a kind."""
    colours = {**style.SOUND, **style.OWN_SOUND}
    kinds = list(next(iter(rows.values())))
    figure = style.new(style.COLUMN, 0.75 + 0.27 * len(rows), source, tidy.rows(rows, "head", "captions"))
    axes = figure.subplots()
    for height, (label, found) in zip(range(len(rows))[::-1], rows.items(), strict=True):
        for shift, kind in zip((0.17, -0.17), kinds, strict=True):
            marks.dot(axes, height + shift, found[kind], colours[kind], style.marker(label))
    axes.set_xlabel(marks.with_unit(found[kinds[0]].metric))
    marks.dot_rows(axes, list(rows), LABELS)
    axes.set_xlim(marks.within_percent(*axes.get_xlim()))
    handles = [Line2D([], [], color=colours[kind], lw=1.5, label=kind) for kind in kinds]
    figure.legend(handles=handles, loc="outside upper left")
    return figure


# -- from a split ----------------------------------------------------------------------------------------------------


def attention_truth(material: Material) -> Figure:
    """Mean weight on the seconds that a caption tells of, by head, against equal weights."""
    mass, uniform = {}, float("nan")
    for label in material.heads:
        found = material.truth(label).attention()
        if found is not None:
            mass[label], uniform = found["mass"], found["uniform"].value
    if not mass:
        raise NoData(f"no captions of two videos in {material.store.path.name} tell of a part of their video")
    one = next(iter(mass.values()))
    told = f"{one.queries} captions of {one.videos} videos, which tell of some seconds; lines: 95 % intervals"
    return attention_dots(mass, uniform, f"{material.source(*mass)}\n{told}")


def sound(material: Material) -> Figure:
    """R@1 on captions that need the sound and those that do not, by head; CMFI also without.

    Where no caption knows that: on captions of videos with sound and of those without (``sweeps.groups``).
    """
    kinds = {name: where for name, where in groups(material).items() if where is not None}
    if len(kinds) < 2:
        raise NoData(
            f"{material.store.path.name} has no two kinds of captions to compare: which ones need the sound only a "
            f"made world knows, and {material.split} has not two videos with sound and two without"
        )
    rows: dict[str, dict[str, Interval]] = {}
    for label, one in material.heads.items():
        if hasattr(one.head, "fusion_weight"):
            deaf = ranks(fusions(material, label, [0.0])[0], material.target)
            found = {name: interval(deaf, material.target, "R@1", where) for name, where in kinds.items()}
            rows[f"{label} without sound"] = found
        rows[label] = {name: material.interval(label, "R@1", where) for name, where in kinds.items()}
    counts = ", ".join(f"{int(where.sum())} {name}" for name, where in kinds.items())
    return sound_dots(rows, f"{material.source(*material.heads)}\n{counts}; lines: 95 % intervals")

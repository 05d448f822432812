"""Heads against what is known to be true of a made world's captions: where they look, and what they need to hear."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lab.figures import style
from lab.figures.material import Material, NoData, interval
from lab.figures.sweeps import fusions, groups
from lab.metrics import ranks
from lab.significance import Interval

#: Inches for the labels of rows in a figure as wide as a column.
LABELS = 1.05


@style.styled
def attention_dots(mass: Mapping[str, Interval], uniform: float, source: str = "") -> Figure:
    """The mean weight that each head puts on the frames of the told seconds, and what equal weights would put there."""
    figure = style.new(style.COLUMN, 0.55 + 0.22 * len(mass), source)
    axes = figure.subplots()
    y = np.arange(len(mass))[::-1]
    axes.axvline(100 * uniform, color=style.CHANCE, lw=1, ls=":")
    axes.annotate(
        f"all frames alike: {100 * uniform:.0f} %", (100 * uniform, 1), (3, 1), xycoords=("data", "axes fraction"),
        textcoords="offset points", fontsize=style.SMALL, color=style.PRINT,
    )  # fmt: skip
    for height, (label, one) in zip(y, mass.items(), strict=True):
        style.dot(axes, height, one, style.colour(label), style.marker(label), scale=100)
        axes.text(
            1.02, height, f"{100 * one.value:.1f}", transform=axes.get_yaxis_transform(), va="center",
            fontsize=style.SMALL,
        )  # fmt: skip
    axes.set(xlabel="weight on the told seconds (%)", xlim=(0, 100))
    style.dot_rows(axes, list(mass), LABELS)
    return figure


@style.styled
def sound_dots(rows: Mapping[str, Mapping[str, Interval]], source: str = "") -> Figure:
    """R@1 of each head on captions of two kinds, by what they have to do with sound, a colour a kind."""
    colours = {**style.SOUND, **style.OWN_SOUND}
    kinds = list(next(iter(rows.values())))
    figure = style.new(style.COLUMN, 0.75 + 0.27 * len(rows), source)
    axes = figure.subplots()
    y = np.arange(len(rows))[::-1]
    for height, (label, found) in zip(y, rows.items(), strict=True):
        for place, kind in enumerate(kinds):
            shift = 0.17 * ((len(kinds) - 1) / 2 - place) * 2
            style.dot(axes, height + shift, found[kind], colours[kind], style.marker(label))
    axes.set(xlabel=f"{found[kinds[0]].metric} (%)")
    style.dot_rows(axes, list(rows), LABELS)
    axes.set_xlim(style.within_percent(*axes.get_xlim()))
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

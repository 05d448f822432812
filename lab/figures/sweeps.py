"""R@1 over a setting that needs no training: top-k's k, softmax's temperature, the weight of the sound in CMFI."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.choose import Candidate
from lab.figures import marks, style, tidy
from lab.figures.material import Material, NoData, interval
from lab.figures.style import Figure
from lab.heads.sweep import keep
from lab.metrics import ranks
from lab.runs import read_run
from lab.significance import Interval

TEMPERATURES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0)
#: Close where sound begins to count; the axis is linear up to ``LINEAR``, and shows powers of ten after it.
FUSION_WEIGHTS = (0.0, 0.0125, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
LINEAR = 0.1


@style.styled
def recall_curve(
    values: Sequence[float],
    curves: Mapping[str, Sequence[Interval]],
    setting: str,
    *,
    flat: Mapping[str, Interval] | None = None,
    colours: Mapping[str, str] | None = None,
    scale: str = "linear",
    mark: float | None = None,
    source: str = "",
) -> Figure:
    """A metric over a setting, a curve a label with its interval as a band and a ring at its best value.

    ``flat``: heads that do not depend on the setting, as dashed lines. ``colours`` by label, else those of the heads.
    ``mark``: a value of the setting at which a dotted line stands.
    """
    metric, column = next(iter(curves.values()))[0].metric, setting.replace(" ", "_")
    table = tidy.rows(curves, "curve", (column, values)) + tidy.rows(flat or {}, "curve")
    figure = style.new(style.COLUMN, 1.9 + 0.15 * len(curves), source, table)
    axes = figure.subplots()
    axes.set(xlabel=setting, ylabel=marks.with_unit(metric))
    if scale == "symlog":
        axes.set_xscale("symlog", linthresh=LINEAR, linscale=1)
        axes.set_xticks([v for v in (0, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if v <= max(values)])
    elif scale == "log":
        axes.set_xscale("log")
    for place, (label, found) in enumerate(curves.items()):
        colour = (colours or {}).get(label) or style.colour(label)
        y = [one.value for one in found]
        top = int(np.argmax(y))
        told = f"{y[top]:.1f} at {values[top]:.3g}"
        look = {"color": colour, "ms": 3.5, "label": label if len(curves) == 1 else f"{label}: best {told}"}
        look["marker"] = style.marker(label) if style.head_of(label) in style.HEAD_MARKERS else "os^Dv"[place % 5]
        marks.banded(axes, values, y, [one.low for one in found], [one.high for one in found], **look)
        # Words above several curves would cover each other: then the legend has the numbers alone.
        marks.best(axes, values[top], y[top], colour, told if len(curves) == 1 else "")
    for label, one in (flat or {}).items():
        axes.axhline(one.value, color=style.colour(label), lw=1, ls="--", label=f"{label}: {one.value:.1f}")
    marks.plain_ticks(axes, values if scale == "linear" else None)
    axes.margins(y=0.16)
    if tidy.unit(metric) == "%":
        axes.set_ylim(marks.within_percent(*axes.get_ylim()))
    if mark is not None:
        axes.axvline(mark, color=style.PRINT, lw=0.8, ls=":", zorder=0)
    axes.grid(axis="y")
    marks.legend(figure, axes)
    return figure


# -- from a split ----------------------------------------------------------------------------------------------------


def recall_over_k(material: Material) -> Figure:
    """R@1 of top-k pooling over k, without any training, beside mean pooling."""
    values = range(1, material.frame_mask.shape[1] + 1)
    *found, mean = _intervals(material, top_k=values, temperature=[math.inf])
    setting = "k frames averaged"
    return recall_curve(values, {"topk": found}, setting, flat={"mean": mean}, source=_print(material))


def recall_over_temperature(material: Material) -> Figure:
    """R@1 of softmax pooling over its temperature, without training, beside mean and one frame."""
    one, *found, mean = _intervals(material, top_k=[1], temperature=[*TEMPERATURES, math.inf])
    setting, flat = "temperature of the softmax over cosines", {"mean": mean, "topk k=1": one}
    return recall_curve(TEMPERATURES, {"softmax": found}, setting, flat=flat, scale="log", source=_print(material))


def fusion_weight(material: Material) -> Figure:
    """R@1 of a trained CMFI over the weight of the sound, by how captions relate to sound."""
    label = next((label for label, one in material.heads.items() if hasattr(one.head, "fusion_weight")), None)
    if label is None:
        raise NoData(f"no run with sound: {material.training('cmfi')}")
    curves, head = {}, material.heads[label].head
    weights = sorted({*FUSION_WEIGHTS, float(head.fusion_weight)})  # type: ignore[arg-type]
    for name, where in groups(material).items():
        curves[name] = [
            interval(ranks(fused, material.target), material.target, "R@1", where)
            for fused in fusions(material, label, weights)
        ]
    colours = {"all captions": style.colour("cmfi"), **style.SOUND, **style.OWN_SOUND}
    source = f"{material.source(label)}\nbands: 95 % intervals; dotted: {_weights_told(material.heads[label])}"
    options: dict[str, Any] = {"colours": colours, "scale": "symlog", "mark": float(head.fusion_weight)}  # type: ignore[arg-type]
    return recall_curve(weights, curves, "weight of the sound", **options, source=source)


def _weights_told(one: Candidate) -> str:
    """The weight of the sound in training, and the one that was chosen after it where that is another."""
    head: Any = one.head
    run = None if one.run is None else read_run(one.run)
    default = inspect.signature(type(head)).parameters.get("fusion_weight")
    trained = None if run is None or default is None else run.keywords.get("fusion_weight", default.default)
    if run is None or trained is None:
        return f"the head's weight, {head.fusion_weight:.3g}"
    if run.format == 1 and "fusion_weight" in run.keywords:
        return f"the run's weight, {trained:.3g}, from its training or chosen after it"
    chosen = run.after.get("fusion_weight", trained)
    if chosen == trained:
        return f"the weight in training, {trained:.3g}"
    return f"the weight {chosen:.3g}, which was chosen after training with {trained:.3g}"


def fusions(material: Material, label: str, weights: Sequence[float]) -> list[NDArray[Any]]:
    """Similarities (T, V) of a CMFI under other fusion weights; the head is left as it was."""
    kept = keep(material.heads[label].head, *material.features(label))
    return [kept.similarity({"fusion_weight": weight}).numpy() for weight in weights]


def groups(material: Material) -> dict[str, NDArray[np.bool_] | None]:
    """All captions, and two kinds: those that need the sound and those that do not, where that is known.

    Only a made world knows it; elsewhere the kinds are those whose own video has sound and those whose has none.
    """
    known = np.isfinite(material.needs_sound).any()
    names, kinds = (style.SOUND, material.needs_sound) if known else (style.OWN_SOUND, material.has_sound)
    found: dict[str, NDArray[np.bool_] | None] = {"all captions": None}
    for name, value in zip(names, (1, 0), strict=True):
        where = kinds == value
        if len(np.unique(material.target[where])) >= 2:
            found[name] = where
    return found


def _intervals(material: Material, **settings: Any) -> list[Interval]:
    return [interval(rank, material.target) for rank in material.pooled(**settings)[0]]


def _print(material: Material) -> str:
    return material.source() + "\nfeatures as they are; bands: 95 % intervals, resampling videos; ring: the best"

"""Figures, drawn from a store and heads: ``python -m lab.figures``, and the same functions in a notebook.

One file a family. Each has functions that draw plain arrays (``strips.strips``, ``dots.row_dots``, ...) and
functions that draw a ``Material``, a split with some heads, or ``Studies``, finished ones; the latter two are in
``FIGURES`` and ``STUDY_FIGURES``, by name. All return a matplotlib figure, whose ``table`` holds the numbers
that it shows, and raise ``NoData`` where nothing is there to be drawn::

    material = lab.figures.Material(store, {"mean": mean, "xpool": xpool}, split="val")
    lab.figures.FIGURES["strips"](material)
    lab.figures.STUDY_FIGURES["importance"](lab.figures.finished.named(["xpool_head-toy"]))
"""

from __future__ import annotations

from collections.abc import Callable

from lab.figures import (
    clips,
    diversity,
    failures,
    frames,
    heads,
    published,
    rows,
    space,
    strips,
    sweeps,
    trials,
    truth,
    words,
)
from lab.figures.finished import Studies
from lab.figures.material import Material, NoData
from lab.figures.style import Figure

__all__ = ["FIGURES", "STUDY_FIGURES", "Material", "NoData", "Studies"]

#: Name → what draws it from a split with heads; the first line of its docstring says what it shows.
FIGURES: dict[str, Callable[[Material], Figure]] = {
    "clips": clips.clips,
    "heads": heads.heads,
    "strips": strips.examples,
    "words": words.words,
    "topk_positions": frames.topk_positions,
    "best_k": frames.best_k,
    "recall_over_k": sweeps.recall_over_k,
    "recall_over_temperature": sweeps.recall_over_temperature,
    "projection": heads.projection,
    "attention_truth": truth.attention_truth,
    "sound": truth.sound,
    "fusion_weight": sweeps.fusion_weight,
    "rank_pairs": heads.rank_pairs,
    "misses": failures.misses,
    "by_length": failures.by_length,
    "space": space.space,
}

#: Name → what draws it from finished studies.
STUDY_FIGURES: dict[str, Callable[[Studies], Figure]] = {
    "grid": rows.grid,
    "ablation": rows.ablation,
    "published": published.published,
    "importance": trials.importance,
    "history": trials.history,
    "plateau": trials.plateau,
    "diversity": diversity.diversity,
}

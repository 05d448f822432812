"""Heads beside heads: metrics with intervals, trained projections against none, and ranks query by query."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray
from torch import nn

from lab.figures import room, style
from lab.figures.dots import Row, grouped, row_dots
from lab.figures.material import METRICS, Material, NoData, interval
from lab.figures.style import Figure
from lab.metrics import ranks
from lab.significance import Interval
from lab.similarity import similarity_matrix


@style.styled
def rank_against_rank(
    first: NDArray[Any],
    others: Mapping[str, NDArray[Any]],
    label: str,
    gallery: int,
    source: str = "",
    captions: Sequence[Mapping[str, Any]] = (),
) -> Figure:
    """The rank (T,) of each query under other heads, over its rank under the head ``label``; a panel a head.

    A point is a query, moved by a little chance so that equal ones do not hide each other. Below the diagonal the head
    of the panel does better. ``captions`` (T,): what the table says of each query, its text, say.
    """
    asked = captions or [{}] * len(first)
    table = [
        {"head": head} | dict(query) | {"rank": rank}
        for head, found in {label: first, **others}.items()
        for query, rank in zip(asked, found.tolist(), strict=True)
    ]
    figure = style.new(style.TEXT, 2.5, source, table)
    panels = figure.subplots(1, len(others), sharey=True, squeeze=False)[0]
    ends = (0.75, gallery * 1.35)
    ticks = [n for n in ((1, 2, 3, 5, 10, 20) if gallery < 40 else (1, 10, 100, 1000, 10000)) if n <= gallery]
    names = room.names([label, *others], 1.25, 1, 8)
    for axes, (name, rank), short in zip(panels, others.items(), names[1:], strict=True):
        across, up = np.random.default_rng(0).uniform(-0.11, 0.11, (2, len(rank)))
        axes.fill_between(ends, 0.5, ends, color=style.colour(name), alpha=0.08, lw=0)
        axes.plot(ends, ends, color=style.CHANCE, lw=0.8)
        axes.plot(
            moved(first, across, gallery),
            moved(rank, up, gallery),
            "o",
            ms=2,
            mew=0,
            color=style.colour(name),
            alpha=0.45,
        )
        won, lost = int((rank < first).sum()), int((rank > first).sum())
        axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
        axes.set_xlabel(f"rank under {names[0]}")
        axes.set_ylabel(f"rank under {short}")
        told = f"{won} better, {lost} worse, {len(rank) - won - lost} alike"
        axes.set_title(told, fontsize=style.SMALL)
        for side in (axes.xaxis, axes.yaxis):
            side.set_ticks(ticks, [f"{n:,}" for n in ticks])
            side.set_minor_formatter(NullFormatter())
        axes.tick_params(labelleft=True)
    return figure


def moved(rank: NDArray[Any], by: NDArray[np.float64], gallery: int) -> NDArray[np.float64]:
    """Ranks (T,) moved along a logarithmic axis ``by`` (T,), and none beyond 1 or the size of the gallery.

    What would leave is turned back inwards: cut off, the many queries of rank 1 would lie on a line.
    """
    last = np.log(gallery)
    inwards = last - np.abs(last - np.abs(np.log(rank) + by))
    return np.asarray(np.clip(np.exp(inwards), 1, gallery))


# -- from a split ----------------------------------------------------------------------------------------------------


def heads(material: Material) -> Figure:
    """R@1, R@5 and R@10 of every head, with intervals."""
    rows = [
        Row(label, label, {material.split: {metric: material.interval(label, metric) for metric in METRICS}})
        for label in material.heads
    ]
    told = "lines: 95 % intervals, resampling videos with their captions"
    return row_dots(rows, f"{material.source(*material.heads)}\n{told}")


def projection(material: Material) -> Figure:
    """Mean and top-k, zero-shot and with a trained projection, else alike (X-Pool, figure 3a)."""
    panels: dict[str, dict[str, dict[str, Interval]]] = {
        metric: {"zero-shot": {}, "trained projection": {}} for metric in METRICS
    }
    trained = {
        style.head_of(label): label for label in reversed(material.heads) if _projects(material.heads[label].head)
    }
    if missing := [name for name in ("mean", "topk") if name not in trained]:
        commands = " && ".join(material.training(name, "projection=linear") for name in missing)
        raise NoData(f"no run of {' nor of '.join(missing)} with a trained projection: {commands}")
    labels = [trained[name] for name in ("mean", "topk")]
    for name, label in zip(("mean", "topk"), labels, strict=True):
        head: Any = material.heads[label].head
        plain = ranks(similarity_matrix(_unprojected(head), *material.bare).numpy(), material.target)
        shown = f"{name} k={head.top_k}" if name == "topk" else name
        for metric, groups in panels.items():
            groups["zero-shot"][shown] = interval(plain, material.target, metric)
            groups["trained projection"][shown] = material.interval(label, metric)
    return grouped(panels, f"{material.source(*labels)}\nlines: 95 % intervals, resampling videos")


def _projects(head: nn.Module) -> bool:
    return any(True for _ in getattr(head, "space", nn.Identity()).parameters())


def _unprojected(head: nn.Module) -> nn.Module:
    """A copy that compares texts and frames as they come, its other settings (k, say) being the same."""
    twin: Any = copy.deepcopy(head)
    twin.space.text, twin.space.frame = nn.Identity(), nn.Identity()
    bare: nn.Module = twin
    return bare


def rank_pairs(material: Material) -> Figure:
    """The rank of each query under the three best heads against its rank under mean pooling."""
    base = next((label for label in material.heads if label == "mean"), next(iter(material.heads)))
    others = [label for label in material.best_first() if label != base][:3]
    if not others:
        raise NoData("one head alone has none to be held against: give a second --run")
    panels = {label: material.ranks(label) for label in others}
    rows = material.bare[0].rows
    stored = rows.tolist() if rows is not None else [None] * len(material.captions)
    captions = [{"caption": one["text"], "row": row} for one, row in zip(material.captions, stored, strict=True)]
    return rank_against_rank(
        material.ranks(base),
        panels,
        base,
        len(material.video_rows),
        f"{material.source(base, *others)}\nshaded: the panel's head is better; points are moved by a little chance",
        captions,
    )

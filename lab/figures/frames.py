"""Which frames top-k pooling takes, and how many of them a pair would like best (X-Pool, figure 3b)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.figures import marks, style, tidy
from lab.figures.material import Material, NoData
from lab.figures.style import Figure


@style.styled
def position_histogram(chosen: NDArray[Any], expected: NDArray[Any], top_k: int, source: str = "") -> Figure:
    """How often each frame position is chosen (F,) against how often chance would choose it (F,), both as counts.

    Positions are those of videos with all F frames and of shorter ones alike; ``expected`` knows how many have each.
    """
    F, total = len(chosen), chosen.sum()
    places = np.arange(1, F + 1)
    shares = {f"chosen by top-{top_k}": chosen / total, "expected by chance": expected / total}
    figure = style.new(style.COLUMN, 1.75, source, tidy.rows(shares, "frames", ("position", places), leaf="share"))
    axes = figure.subplots()
    axes.bar(places, chosen / total, width=0.8, color=style.colour("topk"), label=f"chosen by top-{top_k}")
    steps = np.r_[expected, expected[-1:]] / total
    axes.step(np.arange(F + 1) + 0.5, steps, where="post", color="black", lw=1, ls="--", label="expected by chance")
    axes.set(xlabel="position of the frame in the video", ylabel="share of chosen frames", xlim=(0.4, F + 0.6))
    axes.set_ylim(0, 1.28 * max((chosen / total).max(), steps.max()))
    marks.plain_ticks(axes, places.tolist())
    marks.percent_ticks(axes)
    axes.legend(loc="upper center", ncols=2, columnspacing=1.2)
    return figure


@style.styled
def best_k_histogram(best: NDArray[Any], frames: int, source: str = "") -> Figure:
    """For how many ground-truth pairs each k (from 1 to ``frames``) gives the highest similarity; ``best`` is (T,)."""
    counts, values = np.bincount(best, minlength=frames + 1)[1:], range(1, frames + 1)
    shares = counts / len(best)
    told = zip(values, counts.tolist(), shares.tolist(), strict=True)
    table = [{"k_frames": k, "pairs": pairs, "share": share} for k, pairs, share in told]
    figure = style.new(style.COLUMN, 1.75, source, table)
    axes = figure.subplots()
    axes.bar(values, shares, width=0.8, color=style.colour("topk"))
    axes.axvline(median := float(np.median(best)), color="black", lw=1, ls="--")
    marks.note(axes, f"median {median:g}", (median, 1), (4, -2), xycoords=("data", "axes fraction"), va="top")
    axes.set(xlabel="k that a pair of text and video likes best", ylabel="share of pairs", xlim=(0.4, frames + 0.6))
    marks.plain_ticks(axes, values)
    marks.percent_ticks(axes)
    return figure


# -- from a split ----------------------------------------------------------------------------------------------------


def topk_positions(material: Material) -> Figure:
    """Which frame positions top-k takes of each text's own video, against chance."""
    label = next((label for label in material.heads if style.head_of(label) == "topk"), None)
    if label is None:
        raise NoData("topk is not among the heads: leave --run out, or add --run topk")
    weights, mask = material.own_weights(label), material.frame_mask[material.target]
    chosen = weights > 0
    per_text = chosen.sum(1, keepdims=True) / mask.sum(1, keepdims=True)  # what each real frame could expect
    expected = (mask * per_text).sum(0)
    top_k = int(getattr(material.heads[label].head, "top_k", chosen.sum(1).max()))
    return position_histogram(chosen.sum(0), expected, top_k, material.source(label) + "\nground-truth pairs")


def best_k(material: Material) -> Figure:
    """At which k each text is closest to its own video under untrained top-k (X-Pool, figure 3b)."""
    best, frames = best_ks(material)
    told = "top-k on the features as they are; ground-truth pairs of videos with all frames"
    return best_k_histogram(best, frames, f"{material.source()}\n{told}")


def best_ks(material: Material) -> tuple[NDArray[np.int64], int]:
    """The best k (T',) of the texts whose video has all F frames, and F; a tie goes to the smaller k.

    Shorter videos are left out: k beyond their frames is the same as all of them.
    """
    F = material.frame_mask.shape[1]
    whole = material.frame_mask[material.target].all(1)
    if not whole.any():
        raise NoData("no video of this split has all its frames")
    own = material.pooled(top_k=range(1, F + 1))[1]
    return own[:, whole].round(6).argmax(0) + 1, F

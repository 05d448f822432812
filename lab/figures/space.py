"""The joint space seen from its two widest sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from lab.figures import marks, pictures, room, style, tidy
from lab.figures.material import Material
from lab.figures.style import Figure

#: Videos that are picked out, each in a colour with its frames and its captions.
PICKED = 6
#: Units across of the list of them, where a row has one downwards.
WIDE = 3.2


@dataclass(frozen=True)
class Picked:
    """A video that is picked out: which of the texts and frames are its own, its name, a caption, and some JPEGs."""

    texts: NDArray[Any]
    frames: NDArray[Any]
    video: str
    caption: str
    pictures: Sequence[bytes] = ()


@style.styled
def joint_map(
    texts: NDArray[Any],
    frames: NDArray[Any],
    explained: Sequence[float],
    picked: Sequence[Picked] = (),
    source: str = "",
) -> Figure:
    """Texts (T, 2) and frames (N, 2) as faint points, and some videos picked out, each in a colour.

    ``explained``: the share of the variance that each of the two components holds.
    """
    table: list[tidy.Row] = []
    for kind, points in (("text", texts), ("frame", frames)):
        owner = {
            int(i): {"video": one.video, "picked_out": one.caption} for one in picked for i in getattr(one, f"{kind}s")
        }
        table += [
            {"kind": kind, "first_component": x, "second_component": y}
            | owner.get(i, {"video": None, "picked_out": None})
            for i, (x, y) in enumerate(points.tolist())
        ]
    figure = style.new(style.TEXT, 3.6, source, table)
    axes, beside = figure.subplots(1, 2, width_ratios=(3.1, 1.6))
    axes.plot(*frames.T, "o", ms=1.6, mew=0, color="#B3B3B3", alpha=0.6, rasterized=True)
    axes.plot(*texts.T, "^", ms=2.4, mew=0, color="#808080", alpha=0.5, rasterized=True)
    for colour, one in zip(style.CATEGORIES, picked, strict=False):
        axes.plot(*frames[one.frames].T, "o", ms=4.5, mew=0.4, mec="white", color=colour)
        axes.plot(*texts[one.texts].T, "^", ms=6.5, mew=0.5, mec="white", color=colour)
    first, second = (f"{100 * share:.0f} % of the variance" for share in explained)
    axes.set(xticks=[], yticks=[], xlabel=f"first component, {first}", ylabel=f"second component, {second}")
    kinds = [marks.kind(label, marker, style.PRINT) for label, marker in (("captions", "^"), ("frames", "o"))]
    axes.legend(handles=kinds, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderpad=0)
    _list(beside, picked)
    return figure


def _list(axes: Axes, picked: Sequence[Picked]) -> None:
    """Some pictures and a caption of each video that is picked out, in its colour."""
    axes.axis("off")
    rows = max(6, len(picked))
    axes.set(xlim=(0, WIDE), ylim=(rows, 0))
    for row, (colour, one) in enumerate(zip(style.CATEGORIES, picked, strict=False)):
        wide = 0.5 / max(pictures.shape(one.pictures), 0.1)  # a unit is longer downwards than across
        for place, i in enumerate(pictures.spread(len(one.pictures), max(1, int(WIDE / (wide + 0.04))))):
            left = 0.05 + place * (wide + 0.04)
            axes.imshow(pictures.opened(one.pictures[i]), extent=(left, left + wide, row + 0.68, row + 0.06))
        axes.add_patch(Rectangle((-0.1, row + 0.06), 0.09, 0.62, color=colour, lw=0, clip_on=False))
        axes.text(-0.1, row + 0.84, room.cut(one.caption, 2.2), fontsize=style.SMALL, va="center")


# -- from a split ----------------------------------------------------------------------------------------------------


def space(material: Material, picked: int = PICKED, seed: int = 0) -> Figure:
    """Captions and frames of the split in the joint space, some videos picked out at random.

    The two kinds are centred each for itself: frames and texts of a CLIP lie in two cones apart, and that gap would be
    the widest side of all.
    """
    texts, videos = material.bare
    sentences = _centred(texts.sentences.float().cpu().numpy())
    mask = material.frame_mask
    frames = _centred(videos.frames.float().cpu().numpy()[mask])
    owner = np.nonzero(mask)[0]
    both = np.concatenate([sentences / np.sqrt(len(sentences)), frames / np.sqrt(len(frames))])
    values, axes = np.linalg.eigh(both.T @ both)
    sides = axes[:, :-3:-1] * np.sign(axes[0, :-3:-1])  # the same way round each time
    flat_texts, flat_frames = sentences @ sides, frames @ sides
    chosen = np.random.default_rng(seed).permutation(np.unique(material.target))[:picked]
    shown = []
    for video in chosen.tolist():
        row, mine = int(material.video_rows[video]), np.flatnonzero(material.target == video)
        caption, seen = material.captions[mine[0]]["text"], material.store.thumbnails(row)
        shown.append(Picked(mine, np.flatnonzero(owner == video), material.video_id(video), caption, seen))
    told = f"each kind centred for itself; {len(chosen)} videos drawn at random (seed {seed}), each with a caption"
    shares = (values[::-1][:2] / values.sum()).tolist()
    return joint_map(flat_texts, flat_frames, shares, shown, f"{material.source()}\n{told}")


def _centred(values: NDArray[Any]) -> NDArray[Any]:
    """Vectors of length one, their mean taken away."""
    unit = values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-12)
    return np.asarray(unit - unit.mean(0))

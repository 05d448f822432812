"""Words × frames: what each word of a text looks at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb
from numpy.typing import NDArray

from lab.by_word import attention, cosines, looks_at_words, names_of
from lab.figures import marks, room, style, tidy
from lab.figures.material import Material
from lab.figures.pictures import opened, shape
from lab.figures.style import Figure
from lab.needs import Needs
from lab.truth import within


@style.styled
def word_map(
    words: Sequence[str],
    times_s: NDArray[Any],
    values: NDArray[Any],
    share: NDArray[Any] | None = None,
    *,
    pictures: Sequence[bytes] = (),
    told: NDArray[np.bool_] | None = None,
    meaning: str = "attention",
    colour: str = style.HEAD_COLOURS["wf"],
    caption: str = "",
    video: str = "",
    head: str | None = None,
    source: str = "",
) -> Figure:
    """A row a word and a column a frame: ``values`` (W, F); ``share`` (W,) is what each word counts, as bars.

    ``told`` (F,): the frames that the text tells of, which get a green line above. ``video`` and ``head``, where the
    values are one's, name them in the table.
    """
    W, F = values.shape
    wide = min(0.5, 6.5 / (F + 2.5) * shape(pictures))  # the row of pictures, which are then whole and not stretched
    high = max(1.3, min(0.21 * W, max(6.0, 0.11 * W)))  # a paragraph's words stand as close as their type lets them
    of = {"meaning": meaning, "head": head, "video": video, "caption": caption}
    table: list[tidy.Row] = [
        {"place": place, "word": word, "share": None if share is None else share[place - 1]} | of | row
        for place, word in enumerate(words, 1)
        for row in tidy.frames(values[place - 1], times_s)
    ]
    figure = style.new(style.TEXT, 0.75 + wide + high, source, table)
    layout = {"width_ratios": (F, 2.2, 0.3) if share is not None else (F, 0.01, 0.3)}
    grid = figure.add_gridspec(2, 3, height_ratios=(max(wide, 0.12), high), **layout)
    top, axes, scale = (figure.add_subplot(grid[place]) for place in ((0, 0), (1, 0), (1, 2)))
    _pictures(top, pictures, told, F)
    top.set_title(room.cut(f"“{caption}”", 5.0, 8) if caption else "", style="italic")
    image = axes.imshow(values, cmap=_shades(colour), vmin=min(0.0, float(np.nanmin(values))))
    axes.set_yticks(range(W), [room.cut(word, 0.9) for word in words])
    marks.frame_ticks(axes, times_s, 16)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    top.sharex(axes)
    bar = figure.colorbar(image, cax=scale, label=room.broken(meaning, high + 0.2, 2, 8))
    bar.outline.set_visible(False)
    if share is not None:
        beside = figure.add_subplot(grid[1, 1], sharey=axes)
        beside.barh(range(W), 100 * share, color=colour, height=0.7)
        beside.tick_params(axis="y", left=False, labelleft=False)
        beside.set(xlabel="share (%)", ylim=(W - 0.5, -0.5))
    return figure


def _pictures(axes: Any, pictures: Sequence[bytes], told: NDArray[np.bool_] | None, frames: int) -> None:
    axes.axis("off")
    axes.set(xlim=(-0.5, frames - 0.5), ylim=(-0.16, 1))
    for i, picture in enumerate(pictures[:frames]):
        axes.imshow(opened(picture), extent=(i - 0.46, i + 0.46, 0, 1))
    if told is not None:
        for i in np.flatnonzero(told).tolist():
            axes.plot([i - 0.5, i + 0.5], [-0.1, -0.1], color=style.TRUTH, lw=2.5, solid_capstyle="butt")


def _shades(colour: str) -> LinearSegmentedColormap:
    red, green, blue = to_rgb(colour)
    dark = to_hex((0.4 * red, 0.4 * green, 0.4 * blue))
    return LinearSegmentedColormap.from_list("shades", ["#FFFFFF", colour, dark])


# -- from a split ----------------------------------------------------------------------------------------------------


def words(material: Material, text: int | None = None, seed: int = 0) -> Figure:
    """What each word of a caption attends to: by a word branch (wf, mgfi), else cosines.

    ``text``: a row of the split; else one is drawn at random, of those that tell of a part of their video if any do.
    """
    label = next((label for label, one in material.heads.items() if looks_at_words(one.head)), None)
    text = _drawn(material, seed) if text is None else text
    video = int(material.target[text])
    seconds, times = material.seconds_of(text), material.frame_times_s(video)
    spelled, pieces = material.words_of(text)
    values, share, meaning = _read(material, label, text, video, len(times), pieces)
    return word_map(
        names_of(spelled, pieces),
        times,
        values,
        share,
        pictures=material.store.thumbnails(int(material.video_rows[video])),
        told=within(seconds, times) if seconds is not None else None,
        meaning=meaning,
        colour=style.colour(label or "wf"),
        caption=material.captions[text]["text"],
        video=material.video_id(video),
        head=label,
        source=f"{material.source(*([label] if label else []))}\nvideo {material.video_id(video)}"
        + ("; green: the seconds that the caption tells of" if seconds is not None else "")
        + ("; share: what each word counts" if share is not None else ""),
    )


def _read(
    material: Material, label: str | None, text: int, video: int, frames: int, pieces: NDArray[np.int64]
) -> tuple[NDArray[Any], NDArray[Any] | None, str]:
    """Values (W, F) by word, what each word counts (W,) if a head tells, and what the values are."""
    texts, videos = material.features(label) if label else material.load(Needs(words=True), "words × frames")
    one, clip = texts.select(torch.tensor([text])), videos.select(torch.tensor([video]))
    if label is None:
        return cosines(one, clip, frames, pieces), None, "cosine of word and frame"
    short = room.MODULE.sub("", label)
    return *attention(material.heads[label].head, one, clip, frames, pieces), f"attention ({short})"


def _drawn(material: Material, seed: int) -> int:
    telling = [i for i, row in enumerate(material.captions) if row["start_s"] is not None and row["start_s"] > 0]
    return int(np.random.default_rng(seed).choice(telling or len(material.captions)))

"""Figures on a made-up store whose pictures, words, sound and truth fit together: labels, palette, files, skips."""

from __future__ import annotations

import io
import itertools
import json
import logging
import shlex
import shutil
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
import zarr
from eyes import EYES, distance
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from pictured import A, D, F, jpeg, leaving, make, texts_of
from PIL import Image
from searchable import save_heads

from lab import cli
from lab.choose import Candidate, plain_heads, trained_heads
from lab.errors import LabError
from lab.figures import (
    FIGURES,
    STUDY_FIGURES,
    Material,
    NoData,
    clips,
    dots,
    frames,
    heads,
    room,
    space,
    strips,
    style,
    sweeps,
    tidy,
    truth,
    words,
)
from lab.figures.__main__ import main
from lab.figures.material import interval
from lab.heads import HEADS, build_head
from lab.metrics import ranks
from lab.reads import count_reads
from lab.runs import save_run
from lab.runs.fitting import newest_runs
from lab.significance import Interval
from lab.similarity import similarity_matrix
from lab.store import PRESENCE, Store, open_store
from lab.train import main as train
from lab.training.task import prepare, train_on
from lab.truth import MOMENT_S, within


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made") / "made.zarr")


@pytest.fixture(scope="module")
def runs(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One short training of each head that the figures tell something of."""
    folder = tmp_path_factory.mktemp("runs")
    store = open_store(path)
    logging.disable(logging.WARNING)
    for name, keywords in {
        "mean": {"projection": "linear"},
        "topk": {"projection": "linear"},
        "xpool": {},
        "mgfi": {},
        "cmfi": {"video": "xpool"},
    }.items():
        recipe = {"epochs": 1, "audio_epochs": 1, "batch": 12, "precision": "fp32"}
        done = train_on(prepare(store, name, recipe=recipe, keywords=keywords, device="cpu"))
        save_run(done.head, done.run, done.history.epochs, folder, f"{name}-1")
    logging.disable(logging.NOTSET)
    return folder


@pytest.fixture(scope="module")
def material(path: Path, runs: Path) -> Material:
    store = open_store(path)
    return Material(store, [*plain_heads(store).values(), *trained_heads(store, newest_runs(store, runs))])


@pytest.fixture(scope="module")
def drawn(material: Material) -> dict[str, Figure]:
    return {name: draw(material) for name, draw in FIGURES.items()}


@pytest.fixture(scope="module")
def written(drawn: dict[str, Figure]) -> dict[str, list[Text]]:
    return {name: list(texts_of(figure)) for name, figure in drawn.items()}


# -- what every figure has -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_legible_and_says_what_it_shows(
    name: str, drawn: dict[str, Figure], written: dict[str, list[Text]]
) -> None:
    figure, shown = drawn[name], written[name]
    assert figure.get_size_inches()[0] in (style.COLUMN, style.TEXT)
    assert figure.get_size_inches()[1] < 9.5
    assert min(text.get_fontsize() for text in shown) >= 7
    told = " ".join(" ".join(text.get_text().split()) for text in shown)
    assert "made.zarr, made val: 20 captions, 10 videos" in told
    assert not leaving(figure, shown)


@pytest.mark.parametrize(
    ("name", "labels"),
    {
        "heads": ["R@1 (%)", "R@5 (%)", "R@10 (%)", "cmfi"],
        "strips": ["seconds from the start", "rank", "in green", "xpool"],
        "words": ["seconds from the start", "share (%)", "dog|cat|drum|tree|boat|lamp", "runs: mgfi-1"],
        "topk_positions": ["position of the frame in the video", "share of chosen frames"],
        "best_k": ["k that a pair of text and video likes best", "share of pairs"],
        "recall_over_k": ["k frames averaged", "R@1 (%)", "mean: "],
        "recall_over_temperature": ["temperature of the softmax over cosines", "R@1 (%)"],
        "projection": ["zero-shot", "trained projection", "R@1 (%)", "runs: mean-1, topk-1"],
        "attention_truth": ["weight on the told seconds (%)", "all frames alike"],
        "sound": ["R@1 (%)", "captions that need the sound", "cmfi without sound"],
        "fusion_weight": ["weight of the sound", "R@1 (%)", "captions that do not"],
        "rank_pairs": ["rank under mean", "better"],
        "misses": ["its own video, v", "found first: v", "the worst ranks under"],
        "by_length": ["seconds of its video", "R@1 (%)", "10 captions"],
        "space": ["first component", "of the variance", "captions", "frames"],
    }.items(),
)
def test_axes_are_labelled_with_units(name: str, labels: list[str], written: dict[str, list[Text]]) -> None:
    told = "\n".join(" ".join(text.get_text().split()) for text in written[name])
    for label in labels:
        assert any(part in told for part in label.split("|")), f"'{label}' is not among:\n{told}"


def test_drawing_leaves_no_trace(material: Material) -> None:
    import matplotlib.pyplot as plt

    before, open_figures = dict(mpl.rcParams), plt.get_fignums()
    figure = heads.heads(material)
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == open_figures
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined] - what a notebook shows


# -- the palette -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eyes", EYES)
def test_heads_are_told_apart_by_all_eyes(eyes: str) -> None:
    assert style.HEAD_COLOURS.keys() == style.HEAD_MARKERS.keys() == HEADS.keys()
    assert len(set(style.HEAD_MARKERS.values())) == len(HEADS)
    colours = [*style.HEAD_COLOURS.values(), style.TRUTH]
    for one, other in itertools.combinations(colours, 2):
        assert distance(one, other, eyes) > 15, f"{one} and {other}"
    for colour in colours:
        assert distance(colour, "#FFFFFF", eyes) > 20, f"{colour} on white"


def test_a_head_has_one_colour_in_all_figures(drawn: dict[str, Figure]) -> None:
    """Where a legend or a row names a head, what is drawn for it has its colour."""
    legends = 0
    for name, figure in drawn.items():
        for legend in [*figure.legends, *(axes.get_legend() for axes in figure.axes)]:
            for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True) if legend else ():
                head = style.head_of(text.get_text().partition(":")[0])
                if head in HEADS:
                    drawn_in = handle.get_color() if hasattr(handle, "get_color") else handle.get_facecolor()
                    assert to_hex(drawn_in) == style.HEAD_COLOURS[head].lower(), f"{name}: {head}"
                    legends += 1
    assert legends >= 5
    rows = drawn["heads"].axes[0]
    colours = [line.get_color() for line in rows.lines if line.get_marker() != "None"]
    labels = [tick.get_text() for tick in rows.get_yticklabels()]
    assert colours == [style.colour(label) for label in labels]


def test_labels_and_heads_of_ones_own() -> None:
    assert style.colour("topk k=3") == style.colour("topk k=1 trained") == style.HEAD_COLOURS["topk"]
    assert style.colour("mine:Head") == style.colour("mine:Head run-2")
    assert style.colour("mine:Head") not in style.HEAD_COLOURS.values()
    several = [f"mine:Head{number}" for number in range(9)]
    assert len({(style.colour(name), style.marker(name)) for name in several}) >= 8  # "mine:Head" has one of nine looks
    assert len({style.colour(name) for name in several}) == 3


# -- numbers -----------------------------------------------------------------------------------------------------------


def test_pooling_under_every_setting_is_that_of_the_heads(material: Material) -> None:
    texts, videos = material.bare
    rank, own = material.pooled(top_k=[2, F], temperature=[0.1])
    plain = [build_head("topk", D, top_k=2), build_head("mean", D), build_head("softmax", D, temperature=0.1)]
    for setting, head in enumerate(plain):
        similarity = similarity_matrix(head, texts, videos).numpy()
        np.testing.assert_allclose(own[setting], similarity[np.arange(len(texts)), material.target], atol=1e-5)
        np.testing.assert_array_equal(rank[setting], ranks(similarity, material.target))


def test_the_best_k_of_a_pair_is_how_many_frames_show_its_thing(material: Material) -> None:
    best, most = frames.best_ks(material)
    assert most == F
    assert len(best) == 18  # the short video's two captions are left out
    counts = np.bincount(best, minlength=F + 1)
    assert counts[1:4].sum() > 2 * counts[4:].sum()  # three of six frames show it


def test_chance_knows_how_many_frames_a_video_has(material: Material) -> None:
    """Nine videos of six frames and one of four, two captions each: the last two positions are chosen less."""
    axes = frames.topk_positions(material).axes[0]
    chosen = [bar.get_height() for bar in axes.patches if hasattr(bar, "get_height")][:F]
    steps = next(line for line in axes.lines if len(line.get_xdata()) == F + 1).get_ydata()
    assert sum(chosen) == pytest.approx(1)
    expected = np.array([18 * 3 / 6 + 2 * 3 / 4] * 4 + [18 * 3 / 6] * 2) / 60
    np.testing.assert_allclose(steps[:-1], expected)


def test_fusion_under_a_weight_is_the_head_with_that_weight(material: Material) -> None:
    head = material.heads["cmfi"].head
    for weight, fused in zip((0.0, 0.3, 4.0), sweeps.fusions(material, "cmfi", (0.0, 0.3, 4.0)), strict=True):
        head.fusion_weight = weight
        np.testing.assert_allclose(fused, similarity_matrix(head, *material.features("cmfi")).numpy(), atol=1e-5)
    head.fusion_weight = 1.0


def test_captions_that_know_no_truth_are_told_apart_by_their_videos_sound(tmp_path: Path) -> None:
    """In the validation split the videos 12, 16 and 20 have no sound, the other seven have; two captions each."""
    store = open_store(make(tmp_path / "real.zarr", truth_known=False))
    held = Material(store, {"cmfi": build_head("cmfi", D, video="mean", audio_dim=A)})
    wanted = np.repeat([v % 4 != 0 for v in range(12, 22)], 2)
    found = sweeps.groups(held)
    with_sound, without = "captions of videos with sound", "captions of videos without"
    assert list(found) == ["all captions", with_sound, without]
    np.testing.assert_array_equal(found[with_sound], wanted)
    np.testing.assert_array_equal(found[without], ~wanted)
    for draw in (truth.sound, sweeps.fusion_weight):
        told = told_by(draw(held))
        assert with_sound in told
        assert without in told
        assert "need" not in told
    assert "14 captions of videos with sound, 6 captions of videos without" in told_by(truth.sound(held))
    silent: Any = zarr.open_group(store.path, mode="a")["audio_presence"]
    silent[13], silent[14] = PRESENCE["silent"], PRESENCE["unknown"]
    again = Material(open_store(store.path), {"mean": build_head("mean", D)}).has_sound
    assert again[::2].tolist()[:4] == [0, 0, pytest.approx(np.nan, nan_ok=True), 1]


def told_by(figure: Figure) -> str:
    return " ".join(" ".join(text.get_text().split()) for text in texts_of(figure))


def test_the_weight_in_training_is_told_beside_the_one_chosen(path: Path, runs: Path, tmp_path: Path) -> None:
    store, printed = open_store(path), {}
    for name, keywords, changes in (
        ("as trained", {}, {}),
        ("chosen", {}, {"after": {"fusion_weight": 0.1}}),
        ("level", {"fusion_weight": 0.1}, {"after": {"fusion_weight": 0.1}}),
        ("before", {"fusion_weight": 0.1}, {"format": 1}),
    ):
        shutil.copytree(runs / "cmfi-1", tmp_path / name)
        told = json.loads((tmp_path / name / "run.json").read_text())
        told["keywords"] |= keywords
        (tmp_path / name / "run.json").write_text(json.dumps(told | changes))
        figure = sweeps.fusion_weight(Material(store, trained_heads(store, [tmp_path / name])))
        text = " ".join(" ".join(text.get_text().split()) for text in texts_of(figure))
        printed[name] = text.partition("95 % intervals; ")[2]
    for name, said in {
        "as trained": "dotted: the weight in training, 1",
        "chosen": "dotted: the weight 0.1, which was chosen after training with 1",
        "level": "dotted: the weight in training, 0.1",
        "before": "dotted: the run's weight, 0.1, from its training or chosen after it",
    }.items():
        assert printed[name].startswith(said)
        assert ("chosen" in printed[name]) == ("chosen" in said)
    alone = Material(store, {"cmfi": build_head("cmfi", D, video="mean", audio_dim=A, fusion_weight=0.5)})
    figure = sweeps.fusion_weight(alone)
    assert "dotted: the head's weight, 0.5" in told_by(figure)
    assert any(line.get_linestyle() == ":" and list(line.get_xdata()) == [0.5] * 2 for line in figure.axes[0].lines)


def test_what_has_no_projection_has_the_settings_of_the_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A k, and frames that are not normalised: those of no head but the trained one."""
    store = open_store(path)
    made = {
        "mean trained": build_head("mean", D, projection="linear", normalize=False),
        "topk k=1 trained": build_head("topk", D, projection="linear", top_k=1, normalize=False),
    }
    for head in made.values():
        for parameter in head.parameters():
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    material = Material(store, {**{one.label: one.head for one in plain_heads(store).values()}, **made})
    monkeypatch.setattr(heads, "grouped", lambda panels, source: panels)
    panels: Any = heads.projection(material)
    assert list(panels) == list(heads.METRICS)
    assert list(panels["R@1"]["zero-shot"]) == ["mean", "topk k=1"]
    plain = Material(store, {name: build_head(name, D, normalize=False, **keywords) for name, keywords in (
        ("mean", {}), ("topk", {"top_k": 1}))})  # fmt: skip
    for shown, name, label in zip(panels["R@1"]["zero-shot"], plain.heads, made, strict=True):
        for metric, groups in panels.items():
            assert groups["zero-shot"][shown] == plain.interval(name, metric)
            assert groups["trained projection"][shown] == material.interval(label, metric)
        assert any(True for _ in material.heads[label].head.parameters())  # the trained one is left as it was


def test_words_in_pieces_are_put_together(material: Material) -> None:
    """Four words in five tokens; each row is a distribution over frames, and the shares sum to one."""
    axes = words.words(material, 3).axes
    values = next(a for a in axes if a.images and a.get_xlabel()).images[0].get_array()
    assert values.shape == (4, F)
    np.testing.assert_allclose(values.sum(1), 1, rtol=1e-5)
    shares = [bar.get_width() for a in axes if a.get_xlabel() == "share (%)" for bar in a.patches]
    assert sum(shares) == pytest.approx(100, rel=1e-5)
    assert np.unique(material.words_of(3)[1]).tolist() == [0, 1, 2, 3]


def test_without_a_word_branch_words_show_cosines(material: Material) -> None:
    plain = Material(material.store, list(plain_heads(material.store).values()))
    row = int(np.flatnonzero(["dog" in caption["text"] for caption in plain.captions])[0])
    figure = words.words(plain, row)
    values = next(a for a in figure.axes if a.images and a.get_xlabel()).images[0].get_array()
    told = np.arange(F) < 3 if plain.captions[row]["start_s"] == 0 else np.arange(F) >= 3
    assert values[1][told].min() > values[1][~told].max()  # the second word is the thing itself
    assert "cosine of word and frame" in told_by(figure)


def test_strips_show_what_the_caption_tells_of(material: Material) -> None:
    video = 2
    strip = strips.strip_of(material, video, np.flatnonzero(material.target == video).tolist())
    assert len(strip.pictures) == F
    first, second = strip.readings
    assert (first.seconds, second.seconds) == ((0.0, 1.5), (1.5, 3.0))
    assert "mean" not in first.weights  # it weighs all frames alike, which the dotted line shows
    assert first.weights["topk k=3"].tolist() == pytest.approx([1 / 3] * 3 + [0] * 3)
    assert second.weights["topk k=3"].tolist() == pytest.approx([0] * 3 + [1 / 3] * 3)
    assert first.ranks["topk k=3"] == material.ranks("topk k=3")[2 * video]


def test_frames_without_times_have_numbers(tmp_path: Path) -> None:
    """Imported features bring none."""
    store = open_store(make(tmp_path / "imported.zarr"))
    times: Any = zarr.open_group(store.path, mode="a")["frame_times_s"]
    times[:] = np.nan
    held = Material(open_store(store.path), list(plain_heads(store).values()))
    short = int(np.flatnonzero(held.target == 9)[0])  # of four frames
    for figure in (strips.examples(held), strips.of_text(held, 3), strips.of_text(held, short), words.words(held, 3)):
        labels = [axes.get_xlabel() for axes in figure.axes]
        assert "frame" in labels
        assert "seconds from the start" not in labels
        assert "in green" not in told_by(figure)
        written = tidy.csv(figure.table).splitlines()
        assert "frame,time_s," in written[0]
        assert "nan" not in "".join(written)
    ticks = strips.of_text(held, short).axes[-1].get_xticklabels()
    assert [tick.get_text() for tick in ticks] == ["1", "2", "3", "4"]


def test_a_frame_at_the_moment_of_a_cut_is_told_as_the_measure_has_it() -> None:
    """Times are float32 in a store: 1.2 of them is a little more than 1.2, 1.1 a little more than 1.1."""
    times = np.array([0.0, 0.7, 1.4, 2.1], np.float32)
    assert within((0.7, 1.4), times).tolist() == [False, True, False, False]
    assert within((1.4, 2.1), times).tolist() == [False, False, True, False]
    assert within((1.4 + MOMENT_S / 2, 9.0), times).tolist() == [False, False, True, True]


def test_bars_below_clips_share_a_row_until_they_would_cover_each_other() -> None:
    told = [np.array(row, bool) for row in ([1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0])]
    assert clips._tracks(told) == [0, 0, 1, 0]
    assert clips._tracks(told[3:]) == []  # nothing is known of what it tells


def test_small_print_fills_its_lines_and_no_more() -> None:
    text = "lines: 95 % intervals of " + "a-very-long-name-of-a-store" * 9 + " and some more words that follow it"
    lines = room.small_print(style.COLUMN, text)
    assert "".join(lines).replace("\N{NO-BREAK SPACE}", "").replace(" ", "") == text.replace(" ", "")
    assert all(room.inches(line) <= style.COLUMN - 0.1 for line in lines)
    assert not any(line.startswith("%") for line in lines)
    first, second, *_ = room.small_print(style.COLUMN, "word " * 24)
    assert room.inches(f"{first} {second.split()[0]}") > style.COLUMN - 0.1


def test_strips_of_many_frames_and_of_none_with_a_picture() -> None:
    weights = {"xpool": np.full(30, 1 / 30), "topk k=3 trained topk-toy-2026-01-01": np.eye(30)[4]}
    long = strips.Strip([jpeg(i) for i in range(30)], np.arange(30) / 2, [strips.Reading("日本 $x$" * 40, weights)])
    bare = strips.Strip([], np.arange(30) / 2, [strips.Reading("", weights, {"xpool": 1.5}, (1.0, 4.0))])
    figure = strips.strips([long, bare])
    assert sum(bool(axes.images) for axes in figure.axes) == 1
    assert len(next(axes for axes in figure.axes if axes.images).images) <= strips.SHOWN
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        assert not leaving(figure, list(texts_of(figure)))
    assert style.png(figure)  # a script that the font lacks is no warning, and a dollar no formula


def test_attention_of_equal_weights_is_what_chance_gives(material: Material) -> None:
    one = material.truth("mean").attention()
    assert one is not None
    assert one["mass"].value == pytest.approx(one["uniform"].value)
    axes = truth.attention_truth(material).axes[0]
    assert axes.lines[0].get_xdata()[0] == pytest.approx(100 * one["uniform"].value)


def test_the_map_of_the_space_centres_each_kind(material: Material) -> None:
    figure = space.space(material, picked=3)
    clouds = [line for line in figure.axes[0].lines if len(line.get_xdata()) >= 20]
    for cloud in clouds:
        np.testing.assert_allclose([np.mean(cloud.get_xdata()), np.mean(cloud.get_ydata())], 0, atol=1e-6)
    assert sum(bool(axes.images) for axes in figure.axes) == 1


@pytest.mark.parametrize("gallery", [1, 2, 100])
def test_no_query_is_drawn_at_a_rank_that_there_is_not(gallery: int) -> None:
    """Ranks run from 1 to the size of the gallery, and the chance that parts equal points does not lead beyond."""
    ends = np.repeat([1.0, gallery], 500)
    figure = heads.rank_against_rank(ends, {"xpool": ends}, "mean", gallery)
    (points,) = (line for line in figure.axes[0].lines if line.get_marker() == "o")
    for drawn_at in np.asarray(points.get_data()):
        assert drawn_at.min() >= 1
        assert drawn_at.max() <= gallery
        np.testing.assert_allclose(drawn_at, ends, rtol=0.12)
        if gallery > 1:
            assert len(np.unique(drawn_at)) == len(ends)  # and equal ones still do not hide each other


def test_heads_alike_in_r1_are_told_apart_by_r5_then_r10(material: Material) -> None:
    made = {"d": 12, "c": 9, "b": 4, "a": 2, "mean": 1}  # the rank of the videos but one, which is found first
    held = Material(material.store, {label: build_head("mean", D) for label in made})
    for label, rank in made.items():
        wrong = held.target != 0
        found = np.zeros((len(held.target), 20), np.float32)
        found[:, 10 : 10 + rank - 1] = wrong[:, None]
        found[np.arange(len(found)), held.target] = np.where(wrong, 0.5, 1)
        held._similarities[label] = found
    assert [held.interval(label).value for label in "dcba"] == [10, 10, 10, 10]
    assert held.best_first() == ["mean", "b", "a", "c", "d"]
    shown = [axes.get_ylabel() for axes in heads.rank_pairs(held).axes]
    assert shown == [f"rank under {label}" for label in "bac"]


def test_few_videos_have_no_interval(material: Material) -> None:
    with pytest.raises(NoData, match="1 videos are too few to resample"):
        interval(np.ones(4), np.zeros(4, np.int64))


def test_arrays_alone_are_enough_for_a_notebook() -> None:
    one = Interval("R@1", 40.0, 30.0, 50.0, 0.95, 10, 5)
    for figure in (
        dots.row_dots([dots.Row(name, name, {"val": {"R@1": one}}) for name in ("mean", "mine")]),
        heads.rank_against_rank(np.ones(3), {"xpool": np.array([1, 2.5, 3])}, "mean", 3),
        sweeps.recall_curve([1, 2, 4], {"topk": [one, one, one]}, "k"),
        truth.sound_dots({"cmfi": dict.fromkeys(style.SOUND, one)}),
        frames.best_k_histogram(np.array([1, 1, 2]), 4),
        words.word_map(["a", "dog"], np.arange(3.0), np.eye(2, 3)),
    ):
        assert len(style.png(figure, dpi=40)) > 1000


# -- the command -------------------------------------------------------------------------------------------------------


def figures(*arguments: object) -> int:
    return cli.run(main, [str(argument) for argument in arguments])


def test_the_command_writes_both_files(
    path: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["heads", "recall_over_k", "--store", path, "--runs", runs, "--out", tmp_path / "out"]
    assert figures(*asked) == 0
    files = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    assert sorted(files) == ["heads.pdf", "heads.png", "recall_over_k.pdf", "recall_over_k.png"]
    assert files["heads.pdf"].startswith(b"%PDF")
    with Image.open(io.BytesIO(files["heads.png"])) as picture:
        assert picture.width == style.TEXT * style.DPI
    assert "2 figures of mean, topk k=3, softmax t=0.01, mean trained" in capsys.readouterr().out
    assert figures("recall_over_k", *asked[2:]) == 0
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == files  # the same bytes


def test_runs_by_name_stand_beside_mean_and_topk_as_help_says(
    path: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["heads", "--store", path, "--runs", runs, "--run", "xpool-1", "--page", "--out", tmp_path]
    assert figures(*asked) == 0
    assert "1 figure of mean, topk k=3, xpool on the split" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        figures("--help")
    assert "mean and topk k=3 are drawn with any" in " ".join(capsys.readouterr().out.split())


def test_a_page_gets_small_pngs_and_no_pdf(path: Path, runs: Path, tmp_path: Path) -> None:
    asked = ["clips", "heads", "--store", path, "--runs", runs, "--page", "--out", tmp_path / "out"]
    assert figures(*asked) == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["clips.png", "heads.png"]
    for file in (tmp_path / "out").iterdir():
        with Image.open(file) as picture:
            assert (picture.mode, picture.width) == ("P", 1400)
        assert file.stat().st_size < 200_000


def test_what_has_no_data_is_left_out_with_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = make(tmp_path / "bare.zarr", sound=False, truth_known=False, pictures=False)
    names = ["strips", "sound", "attention_truth", "fusion_weight", "projection", "heads"]
    assert figures(*names, "--store", bare, "--runs", tmp_path, "--out", tmp_path / "out") == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["heads.pdf", "heads.png"]
    told = capsys.readouterr().err
    for line in (
        "strips left out: no video of this split of ",
        "sound left out: bare.zarr has no two kinds of captions to compare: which ones need the sound only a made "
        "world knows, and val has not two videos with sound and two without",
        "attention_truth left out: the captions of bare.zarr know no truth: only a made world's do (toy)",
        f"fusion_weight left out: no run with sound: python -m lab.train cmfi --store {bare} --runs {tmp_path}\n",
        f"heads without training alone; python -m lab.train xpool --store {bare} --runs {tmp_path} trains a head",
        "projection left out: no run of mean nor of topk with a trained projection: python -m lab.train mean "
        f"--set projection=linear --store {bare} --runs {tmp_path} && python -m lab.train topk --set ",
        f"no run on {tmp_path / 'bare.zarr'} in ",
    ):
        assert line in told
    assert "for want of data" not in told
    assert figures("sound", "--store", bare, "--runs", tmp_path, "--out", tmp_path / "out") == 1


def test_trainings_that_a_figure_lacks_are_told_at_once_and_once_pasted_it_is_drawn(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["projection", "--store", path, "--runs", tmp_path / "my runs", "--page", "--out", tmp_path / "out"]
    assert figures(*asked) == 1
    line = next(line for line in capsys.readouterr().err.splitlines() if "projection left out" in line)
    commands = line.partition("projection: ")[2].split(" && ")
    assert len(commands) == 2
    for command in commands:
        python, option, module, *words = shlex.split(command)
        assert (python, option, module) == ("python", "-m", "lab.train")
        assert cli.run(train, [*words, "--set", "epochs=1", "--device", "cpu"]) == 0
    assert figures(*asked) == 0


def test_a_training_is_of_the_protocol_that_is_drawn(path: Path) -> None:
    material = Material(open_store(path), {"mean": build_head("mean", D)}, protocol="other")
    assert material.training("cmfi", "video=mean") == (
        f"python -m lab.train cmfi --set video=mean --store {path} --protocol other"
    )


def test_the_test_split_is_read_only_when_asked_for_and_logged(path: Path, runs: Path, tmp_path: Path) -> None:
    store = open_store(path)
    base = ["--store", path, "--runs", runs, "--out", tmp_path, "--run", "xpool-1"]
    assert figures("heads", *base) == 0
    assert count_reads(store, "test") == 0
    assert figures("heads", "recall_over_k", *base, "--split", "test") == 0
    rows = [json.loads(line) for line in path.with_name("made.reads.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["head"], row["split"]) for row in rows] == [
        ("mean", "test"),
        ("topk k=3", "test"),
        ("xpool", "test"),
    ]
    assert rows[2]["run"].endswith("xpool-1")
    assert rows[0]["command"].startswith("python -m lab.figures heads")
    path.with_name("made.reads.jsonl").unlink()


def test_names_and_runs_that_there_are_not(path: Path, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert figures("strip", "--store", path) == 2
    assert "unknown figure 'strip': did you mean 'strips'?" in capsys.readouterr().err
    assert figures("--store", path, "--runs", runs, "--run", "xpol-1") == 2
    assert (
        "unknown head or run 'xpol-1': did you mean 'xpool-1'? known: mean, topk, softmax, " in capsys.readouterr().err
    )
    assert figures("--store", path, "--split", "vl") == 2
    assert "unknown split of made 'vl': did you mean 'val'?" in capsys.readouterr().err


def test_the_list_says_what_each_figure_shows(capsys: pytest.CaptureFixture[str]) -> None:
    assert figures("--list") == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == [*FIGURES, *STUDY_FIGURES]
    assert all(len(line.split()) > 5 and len(line) < 120 for line in lines)


def test_runs_of_one_head_have_labels_that_differ(path: Path, runs: Path, tmp_path: Path) -> None:
    store = open_store(path)
    found = trained_heads(store, [runs / "xpool-1", runs / "xpool-1", runs / "topk-1"])
    assert [one.label for one in found] == ["xpool", "xpool xpool-1", "topk k=3 trained"]
    shutil.copytree(runs / "xpool-1", tmp_path / "a-study" / "runs" / "xpool-1")
    again = [runs / "xpool-1", *[tmp_path / "a-study" / "runs" / "xpool-1"] * 4]
    labels = [one.label for one in trained_heads(store, again)]
    named = ["xpool", "xpool xpool-1", *(f"xpool xpool-1 a-study{number}" for number in ("", " 2", " 3"))]
    assert labels == named
    assert [file.name for file in newest_runs(store, runs)] == ["mean-1", "topk-1", "xpool-1", "mgfi-1", "cmfi-1"]
    other = open_store(make(tmp_path / "other.zarr", sound=False))
    assert [file.name for file in newest_runs(other, runs)] == ["mean-1", "topk-1", "xpool-1", "mgfi-1"]


def test_a_label_says_the_settings_and_keeps_the_colour(path: Path, tmp_path: Path) -> None:
    store = open_store(path)
    plain = [one.label for one in plain_heads(store).values()]
    assert plain == ["mean", "topk k=3", "softmax t=0.01"]
    assert [style.colour(label) for label in plain] == [
        style.HEAD_COLOURS[name] for name in ("mean", "topk", "softmax")
    ]
    for number, settings in enumerate(({"temperature": 0.3}, {"temperature": 0.3, "top_k": 2})):
        save_heads(path, tmp_path / f"{number}", {"softmax": settings})
    found = trained_heads(store, [tmp_path / "0" / "softmax-s0", tmp_path / "1" / "softmax-s0"])
    assert [one.label for one in found] == ["softmax t=0.3 trained", "softmax k=2 t=0.3 trained"]


def test_runs_of_another_protocol_are_left_out(
    path: Path, runs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    shutil.copytree(runs, tmp_path / "runs")
    told = tmp_path / "runs" / "xpool-1" / "run.json"
    told.write_text(told.read_text().replace('"protocol": "made"', '"protocol": "other"'))
    store = open_store(path)
    assert [file.name for file in newest_runs(store, tmp_path / "runs")] == ["mean-1", "topk-1", "mgfi-1", "cmfi-1"]
    assert "left out, trained under another protocol than made: xpool-1 (other)" in caplog.text
    assert [file.name for file in newest_runs(store, tmp_path / "runs", "other")] == ["xpool-1"]


def test_a_head_with_forward_alone(path: Path) -> None:
    class Mine(torch.nn.Module):
        def forward(self, texts, videos):  # type: ignore[no-untyped-def]
            return texts.sentences @ videos.frames.nan_to_num().mean(1).T

    material = Material(open_store(path), {"mean": build_head("mean", D), "mine": Mine()})
    assert len(heads.heads(material).axes) == 3
    assert "mine" not in strips.strip_of(
        Material(material.store, {"mine": Mine(), "topk": build_head("topk", D, top_k=2)}), 0, [0]
    ).readings[0].weights  # fmt: skip
    with pytest.raises(NoData, match="no head here weighs frames by the text"):
        strips.examples(material)
    with pytest.raises(ValueError, match="labels must differ"):
        Material(material.store, [Candidate(Mine(), "mine"), Candidate(Mine(), "mine")])
    assert issubclass(NoData, LabError)


def test_warnings_of_a_store_are_said_in_the_figure(path: Path) -> None:
    store = open_store(path)
    store.passport["frames"] = {**store.passport["frames"], "random": True}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = heads.heads(Material(store, {"mean": build_head("mean", D)}))
    assert any("RANDOM WEIGHTS" in text.get_text() for text in texts_of(figure))
    assert isinstance(store, Store)


def test_a_smaller_gallery_is_said_in_the_figure(path: Path, tmp_path: Path) -> None:
    shutil.copytree(path, tmp_path / "made.zarr")
    zarr.open_group(tmp_path / "made.zarr", mode="a")["frame_count"][12] = 0  # the first of validation
    figure = heads.heads(Material(open_store(tmp_path / "made.zarr"), {"mean": build_head("mean", D)}))
    told = " ".join(" ".join(text.get_text().split()) for text in texts_of(figure))
    assert "9 of 10 listed videos and 18 of 20 captions: a smaller gallery makes every number better" in told

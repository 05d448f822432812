"""The numbers behind figures as CSV: an observation a row, and what is drawn is what is written."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from pictured import A, D, F, make

from lab import cli
from lab.choose import plain_heads
from lab.figures import FIGURES, Material, heads, space, style, tidy
from lab.figures.__main__ import main
from lab.heads import build_head
from lab.significance import Interval
from lab.store import open_store

#: What a figure of this material shows: its columns, and how many rows they have.
COLUMNS = {
    "heads": ("row head split metric unit value low high confidence queries videos", 6 * 3),
    "strips": ("video caption start_s end_s head rank frame time_s weight", 2 * 2 * 4 * F),
    "words": ("place word share meaning head video caption frame time_s value", 4 * F),
    "topk_positions": ("frames position share", 2 * F),
    "best_k": ("k_frames pairs share", F),
    "recall_over_k": ("curve k_frames_averaged metric unit value low high confidence queries videos", F + 1),
    "recall_over_temperature": (
        "curve temperature_of_the_softmax_over_cosines metric unit value low high confidence queries videos", 11 + 2,
    ),
    "projection": ("by group head metric unit value low high confidence queries videos", 2 * 2 * 3),
    "attention_truth": ("head metric unit value low high confidence queries videos", 6 + 1),
    "sound": ("head captions metric unit value low high confidence queries videos", 7 * 2),
    "fusion_weight": ("curve weight_of_the_sound metric unit value low high confidence queries videos", 3 * 15),
    "rank_pairs": ("head caption row rank", 4 * 20),
    "misses": ("caption video head rank found_first", 4),
    "by_length": ("by group head metric unit value low high confidence queries videos", 2 * 6),
    "space": ("kind first_component second_component video picked_out", 20 + 9 * F + 4),
}  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made") / "made.zarr")


@pytest.fixture(scope="module")
def material(path: Path) -> Material:
    store = open_store(path)
    made = {one.label: one.head for one in plain_heads(store).values()}
    for name, more in (("xpool", {}), ("mgfi", {}), ("cmfi", {"video": "mean", "audio_dim": A})):
        made[name] = build_head(name, D, **more).eval()
    return Material(store, made)


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("name", FIGURES)
def test_each_figure_has_its_numbers_in_columns(name: str, material: Material) -> None:
    if name == "clips":
        assert not FIGURES[name](material).table
        return
    if name == "projection":
        trained = {
            name: build_head(name, D, projection="linear", **more)
            for name, more in (("mean", {}), ("topk", {"top_k": 2}))
        }
        material = Material(material.store, trained)
    figure = FIGURES[name](material)
    columns, count = COLUMNS[name]
    text = tidy.csv(figure.table)
    rows = read(text)
    assert text.partition("\n")[0] == columns.replace(" ", ",")
    assert len(rows) == count == text.count("\n") - 1  # no cell breaks a line
    own = [column for column in rows[0] if column not in ("value", "low", "high", "share", "weight", "rank", "pairs")]
    if name != "space":
        assert len({tuple(row[column] for column in own) for row in rows}) == count  # no observation stands there twice


def test_what_is_written_is_what_is_drawn(material: Material) -> None:
    figure = heads.heads(material)
    for axes, metric in zip(figure.axes, heads.METRICS, strict=True):
        points = [line.get_xdata()[0] for line in axes.lines if line.get_marker() != "None"]
        rows = [row for row in read(tidy.csv(figure.table)) if row["metric"] == metric]
        assert [float(row["value"]) for row in rows] == points
        assert [row["row"] for row in rows] == list(material.heads)
        ends = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2][: len(rows)]
        assert [[float(row["low"]), float(row["high"])] for row in rows] == [list(pair) for pair in ends]
    figure = FIGURES["topk_positions"](material)
    bars = [bar.get_height() for bar in figure.axes[0].patches][:F]
    assert [float(row["share"]) for row in read(tidy.csv(figure.table))][:F] == bars
    figure = FIGURES["space"](material)
    texts = [row for row in figure.table if row["kind"] == "text"]
    cloud = next(line for line in figure.axes[0].lines if len(line.get_xdata()) == len(texts))
    assert [row["first_component"] for row in texts] == list(cloud.get_xdata())
    assert sum(row["picked_out"] is not None for row in texts) == 2 * 6
    figure = FIGURES["best_k"](material)
    bars = [bar.get_height() for bar in figure.axes[0].patches]
    assert [float(row["share"]) for row in read(tidy.csv(figure.table))] == bars
    assert sum(bars) == pytest.approx(1)


def test_strips_write_the_weights_of_the_heads(material: Material) -> None:
    table = FIGURES["strips"](material).table
    for caption in {row["caption"] for row in table}:
        for head in {row["head"] for row in table}:
            seen = [
                row
                for row in table
                if (row["caption"], row["head"], row["video"]) == (caption, head, table[0]["video"])
            ]
            if seen:
                assert sum(row["weight"] for row in seen) == pytest.approx(1, abs=1e-5)
                assert [row["time_s"] for row in seen] == [i / 2 for i in range(len(seen))]


def test_a_number_says_of_which_head_video_and_caption_it_is(material: Material, path: Path) -> None:
    best = material.best_first()[0]
    assert {row["head"] for row in FIGURES["misses"](material).table} == {best}
    plain = Material(material.store, {"mean": material.heads["mean"].head})
    for one, head in ((material, "mgfi"), (plain, None)):
        (of,) = {(row["video"], row["caption"], row["head"]) for row in FIGURES["words"](one).table}
        texts = [text for text, row in enumerate(one.captions) if row["text"] == of[1]]
        assert of[0] in {one.video_id(one.target[text]) for text in texts}
        assert of[2] == head
    for row in FIGURES["rank_pairs"](material).table:
        caption = material.store.captions[row["row"]]
        assert row["caption"] == caption["text"]
        assert caption["splits"] == {"made": "val"}
        text = material.bare[0].rows.tolist().index(row["row"])
        assert row["rank"] == material.ranks(row["head"])[text]


def test_videos_picked_out_with_one_caption_differ() -> None:
    picked = [space.Picked(np.array([i]), np.array([i, i + 2]), name, "a dog") for i, name in enumerate(("v1", "v2"))]
    figure = space.joint_map(np.eye(3, 2), np.ones((5, 2)), (0.5, 0.2), picked)
    videos = {kind: [row["video"] for row in figure.table if row["kind"] == kind] for kind in ("text", "frame")}
    assert videos == {"text": ["v1", "v2", None], "frame": ["v1", "v2", "v1", "v2", None]}
    assert [row["picked_out"] for row in figure.table if row["video"] is not None] == ["a dog"] * 6


def test_what_is_not_known_is_empty_and_units_are_told() -> None:
    one = Interval("MdR", 2.0, 1.0, np.nan, 0.95, 10, 5)
    text = tidy.csv([*tidy.rows({"a,b": one}, "head"), {"head": "two\nlines", "more": None}])
    assert read(text) == [
        {"head": "a,b", "metric": "MdR", "unit": "rank", "value": "2.0", "low": "1.0", "high": "", "confidence": "0.95",
         "queries": "10", "videos": "5", "more": ""},
        {"head": "two, lines", **dict.fromkeys(["metric", "unit", "value", "low", "high"], ""),
         **dict.fromkeys(["confidence", "queries", "videos", "more"], "")},
    ]  # fmt: skip
    assert [tidy.unit(name) for name in ("R@10", "gm(R@1,5,10)", "MnR", "MRR")] == ["%", "%", "rank", "1"]
    with pytest.raises(ValueError, match="zip"):
        tidy.rows([1.0, 2.0], ("k", [1]))


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\f", "\v", "\x85", "\u2028", "\u2029"])
def test_a_line_break_of_a_caption_breaks_no_row(end: str) -> None:
    text = tidy.csv([{"caption": f"a dog{end}barks", "rank": 2}])
    assert text.splitlines() == ["caption,rank", '"a dog, barks",2']


@pytest.mark.parametrize("text", ["=2+3", "+1", "-1 dog", "@home", "'=1", " a  dog "])
def test_texts_are_verbatim(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert read(tidy.csv([{"caption": text, "value": -1.5}])) == [{"caption": text, "value": "-1.5"}]
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "(texts as they are: import them as text)" in " ".join(capsys.readouterr().out.split())


def figures(*arguments: object) -> int:
    return cli.run(main, [str(argument) for argument in arguments])


def test_the_command_writes_csv_beside_the_figure(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["heads", "clips", "--store", path, "--runs", tmp_path / "none", "--out", tmp_path / "out", "--page"]
    assert figures(*asked) == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["clips.png", "heads.png"]
    assert figures(*asked, "--csv") == 0
    assert "no CSV of clips: pictures alone" in capsys.readouterr().err
    assert sorted(file.suffix for file in (tmp_path / "out").iterdir()) == [".csv", ".png", ".png"]
    rows = read((tmp_path / "out" / "heads.csv").read_text())
    store = open_store(path)
    plain = Material(store, list(plain_heads(store).values()))
    found = {(row["row"], row["metric"]): float(row["value"]) for row in rows}
    assert found == {(label, m): plain.interval(label, m).value for label in plain.heads for m in heads.METRICS}
    drawn = heads.heads(plain)
    assert style.save(drawn, tmp_path / "all", "heads", csv=True) == tuple(
        tmp_path / "all" / f"heads.{kind}" for kind in ("png", "pdf", "csv")
    )


@pytest.mark.parametrize(
    "there",
    [
        "row,notes\nmean,mine\n",
        "place,row,head\n1,a,b\n",
        "row;head;split\n",  # a spreadsheet's, who knows with what in it
        "only a line",
        b"\xff\xfe\x00" * 9000,
    ],
)
def test_a_table_that_is_not_the_figures_is_not_overwritten(
    there: str | bytes, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, content = tmp_path / "out", there.encode() if isinstance(there, str) else there
    out.mkdir()
    (out / "heads.csv").write_bytes(content)
    asked = ["heads", "--store", path, "--runs", tmp_path / "none", "--out", out, "--page"]
    assert figures(*asked, "--csv") == 2
    told = f"--csv must not overwrite {out}/heads.csv, which is no table of this figure: give another --out"
    assert told in capsys.readouterr().err
    assert [file.name for file in out.iterdir()] == ["heads.csv"]
    assert (out / "heads.csv").read_bytes() == content
    assert figures(*asked) == 0  # without --csv it is in nobody's way
    assert (out / "heads.csv").read_bytes() == content


@pytest.mark.parametrize("there", ["row,head,of,before\nmean,b,c,d\n", "\ufeffrow,head\r\n", "row,head", "", "\n"])
def test_the_figures_own_table_is_written_anew(there: str, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(there, encoding="utf-8", newline="")
    style.save(style.new(1, 1, table=[{"row": "mean", "head": "mean", "value": 2}]), tmp_path, "mine", True, csv=True)
    assert (tmp_path / "mine.csv").read_text() == "row,head,value\nmean,mean,2\n"


def test_numbers_of_an_earlier_figure_are_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def saved(value: float | None, **options: bool) -> list[str]:
        caplog.clear()
        table = [] if value is None else [{"row": "mean", "head": "mean", "value": value}]
        style.save(style.new(1, 1, table=table), tmp_path, "heads", page=True, **options)
        return [record.getMessage() for record in caplog.records]

    assert saved(1.0) == saved(2.0, csv=True) == saved(2.0) == []  # none is there, written, still true
    before = (tmp_path / "heads.csv").read_bytes()
    assert saved(3.0) == ["heads.csv is of an earlier figure: --csv writes it anew"]
    assert saved(None, csv=True) == ["heads.csv is of an earlier figure: this one has no numbers"] == saved(None)
    assert (tmp_path / "heads.csv").read_bytes() == before
    assert saved(3.0, csv=True) == []
    assert (tmp_path / "heads.csv").read_bytes() != before
    (tmp_path / "heads.csv").write_text("notes,of mine\n")
    assert saved(3.0) == []  # no figure's

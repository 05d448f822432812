"""The published data sets, on small trees made here in the layouts that people have on disk."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from lab.datasets import Collection, get_dataset
from lab.datasets.published import Published
from lab.errors import LabError


def put(path: Path, text: str = "x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def put_json(path: Path, data: object) -> None:
    put(path, json.dumps(data))


def put_list(path: Path, ids: Iterable[str]) -> None:
    put(path, "\n".join(ids))


def rows(collection: Collection, protocol: str, split: str) -> list[tuple[str, str]]:
    return [
        (collection.videos[caption.video].id, caption.text)
        for caption in collection.captions
        if caption.splits.get(protocol) == split
    ]


def files(collection: Collection) -> dict[str, str]:
    found = {video.id: video.file for video in collection.videos}
    return {key: path.relative_to(collection.root).as_posix() for key, path in found.items() if path}


# ---- MSVD

MSVD = {
    "-a_b_1_2": ["a man cooks", "a man cooks", "he cooks"],
    "b_3_4": ["a dog runs"],
    "_c_5_6": ["a cat"],
    "x": ["lost"],
}


def msvd_lists(folder: Path) -> None:
    put_list(folder / "train_list.txt", ["-a_b_1_2"])
    put_list(folder / "val_list.txt", ["b_3_4"])
    put_list(folder / "test_list.txt", ["_c_5_6", "d_7_8"])


def msvd_xpool(root: Path) -> None:
    msvd_lists(root / "data" / "MSVD")
    put_json(root / "data" / "MSVD" / "captions_msvd.json", MSVD)
    put(root / "videos" / "-a_b_1_2.avi")


def msvd_clip4clip(root: Path) -> None:
    msvd_lists(root / "msvd_data")
    path = root / "msvd_data" / "raw-captions.pkl"
    path.write_bytes(pickle.dumps({key: [text.split() for text in texts] for key, texts in MSVD.items()}, 2))
    put(root / "MSVD_Videos" / "deeper" / "-a_b_1_2.avi")


def msvd_texas(root: Path) -> None:
    msvd_lists(root)
    lines = [f"{key} {text}" for key, texts in MSVD.items() for text in texts]
    put(root / "AllVideoDescriptions.txt", "# about\n\n" + "\n".join(lines) + "\n")
    put(root / "YouTubeClips" / "-a_b_1_2.avi")


@pytest.mark.parametrize("layout", [msvd_xpool, msvd_clip4clip, msvd_texas])
def test_msvd_layouts_say_the_same(layout: object, tmp_path: Path) -> None:
    assert callable(layout)
    layout(tmp_path)
    collection = get_dataset("msvd").read(tmp_path)
    assert [video.id for video in collection.videos] == ["-a_b_1_2", "b_3_4", "_c_5_6", "d_7_8"]
    assert rows(collection, "msvd", "train") == [("-a_b_1_2", text) for text in MSVD["-a_b_1_2"]]
    assert rows(collection, "msvd", "test") == [("_c_5_6", "a cat")]
    assert len(files(collection)) == 1
    assert collection.missing == ("b_3_4", "_c_5_6", "d_7_8")
    assert "msvd test: expected 670 videos and 27,763 captions, found 2 and 1" in collection.notes
    assert "1 captions of 1 videos that no list names are left out: x" in collection.notes
    assert "1 videos have no caption: d_7_8" in collection.notes
    assert any(note.startswith("test_list.txt is not the published file (md5 ") for note in collection.notes)
    put(tmp_path / "elsewhere" / "b_3_4.mp4")
    again = get_dataset("msvd").read(tmp_path)
    assert again.version == collection.version == get_dataset("msvd").read(tmp_path / ".").version
    assert "b_3_4" in files(again)


def test_msvd_names_what_is_missing_and_where_to_get_it(tmp_path: Path) -> None:
    put_list(tmp_path / "train_list.txt", ["a"])
    message = (
        r"msvd needs val_list.txt, test_list.txt, captions_msvd.json or raw-captions.pkl or AllVideoDescriptions.txt "
        r"below .*: they are in https://github.com/ArrowLuo/.*msvd_data.zip \(--download gets it\)"
    )
    with pytest.raises(LabError, match=message):
        get_dataset("msvd").read(tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (["a"], "must map ids to lists of captions, it holds a list"),
        ({"a": "text"}, "must map ids to lists of captions, at 'a' it has a str"),
        ({"a": [1]}, "must hold captions as text or lists of words, at 'a' it has 1"),
        ({"a": [["x", 2]]}, "must hold captions as text or lists of words, at 'a' it has"),
    ],
)
def test_msvd_captions_of_another_shape(data: object, message: str, tmp_path: Path) -> None:
    msvd_lists(tmp_path)
    put_json(tmp_path / "captions_msvd.json", data)
    with pytest.raises(LabError, match=f"captions_msvd.json {message}"):
        get_dataset("msvd").read(tmp_path)


# ---- MSR-VTT

TESTS = {"video7021": "A  man plays", "video9000": "not among them"}
TEXTS = {
    key: [f"{key} says {place}" for place in range(3)] for key in ("video0", "video6513", "video7010", "video9000")
}
TEXTS["video7021"] = ["something", "a man plays", "a man plays"]


def msrvtt(root: Path, *, data: str | None, train: bool = True, test: bool = True) -> None:
    ids = [f"video{number}" for number in range(10000)]
    if train:
        put_list(root / "MSRVTT_train.9k.csv", ["video_id", *(key for key in ids if key not in TESTS)])
        put_list(root / "MSRVTT_train.7k.csv", ["video_id", *sorted(ids[:7010])])
    if test:
        lines = [f"ret{place},msr,{key},{text}" for place, (key, text) in enumerate(TESTS.items())]
        put_list(root / "MSRVTT_JSFUSION_test.csv", ["key,vid_key,video_id,sentence", *lines])
    sentences = [(key, TEXTS[key][place]) for place in range(3) for key in TEXTS]
    if data == "MSR_VTT.json":
        rows = [{"image_id": key, "caption": text} for key, text in sentences]
        put_json(root / "annotation" / data, {"annotations": rows})
    elif data:
        rows = [{"video_id": key, "caption": text, "sen_id": place} for place, (key, text) in enumerate(sentences)]
        put_json(root / data, {"videos": [], "sentences": rows})
    put(root / "videos" / "all" / "video0.webm")
    put(root / "videos" / "all" / "video9000.mp4")


@pytest.mark.parametrize("data", ["MSRVTT_data.json", "MSR_VTT.json", "train_val_videodatainfo.json"])
@pytest.mark.parametrize("train", [True, False])
def test_msrvtt_protocols(data: str, train: bool, tmp_path: Path) -> None:
    msrvtt(tmp_path, data=data, train=train)
    collection = get_dataset("msrvtt").read(tmp_path)
    assert collection.protocols == ("1k-A-9k", "1k-A-7k", "full")
    assert len(collection.videos) == 10000
    assert files(collection) == {"video0": "videos/all/video0.webm", "video9000": "videos/all/video9000.mp4"}
    counts = {protocol: collection.splits(protocol) for protocol in collection.protocols}
    assert counts["1k-A-9k"] == {"train": (9501, 6), "val": (497, 1), "test": (2, 2)}
    assert counts["1k-A-7k"] == {"train": (6513, 3), "val": (497, 1), "test": (2, 2)}
    assert counts["full"] == {"train": (6513, 3), "val": (497, 3), "test": (2990, 9)}
    for protocol in ("1k-A-9k", "1k-A-7k"):
        assert rows(collection, protocol, "val") == [("video6513", "video6513 says 0")]
        assert rows(collection, protocol, "test") == [("video7021", "a man plays"), ("video9000", "not among them")]
    assert rows(collection, "1k-A-9k", "train")[3:] == [("video7010", text) for text in TEXTS["video7010"]]
    assert [text for key, text in rows(collection, "full", "test") if key == "video7021"] == TEXTS["video7021"]
    assert "1 test captions are none of their video's captions and are added: video9000" in collection.notes
    order = [video.splits["1k-A-9k"] for video in collection.videos]
    assert order == ["train"] * 9501 + ["val"] * 497 + ["test"] * 2
    made = "MSRVTT_train.9k.csv is not below"
    assert any(note.startswith(made) for note in collection.notes) is not train


def test_msrvtt_without_captions_has_the_test_captions_alone(tmp_path: Path) -> None:
    msrvtt(tmp_path, data=None)
    collection = get_dataset("msrvtt").read(tmp_path)
    assert collection.splits("1k-A-9k") == {"train": (9501, 0), "val": (497, 0), "test": (2, 2)}
    assert [caption.text for caption in collection.captions] == list(TESTS.values())
    assert any(
        note.startswith("MSRVTT_data.json is not below") and "msrvtt_data.zip" in note for note in collection.notes
    )
    assert not any("are added" in note for note in collection.notes)


def test_msrvtt_without_the_test_list_is_full_alone(tmp_path: Path) -> None:
    msrvtt(tmp_path, data="MSRVTT_data.json", test=False)
    collection = get_dataset("msrvtt").read(tmp_path)
    assert collection.protocols == ("full",)
    assert collection.splits("full") == {"train": (6513, 3), "val": (497, 3), "test": (2990, 9)}
    assert any("MSRVTT_JSFUSION_test.csv is not below" in note for note in collection.notes)


def test_msrvtt_needs_one_of_the_two(tmp_path: Path) -> None:
    msrvtt(tmp_path, data=None, test=False)
    message = r"msrvtt needs MSRVTT_JSFUSION_test.csv, MSRVTT_data.json or MSR_VTT.json below .*msrvtt_data.zip"
    with pytest.raises(LabError, match=message):
        get_dataset("msrvtt").read(tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [([], 'must have a list "sentences"'), ({"sentences": [{"caption": "a"}]}, "number 1 is {'caption': 'a'}")],
)
def test_msrvtt_captions_of_another_shape(data: object, message: str, tmp_path: Path) -> None:
    put_json(tmp_path / "MSRVTT_data.json", data)
    with pytest.raises(LabError, match=message):
        get_dataset("msrvtt").read(tmp_path)


# ---- DiDeMo


def didemo(root: Path, lists: bool = True) -> None:
    def entry(video: str, text: str) -> dict[str, object]:
        return {"video": video, "description": text, "times": [[0, 0]], "num_segments": 6}

    train = [
        entry("1@N00_11_aa.mov", "first\nthing "),
        entry("1@N00_22_bb.", "other"),
        entry("1@N00_11_aa.mov", "second"),
    ]
    put_json(root / "train_data.json", [*train, entry("9@N00_99_zz.avi", "extra")])
    put_json(root / "val_data.json", [entry("2@N00_33_cc.m4v", "third"), entry("2@N00_44_dd.null", "fourth")])
    put_json(root / "test_data.json", [entry("3@N00_55_ee.3gp", "fifth"), entry("3@N00_66_ff.avi", "sixth")])
    if lists:
        put_list(root / "train_list.txt", ["1@N00_22_bb.", "1@N00_11_aa.mov"])
        put_list(root / "val_list.txt", ["2@N00_33_cc.m4v", "2@N00_44_dd.null"])
        put_list(root / "test_list.txt", ["3@N00_55_ee", "3@N00_66_ff.avi"])


def test_didemo_paragraphs_and_matching(tmp_path: Path) -> None:
    didemo(tmp_path)
    names = {
        "1@N00_11_aa.mov": "1@N00_11_aa.mov",
        "1@N00_22_bb.": "1@N00_22_bb..mp4",
        "2@N00_33_cc.m4v": "2@N00_33_cc.m4v.mp4",
        "2@N00_44_dd.null": "2@N00_44_dd.mp4",
        "3@N00_55_ee.3gp": "3@N00_55_ee.3gp.avi",
    }
    for name in names.values():
        put(tmp_path / "videos" / name)
    collection = get_dataset("didemo").read(tmp_path)
    assert files(collection) == {key: f"videos/{name}" for key, name in names.items()}
    assert collection.missing == ("3@N00_66_ff.avi",)
    assert rows(collection, "paragraphs", "train") == [
        ("1@N00_22_bb.", "other"),
        ("1@N00_11_aa.mov", "first thing second"),
    ]
    assert [key for key, _ in rows(collection, "paragraphs", "test")] == ["3@N00_55_ee.3gp", "3@N00_66_ff.avi"]
    assert "1 videos of train_data.json are not in train_list.txt, left out: 9@N00_99_zz.avi" in collection.notes
    assert "didemo test: expected 1,004 videos and 1,004 captions, found 2 and 2" in collection.notes


def test_didemo_without_lists_takes_all(tmp_path: Path) -> None:
    didemo(tmp_path, lists=False)
    collection = get_dataset("didemo").read(tmp_path)
    assert collection.splits("paragraphs") == {"train": (3, 3), "val": (2, 2), "test": (2, 2)}
    assert any("train_list.txt is not below" in note and "all 3 videos" in note for note in collection.notes)
    put_json(tmp_path / "val_data.json", [{"video": "x"}])
    with pytest.raises(LabError, match=r"val_data.json must have video and description in each entry, number 1 is"):
        get_dataset("didemo").read(tmp_path)


# ---- LSMDC


def lsmdc_line(clip: str, text: str, quote: str = "") -> str:
    return quote + "\t".join([clip, "00.00.01.000", "00.00.02.000", "00.00.01.000", "00.00.02.000", text]) + quote


def lsmdc(root: Path) -> None:
    a, b, c = (f"100{place}_Up_00.00.0{place}.000-00.00.09.000" for place in range(3))
    train = [lsmdc_line(a, "SOMEONE \u2028 walks.", '"'), lsmdc_line(a, "He stops."), lsmdc_line(b, "").strip()]
    put(root / "LSMDC16_annos_training.csv", "\r\n".join(train) + "\r\n")
    put(root / "LSMDC16_annos_val.csv", lsmdc_line(c, 'He says "go".'))
    test = "1012_Unbreakable_00.05.16.065-00.05.21.941"
    put(root / "LSMDC16_challenge_1000_publictect.csv", lsmdc_line(test, "She runs.") + "\n")
    put(root / "videos" / "1012_Unbreakable" / f"{test}.avi")


def test_lsmdc_keeps_every_sentence_and_dotted_ids(tmp_path: Path) -> None:
    lsmdc(tmp_path)
    collection = get_dataset("lsmdc").read(tmp_path)
    assert collection.splits("lsmdc") == {"train": (2, 2), "val": (1, 1), "test": (1, 1)}
    assert [text for _, text in rows(collection, "lsmdc", "train")] == ["SOMEONE \u2028 walks.", "He stops."]
    assert [text for _, text in rows(collection, "lsmdc", "val")] == ['He says "go".']
    assert list(files(collection)) == ["1012_Unbreakable_00.05.16.065-00.05.21.941"]
    empty = "1001_Up_00.00.01.000-00.00.09.000"
    assert f"1 captions are empty and left out: {empty}" in collection.notes
    assert "lsmdc train: expected 2 videos and 101,079 captions, found 2 and 2" in collection.notes


def test_captions_that_hold_nothing_leave_videos_without(tmp_path: Path) -> None:
    msvd_xpool(tmp_path)
    put_json(tmp_path / "data" / "MSVD" / "captions_msvd.json", {})
    notes = get_dataset("msvd").read(tmp_path).notes
    assert "4 videos have no caption: -a_b_1_2, b_3_4, _c_5_6, d_7_8" in notes


def test_a_file_under_its_other_name_is_held_against_the_published_one(tmp_path: Path) -> None:
    lsmdc(tmp_path)
    test = tmp_path / "LSMDC16_challenge_1000_publictect.csv"
    test.rename(tmp_path / "LSMDC16_challenge_1000_publictest.csv")
    notes = get_dataset("lsmdc").read(tmp_path).notes
    assert any("publictest.csv" in note and "is not the published file" in note for note in notes)


def test_lsmdc_is_had_from_its_owners_and_lines_are_checked(tmp_path: Path) -> None:
    assert get_dataset("lsmdc").sources == ()
    with pytest.raises(
        LabError,
        match=r"lsmdc needs LSMDC16_annos_training.csv, .*publictect.csv or .*publictest.csv below .*sign the form",
    ):
        get_dataset("lsmdc").read(tmp_path)
    lsmdc(tmp_path)
    put(tmp_path / "LSMDC16_annos_val.csv", "a,b,c\n")
    with pytest.raises(LabError, match=r"LSMDC16_annos_val.csv line 1 has 1 fields, 6 separated by tabs are needed"):
        get_dataset("lsmdc").read(tmp_path)


# ---- ActivityNet


def test_activitynet_paragraphs_ids_and_held_out_videos(tmp_path: Path) -> None:
    train = {f"v_train{place:06d}": {"sentences": [f" one {place}", "  two\n three "]} for place in range(40)}
    put_json(tmp_path / "anet" / "train.json", train)
    put_json(
        tmp_path / "anet" / "val_1.json",
        {"v_-test_____1": {"sentences": ["a", " "]}, "v_test_____02": {"sentences": ["b"]}},
    )
    put_json(tmp_path / "anet" / "train_ids.json", [*train, "v_gone"])
    put(tmp_path / "videos" / "train000000.mp4")
    put(tmp_path / "videos" / "v_-test_____1.mkv")
    collection = get_dataset("activitynet").read(tmp_path)
    assert collection.splits("val1") == {"train": (38, 38), "val": (2, 2), "test": (2, 2)}
    assert rows(collection, "val1", "test") == [("v_-test_____1", "a"), ("v_test_____02", "b")]
    texts = dict(rows(collection, "val1", "train") + rows(collection, "val1", "val"))
    assert texts["v_train000007"] == "one 7 two three"
    assert files(collection) == {"v_train000000": "videos/train000000.mp4", "v_-test_____1": "videos/v_-test_____1.mkv"}
    assert "1 ids of train_ids.json have no captions and are left out: v_gone" in collection.notes
    put_json(tmp_path / "anet" / "val_1.json", {"v_x": ["a"]})
    with pytest.raises(LabError, match=r'val_1.json must have a list "sentences" for each id, \'v_x\' has'):
        get_dataset("activitynet").read(tmp_path)


# ---- VATEX


def vatex_official(root: Path, test: bool = True) -> None:
    def entries(*ids: str) -> list[dict[str, object]]:
        return [{"videoID": key, "enCap": [f"{key} one", f"{key} two"], "chCap": ["x"]} for key in ids]

    put_json(root / "vatex_training_v1.0.json", entries("-a_000001_000011", "b_000001_000011"))
    put_json(root / "vatex_validation_v1.0.json", entries("c_000001_000011", "d_000001_000011"))
    if test:
        put_json(root / "vatex_public_test_english_v1.1.json", entries("e_000001_000011"))


def vatex_lists(root: Path, val: bool = True) -> None:
    put_list(root / "train_list.txt", ["-a_000001_000011", "b_000001_000011"])
    put_list(root / "test_list.txt", ["d_000001_000011"])
    if val:
        put_list(root / "val_list.txt", ["c_000001_000011"])


def test_vatex_official_files_with_and_without_lists(tmp_path: Path) -> None:
    vatex_official(tmp_path)
    put(tmp_path / "videos" / "-a_000001_000011.mp4")
    alone = get_dataset("vatex").read(tmp_path)
    assert alone.protocols == ("official",)
    assert alone.splits("official") == {"train": (2, 4), "val": (2, 4), "test": (1, 2)}
    assert any("no protocol hgr" in note for note in alone.notes)
    vatex_lists(tmp_path)
    both = get_dataset("vatex").read(tmp_path)
    assert both.protocols == ("hgr", "official")
    assert both.splits("hgr") == {"train": (2, 4), "val": (1, 2), "test": (1, 2)}
    assert both.splits("official") == alone.splits("official")
    assert list(files(both)) == ["-a_000001_000011"]
    assert "vatex hgr test: expected 1,500 videos and 15,000 captions, found 1 and 2" in both.notes


@pytest.mark.parametrize("shape", ["ref_captions.json", "vatex_data.json"])
def test_vatex_in_one_file(shape: str, tmp_path: Path) -> None:
    ids = ["-a_000001_000011", "b_000001_000011", "c_000001_000011", "d_000001_000011"]
    texts = {key: [f"{key} one"] for key in ids}
    put_json(tmp_path / shape, texts if shape == "ref_captions.json" else {key: {"enCap": texts[key]} for key in ids})
    with pytest.raises(LabError, match=r"vatex needs train_list.txt, test_list.txt below .*hgr_v2t"):
        get_dataset("vatex").read(tmp_path)
    vatex_lists(tmp_path, val=False)
    collection = get_dataset("vatex").read(tmp_path)
    assert collection.protocols == ("hgr",)
    assert collection.splits("hgr") == {"train": (2, 2), "test": (1, 1)}
    assert any(note.startswith("val_list.txt is not below") for note in collection.notes)


def test_vatex_names_what_is_missing(tmp_path: Path) -> None:
    message = r"vatex needs vatex_training_v1.0.json or vatex_data.json, vatex_validation.*eric-xw"
    with pytest.raises(LabError, match=message):
        get_dataset("vatex").read(tmp_path)
    vatex_official(tmp_path, test=False)
    with pytest.raises(LabError, match=r"vatex needs train_list.txt, test_list.txt"):
        get_dataset("vatex").read(tmp_path)
    put_json(tmp_path / "vatex_training_v1.0.json", [{"videoId": "x"}])
    with pytest.raises(LabError, match=r"vatex_training_v1.0.json must have a videoID in each entry"):
        get_dataset("vatex").read(tmp_path)


# ---- hashes


def activitynet(root: Path) -> None:
    put_json(root / "train.json", {f"v_train{place:06d}": {"sentences": ["one"]} for place in range(40)})
    put_json(root / "val_1.json", {"v_test_____01": {"sentences": ["two"]}})


@pytest.mark.parametrize(
    ("name", "write", "told"),
    [
        ("msvd", msvd_xpool, ["captions_msvd.json"]),
        ("msvd", msvd_texas, []),  # of which no hash is known
        ("didemo", didemo, ["val_data.json", "test_data.json"]),
        ("activitynet", activitynet, ["train.json", "val_1.json"]),
    ],
)
def test_captions_of_another_content_than_published_are_told(
    name: str, write: Callable[[Path], None], told: list[str], tmp_path: Path
) -> None:
    write(tmp_path)
    note = " is not the published file (md5 "
    said = [line.partition(note) for line in get_dataset(name).read(tmp_path).notes if note in line]
    found = {file: rest[:32] for file, _, rest in said if not file.endswith("_list.txt")}
    assert list(found) == told
    dataset = get_dataset(name)
    assert isinstance(dataset, Published)
    these = {file: (md5,) for file, md5 in found.items()}  # as if these were the published ones
    notes = dataclasses.replace(dataset, md5s={**dataset.md5s, **these}).read(tmp_path).notes
    assert [line for line in notes if note in line and "_list.txt" not in line] == []

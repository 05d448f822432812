"""A user's own folder: what captions.csv may say, and what is told where it is wrong."""

from __future__ import annotations

import json
import shutil
import unicodedata
from pathlib import Path

import pytest

from lab.datasets import Collection, get_dataset
from lab.errors import LabError


def make(root: Path, *videos: str, csv: str | None = None, data: object = None) -> Path:
    for name in videos:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    if csv is not None:
        (root / "captions.csv").write_text(csv, encoding="utf-8")
    if data is not None:
        (root / "captions.json").write_text(json.dumps(data), encoding="utf-8")
    return root


def read(root: Path, split: str | None = None, seed: int = 0) -> Collection:
    return get_dataset("folder").read(root, split=split, seed=seed)


def rows(collection: Collection) -> list[tuple[str, str]]:
    return [(collection.videos[caption.video].id, caption.text) for caption in collection.captions]


def files(collection: Collection) -> dict[str, str | None]:
    return {video.id: video.file and video.file.relative_to(collection.root).as_posix() for video in collection.videos}


def test_without_splits_there_is_one_split_all(tmp_path: Path) -> None:
    collection = read(make(tmp_path, "b.mp4", "a.mkv", csv="video,caption\nb.mp4,one\na.mkv,two\nb.mp4,three\n"))
    assert [video.id for video in collection.videos] == ["a.mkv", "b.mp4"]
    assert rows(collection) == [("a.mkv", "two"), ("b.mp4", "one"), ("b.mp4", "three")]
    assert collection.protocols == ("all",)
    assert collection.splits("all") == {"all": (2, 3)}
    assert collection.notes == ()


def test_names_may_lack_the_extension_or_lie_deeper(tmp_path: Path) -> None:
    csv = (
        "video,caption\nbears,1\nsub/cat.mp4,2\nsub/dog,3\n./eel.mp4,4\nsub\\fox.avi,5\ngnu.mp4,6\nhen,7\n-ant_1_2,8\n"
    )
    make(tmp_path, "bears.mp4", "sub/cat.mp4", "sub/dog.webm", "eel.mp4", "sub/fox.avi", "videos/gnu.mp4", csv=csv)
    collection = read(make(tmp_path, "videos/hen.mov", "-ant_1_2.avi", "bears/frame.jpg"))
    assert files(collection) == {
        "-ant_1_2": "-ant_1_2.avi",
        "bears": "bears.mp4",
        "eel.mp4": "eel.mp4",
        "gnu.mp4": "videos/gnu.mp4",
        "hen": "videos/hen.mov",
        "sub/cat.mp4": "sub/cat.mp4",
        "sub/dog": "sub/dog.webm",
        "sub/fox.avi": "sub/fox.avi",
    }
    assert collection.notes == ()


def test_two_names_of_one_file_are_one_video(tmp_path: Path) -> None:
    collection = read(make(tmp_path, "a.mp4", csv="video,caption,split\na,one,\na.mp4,two,dev\n"))
    assert rows(collection) == [("a", "one"), ("a", "two")]
    assert collection.splits("given") == {"val": (1, 2)}


def test_a_bare_name_that_two_files_deeper_have_is_missing(tmp_path: Path) -> None:
    collection = read(make(tmp_path, "x/a.mp4", "y/a.mp4", "b.mp4", csv="video,caption\na.mp4,one\nb.mp4,two\n"))
    assert collection.missing == ("a.mp4",)
    assert set(files(collection)) == {"a.mp4", "b.mp4", "x/a.mp4", "y/a.mp4"}
    told = "1 of 2 videos that captions.csv names are unclear, a.mp4 could be x/a.mp4 or y/a.mp4: write the path"
    assert collection.notes[0] == told
    assert not any("not exist" in note for note in collection.notes)
    (tmp_path / "b.mp4").unlink()
    make(tmp_path, csv="video,caption\na.mp4,one\n")
    message = r"must name each video by one path below .*, a.mp4 could be x/a.mp4 or y/a.mp4: write the path"
    with pytest.raises(LabError, match=message):
        read(tmp_path)


def test_missing_files_and_files_without_captions_are_named(tmp_path: Path) -> None:
    collection = read(make(tmp_path, "a.mp4", "b.mp4", "s/c.mov", "notes.txt", csv="video,caption\na.mp4,x\nz.mp4,y\n"))
    assert files(collection) == {"a.mp4": "a.mp4", "b.mp4": "b.mp4", "s/c.mov": "s/c.mov", "z.mp4": None}
    assert collection.missing == ("z.mp4",)
    assert collection.notes == (
        "1 of 2 videos that captions.csv names do not exist: z.mp4",
        "2 videos have no caption: b.mp4, s/c.mov",
    )


def test_accents_match_however_the_file_system_writes_them(tmp_path: Path) -> None:
    name = "caf\u00e9.mp4"
    collection = read(make(tmp_path, unicodedata.normalize("NFD", name), csv=f"video,caption\n{name},x\n"))
    assert collection.missing == ()
    assert [video.id for video in collection.videos] == [name]


def test_a_directory_or_a_dangling_link_of_that_name_counts_as_found(tmp_path: Path) -> None:
    make(tmp_path, csv="video,caption\nd.mp4,x\nl.mp4,y\n")
    (tmp_path / "d.mp4").mkdir()
    (tmp_path / "l.mp4").symlink_to(tmp_path / "gone")
    assert files(read(tmp_path)) == {"d.mp4": "d.mp4", "l.mp4": "l.mp4"}


def test_no_captions_file_leaves_videos_to_search(tmp_path: Path) -> None:
    collection = read(make(tmp_path, "a.mp4", "s/b.webm", "c.txt"))
    assert files(collection) == {"a.mp4": "a.mp4", "s/b.webm": "s/b.webm"}
    assert collection.notes == ("no captions.csv is there: the videos can be searched, not studied",)
    with pytest.raises(LabError, match="--split needs a captioned video for each of train, val, test, found 0"):
        read(tmp_path, split="70/10/20")


def test_a_captions_file_under_another_name_is_told(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4", "annotations.csv", "captions.jsonl", "notes.txt", "sub/more.csv", ".hidden.csv")
    assert read(tmp_path).notes[0] == (
        "no captions.csv is there (but annotations.csv, captions.jsonl: what has the captions must be called "
        "captions.csv): the videos can be searched, not studied"
    )
    make(tmp_path, "Captions.CSV")
    with pytest.raises(LabError, match=r"/Captions.CSV is not read under that name: rename it captions.csv$"):
        read(tmp_path)


def test_a_captions_file_that_is_a_link_to_nowhere_is_told(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4", "captions.mp4")
    assert read(tmp_path).notes[0].startswith("no captions.csv is there: ")
    (tmp_path / "captions.csv").symlink_to(tmp_path / "gone.csv")
    with pytest.raises(LabError, match=r"captions.csv is a link to a file that is not there: mount its disk"):
        read(tmp_path)


def test_a_captions_file_that_is_no_file_is_told(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4", "captions.csv/inside")
    with pytest.raises(
        LabError, match=r"captions.csv cannot be read: Is a directory; a file that you may read must be"
    ):
        read(tmp_path)


def test_capitals_that_differ_are_told(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4", "Sub/Bee.mkv", csv="video,caption\nA.MP4,x\nsub/bee,y\n")
    if (tmp_path / "A.MP4").exists():
        pytest.skip("this file system does not tell capitals apart")
    with pytest.raises(LabError, match=r"none exists \(A.MP4 \(but a.mp4\), sub/bee \(but Sub/Bee.mkv\)\): write them"):
        read(tmp_path)
    make(tmp_path, csv="video,caption\na.mp4,x\nSub/bee.mkv,y\nc,z\n")
    told = "2 of 3 videos that captions.csv names do not exist: Sub/bee.mkv (but Sub/Bee.mkv), c"
    assert told in read(tmp_path).notes


def test_a_root_that_is_none_is_named_and_nothing_to_download(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"folder with your videos, .*/no does not exist: name it with --root DIR$"):
        read(tmp_path / "no")


def test_a_folder_without_any_video(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=f"--root must be a folder with videos, {tmp_path} has none: name the folder"):
        read(make(tmp_path, "a.txt"))


def test_a_captions_file_that_names_no_file(tmp_path: Path) -> None:
    lines = "".join(f"{letter}.mp4,x\n" for letter in "abcdefg")
    message = (
        r"captions.csv must name videos below .*, of its 7 none exists \(a.mp4, .*, e.mp4 and 2 more\): write them"
    )
    with pytest.raises(LabError, match=message):
        read(make(tmp_path, "z.mp4", csv="video,caption\n" + lines))


@pytest.mark.parametrize(
    "name", ["../a.mp4", "/etc/passwd", "s/../../a.mp4", "..\\a.mp4", "C:\\a.mp4", "\\a", "~/../../a", '"a\nb"', "a\0"]
)
def test_a_name_that_leaves_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(LabError, match=r"a video must be named by its path from .*, captions.csv line [34] has '"):
        read(make(tmp_path, "a.mp4", csv=f"video,caption\na.mp4,x\n{name},y\n"))


def test_a_row_without_a_video_and_a_file_without_rows(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"captions.csv line 2 has '': write it as in clips/a.mp4"):
        read(make(tmp_path, "a.mp4", csv="video,caption\n,y\n"))
    with pytest.raises(LabError, match=r"captions.csv has no captions: add rows, or remove it"):
        read(make(tmp_path, csv="video,caption\n"))


# ---- splits


def test_a_split_column_is_the_default_protocol(tmp_path: Path) -> None:
    csv = "video,caption,split\nd.mp4,1,Test\nc.mp4,2,validation\nb.mp4,3,dev\na.mp4,4, train \na.mp4,5,\ne.mp4,6,\n"
    collection = read(make(tmp_path, "a.mp4", "b.mp4", "c.mp4", "d.mp4", "e.mp4", "f.mp4", csv=csv))
    assert [video.id for video in collection.videos] == ["a.mp4", "b.mp4", "c.mp4", "d.mp4", "e.mp4", "f.mp4"]
    assert collection.protocols == ("given", "all")
    assert collection.splits("given") == {"train": (1, 2), "val": (2, 2), "test": (1, 1)}
    assert collection.splits("all") == {"all": (6, 6)}
    assert "1 videos of captions.csv have no split and are in none: e.mp4" in collection.notes


def test_an_unknown_split_and_a_video_in_two(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"split must be train, val or test, captions.csv line 2 has 'training'"):
        read(make(tmp_path, "a.mp4", csv="video,caption,split\na.mp4,x,training\n"))
    message = r"a video belongs to one split, captions.csv line 3 puts a.mp4 into test and an earlier one into train"
    with pytest.raises(LabError, match=message):
        read(make(tmp_path, csv="video,caption,split\na.mp4,x,train\na.mp4,y,test\n"))


def test_a_video_under_two_names_is_in_one_split_too(tmp_path: Path) -> None:
    csv = "video,caption,split\nclip,one,test\nclip.mp4,two,train\n"
    message = (
        r"a video belongs to one split, captions.csv line 3 puts clip.mp4 \(which is clip\) into train "
        "and an earlier one into test: choose one"
    )
    with pytest.raises(LabError, match=message):
        read(make(tmp_path, "clip.mp4", csv=csv))
    make(tmp_path, csv=csv.replace("train", "test"))
    assert read(tmp_path).splits("given") == {"test": (1, 2)}


def test_a_split_by_shares_is_named_and_stable_and_captions_follow(tmp_path: Path) -> None:
    names = [f"{letter}.mp4" for letter in "abcdefghij"]
    csv = "video,caption,split\n" + "".join(f"{name},{turn},train\n" for turn in "xy" for name in names)
    collection = read(make(tmp_path, *names, "z.mp4", csv=csv), split="70/10/20", seed=3)
    protocol = "70/10/20-seed3"
    assert collection.protocols == (protocol, "all")
    assert collection.splits(protocol) == {"train": (7, 14), "val": (1, 2), "test": (2, 4)}
    assert "the split column is set aside for --split 70/10/20" in collection.notes
    for caption in collection.captions:
        assert caption.splits == collection.videos[caption.video].splits
    by_id = {video.id: video.splits.get(protocol) for video in collection.videos}
    assert by_id["z.mp4"] is None
    shuffled = "video,caption\n" + "".join(f"{name},x\n" for name in reversed(names))
    again = read(make(tmp_path, csv=shuffled), split="70.0/10/20", seed=3)
    assert {video.id: video.splits.get(protocol) for video in again.videos} == by_id
    other = read(tmp_path, split="70/10/20", seed=4)
    assert other.protocols[0] == "70/10/20-seed4"
    assert other.version != again.version


def test_a_split_that_got_no_file_with_content_is_told(tmp_path: Path) -> None:
    names = [f"{letter}.mp4" for letter in "abcdefghij"]
    make(tmp_path, *names, csv="video,caption\n" + "".join(f"{name},x\n" for name in names))
    whole = read(tmp_path, split="70/10/20")
    assert not [note for note in whole.notes if note.startswith("--split")]
    of = {part: [v.id for v in whole.videos if v.splits["70/10/20-seed0"] == part] for part in ("val", "test")}
    (tmp_path / of["test"][0]).unlink()  # the other one of test is there
    (tmp_path / of["val"][0]).write_bytes(b"")
    torn = read(tmp_path, split="70/10/20")
    assert [note for note in torn.notes if note.startswith("--split")] == [
        "--split 70/10/20: no video of val (1) has a file with content: mend captions.csv and the files, or take "
        "another --seed"
    ]
    assert torn.version == whole.version  # a file that comes later moves no other


def test_the_version_does_not_depend_on_place_or_presence(tmp_path: Path) -> None:
    one = make(tmp_path / "one", "a.mp4", "b.mp4", csv="video,caption\na.mp4,x\nb,y\nc,z\n")
    two = shutil.copytree(one, tmp_path / "two")
    (two / "b.mp4").unlink()
    assert read(one).missing == ("c",)
    assert read(two).missing == ("b", "c")
    assert read(one).version == read(two).version


# ---- captions.json


def test_captions_json_as_a_list_or_a_mapping(tmp_path: Path) -> None:
    entries = [{"video": "b.mp4", "caption": "one", "split": "test"}, {"video": "a", "caption": ["two", "three"]}]
    listed = read(make(tmp_path / "list", "a.mp4", "b.mp4", data=entries))
    assert rows(listed) == [("b.mp4", "one"), ("a", "two"), ("a", "three")]
    assert listed.splits("given") == {"test": (1, 1)}
    mapped = read(make(tmp_path / "map", "a.mp4", "b.mp4", data={"b.mp4": ["one"], "a": "two"}))
    assert rows(mapped) == [("a", "two"), ("b.mp4", "one")]
    both = read(make(tmp_path / "map", csv="video,caption\na,six\n"))
    assert rows(both) == [("a", "six")]
    assert "captions.csv is read, captions.json beside it is not" in both.notes


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("text", "it holds a str"),
        ([{"video": "a.mp4", "text": "x"}], "entry 1 has video, text: give it video and caption"),
        (["a.mp4"], "entry 1 has str: give it video and caption"),
        ({"a.mp4": [1]}, "entry 1 has {'caption': .1., 'video': 'a.mp4'}: video, caption and split must be text"),
        ([{"video": 3, "caption": "x"}], "entry 1 has {.*'video': 3.* must be text"),
        ([{"video": "../a.mp4", "caption": "x"}], "a video must be named by its path from .* entry 1 has '../a.mp4'"),
    ],
)
def test_captions_json_of_another_shape(tmp_path: Path, data: object, message: str) -> None:
    with pytest.raises(LabError, match=message):
        read(make(tmp_path, "a.mp4", data=data))

"""What every data set has in common: the table, the collection, files on disk, the reading of hostile files."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.datasets import DATASETS, Caption, Collection, Video, get_dataset
from lab.datasets.assemble import assemble, assign
from lab.datasets.divide import divide, hold_out, parse_shares
from lab.datasets.reading import captions_by_id, check_published, read_csv, read_json, read_lines, read_pickle
from lab.datasets.tree import Tree, Videos
from lab.errors import LabError


def touch(root: Path, *names: str, data: bytes = b"x") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


# ---- the table


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(LabError, match=r"unknown dataset 'mvsd': did you mean 'msvd'\? known: msvd, msrvtt, didemo"):
        get_dataset("mvsd")


@pytest.mark.parametrize("name", DATASETS)
def test_each_data_set_keeps_the_contract(name: str, tmp_path: Path) -> None:
    dataset = get_dataset(name)
    assert dataset.name == name
    assert dataset.default_sampling == ("midpoints-30-31s" if name == "didemo" else "midpoints-12")
    assert set(dataset.expected) <= set(dataset.protocols)
    assert dataset.instructions
    assert "\n" not in dataset.instructions
    for source in dataset.sources:
        assert source.url.startswith("https://")
        assert not Path(source.file).is_absolute()
    what = "your videos" if name == "folder" else name
    with pytest.raises(
        LabError, match=rf"--root must be the folder with {what}, .*absent does not exist: .*(--download|renders|DIR)"
    ):
        dataset.read(tmp_path / "absent")
    touch(tmp_path, "file")
    with pytest.raises(LabError, match="file is not a folder"):
        dataset.read(tmp_path / "file")


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"folder", "toy"}))
def test_a_published_data_set_refuses_a_split_and_names_its_files(name: str, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=rf"--split is for --dataset folder, {name} has its own .*70/10/20"):
        get_dataset(name).read(tmp_path, split="70/10/20")
    with pytest.raises(LabError, match=rf"{name} needs .*\.(json|csv).* below {tmp_path}: .*(http|--download)"):
        get_dataset(name).read(tmp_path)


# ---- the collection


def small(files: dict[str, Path | None] | None = None, **changes: Any) -> Collection:
    views = {"a": {"p": "test"}, "b": {"p": "train"}, "c": {"q": "val"}, "d": {"p": "train"}}
    captions = {"a": [("one", views["a"])], "d": [("two", {}), ("three", views["d"])], "b": [("four", views["b"])]}
    settings: dict[str, Any] = {
        "videos": views,
        "captions": captions,
        "protocols": ("p", "q"),
        "expected": {},
    } | changes
    return assemble("small", Path("/r"), files=files or {}, **settings)


def test_splits_of_the_default_protocol_are_contiguous_and_captions_follow_their_video() -> None:
    collection = small()
    assert [video.id for video in collection.videos] == ["b", "d", "a", "c"]
    assert [(caption.video, caption.text) for caption in collection.captions] == [
        (0, "four"),
        (1, "two"),
        (1, "three"),
        (2, "one"),
    ]
    assert collection.splits("p") == {"train": (2, 2), "test": (1, 1)}
    assert collection.splits("q") == {"val": (1, 0)}
    assert collection.notes == ("1 videos have no caption: c",)


def test_counts_that_differ_strays_and_empty_captions_are_told() -> None:
    captions = {"a": [("one", {"p": "test"}), ("  ", {"p": "test"})], "z": [("six", {}), ("seven", {})]}
    collection = small(captions=captions, expected={"p": {"train": (1234, 5678), "test": (None, 1)}})
    assert "1 captions are empty and left out: a" in collection.notes
    assert "2 captions of 1 videos that no list names are left out: z" in collection.notes
    assert "small p train: expected 1,234 videos and 5,678 captions, found 2 and 0" not in collection.notes
    assert "small train: expected 1,234 videos and 5,678 captions, found 2 and 0" in collection.notes
    assert not any("small test" in note for note in collection.notes)


def test_the_version_is_of_what_is_said_not_of_what_is_there() -> None:
    one = small()
    there = small({"a": Path("/r/a.mp4")})
    assert one.missing == ("b", "d", "a", "c")
    assert there.missing == ("b", "d", "c")
    assert one.version == there.version == dataclasses.replace(there, root=Path("/s"), notes=()).version
    assert len(one.version) == 64
    caption = dataclasses.replace(one.captions[0], text="for")
    moved = dataclasses.replace(one.captions[0], splits={"p": "val"})
    renamed = dataclasses.replace(one.videos[0], id="e")
    changed = [
        dataclasses.replace(one, captions=(caption, *one.captions[1:])),
        dataclasses.replace(one, captions=(moved, *one.captions[1:])),
        dataclasses.replace(one, captions=one.captions[1:]),
        dataclasses.replace(one, videos=(renamed, *one.videos[1:])),
        dataclasses.replace(one, videos=(dataclasses.replace(one.videos[0], splits={}), *one.videos[1:])),
    ]
    assert len({one.version, *(other.version for other in changed)}) == 6


def test_the_version_does_not_depend_on_shared_or_separate_mappings() -> None:
    def build(splits: Callable[[], dict[str, str]]) -> Collection:
        videos = tuple(Video(name, None, splits()) for name in "ab")
        return Collection("n", Path("/r"), videos, tuple(Caption(row, "t", splits()) for row in (0, 1)), ("p",), ())

    shared = {"p": "train", "q": "val"}
    assert build(lambda: shared).version == build(lambda: {"q": "val", "p": "train"}).version


def test_an_id_in_two_lists_stays_where_it_is_held_out() -> None:
    notes: list[str] = []
    found = assign("p", {"train": ["a", "b", "a"], "val": ["c"], "test": ["b", "c"]}, notes)
    assert found == {"a": {"p": "train"}, "b": {"p": "test"}, "c": {"p": "test"}}
    assert notes == [
        "1 ids stand twice in one list and count once: a",
        "2 ids are in two splits and stay in the later one alone: b (train, test), c (val, test)",
    ]


# ---- division


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("split", ["70/10/20", "98/1/1", "33.3/33.3/33.4", "80/0/20", "0/0/100"])
@pytest.mark.parametrize("count", [3, 4, 7, 101])
def test_a_division_is_whole_fair_and_stable(count: int, split: str, seed: int) -> None:
    ids = [f"v{number}" for number in range(count)]
    shares = parse_shares(split)
    found = divide(ids, shares, seed)
    assert set(found) == set(ids)
    assert found == divide(ids[::-1], shares, seed)
    for name, share in shares.items():
        size = list(found.values()).count(name)
        assert (size == 0) if share == 0 else size >= 1
        if count == 101:
            assert abs(size - share * count / 100) < 1
    if count == 101 and split == "70/10/20":
        assert found != divide(ids, shares, seed + 1)


@pytest.mark.parametrize("split", ["70/10/20", "33.3/33.3/33.4", "60/20/20"])
def test_a_video_more_moves_at_most_one_other_over_each_border(split: str) -> None:
    shares = parse_shares(split)
    moves = 0
    for count in range(7, 60):
        ids = [f"v{count}-{number}.mp4" for number in range(count + 1)]
        before, after = divide(ids[:-1], shares, 0), divide(ids, shares, 0)
        moved = sorted((before[key], after[key]) for key in before if before[key] != after[key])
        borders = [frozenset(pair) for pair in moved]
        assert len(set(borders)) == len(borders)
        assert frozenset(("train", "test")) not in borders
        moves += len(borders)
    assert moves > 0


def test_a_division_is_the_same_on_every_machine() -> None:
    found = divide([f"{letter}.mp4" for letter in "abcdefghij"], parse_shares("70/10/20"), 0)
    order = sorted(found, key=lambda key: hashlib.sha256(f"0\0{key}".encode()).digest())
    assert [found[key] for key in order] == ["train"] * 7 + ["val"] + ["test"] * 2


@pytest.mark.parametrize(
    ("count", "split", "sizes"),
    [
        (11, "70/10/20", (8, 1, 2)),  # 7.7, 1.1, 2.2
        (10, "34/33/33", (4, 3, 3)),  # 3.4, 3.3, 3.3
        (7, "25/40/35", (2, 3, 2)),  # 1.75, 2.8, 2.45: the two largest remainders
        (1000, "70/10/20", (700, 100, 200)),
        (10, "1/97/2", (1, 8, 1)),  # what the small ones get the large one gives
    ],
)
def test_a_division_rounds_by_largest_remainder(count: int, split: str, sizes: tuple[int, int, int]) -> None:
    found = list(divide([f"v{number}" for number in range(count)], parse_shares(split), 0).values())
    assert tuple(found.count(name) for name in ("train", "val", "test")) == sizes


@pytest.mark.parametrize(
    "split", ["70/10/10", "70/30", "a/b/c", "", "nan/nan/nan", "110/-5/-5", "50/60/-10", "70/10/20/0", "inf/0/0"]
)
def test_a_split_that_is_not_three_shares_of_100_is_refused(split: str) -> None:
    with pytest.raises(
        LabError, match="--split must be train/val/test in percent with the sum 100, as in 70/10/20, got"
    ):
        parse_shares(split)


def test_too_few_videos_for_a_division() -> None:
    with pytest.raises(LabError, match="--split needs a captioned video for each of train, val, test, found 2"):
        divide(["a", "b"], parse_shares("70/10/20"), 0)


def test_a_held_out_share_depends_on_the_ids_alone() -> None:
    ids = [f"v_{number:011d}" for number in range(10009)]
    assert len(hold_out(ids[:19], 0.1)) == 2  # rounded
    held = hold_out(ids, 0.05)
    assert len(held) == 500
    assert held == hold_out(ids[::-1], 0.05)
    first = {hashlib.sha256(key.encode()).hexdigest(): key for key in ids}
    assert held == {first[digest] for digest in sorted(first)[:500]}


# ---- files


def test_ids_are_names_less_the_last_extension_at_any_depth(tmp_path: Path) -> None:
    touch(tmp_path, "x/0001_Up_00.00.01.000-00.00.02.000.avi", "a/b/c/d/-x_1_2.avi", "_y.WMV", "bare", "dot.")
    files = Videos(Tree(tmp_path, "t"))
    for key in ("0001_Up_00.00.01.000-00.00.02.000", "-x_1_2", "_y", "bare", "dot"):
        assert files.file(key) is not None, key
    assert files.file("0001_Up_00.00.01") is None
    assert files.notes() == []


def test_what_lies_beside_a_video_is_not_the_video(tmp_path: Path) -> None:
    touch(
        tmp_path, "v1.json", "v1.jpg", "v1.npy", "v1.wav", "v1.mp4.part", "._v1.mp4", ".cache/v1.mp4", "s.zarr/v1.mp4"
    )
    (tmp_path / "frames" / "v1").mkdir(parents=True)
    assert Videos(Tree(tmp_path, "t")).file("v1") is None


def test_anything_of_the_right_name_counts_as_found(tmp_path: Path) -> None:
    touch(tmp_path, "empty.mp4", data=b"")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "nowhere")
    (tmp_path / "self.mp4").symlink_to(tmp_path / "self.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    files = Videos(Tree(tmp_path, "t"))
    for key in ("empty", "folder", "dangling", "self", "pipe"):
        assert files.file(key) == tmp_path / f"{key}.mp4"


def test_of_several_files_the_usable_then_the_documented_one(tmp_path: Path) -> None:
    touch(tmp_path, "a/v1.mp4", "b/v1.avi", "c/v1.avi", "v2.mkv", "v3.mp4")
    touch(tmp_path, "v2.avi", data=b"")
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "v3.mp4").symlink_to(tmp_path / "v3.mp4")
    files = Videos(Tree(tmp_path, "t"), (".avi", ".mp4"))
    assert files.file("v1") == tmp_path / "b" / "v1.avi"
    assert files.file("v2") == tmp_path / "v2.mkv"
    assert files.file("v3") == tmp_path / "v3.mp4"
    (note,) = files.notes()
    assert note == "several files match 2 ids: v1 (b/v1.avi, not c/v1.avi, a/v1.mp4), v2 (v2.mkv, not v2.avi)"


def test_links_between_directories_end_and_real_paths_win(tmp_path: Path) -> None:
    touch(tmp_path, "z/real/v1.mp4")
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    touch(outside, "v2.mp4")
    (tmp_path / "a").symlink_to(tmp_path / "z")
    (tmp_path / "z" / "up").symlink_to(tmp_path)
    (tmp_path / "out").symlink_to(outside)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    tree = Tree(tmp_path, "t")
    assert Videos(tree).file("v1") == tmp_path / "z" / "real" / "v1.mp4"
    assert Videos(tree).file("v2") == tmp_path / "out" / "v2.mp4"
    assert len(tree.named["v1.mp4"]) == 1


def test_a_name_that_is_not_utf8_is_left_out_and_told(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b"v\xff.mp4")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    tree = Tree(tmp_path, "t")
    assert tree.entries == {}
    assert tree.notes == ["1 file names are not UTF-8, and left out (rename them): 'v\\udcff.mp4'"]


def test_a_list_is_found_near_the_root_and_two_that_differ_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "one/test_list.txt", "two/test_list.txt", "two/deep/test_list.txt")
    assert Tree(tmp_path, "t").find("test_list.txt") == tmp_path / "one" / "test_list.txt"
    touch(tmp_path, "two/test_list.txt", data=b"y")
    with pytest.raises(
        LabError, match=r"one test_list.txt is needed .*one/test_list.txt and two/test_list.txt differ: .*--root"
    ):
        Tree(tmp_path, "t").find("test_list.txt")
    touch(tmp_path, "test_list.txt", data=b"z")
    assert Tree(tmp_path, "t").find("test_list.txt") == tmp_path / "test_list.txt"
    touch(tmp_path, "a/b/c/d/e.txt")
    assert Tree(tmp_path, "t").find("e.txt") is None


# ---- reading


def test_lines_need_no_final_newline_and_keep_odd_breaks(tmp_path: Path) -> None:
    touch(tmp_path, "l", data="\ufeffa\r\n\n -b \nc\u2028d".encode())
    assert read_lines(tmp_path / "l") == ["a", "-b", "c\u2028d"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[\n\xff]", "must be text in UTF-8, line 2 is not: save it again as UTF-8"),
        ("[]".encode("utf-16"), "must be text in UTF-8, it is UTF-16: save it again as UTF-8"),
        (b"PK\3\4\xff", "must be text in UTF-8, it is a spreadsheet or an archive: save"),
        (b'{"a":\n ]', "must be JSON, line 2 is not"),
        (b'{"a": [{"b": 1, "b": 1}], "c": 1, "a": []}', "has 'a' twice"),
        (b"[" * 100_000, "must be JSON, this is none that can be read"),
        (b'["\\ud800"]', "must be JSON, this is none that can be read"),
        (b"9" * 5000, "must be JSON, this is none that can be read"),
    ],
)
def test_a_damaged_json_file_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    touch(tmp_path, "f.json", data=data)
    with pytest.raises(LabError, match=rf"f.json {message}"):
        read_json(tmp_path / "f.json")
    with pytest.raises(LabError, match=r"g\.json cannot be read: No such file"):
        read_json(tmp_path / "g.json")


def test_csv_takes_quotes_commas_a_mark_and_other_cases(tmp_path: Path) -> None:
    touch(tmp_path, "f.csv", data='\ufeff Caption ,VIDEO\r\n"a, ""b""\nc",x.mp4\r\n,\r\n\r\nd,y'.encode())
    assert [row for _, row in read_csv(tmp_path / "f.csv", ("video", "caption"))] == [
        {"video": "x.mp4", "caption": 'a, "b"\nc'},
        {"video": "y", "caption": "d"},
    ]


@pytest.mark.parametrize("mark", [";", "\t"])
def test_csv_of_a_spreadsheet_may_be_parted_by_semicolons_or_tabs(tmp_path: Path, mark: str) -> None:
    lines = [("Video", "note", "caption"), ("x.mp4", "", "a dog, barking"), ("y.mp4", "", f'"one{mark} two"')]
    touch(tmp_path, "f.csv", data="\r\n".join(map(mark.join, lines)).encode())
    assert [row for _, row in read_csv(tmp_path / "f.csv", ("video", "caption"))] == [
        {"video": "x.mp4", "caption": "a dog, barking"},
        {"video": "y.mp4", "caption": f"one{mark} two"},
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            "video;text\na;b",
            "needs the columns video, caption, each once; its first line has 'video;text': name video, caption there",
        ),
        ("video\na", "needs the columns video, caption, each once; its first line has 'video': name caption there"),
        ("", "needs the columns video, caption, each once; its first line has none: name video, caption there"),
        ("video,caption,Caption\na,b,c", "needs the columns .* has 'video', 'caption', 'caption': name caption there"),
        (
            "video,caption\na,b\na,b, c",
            "line 3 has 3 fields, its header 2: put a text that holds a comma in double quotes",
        ),
        ("video;caption\na;b;c", "line 2 has 3 fields, its header 2: put a text that holds a semicolon in double"),
        (
            "video,caption;video\na;b",
            "needs the columns video, caption, each once; its first line has 'video', 'caption;video'",
        ),
        ("video,caption\na", "line 2 has 1 fields, its header 2"),
        ("b" * 200_000, r"must be CSV, line 1 is not \(field larger than field limit"),
        ('video,caption\na,"b', r"must be CSV, line 2 is not \(unexpected end of data\): close double quotes"),
        ("video,caption\na," + "b" * 200_000, r"must be CSV, line 2 is not \(field larger than field limit"),
    ],
)
def test_a_csv_file_that_is_wrong_names_column_or_line(tmp_path: Path, data: str, message: str) -> None:
    touch(tmp_path, "f.csv", data=data.encode())
    with pytest.raises(LabError, match=f"f.csv {message}"):
        read_csv(tmp_path / "f.csv", ("video", "caption"))


class Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_something_runs_nothing(
    tmp_path: Path, protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "f.pkl", data=pickle.dumps({"v": [["a"], Runs()]}, protocol))
    with pytest.raises(
        LabError, match=r"f.pkl must hold lists and strings alone, it asks for (posix|nt)\.system: it is not"
    ):
        read_pickle(tmp_path / "f.pkl")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "data", [b"", b"text", b"cbuiltins\neval\n(S'1'\ntR.", b"\x80\x05.", b"}(K\x01]b.", b"\x82\x01."]
)
def test_no_damaged_pickle_escapes_as_another_error(tmp_path: Path, data: bytes) -> None:
    touch(tmp_path, "f.pkl", data=data)
    with pytest.raises(LabError, match=r"f\.pkl"):
        read_pickle(tmp_path / "f.pkl")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_plain_pickle_is_read(tmp_path: Path, protocol: int) -> None:
    data = {"-a_1_2": [["a", "man"], ["é"]], "b": []}
    touch(tmp_path, "f.pkl", data=pickletools.optimize(pickle.dumps(data, protocol)))
    assert read_pickle(tmp_path / "f.pkl") == data


def test_a_pickle_that_would_fill_the_memory_does_not(tmp_path: Path) -> None:
    for data in (
        b"\x80\x02]r\xff\xff\xff\x0f.",  # a memo of 268 million places
        b"](p268435455\n.",  # the same, written in digits
        b"\x80\x04\x96" + b"\xff" * 7 + b"\x7f.",  # a bytearray of 2^63 bytes
        b"\x80\x04\x95" + b"\xff" * 7 + b"\x7f].",  # a frame of as many
    ):
        touch(tmp_path, "f.pkl", data=data)
        with pytest.raises(LabError, match=r"f\.pkl must be a pickle, it cannot be read"):
            read_pickle(tmp_path / "f.pkl")
    nested: list[Any] = []
    for _ in range(60):  # 2^60 empty lists, if someone prints them
        nested = [nested, nested]
    touch(tmp_path, "f.pkl", data=pickle.dumps({"v": [nested]}))
    with pytest.raises(LabError, match=r"f\.pkl must hold captions as text or lists of words, at 'v' it has \["):
        captions_by_id(tmp_path / "f.pkl", read_pickle(tmp_path / "f.pkl"))


def test_a_pickle_of_python_2_is_read(tmp_path: Path) -> None:
    touch(tmp_path, "f.pkl", data=b"(dp0\nS'v1'\np1\n(lp2\n(lp3\nS'a'\np4\naS'man'\np5\naas.")
    assert read_pickle(tmp_path / "f.pkl") == {"v1": [["a", "man"]]}


def test_a_published_list_is_known_in_any_order_and_line_ending(tmp_path: Path) -> None:
    md5 = hashlib.md5(b"a\nb\n", usedforsecurity=False).hexdigest()
    for data in (b"a\nb\n", b"a\nb", b"b\r\na\r\n", b"\n b\na"):
        touch(tmp_path, "l.txt", data=data)
        assert check_published(tmp_path / "l.txt", (md5,)) == []
    touch(tmp_path, "l.txt", data=b"a\nc\n")
    (note,) = check_published(tmp_path / "l.txt", (md5,))
    assert note.startswith("l.txt is not the published file (md5 ")
    assert note.endswith(f", published {md5})")

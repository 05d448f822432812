"""Features from elsewhere into a store, a store into HDF5 and back, a store into few files."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

from lab import cli, convert
from lab.convert.features import Origin, import_features
from lab.convert.hdf5_in import import_exported
from lab.convert.hdf5_out import export_store
from lab.convert.layouts import LAYOUTS, Choice, detect, open_features
from lab.convert.layouts.folders import load_array
from lab.convert.layouts.hdf5 import dataset
from lab.convert.pack import pack_store
from lab.convert.store import contents
from lab.datasets import Caption, Collection, Video
from lab.errors import LabError
from lab.store import UNIT_VIDEOS, Store, open_store
from lab.store.create import create_store
from lab.store.ledger import Entry
from lab.store.writer import AudioRow, FrameRow, StoreWriter

V, F, D, S, A = 71, 3, 5, 2, 7  # 71 videos: more than a chunk
T = 521  # more than a unit of captions
JPEG = b"\xff\xd8 picture %d \xff\xd9"


def vector(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with every modality, short videos, a failed one, one without sound, captions not encoded."""
    root = tmp_path_factory.mktemp("made")
    splits = [{"p": "train"}] * 40 + [{"p": "test"}] * 31
    videos = tuple(Video(f"sub/vidéo {i}.mp4", root / f"sub/vidéo {i}.mp4", s) for i, s in enumerate(splits))
    owner = np.sort(np.arange(T) % V)
    captions = tuple(Caption(int(v), f"caption {t} 猫", splits[v]) for t, v in enumerate(owner))
    collection = Collection("made", root, videos, captions, ("p",), ())
    create_store(root / "a.zarr", collection, {"name": "made", "version": "1"})
    writer = StoreWriter(root / "a.zarr")
    writer.add_frames({"name": "net", "random": False, "logit_scale": 100.0}, F, D)
    writer.add_audio({"name": "ear", "random": False}, S, A)
    for first in range(0, V, UNIT_VIDEOS):
        rows = range(first, min(first + UNIT_VIDEOS, V))
        lengths = [0 if i == 9 else 1 + i % F for i in rows]
        writer.write_frames(first, [
            FrameRow(vector(n, D, seed=i), np.arange(n) / 3, [JPEG % k for k in range(n)], 1.0 + i)
            for i, n in zip(rows, lengths, strict=True)
        ])  # fmt: skip
        writer.write_audio(first, [
            AudioRow(None, None, "absent") if i == 4
            else AudioRow(vector(A, seed=i), vector(1 + i % S, A, seed=i), "present")
            for i in rows
        ])  # fmt: skip
        writer.record(f"videos-{first // 64:06d}", [Entry(videos[i].id, "frames", "ok") for i in rows])
    counts = np.arange(T) % 4 + 1
    tokens = int(counts.sum())
    writer.add_text({"name": "net", "random": False}, D, counts, np.arange(tokens), np.arange(tokens) % 3)
    for rows in (np.arange(0, 300), np.arange(512, T)):
        writer.write_text(rows, vector(len(rows), D, seed=1), vector(int(counts[rows].sum()), D, seed=2))
    return open_store(root / "a.zarr")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_identical(first: Store, second: Store) -> None:
    one, two = contents(first), contents(second)
    assert {name: dict(array.attrs) for name, array in one.arrays.items()} == {
        name: dict(array.attrs) for name, array in two.arrays.items()
    }
    assert one.groups == two.groups
    for name, array in one.arrays.items():
        assert array.dtype == two.arrays[name].dtype
        assert array.chunks == two.arrays[name].chunks
        np.testing.assert_array_equal(array[:].view(np.uint8), two.arrays[name][:].view(np.uint8), err_msg=name)
    assert {name: file.read_bytes() for name, file in one.files.items()} == {
        n: f.read_bytes() for n, f in two.files.items()
    }
    assert first.passport == second.passport
    assert first.thumbnails(7) == second.thumbnails(7) == [JPEG % 0, JPEG % 1]
    for split in ("train", "test"):
        texts, videos = first.load(split)
        others, them = second.load(split)
        assert texts.sentences.equal(others.sentences)
        assert videos.frames.nan_to_num(9).equal(them.frames.nan_to_num(9))


# -- a store out and back --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["per-video", "contiguous"])
def test_a_store_survives_hdf5(layout: str, store: Store, tmp_path: Path) -> None:
    file = export_store(store, tmp_path / "a.h5", layout)
    back, same = import_exported(file, tmp_path / "b.zarr")
    assert same
    assert_identical(store, back)
    assert names(tmp_path) == ["a.h5", "b.zarr"]


def test_what_others_find_in_the_file(store: Store, tmp_path: Path) -> None:
    with h5py.File(export_store(store, tmp_path / "v.h5"), "r") as file:
        np.testing.assert_array_equal(file["sub/vidéo 7.mp4"][()], vector(2, D, seed=7).astype(np.float16))
        assert "sub/vidéo 9.mp4" not in file
        offsets = file["lab/words/offsets"][()]
        assert offsets[3:5].tolist() == [6, 10]
        np.testing.assert_array_equal(file["lab/words/values"][6:10], vector(740, D, seed=2).astype(np.float16)[6:10])
        assert file["lab/words/token_ids"][6:10].tolist() == [6, 7, 8, 9]
        assert file["lab/captions"].asstr()[3] == "caption 3 猫"
        assert file["lab/caption_video"][3] == 0
        np.testing.assert_array_equal(file["lab/arrays/audio"][5], vector(A, seed=5).astype(np.float16))
    with h5py.File(export_store(store, tmp_path / "c.h5", "contiguous"), "r") as file:
        assert file["frames"].shape == (V, F, D)
        assert file["ids"].asstr()[7] == "sub/vidéo 7.mp4"
        assert file["frame_count"][7:10].tolist() == [2, 3, 0]
        np.testing.assert_array_equal(file["frames"][7, :2], vector(2, D, seed=7).astype(np.float16))


@pytest.mark.parametrize("layout", ["per-video", "contiguous"])
def test_an_exported_file_is_also_features_like_any(layout: str, store: Store, tmp_path: Path) -> None:
    with open_features(export_store(store, tmp_path / "a.h5", layout), layout) as features:
        read = features.read("sub/vidéo 7.mp4")
        assert read is not None
        np.testing.assert_array_equal(read, vector(2, D, seed=7).astype(np.float16))


def test_an_edited_file_has_another_passport(store: Store, tmp_path: Path) -> None:
    file = export_store(store, tmp_path / "a.h5")
    with h5py.File(file, "r+") as content:
        content["sub/vidéo 7.mp4"][0, 0] = 3
    back, same = import_exported(file, tmp_path / "b.zarr")
    assert not same
    assert back.array("frames")[7, 0, 0] == 3
    assert back.passport["dataset"] == store.passport["dataset"]
    assert set(back.passport["frames"]) - set(store.passport["frames"]) == {"edited"}


def test_nothing_is_overwritten_unless_forced(store: Store, tmp_path: Path) -> None:
    file, target = tmp_path / "a.h5", tmp_path / "b.zarr"
    file.write_bytes(b"mine")
    with pytest.raises(LabError, match=r"a.h5 exists: choose another name, or replace it with --force"):
        export_store(store, file)
    assert file.read_bytes() == b"mine"
    export_store(store, file, force=True)
    import_exported(file, target)
    with pytest.raises(LabError, match=r"b.zarr exists: choose another name"):
        import_exported(file, target)
    import_exported(file, target, force=True)
    assert_identical(store, open_store(target))
    (tmp_path / "c.zarr").mkdir()
    with pytest.raises(LabError, match=r"is no feature store: move it away"):
        import_exported(file, tmp_path / "c.zarr", force=True)
    assert names(tmp_path) == ["a.h5", "b.zarr", "c.zarr"]


@pytest.mark.parametrize("source", ["store", "a.h5", "npz"])
def test_a_target_that_cannot_be_written_is_known_before_the_work(
    source: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is read of the source: a place that takes no files, a link."""
    export_store(store, tmp_path / "a.h5")
    (tmp_path / "npz").mkdir()
    np.savez(tmp_path / "npz" / "v1.npz", features=vector(2, D))
    (tmp_path / "file").write_text("mine")
    suffix = "h5" if source == "store" else "zarr"
    (tmp_path / f"link.{suffix}").symlink_to(tmp_path / f"elsewhere.{suffix}")
    read = [f"lab.convert.{name}" for name in ("hdf5_out.contents", "hdf5_in.content_sha256", "features.open_features")]
    for name in read:
        monkeypatch.setattr(name, lambda *_: pytest.fail("it was read before"))
    given = [str(store.path if source == "store" else tmp_path / source)]
    before = names(tmp_path)
    for target in (f"file/x.{suffix}", f"link.{suffix}"):
        assert cli.run(convert.main, [*given, str(tmp_path / target), "--force"]) == 2
    assert names(tmp_path) == before


def test_a_damaged_export_leaves_nothing(store: Store, tmp_path: Path) -> None:
    file = export_store(store, tmp_path / "a.h5")
    with h5py.File(file, "r+") as content:
        del content["sub/vidéo 7.mp4"]
    with pytest.raises(LabError, match=r"has no dataset 'sub/vidéo 7.mp4'"):
        import_exported(file, tmp_path / "b.zarr")
    with h5py.File(file, "r+") as content:
        about = json.loads(content["lab/about"][()])
        about["groups"]["../evil"] = {}
        del content["lab/about"]
        content["lab/about"] = json.dumps(about)
    with pytest.raises(LabError, match="lies outside the store"):
        import_exported(file, tmp_path / "b.zarr")
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(LabError, match="cannot be read as HDF5"):
        import_exported(file, tmp_path / "b.zarr")
    for path, value, said in (
        ("lab/files/tables/captions.ndjson", None, "captions.ndjson is damaged or gone"),
        ("lab/about", "[" * 100_000, r"a.h5 is damaged \(RecursionError: "),
        ("lab/about", "[]", r"a.h5 is damaged \(TypeError: "),
        ("lab/about", '{"attributes": {"passport": 5}}', r"a.h5 is damaged \(AttributeError: "),
        ("lab_export", "x", r"a.h5 is damaged \(its lab_export is no number\): export it again"),
    ):
        with h5py.File(export_store(store, file, force=True), "r+") as content:
            if value is None or path in content:
                del content[path]
            if value is not None:
                (content.attrs if path == "lab_export" else content)[path] = value
        with pytest.raises(LabError, match=said):
            import_exported(file, tmp_path / "b.zarr")
    assert names(tmp_path) == ["a.h5"]


def test_an_id_that_hdf5_cannot_name(tmp_path: Path) -> None:
    for video in ("lab/x", "a/../b", "a//b", "/a"):
        collection = Collection("x", tmp_path, (Video(video, None, {"p": "all"}),), (), ("p",), ())
        create_store(tmp_path / "x.zarr", collection, {"name": "x", "version": "1"})
        writer = StoreWriter(tmp_path / "x.zarr")
        writer.add_frames({"name": "net"}, F, D)
        writer.write_frames(0, [FrameRow(vector(1, D), np.zeros(1), [], 1.0)])
        made = open_store(tmp_path / "x.zarr")
        with pytest.raises(LabError, match=r"cannot be the name of an HDF5 dataset .*: use --layout contiguous"):
            export_store(made, tmp_path / "x.h5")
        assert not (tmp_path / "x.h5").exists()
        back, _ = import_exported(export_store(made, tmp_path / "x.h5", "contiguous"), tmp_path / "y.zarr", force=True)
        assert back.videos[0]["id"] == video
        (tmp_path / "x.h5").unlink()
        shutil.rmtree(tmp_path / "x.zarr")


# -- few files -------------------------------------------------------------------------------------------------------


def test_a_packed_store_loads_the_same(store: Store, tmp_path: Path) -> None:
    packed = pack_store(store, tmp_path / "p.zarr", 128)
    assert_identical(store, packed)
    assert packed.array("frames").shards == (128, F, D)
    assert packed.array("words").shards == (2 * store.array("words").chunks[0], D)
    count = [sum(1 for path in s.path.rglob("*") if path.is_file()) for s in (store, packed)]
    assert count[1] < count[0]
    with pytest.raises(LabError, match="--pack takes a multiple of 64 videos"):
        pack_store(store, tmp_path / "q.zarr", 100)


# -- the layouts -----------------------------------------------------------------------------------------------------


def lay_per_video(root: Path) -> Path:
    with h5py.File(root / "x.hdf5", "w") as file:
        for i in range(V):
            if i != 9:
                file[f"v{i}"] = vector(1 + i % F, D, seed=i)
    return root / "x.hdf5"


def lay_contiguous(root: Path) -> Path:
    with h5py.File(root / "x.h5", "w") as file:
        frames = np.full((V, F, D), np.nan, np.float32)
        for i in range(V):
            if i != 9:
                frames[i, : 1 + i % F] = vector(1 + i % F, D, seed=i)
        file["features"] = frames
        file["video_ids"] = [f"v{i}" for i in range(V)]
        file["other"] = np.arange(3)
    return root / "x.h5"


def lay_pickle(root: Path) -> Path:
    content: dict[str, Any] = {f"v{i}": vector(1 + i % F, D, seed=i) for i in range(V)}
    content["v9"] = float("nan")
    (root / "x.pkl").write_bytes(pickle.dumps(content, protocol=2))
    return root / "x.pkl"


def lay_mmt(root: Path) -> Path:
    for i in range(V):
        folder = root / "mmt/v/i/d"
        folder.mkdir(parents=True, exist_ok=True)
        with h5py.File(folder / f"v{i}.h5", "w") as file:
            file["features.s3d"] = np.full((1, D), np.nan) if i == 9 else vector(1 + i % F, D, seed=i)
            file["features.vggish"] = vector(S, A, seed=i)
    return root / "mmt"


def lay_npz(root: Path) -> Path:
    (root / "npz").mkdir()
    for i in range(V):
        if i != 9:
            np.savez(root / f"npz/v{i}.npz", features=vector(1 + i % F, D, seed=i))
    return root / "npz"


LAID = {"per-video": lay_per_video, "contiguous": lay_contiguous, "pickle": lay_pickle, "mmt": lay_mmt, "npz": lay_npz}


@pytest.mark.parametrize("layout", LAID)
def test_every_layout_becomes_the_same_store(layout: str, tmp_path: Path) -> None:
    source = LAID[layout](tmp_path)
    assert detect(source) == layout
    made = import_features(source, tmp_path / "s.zarr", Origin(choice=Choice(expert="s3d"), clip_name="S3D"))
    rows = {video["id"]: row for row, video in enumerate(made.videos)}
    assert made.array("frames").shape[1:] == (F, D)
    assert ("v9" in rows) == (layout in ("contiguous", "pickle", "mmt"))
    for i in (0, 7, 70):
        n = 1 + i % F
        np.testing.assert_array_equal(made.array("frames")[rows[f"v{i}"]][:n], vector(n, D, seed=i).astype(np.float16))
        assert made.array("frame_count")[rows[f"v{i}"]] == n
    section = made.passport["frames"]
    assert (section["name"], section["imported"]["layout"]) == ("S3D", layout)
    assert len(section["imported"]["sha256"]) == 64
    assert made.warnings == ()
    status = {entry.video: entry.status for entry in made.ledger}
    assert status["v7"] == "ok"
    assert status.get("v9") in (None, "missing")
    _, videos = made.load("all")
    assert tuple(videos.frames.shape) == (V - 1, F, D)


def test_help_says_what_lies_where_in_every_layout(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        convert.main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    told = lines[lines.index("layouts of features:") + 1 :][: len(LAYOUTS)]
    assert [line.split()[0] for line in told] == list(LAYOUTS)
    assert "DIR/ID.npy" in told[-1]


def test_float16_and_the_passport_do_not_depend_on_the_place(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    stores = [
        import_features(lay_per_video(tmp_path / name), tmp_path / f"{name}.zarr", Origin()) for name in ("one", "two")
    ]
    assert stores[0].passport == stores[1].passport
    assert stores[0].passport["frames"]["name"] == "unknown"


def test_matched_to_a_data_set(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    videos = (*(Video(f"v{i}.mp4", None, {"p": "train"}) for i in range(60)), Video("unheard.mp4", None, {}))
    collection = Collection("made", tmp_path, videos, (Caption(2, "a", {"p": "train"}),), ("p",), ())
    source = lay_per_video(tmp_path)
    made = import_features(source, tmp_path / "s.zarr", Origin(collection=collection))
    assert [video["id"] for video in made.videos] == [video.id for video in videos]
    assert made.passport["dataset"] == {"name": "made", "version": collection.version}
    np.testing.assert_array_equal(made.array("frames")[7][:2], vector(2, D, seed=7).astype(np.float16))
    assert made.array("frame_count")[60] == 0
    assert "11 ids are no video of made and are left out" in caplog.text
    assert {e.video: e.reason for e in made.ledger}["unheard.mp4"] == "not in x.hdf5"
    other = Collection("made", tmp_path, (Video("w", None, {}),), (), ("p",), ())
    with pytest.raises(LabError, match=r"no id is one of made: its are like 'w', here like 'v0'"):
        import_features(source, tmp_path / "t.zarr", Origin(collection=other))


def test_captions_meet_features_though_only_one_writes_the_suffix(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = lay_pickle(tmp_path)  # v0 to v70
    sheet = tmp_path / "captions.csv"
    sheet.write_text("video,caption\nv3.mp4,a\nv7.WMV,b\nv3,c\nw.mp4,d\n")
    made = import_features(source, tmp_path / "s.zarr", Origin(captions=sheet))
    assert len(made.videos) == V + 1
    assert [made.videos[row["video"]]["id"] for row in made.captions] == ["v3", "v3", "v7", "w.mp4"]
    assert "1 of 3 captioned videos have no features (w.mp4, ...)" in caplog.text
    sheet.write_text("video,caption\nv3.mp4,a\nv3.avi,another film\nv7,b\n")
    made = import_features(source, tmp_path / "two.zarr", Origin(captions=sheet))
    assert [made.videos[row["video"]]["id"] for row in made.captions] == ["v7", "v3.mp4", "v3.avi"]
    sheet.write_text("video,caption\nbears_3.mp4,a\nbears_7.mp4,b\n")
    with pytest.raises(LabError, match=r"videos like 'bears_3.mp4', the features of videos like 'v0': write"):
        import_features(source, tmp_path / "t.zarr", Origin(captions=sheet))
    assert not (tmp_path / "t.zarr").exists()


def test_text_and_audio_as_well(tmp_path: Path) -> None:
    source = lay_npz(tmp_path)
    (tmp_path / "text").mkdir()
    lines = [
        {"qid": q, "vid": f"v{q % 5}", "query": f"query {q}", "split": "test" if q % 5 else "train"} for q in range(20)
    ]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, lines)))
    for q in range(19):  # the last has none
        state, pooled = vector(2 + q % 3, D, seed=q), vector(D, seed=100 + q)
        np.savez(tmp_path / f"text/qid{q}.npz", last_hidden_state=state, pooler_output=pooled)
    (tmp_path / "sound").mkdir()
    sound = lay_mmt(tmp_path / "sound")
    origin = Origin(
        captions=tmp_path / "q.jsonl", text=tmp_path / "text", audio=sound, audio_choice=Choice(expert="vggish")
    )
    made = import_features(source, tmp_path / "s.zarr", origin)
    assert made.splits == ("train", "test")
    texts, videos = made.load("test")
    assert len(texts) == 15  # 16 in test, one of them without features
    assert texts.video is not None
    assert videos.audio is not None
    captions = [made.captions[row]["text"] for row in texts.rows.tolist()]  # type: ignore[union-attr]
    q = int(captions[3].split()[1])
    np.testing.assert_array_equal(
        texts.sentences[3].numpy(), vector(D, seed=100 + q).astype(np.float16).astype(np.float32)
    )
    words, mask = texts.padded_words()
    assert int(mask[3].sum()) == 2 + q % 3
    np.testing.assert_array_equal(
        words[3][mask[3]].numpy(), vector(2 + q % 3, D, seed=q).astype(np.float16).astype(np.float32)
    )
    video = made.videos[int(videos.rows[int(texts.video[3])])]["id"]  # type: ignore[index]
    assert video == f"v{q % 5}"
    assert made.passport["text"]["logit_scale"] == 100.0
    for q in range(19):
        np.savez(tmp_path / f"text/qid{q}.npz", last_hidden_state=vector(2, D + 1), pooler_output=vector(D + 1))
    with pytest.raises(LabError, match=rf"text has {D + 1} dims and .*npz {D}: take both from one network"):
        import_features(source, tmp_path / "t.zarr", origin)
    assert not (tmp_path / "t.zarr").exists()


def test_frames_are_thinned_on_demand(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    np.save(tmp_path / "d/long.npy", vector(600, D))
    with pytest.raises(LabError, match="'long' has 600 vectors, a store takes 512: thin them with --frames 12"):
        import_features(tmp_path / "d", tmp_path / "s.zarr", Origin())
    made = import_features(tmp_path / "d", tmp_path / "s.zarr", Origin(frames=3))
    np.testing.assert_array_equal(made.array("frames")[0], vector(600, D).astype(np.float16)[[99, 299, 499]])
    assert made.passport["frames"]["sampling"] == "midpoints-3 of the imported"


def test_zeros_for_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "d").mkdir()
    np.save(tmp_path / "d/a.npy", np.concatenate([vector(2, D), np.zeros((1, D))]))
    np.save(tmp_path / "d/b.npy", np.zeros((2, D)))
    made = import_features(tmp_path / "d", tmp_path / "s.zarr", Origin())
    assert made.array("frame_count")[:].tolist() == [3, 2]
    assert "3 vectors are zero throughout; if they stand for missing ones, say --zeros-are-missing" in caplog.text
    made = import_features(tmp_path / "d", tmp_path / "t.zarr", Origin(choice=Choice(zeros_are_missing=True)))
    assert made.array("frame_count")[:].tolist() == [2, 0]


# -- what is refused -------------------------------------------------------------------------------------------------


class _Evil:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def forged() -> bytes:
    """An array of objects whose bytes are pointers of the attacker's choice: a dtype with its flags set to nothing."""
    head = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    dtype = b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb"
    return head + b"(I1\n(I1\nt" + dtype + b"I00\nS'AAAAAAAA'\ntb."


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pickle.dumps({"v": _Evil(os.system, "touch /tmp/pwned")}), "it asks for posix.system"),
        (pickle.dumps({"v": _Evil(eval, "1")}), "it asks for builtins.eval"),
        (pickle.dumps({"v": _Evil(np.load, "x")}), "it asks for numpy.load"),
        (pickle.dumps({"v": np.array([{}], dtype=object)}), "it has an array of type 'O8'"),
        (forged(), "it has an array of type 'O8'"),
        (b"cnumpy\nndarray\n(S'x'\nI1\ntb.", "it changes what it calls"),
        (b"Pelsewhere\n.", "it refers to something outside itself"),
    ],
)
def test_a_pickle_that_would_run_something(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(LabError) as error, open_features(tmp_path / "x.pkl"):
        pass
    assert said in str(error.value)
    assert "nothing in it was run" in str(error.value)


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_every_protocol(protocol: int, tmp_path: Path) -> None:
    content = {
        "a": vector(2, D),
        "b": np.asfortranarray(vector(3, D)).astype(">f8"),
        "c": np.arange(5),
        "d": np.float32(2),
    }
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    with open_features(tmp_path / "x.pkl") as features:
        for name in "ab":
            np.testing.assert_array_equal(features.read(name), content[name])
        np.testing.assert_array_equal(features.read("c"), [np.arange(5)])


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04", b"junk", pickle.dumps([1]), pickle.dumps({(1,): 2}), b"\x80\x04\x8e" + b"\xff" * 8]
)
def test_damaged_pickles(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(LabError), open_features(tmp_path / "x.pkl"):
        pass


def test_hdf5_that_reaches_into_other_files(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(64))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("v", (2, 8), "f4", external=[(str(tmp_path / "secret"), 0, 64)])
        file["w"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/v")
        file["soft"] = h5py.SoftLink("/w")
        file["group"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["v"] = np.zeros((2, 8), "f4")
    with open_features(tmp_path / "x.h5") as features:
        assert features.ids == ["v"]
        with pytest.raises(LabError, match="'v' takes its values from another file"):
            features.read("v")
    for name in ("w", "soft", "group/v"):
        with h5py.File(tmp_path / "x.h5") as file, pytest.raises(LabError, match=f"'{name}' takes its values from an"):
            dataset(file, name)


def bad_values() -> Iterator[tuple[Any, str]]:
    yield vector(2, 3, 4), r"features must be \(T, D\) or \(D,\), got \(2, 3, 4\)"
    yield np.array([[1, np.inf]]), "must be finite in float16"
    yield np.array([[1, np.nan], [1, 1]]), "must be finite in float16"
    yield np.array([[1e6]]), r"must be finite in float16 \(±65504\), got 1000000.0"
    yield np.array(["text"]), "numbers are needed, got <U4"
    yield vector(1, D + 1), "has 6 dims, others have 5"


@pytest.mark.parametrize(("value", "said"), list(bad_values()))
def test_features_that_are_none(value: Any, said: str, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    np.savez(tmp_path / "d/a.npz", features=vector(2, D))
    np.savez(tmp_path / "d/b.npz", features=value)
    with pytest.raises(LabError, match=f"video 'b'.*{said}"):
        import_features(tmp_path / "d", tmp_path / "s.zarr", Origin())
    assert not list(tmp_path.glob("s.zarr*"))


def test_arrays_that_cannot_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npy")
    np.savez_compressed(tmp_path / "b.npz", features=np.zeros((50, D)))
    content = bytearray((tmp_path / "b.npz").read_bytes())
    content[60:70] = bytes(range(246, 256))
    (tmp_path / "b.npz").write_bytes(content)
    for name in ("a.npy", "b.npz"):
        with pytest.raises(LabError, match=rf"{name} cannot be read \(.*: get or make it again"):
            load_array(tmp_path / name, "features")


def test_an_npz_with_an_object_in_it(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    np.savez(tmp_path / "d/a.npz", features=np.array([{}], dtype=object))
    with pytest.raises(LabError, match=r"a.npz cannot be read \(Object arrays cannot be loaded"):
        import_features(tmp_path / "d", tmp_path / "s.zarr", Origin())


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["nowhere.h5", "s.zarr"], "nowhere.h5 does not exist"),
        (["x.txt", "s.zarr"], "x.txt is of no known kind"),
        (["x.pt", "s.zarr"], "x.pt is not read, for such files may run code: load it where you trust it, and save"),
        (["npz/v1.npz", "s.zarr"], "v1.npz is one file, and such files are read one for each video: put them as"),
        (["empty", "s.zarr"], "holds no ID.npz, no ID.npy and no a/b/c/ID.h5"),
        (["x.txt", "s.zarr", "--layout", "per-vidoe"], "unknown layout 'per-vidoe': did you mean 'per-video'?"),
        (["x.txt", "s.zarr", "--layout", "per-video"], "cannot be read as HDF5"),
        (["npz", "s.h5"], "a store's name ends in .zarr"),
        (["npz", "s.zarr", "--dataset", "mvsd"], "unknown dataset 'mvsd': did you mean 'msvd'?"),
        (["npz", "s.zarr", "--pack", "64"], "--pack is for stores"),
        (["npz", "s.zarr", "--frames", "0"], "--frames must be at least 1, got 0"),
        (["npz", "s.zarr", "--array", "clip"], "has no array 'clip', it has 'features'"),
        (["npz", "s.zarr", "--text", "npz"], "--text DIR needs --captions FILE with the qid"),
        (["npz", "s.zarr", "--captions", "bad.jsonl"], "bad.jsonl line 1 must be JSON such as"),
        (["npz", "s.zarr", "--captions", "torn.csv"], "video 'v1' is in the splits 'train' and 'test'"),
        (["mmt", "s.zarr"], "choose one of the networks 's3d', 'vggish': name it with --expert"),
        (["mmt", "s.zarr", "--expert", "clip"], "'clip' is not among the networks 's3d', 'vggish'"),
        (["two.h5", "s.zarr", "--layout", "contiguous"], "choose with --array NAME --ids NAME"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(
    argv: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("x.txt").write_text("text")
    Path("x.pt").write_text("text")
    Path("bad.jsonl").write_text("video,caption\n")
    Path("torn.csv").write_text("video,caption,split\nv1,a,train\nv1,b,test\n")
    Path("npz").mkdir()
    np.savez("npz/v1.npz", features=vector(2, D))
    Path("mmt/a/b/c").mkdir(parents=True)
    with h5py.File("mmt/a/b/c/abc.h5", "w") as file:
        file["features.s3d"], file["features.vggish"] = vector(2, D), vector(2, A)
    with h5py.File("two.h5", "w") as file:
        file["x"], file["y"], file["ids"] = vector(2, 3, D), vector(2, 3, D), ["a", "b"]
    assert cli.run(convert.main, argv) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len([line for line in err.splitlines() if "error:" in line]) == 1
    assert not list(tmp_path.glob("s.*"))


def test_the_command_there_and_back(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(convert.main, [str(store.path), str(tmp_path / "a.h5"), "--layout", "contiguous"]) == 0
    assert cli.run(convert.main, [str(tmp_path / "a.h5"), str(tmp_path / "b.zarr")]) == 0
    out = capsys.readouterr().out
    assert f"{tmp_path / 'b.zarr'}: 71 videos, 521 captions" in out
    assert "70 videos have frames" in out
    assert_identical(store, open_store(tmp_path / "b.zarr"))
    assert cli.run(convert.main, [str(tmp_path / "b.zarr"), str(tmp_path / "c.zarr"), "--pack", "64"]) == 0
    assert cli.run(convert.main, [str(tmp_path / "b.zarr"), str(tmp_path / "c.txt")]) == 2
    assert cli.run(convert.main, [str(tmp_path / "b.zarr"), str(tmp_path / "d.h5"), "--layout", "npz"]) == 2
    assert zarr.open_group(tmp_path / "c.zarr", mode="r").attrs["packed"] == 64

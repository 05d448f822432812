"""Whatever lies under a path is a status with a reason, within bounded time; nothing crashes, hangs or is followed."""

from __future__ import annotations

import functools
import itertools
import logging
import os
import pickle
import random
import socket
import struct
import zlib
from pathlib import Path

import av.logging
import mp4_boxes
import numpy as np
import pytest
from numbered import numbered, read_number

from lab import media
from lab.extraction.encode import audio_rows
from lab.media import Clip, MediaError, Sampling, parse_sampling, probe, read_clip
from lab.media import file as media_file
from lab.preprocess import ImageSpec
from lab.toy.write import Sound, tone, write_clip, write_tracks
from lab.workers import DecodePool

N, FPS = 61, 25
SPEC = ImageSpec(size=64, resize="squash")
TWELVE = parse_sampling("midpoints-12")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    """Good files of each container, to be broken."""
    root = tmp_path_factory.mktemp("whole")
    noise = np.random.default_rng(0).integers(0, 60, (N, 128, 128, 3), dtype=np.uint8)  # so that frames weigh something
    pictures = [numbered(i, 128) // 4 * 3 + noise[i] for i in range(N)]
    sound = tone(440, N / FPS)
    write_clip(root / "end.mp4", pictures, FPS, audio=sound)
    write_clip(root / "front.mp4", pictures, FPS, audio=sound, muxer={"movflags": "+faststart"})
    write_clip(root / "parts.mp4", pictures, FPS, options={"g": "20"}, muxer={"movflags": "frag_keyframe+empty_moov"})
    write_clip(root / "a.mkv", pictures, FPS, options={"g": "20"}, audio=sound)
    write_clip(
        root / "a.avi",
        pictures,
        FPS,
        codec="mpeg4",
        options={"bf": "2", "b": "400k", "g": "12"},
        audio=sound,
        audio_codec="libmp3lame",
    )
    write_clip(root / "a.ts", pictures, FPS, options={"g": "20"}, audio=sound, audio_codec="mp2")
    return {path.name: path.read_bytes() for path in root.iterdir()}


def read(path: Path, **options) -> Clip:
    return read_clip(path, TWELVE, SPEC, **options)


def refused(path: Path) -> MediaError:
    """What both doors say of a file that gives nothing."""
    with pytest.raises(MediaError) as error:
        read(path)
    with pytest.raises(MediaError) as probed:
        probe(path)
    assert probed.value.status == error.value.status
    assert "\n" not in str(error.value)
    assert str(error.value)
    return error.value


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


# -- what is not a file ---------------------------------------------------------------------------------------------


def test_what_is_not_there(tmp_path):
    error = refused(tmp_path / "none.mp4")
    assert (error.status, str(error)) == ("missing", "no such file")
    link = tmp_path / "link.mp4"
    link.symlink_to(tmp_path / "gone.mp4")
    error = refused(link)
    assert (error.status, str(error)) == ("missing", f"dangling link to {tmp_path / 'gone.mp4'}")
    link.unlink()
    link.symlink_to(link)
    assert refused(link).status == "unreadable"


def test_what_is_no_file(tmp_path, monkeypatch):
    assert (refused(tmp_path).status, str(refused(tmp_path))) == ("not_a_file", "a directory, not a file")
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    assert str(refused(pipe)) == "a named pipe, not a file"
    assert str(refused(Path("/dev/zero"))) == "a device, not a file"
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # a socket's path must be short
        server.bind("s")
        assert str(refused(tmp_path / "s")) == "a socket, not a file"


def test_a_link_to_a_video_is_the_video(tmp_path, whole):
    link = tmp_path / "link.mp4"
    link.symlink_to(put(tmp_path / "a.mp4", whole["end.mp4"]))
    assert read(link).frames_status == "ok"


def test_what_may_not_be_read(tmp_path, whole, monkeypatch):
    path = put(tmp_path / "a.mp4", whole["end.mp4"])

    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    error = refused(path)
    assert (error.status, str(error)) == ("unreadable", "permission denied")


def test_a_disk_that_fails(tmp_path, whole, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(media, "cut_short", fail)
    error = refused(put(tmp_path / "a.mp4", whole["end.mp4"]))
    assert (error.status, str(error)) == ("unreadable", "input/output error")


@pytest.mark.parametrize(
    "name", ["100%03d.mp4", "http:x.mp4", "a b'\"\n.mp4", "-i.mp4", "filmé-动.mp4", b"\xff\xfe.mp4"]
)
def test_odd_names_are_names(tmp_path, whole, name, monkeypatch):
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(whole["end.mp4"])
    assert read(path).frames_status == "ok"
    monkeypatch.chdir(tmp_path)
    assert read(Path(os.fsdecode(name))).frames_status == "ok"


# -- what is no video -----------------------------------------------------------------------------------------------


def test_empty(tmp_path):
    error = refused(put(tmp_path / "a.mp4", b""))
    assert (error.status, str(error)) == ("empty", "the file is empty (0 bytes)")


@pytest.mark.parametrize(
    ("data", "status", "said"),
    [
        (b"<!DOCTYPE html>\n<html>404</html>", "not_video", "a text file that begins '<!DOCTYPE html>'"),
        (b"\xef\xbb\xbfhello\r\n", "not_video", "a text file"),
        (bytes(5000), "undecodable", "Invalid data found when processing input"),
        (random.Random(1).randbytes(50_000), "undecodable", "Invalid data found when processing input"),
        (b"PK\x03\x04" + random.Random(2).randbytes(5000), "undecodable", "Invalid data"),
        (b"\x00", "undecodable", ""),
        (b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp41", "undecodable", ""),
        (b"\x00\x00\x00\x18ftypisom", "undecodable", "Invalid data found when processing input"),
        (b"RIFF\x00\x10\x00\x00AVI LIST", "undecodable", ""),
        (b"\x1a\x45\xdf\xa3", "undecodable", ""),
    ],
)
def test_what_is_no_video_at_all(tmp_path, data, status, said):
    error = refused(put(tmp_path / "a.mp4", data))
    assert error.status == status
    assert str(error).startswith(said)


def test_lists_of_other_files_are_not_followed(tmp_path, whole):
    put(tmp_path / "good.mp4", whole["end.mp4"])
    os.mkfifo(tmp_path / "pipe.ts")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        lists = {
            "m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:{port}/a.ts\npipe.ts\n",
            "concat": "ffconcat version 1.0\nfile good.mp4\n",
            "sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nt=0 0\nm=video {port} RTP/AVP 96\n",
            "mpd": f'<?xml version="1.0"?><MPD><BaseURL>http://127.0.0.1:{port}/</BaseURL></MPD>',
        }
        for name, text in lists.items():
            for padding in ("", "\x00"):  # text, and what is no longer text to us but may be to FFmpeg
                error = refused(put(tmp_path / f"{name}.mp4", (text + padding).encode()))
                assert error.status in {"not_video", "undecodable"}
        with pytest.raises(BlockingIOError):
            server.accept()


def test_sound_alone_is_no_video(tmp_path):
    path = write_tracks(tmp_path / "a.wav", [], Sound(tone(440, 1.0), 32000, "pcm_s16le"))
    error = refused(path)
    assert (error.status, str(error)) == ("no_video", "no video stream (audio streams: 1)")


def test_the_cover_of_a_song_is_no_video(tmp_path):
    song = write_tracks(tmp_path / "a.mp3", [], Sound(tone(440, 1.0, 44100), 44100, "libmp3lame"))
    image = b"\x00image/png\x00\x03\x00" + png(8, 8)
    frame = b"APIC" + struct.pack(">I", len(image)) + b"\x00\x00" + image
    size = bytes((len(frame) >> s) & 127 for s in (21, 14, 7, 0))
    path = put(tmp_path / "cover.mp3", b"ID3\x03\x00\x00" + size + frame + song.read_bytes())
    assert str(refused(path)) == "only cover art (audio streams: 1)"


def test_a_codec_that_nobody_knows(tmp_path, whole):
    error = refused(put(tmp_path / "a.mkv", whole["a.mkv"].replace(b"V_MPEG4/ISO/AVC", b"V_MPEG9/ISO/XYZ")))
    assert (error.status, str(error)) == ("undecodable", "no decoder for the video stream's codec")
    clip = read(put(tmp_path / "b.mkv", whole["a.mkv"].replace(b"A_AAC", b"A_XYZ")))
    assert (clip.frames_status, clip.audio_status) == ("ok", "undecodable")
    assert clip.audio_reason == "no decoder for the audio stream's codec"


def png(width: int, height: int) -> bytes:
    """A white picture of one bit a pixel."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = (b"\x00" + b"\xff" * ((width + 7) // 8)) * height
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_000, 30_000])
def test_a_picture_too_large_for_any_video_is_refused(tmp_path, side):
    error = refused(put(tmp_path / "huge.png", png(side, side)))
    assert error.status == "undecodable"


# -- what was a video once ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["front.mp4", "parts.mp4", "a.mkv", "a.avi"])
@pytest.mark.parametrize("part", [0.9, 0.75, 0.6])
def test_a_file_cut_short_gives_what_is_there_and_says_so(tmp_path, whole, name, part):
    data = whole[name]
    path = put(tmp_path / name, data[: int(part * len(data))])
    clip = read(path)
    assert clip.frames_status == "truncated"
    assert "the file ends at byte" in clip.frames_reason
    seen = [read_number(picture) for picture in clip.pictures]
    left = int(clip.frames_reason.split(" frames can be decoded")[0].rsplit(" ", 1)[-1])
    assert len(seen) == len(TWELVE.indices(left))
    assert left < N
    assert all(0 <= a < b for a, b in itertools.pairwise(seen))  # whole frames, in order
    np.testing.assert_allclose((clip.times_s - clip.times_s[0]) * FPS, np.array(seen) - seen[0], atol=0.6)
    assert probe(path).status == "truncated"


@pytest.mark.parametrize("name", ["front.mp4", "a.mkv", "a.avi"])
def test_sound_that_breaks_off_is_not_whole(tmp_path, whole, name):
    data = whole[name]
    before = read(put(tmp_path / name, data))
    clip = read(put(tmp_path / name, data[: int(0.6 * len(data))]))
    assert (before.audio_status, clip.audio_status) == ("ok", "truncated")
    assert clip.audio_reason.startswith(f"the file ends at byte {int(0.6 * len(data)):,} of ")
    assert 0 < len(clip.audio) < 0.9 * len(before.audio)
    assert [row.presence for row in audio_rows([clip], [(np.zeros(2, "f4"), np.zeros((1, 2), "f4"))])] == ["present"]
    full = read(tmp_path / name, max_audio_s=0.4)
    assert (full.audio_status, full.audio_reason) == ("ok", "only the first 0.4 s are kept")  # as of the whole file


def test_a_wrong_length_alone_does_not_break_off_the_sound(tmp_path, whole):
    data = bytearray(whole["front.mp4"])
    assert mp4_boxes.find(bytes(data), "mdat")[1] == len(data)
    place = data.index(b"mdat") - 4
    data[place : place + 4] = struct.pack(">I", struct.unpack(">I", data[place : place + 4])[0] + 99)
    clip = read(put(tmp_path / "a.mp4", bytes(data)))
    assert (clip.frames_status, clip.audio_status) == ("ok", "ok")


def test_how_many_of_how_many_frames_are_left_is_said(tmp_path, whole):
    data = whole["front.mp4"]
    clip = read(put(tmp_path / "a.mp4", data[: len(data) // 2]))
    assert clip.frames_reason.startswith(f"the file ends at byte {len(data) // 2:,} of {len(data):,}, after ")
    assert f" of {N} frames; " in clip.frames_reason


def test_an_index_at_the_end_that_is_gone_leaves_nothing(tmp_path, whole):
    data = whole["end.mp4"]
    error = refused(put(tmp_path / "a.mp4", data[: len(data) // 2]))
    assert (error.status, str(error)) == (
        "undecodable",
        "Invalid data found when processing input: moov atom not found; "
        f"the file ends at byte {len(data) // 2:,} of {mp4_boxes.find(data, 'mdat')[1]:,}",
    )


def test_a_track_list_cut_short_does_not_pass_for_a_silent_film(tmp_path, whole):
    data = whole["end.mp4"]
    _, end_of_first = mp4_boxes.find(data, "moov/trak")
    clip = read(put(tmp_path / "a.mp4", data[: end_of_first + 40]))
    assert clip.frames_status == "truncated"
    assert clip.audio_status == "undecodable"
    assert clip.audio_reason.endswith("and what is there names no audio stream")


@pytest.mark.parametrize("name", ["end.mp4", "front.mp4", "parts.mp4", "a.mkv", "a.avi", "a.ts"])
@pytest.mark.parametrize("filler", [b"\x00", b"\xff", None])
def test_a_hole_in_the_middle_never_yields_a_smeared_frame(tmp_path, whole, name, filler):
    data = bytearray(whole[name])
    first, size = int(0.4 * len(data)), len(data) // 10
    data[first : first + size] = filler * size if filler else random.Random(0).randbytes(size)
    clip = read(put(tmp_path / name, bytes(data)))
    seen = [read_number(picture) for picture in clip.pictures]
    assert clip.frames_status == "truncated"
    assert all(number >= 0 for number in seen) or filler is None  # noise may decode to something
    assert "frames can be decoded" in clip.frames_reason


def test_random_damage_is_a_status_or_frames(tmp_path, whole):
    """In the pool, as in a pass: were a decoder to crash, it would cost its file and be named here."""
    rng = random.Random(0)
    paths = []
    for name, i in itertools.product(("end.mp4", "parts.mp4", "a.mkv", "a.avi", "a.ts"), range(25)):
        data = bytearray(whole[name])
        for _ in range(rng.choice([1, 10, 200])):
            data[rng.randrange(len(data))] = rng.randrange(256)
        paths.append(put(tmp_path / f"{i}-{name}", bytes(data)))
    job = functools.partial(read_clip, sampling=TWELVE, spec=SPEC, deadline_s=10.0)
    with DecodePool(2, job, deadline_s=200.0) as pool:
        results = list(pool.run(paths, ahead=8))
    clips = [clip for _, clip in results if isinstance(clip, Clip)]
    assert not [(path.name, clip) for path, clip in results if not isinstance(clip, Clip | MediaError)]
    assert not [p.name for p, found in results if isinstance(found, MediaError) and found.status == "timeout"]
    assert len(clips) > len(paths) // 2
    for clip in clips:
        assert clip.pictures.shape == (len(clip.times_s), 64, 64, 3)
        assert clip.frames_status in {"ok", "truncated"}
        assert np.isfinite(clip.times_s).all()
        assert clip.audio is None or np.isfinite(clip.audio).all()


def test_nothing_is_decoded_of_a_stream_whose_packets_are_all_noise(tmp_path, whole):
    data = bytearray(whole["end.mp4"])
    start, end = mp4_boxes.find(bytes(data), "mdat")
    data[start + 8 : end] = bytes(end - start - 8)
    error = refused(put(tmp_path / "a.mp4", bytes(data)))
    assert error.status == "undecodable"
    assert "video packets gives a frame" in str(error) or "Invalid data" in str(error)


# -- which file it was -----------------------------------------------------------------------------------------------


def test_a_failure_tells_of_which_file_it_is(tmp_path, whole):
    torn = put(tmp_path / "a.mp4", whole["end.mp4"][:3000])
    for path, told in ((torn, media_file.digest_of(torn)), (tmp_path, ""), (tmp_path / "none", "")):
        with pytest.raises(MediaError) as error:
            read(path)
        assert error.value.digest == told
    os.mkfifo(tmp_path / "pipe.mp4")
    assert media_file.digest_of(tmp_path / "pipe.mp4") == ""


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_the_digest_is_of_the_file_that_was_opened(tmp_path, whole, monkeypatch, suffix):
    """Not of one that is renamed into its place while it is decoded, whether it gives frames or none."""
    data = whole["a.mkv"] if suffix == "mkv" else whole["end.mp4"][:3000]
    path, other = put(tmp_path / f"a.{suffix}", data), put(tmp_path / "other", whole["a.avi"])
    told, open_media = media_file.digest_of(path), media.open_media

    def opened(*given):
        other.replace(path)
        return open_media(*given)

    monkeypatch.setattr(media, "open_media", opened)
    try:
        digest = read(path).digest
    except MediaError as error:
        digest = error.digest
    assert (digest, media_file.digest_of(path) == told) == (told, False)


# -- time and noise -------------------------------------------------------------------------------------------------


def test_the_time_for_a_file_is_bounded(tmp_path, whole):
    path = put(tmp_path / "a.mkv", whole["a.mkv"])
    for door in (lambda: read(path, deadline_s=1e-9), lambda: probe(path, deadline_s=1e-9)):
        with pytest.raises(MediaError) as error:
            door()
        assert (error.value.status, str(error.value)) == ("timeout", "decoding took longer than 1e-09 s of CPU time")


def test_the_deadline_holds_within_a_long_file(tmp_path, whole, monkeypatch):
    path = put(tmp_path / "a.avi", whole["a.avi"])
    clock = iter(range(10**6))
    monkeypatch.setattr(media_file.time, "process_time", lambda: next(clock))
    with pytest.raises(MediaError, match="took longer than 30 s"):
        read(path, deadline_s=30)


def test_reasons_cost_no_quiet(tmp_path, whole, capfd, caplog):
    """FFmpeg's words are caught, not printed, and its log level is as it was."""
    caplog.set_level(logging.DEBUG)
    before = av.logging.get_level()
    refused(put(tmp_path / "a.mp4", whole["end.mp4"][:3000]))
    read(put(tmp_path / "b.mkv", whole["a.mkv"][:9000]))
    assert av.logging.get_level() == before
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_errors_cross_process_borders():
    said = MediaError("empty", "the file is empty (0 bytes)")
    said.digest = "ab"
    error = pickle.loads(pickle.dumps(said))  # noqa: S301
    assert (error.status, error.reason, str(error)) == ("empty",) + ("the file is empty (0 bytes)",) * 2
    assert error.digest == "ab"


def test_a_clip_crosses_process_borders(tmp_path, whole):
    clip = read_clip(put(tmp_path / "a.mp4", whole["end.mp4"]), Sampling("uniform", 2), SPEC)
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(clip, protocol=5, buffer_callback=buffers.append)
    assert len(head) < 20_000  # the arrays travel beside the pickle
    np.testing.assert_array_equal(pickle.loads(head, buffers=buffers).pictures, clip.pictures)  # noqa: S301

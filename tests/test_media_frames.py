"""The frame that comes back is the frame asked for: every frame tells its number, whatever the file does to it."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import mp4_boxes
import numpy as np
import pytest
from numbered import numbered, read_number
from PIL import Image

from lab import media
from lab.media import parse_sampling, probe, read_clip
from lab.preprocess import ImageSpec
from lab.toy.write import Track, tone, write_clip

N, FPS, SIZE = 61, 25, 64
SPEC = ImageSpec(size=SIZE, resize="squash")
TWELVE = parse_sampling("midpoints-12")
X265 = {"x265-params": "log-level=none:pools=1:keyint=20:open-gop=1"}


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setenv("SVT_LOG", "1")


def pictures(count: int = N, size: int = SIZE, first: int = 0) -> list[Any]:
    return [numbered(first + i, size) for i in range(count)]


def numbers(path: Path, rule: str = "midpoints-12") -> list[int]:
    return [read_number(picture) for picture in read_clip(path, parse_sampling(rule), SPEC, audio_hz=None).pictures]


def expected(count: int = N, rule: str = "midpoints-12") -> list[int]:
    return parse_sampling(rule).indices(count, FPS).tolist()


CODECS = {
    "h264.mp4": {},
    "h264-b-frames.mp4": {"options": {"bf": "3", "g": "20", "b_strategy": "0", "sc_threshold": "0"}},
    "h264-open-gop.mkv": {"options": {"bf": "3", "x264-params": "open-gop=1:keyint=12:min-keyint=12:scenecut=0"}},
    "h264-refresh.mp4": {"options": {"x264-params": "intra-refresh=1:keyint=20:bframes=0"}},
    "h264-intra.mp4": {"options": {"g": "1"}},
    "h264-interlaced.mp4": {"options": {"x264-params": "interlaced=1", "g": "20"}},
    "h264-10bit.mp4": {"pix_fmt": "yuv420p10le"},
    "h264-odd.mp4": {"pix_fmt": "yuv444p", "size": 67},
    "h264-b-frames.avi": {"options": {"bf": "3", "g": "20"}},
    "h264-b-frames.ts": {"options": {"bf": "3", "g": "20"}},
    "h264.flv": {},
    "h264-fragmented.mp4": {"options": {"g": "20"}, "muxer": {"movflags": "frag_keyframe+empty_moov"}},
    "hevc-open-gop.mp4": {"codec": "libx265", "options": X265},
    "hevc-10bit.mkv": {"codec": "libx265", "pix_fmt": "yuv420p10le", "options": X265},
    "vp9-alt-ref.webm": {
        "codec": "libvpx-vp9",
        "options": {"deadline": "good", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "16", "g": "20"},
    },
    "vp9-odd.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}, "size": 67},
    "vp8-alt-ref.webm": {
        "codec": "libvpx",
        "options": {"deadline": "good", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "16", "b": "300k"},
    },
    "av1-10bit.mp4": {
        "codec": "libsvtav1",
        "pix_fmt": "yuv420p10le",
        "options": {"preset": "9", "crf": "20", "g": "20", "svtav1-params": "lp=1"},
    },
    "mpeg4-b-frames.avi": {"codec": "mpeg4", "options": {"bf": "2", "b": "400k", "g": "20"}},
    "mpeg4-b-frames.mkv": {"codec": "mpeg4", "options": {"bf": "2", "b": "400k", "g": "20"}},
    "mpeg2.mpg": {"codec": "mpeg2video", "options": {"bf": "2", "b": "800k"}},
    "wmv.wmv": {"codec": "wmv2", "options": {"b": "800k"}},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "ffv1-odd.mkv": {"codec": "ffv1", "size": 63},
    "loop.gif": {"codec": "gif", "pix_fmt": "rgb8"},
}


@pytest.mark.parametrize("name", CODECS)
def test_every_codec_and_container_gives_the_frame_asked_for(tmp_path, name):
    options: dict[str, Any] = dict(CODECS[name])
    path = write_clip(tmp_path / name, pictures(size=options.pop("size", SIZE)), FPS, **options)
    clip = read_clip(path, TWELVE, SPEC)
    assert [read_number(picture) for picture in clip.pictures] == expected()
    assert (clip.frames_status, clip.frames_reason) == ("ok", "")
    np.testing.assert_allclose(clip.times_s, np.array(expected()) / FPS, atol=0.011)  # GIF counts hundredths
    assert clip.duration_s == pytest.approx(N / FPS, abs=0.07)
    assert numbers(path, "uniform-3") == [0, 30, 60]
    assert probe(path).frames == N


@pytest.mark.parametrize("name", ["h264-b-frames.mp4", "h264-open-gop.mkv", "hevc-open-gop.mp4", "vp9-alt-ref.webm"])
def test_decoding_little_gives_the_pixels_of_decoding_all(tmp_path, name, monkeypatch):
    path = write_clip(tmp_path / name, pictures(), FPS, **CODECS[name])
    rules = ["uniform-1", "uniform-2", "uniform-5", "midpoints-3", "midpoints-20", "uniform-61"]
    little = [read_clip(path, parse_sampling(rule), SPEC).pictures for rule in rules]
    monkeypatch.setattr(media, "told_by_packets", lambda *_: False)
    for rule, seen in zip(rules, little, strict=True):
        np.testing.assert_array_equal(seen, read_clip(path, parse_sampling(rule), SPEC).pictures)


@pytest.mark.parametrize("name", ["h264-b-frames.mp4", "h264-b-frames.avi"])
def test_a_file_too_large_to_keep_is_read_again(tmp_path, name, monkeypatch):
    monkeypatch.setattr(media, "_KEEP_BYTES", 1000)
    path = write_clip(tmp_path / name, pictures(), FPS, audio=tone(440, N / FPS), **CODECS[name])
    assert numbers(path) == expected()
    assert numbers(path, "fps1-12") == [0, 25, 50]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_times_are_those_of_the_frames_at_a_variable_rate(tmp_path, suffix):
    shown = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.2, N)) - 0.01
    shown -= shown[0]
    path = write_clip(tmp_path / f"vfr.{suffix}", pictures(), FPS, times_s=shown)
    clip = read_clip(path, TWELVE, SPEC)
    assert [read_number(picture) for picture in clip.pictures] == expected()
    np.testing.assert_allclose(clip.times_s, shown[expected()], atol=1e-3)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_start_other_than_zero_moves_nothing(tmp_path, suffix):
    path = write_clip(tmp_path / f"late.{suffix}", pictures(), FPS, start_s=2.5)
    clip = read_clip(path, TWELVE, SPEC)
    assert [read_number(picture) for picture in clip.pictures] == expected()
    np.testing.assert_allclose(clip.times_s, np.array(expected()) / FPS, atol=1e-3)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_frames_outside_the_edit_list_are_neither_shown_nor_counted(tmp_path, codec, suffix):
    if suffix == "mp4":
        path = write_clip(tmp_path / "cut.mp4", pictures(), FPS, codec=codec, options={"g": "20", "bf": "2"})
        path.write_bytes(mp4_boxes.edit(path.read_bytes(), (15 / FPS, 31 / FPS)))
        clip = read_clip(path, TWELVE, SPEC)
        assert [read_number(picture) for picture in clip.pictures] == [15 + i for i in expected(31)]
        assert clip.times_s[0] == pytest.approx(expected(31)[0] / FPS)
        assert clip.duration_s == pytest.approx(31 / FPS)
    else:
        path = write_clip(tmp_path / "whole.mkv", pictures(), FPS, codec=codec, options={"g": "20", "bf": "2"})
        assert numbers(path) == expected()


def test_an_edit_list_may_show_parts_in_another_order(tmp_path):
    path = write_clip(tmp_path / "cuts.mp4", pictures(), FPS, options={"g": "20", "bf": "2"})
    path.write_bytes(mp4_boxes.edit(path.read_bytes(), (40 / FPS, 11 / FPS), (5 / FPS, 13 / FPS)))
    order = [*range(40, 51), *range(5, 18)]
    assert numbers(path) == [order[i] for i in expected(len(order))]


TURNS = {
    "90 clockwise": ((0, 1, -1, 0), lambda p: np.rot90(p, 1)),
    "180": ((-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
    "270 clockwise": ((0, -1, 1, 0), lambda p: np.rot90(p, 3)),
    "mirrored": ((-1, 0, 0, 1), np.fliplr),
    "upside down": ((1, 0, 0, -1), np.flipud),
    "transposed": ((0, 1, 1, 0), lambda p: p.transpose(1, 0, 2)),
}


@pytest.mark.parametrize("way", TURNS)
def test_pictures_and_thumbnails_come_upright(tmp_path, way):
    matrix, store = TURNS[way]
    tall = [np.kron(numbered(i, 64), np.ones((2, 1, 1), np.uint8)) for i in range(20)]  # 128 high, 64 wide
    path = write_clip(tmp_path / "turned.mp4", [store(p) for p in tall], FPS)
    path.write_bytes(mp4_boxes.turn(path.read_bytes(), *matrix))
    clip = read_clip(path, parse_sampling("uniform-3"), SPEC)
    assert [read_number(picture) for picture in clip.pictures] == [0, 9, 19]
    thumbs = [Image.open(io.BytesIO(jpeg)) for jpeg in clip.thumbnails]
    assert [image.size for image in thumbs] == [(64, 128)] * 3
    assert [read_number(np.asarray(image)) for image in thumbs] == [0, 9, 19]


def test_the_turn_agrees_with_the_number_that_ffmpeg_makes_of_it(tmp_path):
    path = write_clip(tmp_path / "turned.mp4", pictures(3), FPS)
    path.write_bytes(mp4_boxes.turn(path.read_bytes(), 0, 1, -1, 0))
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).rotation == -90  # clockwise


def test_of_two_video_streams_the_one_that_a_player_shows(tmp_path):
    second = Track(pictures(N, 128, first=500), FPS)
    path = write_clip(tmp_path / "two.mkv", pictures(), FPS, more=[second])
    with av.open(str(path)) as container:
        best = container.streams.best("video").index
    assert numbers(path) == [500 * best + i for i in expected()]
    assert probe(path).video_streams == 2


def lie_in_mp4(data: bytes) -> bytes:
    """Another count in the table of durations, from which FFmpeg takes the number of frames."""
    at, _ = mp4_boxes.find(data, "moov/trak/mdia/minf/stbl/stts")
    out = bytearray(data)
    struct.pack_into(">I", out, at + 16, 9 * N)
    return bytes(out)


def lie_in_avi(data: bytes) -> bytes:
    out = bytearray(data)
    struct.pack_into("<I", out, data.index(b"avih") + 8 + 16, 9 * N)
    struct.pack_into("<I", out, data.index(b"strh") + 8 + 32, 9 * N)
    return bytes(out)


def understate_in_avi(data: bytes) -> bytes:
    out = bytearray(data)
    struct.pack_into("<I", out, data.index(b"avih") + 8 + 16, 7)
    struct.pack_into("<I", out, data.index(b"strh") + 8 + 32, 7)
    return bytes(out)


@pytest.mark.parametrize(("name", "lie"), [("a.mp4", lie_in_mp4), ("a.avi", lie_in_avi), ("b.avi", understate_in_avi)])
def test_a_frame_count_in_the_header_that_is_wrong_is_not_believed(tmp_path, name, lie: Callable[[bytes], bytes]):
    path = write_clip(tmp_path / name, pictures(), FPS)
    path.write_bytes(lie(path.read_bytes()))
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames != N
    clip = read_clip(path, TWELVE, SPEC)
    assert [read_number(picture) for picture in clip.pictures] == expected()
    assert clip.frames_status == "ok"


VOP = b"\x00\x00\x01\xb6"


def mark_packed(data: bytes) -> bytes:
    """A coded picture with the note that tells decoders to look for a second one behind it."""
    at = data.index(VOP)
    return data[:at] + b"\x00\x00\x01\xb2DivX503b1393p" + data[at:]


def test_b_frames_packed_into_the_packets_of_others_are_counted(tmp_path):
    """As DivX wrote AVI: two frames in a packet, then one that holds none."""
    plain = write_clip(tmp_path / "plain.avi", pictures(), FPS, codec="mpeg4", options={"bf": "1", "b_strategy": "0"})
    packed = tmp_path / "packed.avi"
    with av.open(str(plain)) as source, av.open(str(packed), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [p for p in source.demux(video=0) if p.size]
        data, keys = [mark_packed(bytes(p)) for p in packets], [p.is_keyframe for p in packets]
        kinds = [data[i][data[i].index(VOP) + 4] >> 6 for i in range(N)]
        out: list[tuple[bytes, bool]] = []
        i = 0
        while i < len(data):
            if i + 1 < len(data) and kinds[i + 1] == 2:  # a B-frame follows
                out += [(data[i] + data[i + 1], keys[i]), (VOP + b"\x50\x7f", False)]
                i += 2
            else:
                out.append((data[i], keys[i]))
                i += 1
        for dts, (content, key) in enumerate(out):
            packet = av.Packet(content)
            packet.stream, packet.dts, packet.pts = stream, dts, dts
            packet.time_base, packet.is_keyframe = Fraction(1, FPS), key
            target.mux(packet)
    assert 2 in kinds
    assert numbers(packed) == expected()
    np.testing.assert_allclose(read_clip(packed, TWELVE, SPEC).times_s, np.array(expected()) / FPS, atol=1e-6)


@pytest.mark.parametrize("space", ["bt709", "smpte170m"])
def test_colours_follow_the_matrix_that_the_stream_names(tmp_path, space):
    colour = np.array([200, 60, 40], np.uint8)
    flat = np.broadcast_to(colour, (5, 64, 64, 3))
    path = tmp_path / "colour.mp4"
    number = {"bt709": 1, "smpte170m": 6}[space]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "5", "colorspace": space})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv444p"
        stream.codec_context.colorspace = number
        for picture in flat:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame = frame.reformat(format="yuv444p", dst_colorspace={"bt709": "ITU709", "smpte170m": "ITU601"}[space])
            frame.colorspace = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    seen = read_clip(path, parse_sampling("uniform-2"), SPEC).pictures
    assert np.abs(seen.astype(int) - colour).max() <= 4


def test_full_range_is_not_stretched_again(tmp_path):
    flat = np.broadcast_to(np.array([250, 10, 128], np.uint8), (3, 64, 64, 3))
    path = write_clip(tmp_path / "full.avi", flat, FPS, codec="mjpeg", pix_fmt="yuvj444p", options={"qmin": "1"})
    assert np.abs(read_clip(path, TWELVE, SPEC).pictures.astype(int) - flat[0, 0, 0]).max() <= 6


def test_thumbnails_are_small_and_keep_the_shape(tmp_path):
    wide = np.zeros((4, 100, 300, 3), np.uint8)
    clip = read_clip(write_clip(tmp_path / "wide.mp4", wide, FPS), TWELVE, ImageSpec(size=32))
    assert clip.pictures.shape == (4, 32, 32, 3)
    assert [Image.open(io.BytesIO(jpeg)).size for jpeg in clip.thumbnails] == [(160, 53)] * 4


def test_short_videos_and_single_frames(tmp_path):
    path = write_clip(tmp_path / "five.mp4", pictures(5), FPS)
    assert numbers(path) == [0, 1, 2, 3, 4]
    assert numbers(path, "xpool-7") == [0, 1, 2, 3, 4, 4, 4]
    one = write_clip(tmp_path / "one.mp4", pictures(1), FPS)
    clip = read_clip(one, TWELVE, SPEC)
    assert clip.times_s.tolist() == [0.0]
    assert clip.duration_s == pytest.approx(1 / FPS)
    image = tmp_path / "still.png"
    Image.fromarray(numbered(7, 64)).save(image)
    assert numbers(image) == [7]


def test_either_half_can_be_left_out(tmp_path):
    path = write_clip(tmp_path / "both.mp4", pictures(), FPS, audio=tone(440, N / FPS))
    frames = read_clip(path, TWELVE, SPEC, audio_hz=None)
    assert (frames.audio, frames.audio_status, len(frames.pictures)) == (None, "skipped", 12)
    sound = read_clip(path, TWELVE, SPEC, frames=False)
    assert (sound.pictures.shape, sound.frames_status, sound.audio_status) == ((0, SIZE, SIZE, 3), "skipped", "ok")
    both = read_clip(path, TWELVE, SPEC)
    np.testing.assert_array_equal(both.audio, sound.audio)
    np.testing.assert_array_equal(both.pictures, frames.pictures)
    assert both.seconds > 0


def test_probe_tells_what_doctor_wants_to_know(tmp_path):
    path = write_clip(tmp_path / "both.mp4", pictures(), FPS, audio=tone(440, N / FPS))
    seen = probe(path)
    assert (seen.codec, seen.width, seen.height, seen.frames, seen.fps) == ("h264", SIZE, SIZE, N, FPS)
    assert (seen.has_audio, seen.audio_codec, seen.status, seen.size) == (True, "aac", "ok", path.stat().st_size)
    assert seen.duration_s == pytest.approx(N / FPS)


REAL = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.mark.skipif(not REAL.is_dir(), reason="the real clips are not here")
def test_real_clips():
    files = sorted(p for p in REAL.rglob("*") if p.suffix in {".avi", ".mp4", ".mkv"})
    clips = {p.name: read_clip(p, TWELVE, ImageSpec(size=32)) for p in files}
    assert len(clips) == 13
    assert {(c.frames_status, len(c.pictures)) for c in clips.values()} == {("ok", 12)}
    heard = {name for name, c in clips.items() if c.audio_status == "ok"}
    assert heard == {p.name for p in (REAL / "clips").iterdir() if p.suffix != ".csv"}
    assert clips["video7500.mp4"].audio_status == "no_audio"
    assert probe(REAL / "clips" / "bears.mp4").frames == 56  # of 74: the edit list shows the rest only

"""The sound of a file: pitch, level and place in time; absent, silent and too short are three different things."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from numbered import numbered

from lab.media import Clip, Sampling, probe, read_clip
from lab.preprocess import ImageSpec
from lab.toy.write import Sound, Track, tone, write_clip, write_tracks

HZ = 32000
SECONDS = 2.0
GREY = np.full((int(SECONDS * 10), 32, 32, 3), 128, np.uint8)


def read(path: Path, **options) -> Clip:
    return read_clip(path, Sampling("uniform", 1), ImageSpec(size=32), **options)


def pitch(wave: np.ndarray, hz: int = HZ) -> float:
    """The loudest frequency in the middle of a waveform."""
    middle = wave[len(wave) // 4 : 3 * len(wave) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    return float(spectrum.argmax() * hz / len(middle))


def level(wave: np.ndarray) -> float:
    """The amplitude of a sine, from its root mean square."""
    return float(np.sqrt(2 * np.mean(wave[len(wave) // 4 : 3 * len(wave) // 4] ** 2)))


FORMATS = {
    "aac.mp4": ("aac", 44100, "stereo"),
    "aac-48k.mp4": ("aac", 48000, "stereo"),
    "aac-mono.mkv": ("aac", 32000, "mono"),
    "aac-5.1.mp4": ("aac", 48000, "5.1"),
    "opus.webm": ("libopus", 48000, "stereo"),
    "mp3.avi": ("libmp3lame", 44100, "stereo"),
    "mp2.ts": ("mp2", 48000, "stereo"),
    "flac.mkv": ("flac", 44100, "stereo"),
    "u8.avi": ("pcm_u8", 22050, "mono"),
    "s16.avi": ("pcm_s16le", 44100, "stereo"),
    "s32.mkv": ("pcm_s32le", 48000, "stereo"),
    "f32.mkv": ("pcm_f32le", 16000, "stereo"),
    "f64.mkv": ("pcm_f64le", 96000, "mono"),
    "adpcm.avi": ("adpcm_ima_wav", 44100, "stereo"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_tone_keeps_its_pitch_its_level_and_its_length(tmp_path, name):
    codec, hz, layout = FORMATS[name]
    channels = {"mono": 1, "stereo": 2, "5.1": 6}[layout]
    wave = np.repeat(tone(1000, SECONDS, hz, level=0.5)[None], channels, axis=0)
    video = Track(GREY, 10, *(("libvpx-vp9", "yuv420p", {"cpu-used": "8"}) if name.endswith("webm") else ()))
    path = write_tracks(tmp_path / name, [video], Sound(wave, hz, codec, layout))
    clip = read(path)
    assert (clip.audio_status, clip.audio_reason) == ("ok", "")
    assert clip.audio is not None
    assert clip.audio.dtype == np.float32
    assert clip.audio.ndim == 1
    assert pitch(clip.audio) == pytest.approx(1000, abs=1.5)
    loud = 0.5 * 5 / 6 if layout == "5.1" else 0.5  # the sixth channel of AAC is for low frequencies alone
    assert level(clip.audio) == pytest.approx(loud, rel=0.06)
    assert len(clip.audio) / HZ == pytest.approx(SECONDS, abs=0.08)


def test_another_rate_can_be_asked_for(tmp_path):
    path = write_clip(tmp_path / "a.mp4", GREY, 10, audio=tone(1000, SECONDS))
    clip = read(path, audio_hz=16000)
    assert pitch(clip.audio, 16000) == pytest.approx(1000, abs=1.5)
    assert len(clip.audio) / 16000 == pytest.approx(SECONDS, abs=0.08)


def test_channels_are_averaged_and_nothing_leaves_the_range(tmp_path):
    one_side = np.stack([tone(500, SECONDS, level=0.8), np.zeros(int(SECONDS * HZ), np.float32)])
    clip = read(write_clip(tmp_path / "side.mkv", GREY, 10, audio=one_side, audio_codec="flac"))
    assert level(clip.audio) == pytest.approx(0.4, rel=0.01)
    loud = np.stack([tone(500, SECONDS, level=3.0)] * 2)
    clip = read(write_clip(tmp_path / "loud.mkv", GREY, 10, audio=loud, audio_codec="pcm_f32le"))
    assert np.abs(clip.audio).max() == 1.0


def test_absent_silent_and_too_short_are_told_apart(tmp_path):
    absent = read(write_clip(tmp_path / "absent.mp4", GREY, 10))
    assert (absent.audio, absent.audio_status, absent.audio_reason) == (None, "no_audio", "no audio stream")
    assert not probe(tmp_path / "absent.mp4").has_audio

    silent = read(write_clip(tmp_path / "silent.mp4", GREY, 10, audio=np.zeros(int(SECONDS * HZ))))
    assert (silent.audio_status, silent.audio_reason) == ("silent", "no sample reaches 0.0001")
    assert len(silent.audio) / HZ == pytest.approx(SECONDS, abs=0.08)

    short = read(write_clip(tmp_path / "short.mkv", GREY, 10, audio=tone(440, 0.2), audio_codec="flac"))
    assert (short.audio_status, len(short.audio)) == ("too_short", 6400)
    assert short.audio_reason == "6400 samples at 32000 Hz, the network needs 9920"

    just = read(write_clip(tmp_path / "just.mkv", GREY, 10, audio=tone(440, 0.31), audio_codec="flac"))
    assert (just.audio_status, len(just.audio)) == ("ok", 9920)


def test_a_whisper_is_not_silence(tmp_path):
    wave = tone(440, SECONDS, level=0.001)
    assert read(write_clip(tmp_path / "a.mkv", GREY, 10, audio=wave, audio_codec="pcm_s16le")).audio_status == "ok"


def test_a_stream_without_samples_is_no_audio(tmp_path):
    path = tmp_path / "hollow.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=10, options={"preset": "veryfast"})
        video.width = video.height = 32
        sound = container.add_stream("pcm_s16le", rate=HZ)
        sound.codec_context.layout = "mono"
        for picture in GREY:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
    clip = read(path)
    assert (clip.audio, clip.audio_status) == (None, "no_audio")
    assert clip.audio_reason == "the audio stream holds no samples"


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_sound_that_begins_late_is_padded_to_its_place(tmp_path, suffix):
    sound = Sound(tone(1000, 1.0), HZ, "aac", start_s=0.5)
    clip = read(write_tracks(tmp_path / f"late.{suffix}", [Track(GREY, 10)], sound))
    onset = int(np.argmax(np.abs(clip.audio) > 0.1)) / HZ
    assert onset == pytest.approx(0.5, abs=0.04)


def test_sound_before_the_first_picture_is_cut(tmp_path):
    wave = np.concatenate([tone(3000, 1.0), tone(500, 2.0)])
    path = write_tracks(tmp_path / "early.mkv", [Track(GREY, 10, start_s=1.0)], Sound(wave, HZ, "flac"))
    clip = read(path)
    assert pitch(clip.audio[: HZ // 2]) == pytest.approx(500, abs=5)
    assert len(clip.audio) / HZ == pytest.approx(2.0, abs=0.02)


def test_a_hole_in_the_sound_is_filled_so_that_the_rest_stays_in_place(tmp_path):
    """Packets missing in the middle, as in a stream that sends none while it is quiet."""
    path, holed = tmp_path / "whole.mkv", tmp_path / "holed.mkv"
    write_clip(path, GREY, 10, audio=tone(1000, SECONDS), audio_codec="pcm_s16le")
    with av.open(str(path)) as source, av.open(str(holed), "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            sound = packet.stream.type == "audio"
            if packet.size and not (sound and 0.5 < packet.pts * packet.time_base < 1.0):
                packet.stream = streams[packet.stream_index]
                target.mux(packet)
    clip = read(holed)
    assert len(clip.audio) / HZ == pytest.approx(SECONDS, abs=0.02)
    assert np.abs(clip.audio[int(0.6 * HZ) : int(0.9 * HZ)]).max() == 0
    assert level(clip.audio[int(1.2 * HZ) :]) == pytest.approx(0.5, rel=0.02)


def test_the_longest_length_is_kept_and_said(tmp_path):
    path = write_clip(tmp_path / "long.mp4", GREY, 10, audio=tone(1000, SECONDS))
    clip = read(path, max_audio_s=0.5)
    assert len(clip.audio) == HZ // 2
    assert (clip.audio_status, clip.audio_reason) == ("ok", "only the first 0.5 s are kept")


def test_broken_sound_leaves_the_pictures_alone(tmp_path):
    path = write_clip(tmp_path / "a.mkv", GREY, 10, audio=tone(1000, SECONDS), audio_codec="flac")
    broken = tmp_path / "broken.mkv"
    with av.open(str(path)) as source, av.open(str(broken), "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if not packet.size:
                continue
            if packet.stream.type == "audio":
                noise = av.Packet(bytes(packet.size))
                noise.pts, noise.dts, noise.time_base = packet.pts, packet.dts, packet.time_base
                noise.stream = streams[packet.stream_index]
                target.mux(noise)
            else:
                packet.stream = streams[packet.stream_index]
                target.mux(packet)
    clip = read(broken)
    assert (clip.frames_status, clip.audio, clip.audio_status) == ("ok", None, "undecodable")
    assert "audio packets cannot be decoded" in clip.audio_reason


def test_sound_alone_can_be_read_where_there_are_no_pictures(tmp_path):
    path = write_tracks(tmp_path / "a.wav", [], Sound(tone(1000, SECONDS), HZ, "pcm_s16le"))
    clip = read(path, frames=False)
    assert (clip.audio_status, clip.frames_status) == ("ok", "skipped")
    assert clip.duration_s == pytest.approx(SECONDS)


def test_pictures_and_sound_share_a_clock(tmp_path):
    """A flash and a click at the same moment come out at the same moment, with B-frames, AAC and its priming."""
    pictures = [numbered(i, 64) for i in range(50)]
    wave = np.zeros(2 * HZ, np.float32)
    wave[HZ : HZ + 320] = 0.9
    path = write_clip(tmp_path / "a.mp4", pictures, 25, options={"bf": "3"}, audio=wave)
    clip = read_clip(path, Sampling("uniform", 50), ImageSpec(size=64))
    assert clip.times_s[25] == pytest.approx(1.0)
    assert int(np.abs(clip.audio).argmax()) / HZ == pytest.approx(1.0, abs=0.02)

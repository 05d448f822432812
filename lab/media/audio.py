"""The sound of a file as one mono waveform; absent, silent and too short are told apart."""

from __future__ import annotations

from typing import Any

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from lab.media.file import brief

SILENCE = 1e-4  # no sample louder than this (-80 dB of full scale): dither and coding noise of a muted track
MIN_AUDIO_S = 0.31  # Cnn14 needs 32 hops of 10 ms: 9,920 samples at 32 kHz (facts of the PANNs code)
_GAP_S = 0.1  # a jump in the timestamps from which on missing packets are filled with silence

Wave = NDArray[np.float32]


class Listener:
    """Takes the packets of one audio stream in file order and gives the waveform when there are no more.

    Channels are averaged (as librosa's ``mono`` does, which PANNs were trained through), so a tone of amplitude a in
    both channels stays at a; FFmpeg's own downmix of float formats would make it 1.41 a.
    """

    def __init__(self, stream: Any, hz: int, max_s: float) -> None:
        self.hz = hz
        self._index = int(stream.index)
        self._codec = stream.codec_context
        self._codec.thread_count = 1
        self._max_s = max_s
        self._runs: list[tuple[int, list[Wave]]] = []  # (rate, mono pieces): a new run where the rate changes
        self._seconds = 0.0
        self._start_s: float | None = None
        self._stated = int(stream.frames or 0)
        self._packets = self._broken = 0
        self._why = ""

    @property
    def full(self) -> bool:
        """Whether the longest length allowed is reached, so that further packets are not needed."""
        return self._seconds >= self._max_s

    @property
    def complete(self) -> bool:
        """Whether the container states how many packets there are, and all have come."""
        return 0 < self._stated <= self._packets

    def feed(self, packet: Any) -> None:
        """Decode one packet (None: drain); those of other streams pass. A damaged one is counted, never raised."""
        if self.full or (packet is not None and packet.stream_index != self._index):
            return
        self._packets += packet is not None
        try:
            for frame in self._codec.decode(packet):
                self._add(frame)
        except (av.error.FFmpegError, ValueError) as error:
            self._broken += 1
            self._why = self._why or brief(error)

    def _add(self, frame: Any) -> None:
        if frame.samples == 0:
            return
        mono = _mono(frame)
        rate = int(frame.sample_rate)
        if not self._runs or self._runs[-1][0] != rate:
            self._runs.append((rate, []))
        at = frame.pts * float(frame.time_base) if frame.pts is not None and frame.time_base else None
        if self._start_s is None:
            self._start_s = at if at is not None else 0.0
        elif at is not None and at - self._start_s - self._seconds > _GAP_S:
            gap_s = min(at - self._start_s, self._max_s) - self._seconds
            self._runs[-1][1].append(np.zeros(max(0, round(gap_s * rate)), np.float32))
            self._seconds += max(0.0, gap_s)
        self._runs[-1][1].append(mono)
        self._seconds += len(mono) / rate

    def result(self, start_s: float) -> tuple[Wave | None, str, str]:
        """(waveform, status, reason); sample i sounds i/hz seconds after ``start_s``, the first picture's time.

        Sound that begins later is padded with silence, sound that begins earlier is cut. Status: ok, silent,
        too_short, no_audio (a stream without a sample), undecodable.
        """
        self.feed(None)
        pieces = [_resample(np.concatenate(run), rate, self.hz) for rate, run in self._runs]
        wave = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
        broken = (
            f"{self._broken} of {self._packets} audio packets cannot be decoded: {self._why}" if self._broken else ""
        )
        if len(wave) == 0 and broken:
            return None, "undecodable", broken
        if len(wave) == 0:
            return None, "no_audio", "the audio stream holds no samples"
        offset = round(((self._start_s or 0.0) - start_s) * self.hz)
        if 0 < offset <= self._max_s * self.hz:
            wave = np.concatenate([np.zeros(offset, np.float32), wave])
        elif -len(wave) < offset < 0:
            wave = wave[-offset:]
        wave = wave[: round(self._max_s * self.hz)]
        np.clip(np.nan_to_num(wave, copy=False), -1.0, 1.0, out=wave)
        return self._judge(np.ascontiguousarray(wave), [broken] if broken else [])

    def _judge(self, wave: Wave, notes: list[str]) -> tuple[Wave, str, str]:
        if self.full:
            notes.append(f"only the first {self._max_s:g} s are kept")
        status = "ok"
        if float(np.abs(wave).max()) < SILENCE:
            status = "silent"
            notes.insert(0, f"no sample reaches {SILENCE:g}")
        elif len(wave) < round(MIN_AUDIO_S * self.hz):
            status = "too_short"
            notes.insert(0, f"{len(wave)} samples at {self.hz} Hz, the network needs {round(MIN_AUDIO_S * self.hz)}")
        return wave, status, "; ".join(notes)


def _mono(frame: Any) -> Wave:
    """The mean over channels of one decoded frame as float32 in [-1, 1], from any sample format."""
    values = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    mean = values.mean(axis=0, dtype=np.float64)
    if values.dtype == np.uint8:
        mean = (mean - 128.0) / 128.0
    elif values.dtype.kind == "i":
        mean /= -float(np.iinfo(values.dtype).min)
    return np.asarray(mean, dtype=np.float32)


def _resample(wave: Wave, rate: int, hz: int) -> Wave:
    """A mono waveform at another rate, through FFmpeg's resampler, with its delay drained."""
    if rate == hz or len(wave) == 0:
        return wave
    resampler = av.AudioResampler(format="flt", layout="mono", rate=hz)
    out: list[NDArray[Any]] = []
    step = 1 << 20
    for first in range(0, len(wave), step):
        block = np.ascontiguousarray(wave[None, first : first + step])
        frame = av.AudioFrame.from_ndarray(block, format="flt", layout="mono")
        frame.sample_rate = rate
        frame.pts = None
        out += [piece.to_ndarray().reshape(-1) for piece in resampler.resample(frame)]
    out += [piece.to_ndarray().reshape(-1) for piece in resampler.resample(None)]
    return np.concatenate(out, dtype=np.float32) if out else np.zeros(0, np.float32)

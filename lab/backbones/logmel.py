"""Log-mel spectrograms as the PANNs were trained on (facts: torchlibrosa's, with librosa's default mel filters).

Hann window, reflected ends, power, 64 mel bands, 10·log10 floored at 1e-10. The spectrum comes from ``torch.stft``: the
official checkpoints carry the same transform as convolution kernels, which cost a hundred times as much to apply.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

FLOOR = 1e-10  # power; silence is -100 dB, never -inf


@dataclass(frozen=True)
class LogMelSpec:
    """The front end of a PANN: rates in Hz, window and hop in samples."""

    sample_rate: int = 32_000
    n_fft: int = 1024
    hop: int = 320
    mels: int = 64
    fmin: float = 50.0
    fmax: float = 14_000.0


def mel_of(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slaney's mel scale: linear up to 1 kHz (3 mel per 200 Hz), then 27 mel for each factor of 6.4."""
    above = 15.0 + 27.0 * np.log(np.maximum(hz, 1000.0) / 1000.0) / np.log(6.4)
    return np.where(hz < 1000.0, 3.0 * hz / 200.0, above)


def hz_of(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of :func:`mel_of`."""
    return np.where(mel < 15.0, 200.0 * mel / 3.0, 1000.0 * 6.4 ** ((mel - 15.0) / 27.0))


def mel_filters(spec: LogMelSpec) -> Tensor:
    """Triangles of equal area over Slaney's mel scale, float32 (n_fft // 2 + 1, mels): librosa's default."""
    bins = np.linspace(0.0, spec.sample_rate / 2, spec.n_fft // 2 + 1)
    ends = mel_of(np.array([spec.fmin, spec.fmax]))
    corners = hz_of(np.linspace(ends[0], ends[1], spec.mels + 2))
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    rising = (bins[:, None] - left) / (centre - left)
    falling = (right - bins[:, None]) / (right - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling)) * 2.0 / (right - left)
    return torch.from_numpy(triangles.astype(np.float32))


def stft_kernels(spec: LogMelSpec) -> tuple[Tensor, Tensor]:
    """The windowed Fourier transform as two convolution kernels (n_fft // 2 + 1, 1, n_fft), as checkpoints store it."""
    time, frequency = np.arange(spec.n_fft), np.arange(spec.n_fft // 2 + 1)
    # The product is taken modulo n_fft first: cos of a large angle loses digits.
    angle = 2.0 * np.pi * (np.outer(frequency, time) % spec.n_fft) / spec.n_fft
    window = torch.hann_window(spec.n_fft, dtype=torch.float64).numpy()
    real, imaginary = np.cos(angle) * window, -np.sin(angle) * window
    return torch.from_numpy(real.astype(np.float32))[:, None], torch.from_numpy(imaginary.astype(np.float32))[:, None]


class LogMel(nn.Module):
    """Waveform (N,) → decibels (N // hop + 1, mels). The mel filters are a weight: a checkpoint brings its own.

    They agree with :func:`mel_filters` where the checkpoint is what it says it is; where they do not, the network was
    trained on the ones in the file.
    """

    window: Tensor

    def __init__(self, spec: LogMelSpec, *, block: int = 4096) -> None:
        """``block`` is how many frames are transformed at once, which bounds the memory for long sound."""
        super().__init__()
        self.spec, self.block = spec, block
        self.melW = nn.Parameter(mel_filters(spec), requires_grad=False)
        self.register_buffer("window", torch.hann_window(spec.n_fft), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """float32 (N,) with N > n_fft / 2 → float32 (N // hop + 1, mels)."""
        spec = self.spec
        padded = functional.pad(waveform[None], (spec.n_fft // 2, spec.n_fft // 2), mode="reflect")[0]
        frames = len(waveform) // spec.hop + 1
        parts = []
        for first in range(0, frames, self.block):
            last = min(first + self.block, frames)
            piece = padded[first * spec.hop : (last - 1) * spec.hop + spec.n_fft]
            spectrum = torch.stft(
                piece, spec.n_fft, spec.hop, window=self.window, center=False, onesided=True, return_complex=True
            )
            power = spectrum.real.square() + spectrum.imag.square()
            parts.append(power.T @ self.melW)
        return 10.0 * torch.cat(parts).clamp(min=FLOOR).log10()

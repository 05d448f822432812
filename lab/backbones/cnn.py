"""The PANN convolution stacks (Kong et al. 2020, arXiv 1912.10211): Cnn14, Cnn10, Cnn6, under the official keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lab.backbones.logmel import LogMel, LogMelSpec, stft_kernels


@dataclass(frozen=True)
class CnnSpec:
    """One stack. Each block has ``convolutions`` of ``kernel`` × ``kernel``; the first ``pools`` blocks halve."""

    kernel: int
    convolutions: int
    channels: tuple[int, ...]
    pools: int
    embedding: int
    classes: int = 527
    front: LogMelSpec = field(default_factory=LogMelSpec)

    @property
    def stride(self) -> int:
        """Spectrogram frames per step of the stack's output."""
        return 1 << self.pools

    @property
    def min_samples(self) -> int:
        """The shortest sound that leaves one step: 9,920 samples for Cnn14."""
        return (self.stride - 1) * self.front.hop

    @property
    def reach(self) -> int:
        """Steps on each side that can change a step: what a window needs around it to give the whole's result."""
        halo = self.kernel // 2 * self.convolutions
        strides = [1 << min(block, self.pools) for block in range(len(self.channels))]
        return -(-halo * sum(strides) // self.stride)


CNNS: dict[str, CnnSpec] = {
    "cnn14": CnnSpec(kernel=3, convolutions=2, channels=(64, 128, 256, 512, 1024, 2048), pools=5, embedding=2048),
    "cnn10": CnnSpec(kernel=3, convolutions=2, channels=(64, 128, 256, 512), pools=4, embedding=512),
    "cnn6": CnnSpec(kernel=5, convolutions=1, channels=(64, 128, 256, 512), pools=4, embedding=512),
    "cnn14-16k": CnnSpec(
        kernel=3,
        convolutions=2,
        channels=(64, 128, 256, 512, 1024, 2048),
        pools=5,
        embedding=2048,
        front=LogMelSpec(sample_rate=16_000, n_fft=512, hop=160, fmax=8_000.0),
    ),
}

#: What a checkpoint may leave out, because the front end computes it.
COMPUTED = frozenset(
    {
        "spectrogram_extractor.stft.conv_real.weight",
        "spectrogram_extractor.stft.conv_imag.weight",
        "logmel_extractor.melW",
    }
)


class Block(nn.Module):
    """(Convolution, batch norm, ReLU) once or twice, then average pooling."""

    def __init__(self, inputs: int, outputs: int, spec: CnnSpec) -> None:
        """``spec`` gives the kernel and the number of convolutions."""
        super().__init__()
        self.convolutions = spec.convolutions
        for number in range(1, spec.convolutions + 1):
            layer = nn.Conv2d(inputs, outputs, spec.kernel, padding=spec.kernel // 2, bias=False)
            nn.init.xavier_uniform_(layer.weight)
            self.add_module(f"conv{number}", layer)
            self.add_module(f"bn{number}", nn.BatchNorm2d(outputs))
            inputs = outputs

    def forward(self, hidden: Tensor, pool: int) -> Tensor:
        """(1, C, time, mels) → (1, C', time / pool, mels / pool)."""
        for number in range(1, self.convolutions + 1):
            hidden = self.get_submodule(f"conv{number}")(hidden)
            hidden = functional.relu_(self.get_submodule(f"bn{number}")(hidden))
        return functional.avg_pool2d(hidden, pool) if pool > 1 else hidden


class Cnn(nn.Module):
    """A PANN without its dropout and augmentation, which act in training only.

    ``state_dict`` has the official keys and shapes, so that official files load and ours would load elsewhere.
    """

    def __init__(self, spec: CnnSpec, *, window_s: float = 60.0, dtype: torch.dtype = torch.float32) -> None:
        """``window_s`` bounds the memory: the stack runs over windows that long. ``dtype`` is the convolutions'."""
        super().__init__()
        self.spec, self.dtype = spec, dtype
        step_s = spec.stride * spec.front.hop / spec.front.sample_rate
        self.window = max(1, round(window_s / step_s))
        self.spectrogram_extractor = _stored_stft(spec.front)
        self.logmel_extractor = LogMel(spec.front)
        self.bn0 = nn.BatchNorm2d(spec.front.mels)
        inputs = 1
        for number, outputs in enumerate(spec.channels, 1):
            self.add_module(f"conv_block{number}", Block(inputs, outputs, spec))
            inputs = outputs
        self.fc1 = nn.Linear(inputs, spec.embedding)
        self.fc_audioset = nn.Linear(spec.embedding, spec.classes)
        for layer in (self.fc1, self.fc_audioset):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, waveform: Tensor) -> Tensor:
        """Sound (N,) of at least ``min_samples`` → step features (steps, C), before any pooling over time.

        Windows overlap by the stack's reach, so that their concatenation is the undivided result.
        """
        spec = self.spec
        mels = self.bn0(self.logmel_extractor(waveform)[:, :, None, None])[:, :, 0, 0]
        steps, parts = len(mels) // spec.stride, []
        for first in range(0, steps, self.window):
            last = min(first + self.window, steps)
            begin = max(0, first - spec.reach)
            # The frames behind the last whole step are heard by it: the last window goes to the end.
            end = len(mels) if last + spec.reach >= steps else (last + spec.reach) * spec.stride
            hidden = self.stack(mels[begin * spec.stride : end])
            parts.append(hidden[first - begin : last - begin])
        return torch.cat(parts)

    def stack(self, mels: Tensor) -> Tensor:
        """Normalised decibels (frames, mels) → (frames // stride, C), the mean over frequency taken."""
        hidden = mels[None, None]
        # The spectrum before and the pooling after stay fp32: a power spans ten decades, half precision three digits.
        with torch.autocast(mels.device.type, self.dtype, enabled=self.dtype != torch.float32):
            for number in range(len(self.spec.channels)):
                hidden = self.get_submodule(f"conv_block{number + 1}")(hidden, 2 if number < self.spec.pools else 1)
        return hidden.float().mean(dim=3)[0].T

    def pool(self, steps: Tensor) -> Tensor:
        """Step features (steps, C) → the embedding (A,): ReLU(fc1(max over time + mean over time))."""
        return functional.relu(self.fc1(steps.amax(dim=0) + steps.mean(dim=0)))


def _stored_stft(spec: LogMelSpec) -> nn.Module:
    """The official place of the Fourier kernels. They are kept for the files' sake and never applied."""
    holder: Any = nn.Module()
    holder.stft = nn.Module()
    for name, kernel in zip(("conv_real", "conv_imag"), stft_kernels(spec), strict=True):
        part = nn.Module()
        part.register_parameter("weight", nn.Parameter(kernel, requires_grad=False))
        holder.stft.add_module(name, part)
    return holder  # type: ignore[no-any-return]

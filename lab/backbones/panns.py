"""PANNs, frozen: mono sound in, a vector for the clip and one for each stretch of it. Alone in using their weights."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lab.backbones.checkpoints import load_state, read_state, sha256_of_file, sha256_of_state
from lab.backbones.cnn import COMPUTED, Cnn, CnnSpec
from lab.backbones.devices import (
    DTYPES,
    Precision,
    at_least_one,
    check_precision,
    exact_numerics,
    fetching,
    to_device,
)
from lab.backbones.logmel import mel_filters
from lab.backbones.panns_names import resolve
from lab.device import Room, memory_told, pick_device
from lab.errors import LabError

log = logging.getLogger(__name__)
Floats = NDArray[np.float32]


class PannsBackbone:
    """A frozen PANN. Vectors are float32, non-negative and un-normalised."""

    def __init__(
        self,
        model: Cnn,
        *,
        name: str,
        weights: Mapping[str, Any],
        precision: Precision = "fp32",
        device: torch.device | None = None,
        max_segments: int = 32,
    ) -> None:
        """``weights`` goes into the passport: where they are from, their SHA-256, whether they are random."""
        spec = model.spec
        self.name, self.dim = name, spec.embedding
        self.sample_rate, self.min_samples = spec.front.sample_rate, spec.min_samples
        self.max_segments = max_segments
        self.is_random = bool(weights["random"])
        self.device = device or torch.device("cpu")
        self._model = model.to(self.device).eval().requires_grad_(False)
        if self.device.type == "cuda":
            self._model.to(memory_format=torch.channels_last)
        self._window = Room(model.window, "steps of sound")
        self.passport: dict[str, Any] = {
            "name": name,
            **weights,
            "network": json.loads(json.dumps(asdict(spec))),
            "min_samples": self.min_samples,
            "max_segments": max_segments,
            "precision": precision,
            "versions": {"torch": version("torch").split("+")[0]},
        }

    def encode(self, waveform: NDArray[np.float32]) -> tuple[Floats, Floats]:
        """Mono sound (N,) at ``sample_rate`` in [-1, 1] → the clip's vector (A,) and its segments' (S, A).

        The clip's vector is the official embedding, ReLU(fc1(max + mean over time)). A segment's is the same formula
        over its own stretch, S <= ``max_segments``; so where S is 1 the two are equal. Sound shorter than
        ``min_samples`` is padded with zeros to that length, even where it is empty. Raises ValueError for another
        shape, or for samples that are not finite.
        """
        return self.launch([waveform])()[0]

    def launch(self, waveforms: Sequence[NDArray[np.float32]]) -> Callable[[], list[tuple[Floats, Floats]]]:
        """``encode`` for many, begun: what comes back waits for their vectors. A CPU has them by then."""
        begun: list[Callable[[], Floats]] = []
        with exact_numerics(self.device), memory_told("a stretch of sound", "--device cpu"):
            for waveform in waveforms:
                if waveform.ndim != 1 or not np.isfinite(waveform).all():
                    raise ValueError(
                        f"sound must be finite samples (N,), got {waveform.shape}: mix it down, decode it again"
                    )
                samples = np.zeros(max(len(waveform), self.min_samples), np.float32)
                samples[: len(waveform)] = waveform
                # Shorter windows give the same result: they overlap by what a step hears around it.
                while not self._window.holds(partial(self._begin, samples, begun), self._model.window):
                    self._model.window = self._window.size
        return lambda: [(both[0], both[1:]) for both in (fetch() for fetch in begun)]

    def _begin(self, samples: NDArray[np.float32], begun: list[Callable[[], Floats]]) -> None:
        """Adds the vector of the clip and those of its segments (1 + S, A), on their way."""
        steps = self._model(to_device(samples, self.device))
        edges = _edges(len(steps), self.max_segments)
        vectors = [self._model.pool(steps)]
        vectors += [self._model.pool(steps[a:b]) for a, b in pairwise(edges)]
        begun.append(fetching(torch.stack(vectors)))


def _edges(steps: int, most: int) -> list[int]:
    """Where ``steps`` are cut into at most ``most`` stretches whose lengths differ by one at the most."""
    count = min(steps, most)
    return [number * steps // count for number in range(count + 1)]


def load_panns(
    spec: str,
    *,
    device: str = "cpu",
    precision: str = "fp32",
    seed: int = 0,
    max_segments: int = 32,
    window_s: float = 60.0,
    download: bool = False,
) -> PannsBackbone | None:
    """The PANN that ``spec`` names, None for ``none``.

    ``cnn14``, ``cnn10``, ``cnn6`` or ``cnn14-16k`` with the official weights; ``NAME:FILE`` with others;
    ``NAME:random`` or ``random`` (Cnn14) with seeded random ones; ``toy``. In place of NAME stands also a .json file
    with the fields of CnnSpec that differ from the network it is ``like``. Raises LabError for an unknown name, for
    weights that are not on this machine (unless ``download`` can fetch them) or that do not fit.
    """
    if spec == "none":
        return None
    how, where = check_precision(precision), pick_device(device)
    at_least_one("max_segments", max_segments)
    name, network, path = resolve(spec, download=download)
    state = read_state(path) if path else None
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = Cnn(network, window_s=window_s, dtype=DTYPES[how])
    except Exception as error:  # a config that makes no sense fails wherever it first hurts
        said = " ".join(str(error).split())[:160] or type(error).__name__
        raise LabError(f"cannot build the network of {spec}: {said}: correct its fields") from error
    if path is None or state is None:
        weights = {"weights": "random", "weights_sha256": sha256_of_state(model.state_dict()), "random": True}
    else:
        load_state(model, state, str(path), may_lack=COMPUTED)
        _compare_front_end(state, network, path)
        weights = {"weights": path.name, "weights_sha256": sha256_of_file(path), "random": False}
    return PannsBackbone(model, name=name, weights=weights, precision=how, device=where, max_segments=max_segments)


def _compare_front_end(state: Mapping[str, Tensor], spec: CnnSpec, path: Path) -> None:
    """Logs where a file's front end is not the one that its name stands for. Its mel filters are used all the same."""
    expected = {
        "logmel_extractor.melW": mel_filters(spec.front),
        # The kernel of frequency 0 is the window itself.
        "spectrogram_extractor.stft.conv_real.weight": torch.hann_window(spec.front.n_fft),
    }
    for key, own in expected.items():
        stored = state.get(key)
        if stored is not None and stored.ndim == 3:
            stored = stored[0, 0]
        if stored is not None and float((stored.float() - own).abs().max()) > 0.01 * float(own.max()):
            log.warning("%s: %s differs from the front end of this network: was it trained on another?", path, key)

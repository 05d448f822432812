"""PANNs against a direct reading of the paper's network, and sound of every length."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_backbones as tiny
import torch
from torch.nn import functional

from lab.backbones import load_panns
from lab.backbones.checkpoints import sha256_of_file
from lab.backbones.cnn import CNNS, COMPUTED, Cnn, CnnSpec
from lab.backbones.logmel import LogMel, LogMelSpec, mel_filters
from lab.backbones.panns import PannsBackbone
from lab.errors import LabError

FIVE = {"like": "cnn6", "channels": [3, 5, 7, 11], "embedding": 13, "classes": 17}
TEN = {"like": "cnn10", "channels": [3, 5, 7, 11], "embedding": 13, "classes": 17}
SIXTEEN = {**tiny.PANNS, "like": "cnn14-16k"}


def lively(spec: str, **options: Any) -> PannsBackbone:
    """A random PANN whose batch norms have seen something, so that each of their four vectors matters."""
    panns = load_panns(spec, **options)
    assert panns is not None
    random = torch.Generator().manual_seed(11)
    for module in panns._model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for name, low, high in (
                ("weight", 0.5, 2),
                ("bias", -1, 1),
                ("running_mean", -1, 1),
                ("running_var", 0.5, 2),
            ):
                vector = getattr(module, name)
                vector.copy_(low + (high - low) * torch.rand(vector.shape, generator=random))
    panns._model.bn0.running_mean.fill_(-30.0)
    panns._model.bn0.running_var.fill_(400.0)
    return panns


def noise(samples: int, seed: int = 0) -> np.ndarray:
    envelope = np.abs(np.sin(np.arange(samples) / 9973))
    return (np.random.default_rng(seed).standard_normal(samples) * 0.1 * envelope).astype(np.float32)


@pytest.fixture(scope="module", params=[tiny.PANNS, TEN, FIVE, SIXTEEN], ids=["cnn14", "cnn10", "cnn6", "16k"])
def panns(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PannsBackbone:
    return lively(f"{tiny.config(tmp_path_factory.mktemp('panns'), request.param)}:random")


def direct(panns: PannsBackbone, waveform: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """The network read off the paper and facts 10.2-10.3, from the state dict alone, its stored kernels convolved."""
    state, spec = panns._model.state_dict(), panns._model.spec
    padded = functional.pad(torch.from_numpy(waveform)[None, None], (spec.front.n_fft // 2,) * 2, mode="reflect")
    kernel = "spectrogram_extractor.stft.conv_{}.weight"
    real, imaginary = (
        functional.conv1d(padded, state[kernel.format(part)], stride=spec.front.hop) for part in ("real", "imag")
    )
    mel = (real**2 + imaginary**2)[0].T @ state["logmel_extractor.melW"]
    hidden = 10 * torch.log10(torch.clamp(mel, min=1e-10))

    def norm(hidden: torch.Tensor, key: str) -> torch.Tensor:
        moments = (state[f"{key}.running_mean"], state[f"{key}.running_var"])
        return functional.batch_norm(hidden, *moments, state[f"{key}.weight"], state[f"{key}.bias"])

    hidden = norm(hidden[None, None].transpose(1, 3), "bn0").transpose(1, 3)
    for block in range(1, len(spec.channels) + 1):
        for layer in range(1, spec.convolutions + 1):
            weight = state[f"conv_block{block}.conv{layer}.weight"]
            hidden = functional.conv2d(hidden, weight, padding=spec.kernel // 2)
            hidden = torch.relu(norm(hidden, f"conv_block{block}.bn{layer}"))
        if block <= spec.pools:
            hidden = functional.avg_pool2d(hidden, (2, 2))
    steps = hidden.mean(dim=3)[0].T
    pooled = steps.max(dim=0).values + steps.mean(dim=0)
    return torch.relu(state["fc1.weight"] @ pooled + state["fc1.bias"]), steps


def test_the_embedding_equals_the_direct_formula(panns: PannsBackbone) -> None:
    waveform = noise(7 * panns.sample_rate // 2 + 123)
    clip, segments = panns.encode(waveform)
    expected, steps = direct(panns, waveform)
    assert clip.dtype == segments.dtype == np.float32
    assert clip.shape == (panns.dim,)
    assert (clip >= 0).all()
    assert clip.max() > 0.1
    np.testing.assert_allclose(clip, expected.numpy(), atol=1e-4 * float(expected.max()))
    assert len(steps) == (len(waveform) // panns._model.spec.front.hop + 1) // panns._model.spec.stride
    assert len(segments) == min(len(steps), 32)


def test_a_segment_is_the_clips_formula_over_its_stretch(panns: PannsBackbone) -> None:
    waveform = noise(panns.sample_rate * 3)
    _, steps = direct(panns, waveform)
    try:
        for most in (1, 3, 7, 1000):
            panns.max_segments = most
            clip, segments = panns.encode(waveform)
            count = min(most, len(steps))
            assert len(segments) == count
            for number, segment in enumerate(segments):
                own = steps[number * len(steps) // count : (number + 1) * len(steps) // count]
                expected = panns._model.pool(own).detach().numpy()
                np.testing.assert_allclose(segment, expected, atol=1e-4 * float(clip.max()))
            if most == 1:
                assert np.array_equal(segments[0], clip), "one segment is the clip, to the bit"
    finally:
        panns.max_segments = 32


@pytest.mark.parametrize("samples", [0, 1, 255, 256, 257, 511, 512, 513, 4799, 4800, 4960, 9919, 9920, 9921])
def test_short_sound_is_padded_to_the_minimum(panns: PannsBackbone, samples: int) -> None:
    waveform = noise(samples)
    clip, segments = panns.encode(waveform)
    padded = np.zeros(max(samples, panns.min_samples), np.float32)
    padded[:samples] = waveform
    expected, _ = direct(panns, padded)
    np.testing.assert_allclose(clip, expected.numpy(), atol=1e-4 * max(1.0, float(expected.max())))
    assert len(segments) >= 1


def test_one_sample_less_than_the_minimum_leaves_no_step(panns: PannsBackbone) -> None:
    assert len(direct(panns, noise(panns.min_samples))[1]) == 1
    with pytest.raises(RuntimeError):
        direct(panns, noise(panns.min_samples - 1))


def test_the_minimum_is_31_hops_of_cnn14_and_15_of_the_others() -> None:
    assert {name: spec.min_samples for name, spec in CNNS.items()} == {
        "cnn14": 9920,
        "cnn10": 4800,
        "cnn6": 4800,
        "cnn14-16k": 4960,
    }


@pytest.mark.parametrize("level", [0.0, 1e-12, 1.0], ids=["silence", "almost silence", "full scale"])
def test_silence_and_noise_are_finite(panns: PannsBackbone, level: float) -> None:
    for waveform in (np.full(panns.sample_rate, level, np.float32), np.zeros(panns.sample_rate, np.float32)):
        clip, segments = panns.encode(waveform)
        assert np.isfinite(clip).all()
        assert np.isfinite(segments).all()


def test_the_same_sound_gives_the_same_bits(panns: PannsBackbone) -> None:
    waveform = noise(panns.sample_rate * 2)
    kept = waveform.copy()
    first, again = panns.encode(waveform), panns.encode(waveform)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert np.array_equal(waveform, kept)


@pytest.mark.parametrize("content", [tiny.PANNS, TEN, FIVE], ids=["cnn14", "cnn10", "cnn6"])
def test_windows_join_to_the_undivided_result(tmp_path: Path, content: dict[str, Any]) -> None:
    spec = f"{tiny.config(tmp_path, content)}:random"
    whole = lively(spec, window_s=1e9)
    for seconds in (0.3, 2.0):
        parts = lively(spec, window_s=seconds)
        for samples in (32_000 * 4, 32_000 * 5 + 5003, 9920):
            clip, segments = whole.encode(noise(samples))
            other, pieces = parts.encode(noise(samples))
            np.testing.assert_allclose(other, clip, atol=1e-5 * float(clip.max()))
            np.testing.assert_allclose(pieces, segments, atol=1e-5 * float(segments.max()))


def test_the_spectrogram_is_cut_into_blocks_without_a_seam() -> None:
    waveform = torch.from_numpy(noise(50_011))
    for block in (1, 7, 156):
        assert torch.allclose(LogMel(LogMelSpec(), block=block)(waveform), LogMel(LogMelSpec())(waveform), atol=1e-3)


@pytest.mark.parametrize("front", [LogMelSpec(), CNNS["cnn14-16k"].front], ids=["32k", "16k"])
def test_mel_filters_are_slaneys(front: LogMelSpec) -> None:
    """Filter by filter and bin by bin, from the definition of the Auditory Toolbox."""

    def hz(mel: float) -> float:
        return 200 / 3 * mel if mel < 15 else 1000 * math.exp((mel - 15) * math.log(6.4) / 27)

    def mel(hz: float) -> float:
        return hz * 3 / 200 if hz < 1000 else 15 + math.log(hz / 1000) / math.log(6.4) * 27

    low, high = mel(front.fmin), mel(front.fmax)
    corners = [hz(low + (high - low) * number / (front.mels + 1)) for number in range(front.mels + 2)]
    ours = mel_filters(front)
    assert ours.shape == (front.n_fft // 2 + 1, front.mels)
    for band in range(front.mels):
        left, centre, right = corners[band : band + 3]
        for number in range(front.n_fft // 2 + 1):
            at = number * front.sample_rate / front.n_fft
            height = 0.0
            if left < at <= centre:
                height = (at - left) / (centre - left)
            elif centre < at < right:
                height = (right - at) / (right - centre)
            assert float(ours[number, band]) == pytest.approx(height * 2 / (right - left), abs=1e-8)


def test_a_tone_lands_in_its_band_at_its_level() -> None:
    front = LogMelSpec()
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(32_000) / 32_000)
    decibels = LogMel(front)(tone)
    assert decibels.shape == (101, 64)
    filters = mel_filters(front)
    # Under a Hann window a full-scale sine at the centre of bin 32 has magnitude n_fft / 4 there, half of it beside.
    power = torch.tensor([128.0, 256.0, 128.0]).square()
    expected = 10 * torch.log10((filters[31:34] * power[:, None]).sum(0).clamp(min=1e-10))
    band = int(expected.argmax())
    assert int(decibels[50].argmax()) == band
    assert float(decibels[50, band]) == pytest.approx(float(expected[band]), abs=0.01)
    assert LogMel(front)(torch.zeros(32_000)).eq(-100).all()


OFFICIAL = {  # facts 10.4: keys, parameters, trainable parameters
    "cnn14": (84, 81_837_071, 80_753_615),
    "cnn10": (60, 6_302_735, 5_219_279),
    "cnn6": (36, 5_920_911, 4_837_455),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_keys_and_sizes_are_the_official_ones(name: str) -> None:
    model = Cnn(CNNS[name])
    keys, total, trainable = OFFICIAL[name]
    state = model.state_dict()
    assert len(state) == keys
    assert sum(parameter.numel() for parameter in model.parameters()) == total
    assert sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) == trainable
    assert state["spectrogram_extractor.stft.conv_real.weight"].shape == (513, 1, 1024)
    assert state["logmel_extractor.melW"].shape == (513, 64)
    assert state["conv_block1.conv1.weight"].shape == (64, 1, *((5, 5) if name == "cnn6" else (3, 3)))
    assert state["bn0.num_batches_tracked"].shape == ()
    width = 2048 if name == "cnn14" else 512
    assert state["fc1.weight"].shape == (width, width)
    assert state["fc_audioset.weight"].shape == (527, width)
    assert state.keys() >= COMPUTED


def test_the_16k_front_end_has_its_own_shapes() -> None:
    front = CNNS["cnn14-16k"].front
    state = Cnn(CnnSpec(**{**CNNS["cnn14-16k"].__dict__, "channels": (2,) * 6, "embedding": 3})).state_dict()
    assert state["spectrogram_extractor.stft.conv_imag.weight"].shape == (257, 1, 512)
    assert state["logmel_extractor.melW"].shape == (257, 64)
    assert (front.sample_rate, front.hop, front.fmax) == (16_000, 160, 8_000)


@pytest.mark.parametrize("old", [True, False], ids=["torch 1.1", "now"])
def test_an_official_checkpoint_comes_back(tmp_path: Path, old: bool) -> None:
    """As the authors' main.py saved them: the model beside an iteration and a sampler full of NumPy."""
    trained = load_panns("cnn6:random", seed=3)
    assert trained is not None
    sampler = {"indexes": np.arange(5), "queue": [np.int64(3)], "pointers": [0, 1], "per_class": [np.arange(2)]}
    path = tmp_path / "Cnn6_mAP=0.343.pth"
    content = {"iteration": 600_000, "model": trained._model.state_dict(), "sampler": sampler}
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    loaded = load_panns(f"cnn6:{path}")
    assert loaded is not None
    assert (loaded.name, loaded.is_random, loaded.dim) == ("cnn6:Cnn6_mAP=0.343.pth", False, 512)
    assert loaded.passport["weights_sha256"] == sha256_of_file(path)
    waveform = noise(40_000)
    assert np.array_equal(loaded.encode(waveform)[0], trained.encode(waveform)[0])


def test_the_mel_filters_of_the_file_are_the_ones_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = tiny.config(tmp_path, tiny.PANNS)
    random = load_panns(f"{config}:random")
    assert random is not None
    state = random._model.state_dict()
    path = tmp_path / "w.pt"
    with caplog.at_level(logging.WARNING):
        torch.save({"model": {key: value for key, value in state.items() if key not in COMPUTED}}, path)
        assert load_panns(f"{config}:{path}") is not None, "a file may leave the front end out"
        torch.save({"model": state}, path)
        load_panns(f"{config}:{path}")
        assert not caplog.messages
        state["logmel_extractor.melW"] = state["logmel_extractor.melW"] * 2
        torch.save({"model": state}, path)
        other = load_panns(f"{config}:{path}")
    assert "logmel_extractor.melW differs from the front end of this network" in caplog.text
    assert other is not None
    ours, theirs = random._model.logmel_extractor, other._model.logmel_extractor
    quiet = torch.from_numpy(noise(20_000))
    assert float((theirs(quiet) - ours(quiet)).mean()) == pytest.approx(10 * math.log10(2), abs=1e-3)


def test_another_networks_file_is_refused(tmp_path: Path) -> None:
    trained = load_panns("cnn6:random")
    assert trained is not None
    path = tmp_path / "w.pt"
    torch.save({"model": trained._model.state_dict()}, path)
    with pytest.raises(LabError) as caught:
        load_panns(f"cnn10:{path}")
    message = str(caught.value)
    assert "missing (conv_block1.conv2.weight" in message
    assert "4 of another shape (conv_block1.conv1.weight is (64, 1, 5, 5), not (64, 1, 3, 3)" in message


def test_the_passport_is_json_and_says_all(panns: PannsBackbone) -> None:
    assert json.loads(json.dumps(panns.passport)) == panns.passport
    assert panns.passport["random"] is panns.is_random is True
    assert panns.passport["network"]["front"]["sample_rate"] == panns.sample_rate
    assert panns.passport["min_samples"] == panns.min_samples
    assert panns.passport["max_segments"] == 32
    assert set(panns.passport["versions"]) == {"torch"}


def test_random_weights_come_from_the_seed_alone(tmp_path: Path) -> None:
    spec = f"{tiny.config(tmp_path, tiny.PANNS)}:random"
    before = torch.get_rng_state()
    one, same, other = load_panns(spec), load_panns(spec), load_panns(spec, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    assert one is not None
    assert same is not None
    assert other is not None
    assert one.passport == same.passport
    assert one.passport["weights_sha256"] != other.passport["weights_sha256"]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_comes_back_as_float32(tmp_path: Path, precision: str) -> None:
    spec = f"{tiny.config(tmp_path, tiny.PANNS)}:random"
    full, half = lively(spec), lively(spec, precision=precision)
    one, two = full.encode(noise(64_000))[0], half.encode(noise(64_000))[0]
    assert two.dtype == np.float32
    assert one @ two / np.linalg.norm(one) / np.linalg.norm(two) > 0.999
    assert half.passport["precision"] == precision


def test_there_is_at_least_one_segment(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="1 <= max_segments must hold, got max_segments=0"):
        load_panns(f"{tiny.config(tmp_path, tiny.PANNS)}:random", max_segments=0)


@pytest.mark.parametrize("waveform", [np.zeros((2, 9), np.float32), np.array([0, np.nan], np.float32)])
def test_sound_must_be_mono_and_finite(panns: PannsBackbone, waveform: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"sound must be finite samples \(N,\)"):
        panns.encode(waveform)


def test_windows_that_a_gpu_does_not_hold_are_halved_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    panns = lively(f"{tiny.config(tmp_path, tiny.PANNS)}:random", window_s=8.0)
    sounds = [noise(32_000 * 8), noise(32_000 * 6, 1)]
    wanted = [panns.encode(sound) for sound in sounds]
    before, window, asked = panns._model.stack, panns._model.window, []

    def stack(mels: torch.Tensor) -> torch.Tensor:
        asked.append(len(mels))
        if len(mels) > 450:  # a window of six steps, with four around it on each side
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has more to say.")
        return before(mels)

    monkeypatch.setattr(panns._model, "stack", stack)
    for found, direct_ in zip(panns.launch(sounds)(), wanted, strict=True):
        for mine, theirs in zip(found, direct_, strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-4)
    assert panns._model.window < window
    assert len([size for size in asked if size > 450]) == 2  # windows of 25 and of 12 steps
    said = f"the GPU's memory does not hold {window} steps of sound at once: {window // 2} at a time from here on"
    assert [record.getMessage() for record in caplog.records if record.name == "lab.device"] == [said]

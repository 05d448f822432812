"""The toy world's sounds: exact lengths, the same from the same seed, and kinds that can be told apart."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from lab.backbones import load_panns
from lab.backbones.cnn import Cnn
from lab.backbones.logmel import LogMel, LogMelSpec
from lab.backbones.names import TOY
from lab.backbones.panns import PannsBackbone
from lab.backbones.panns_names import read_config
from lab.errors import LabError
from lab.media.audio import SILENCE
from lab.toy import train_panns
from lab.toy.sounds import BEDS, HZ, SOUNDS, VERBS, Part, ambience, soundtrack, synthesise


def loudest(wave: np.ndarray, window_s: float = 1.2) -> np.ndarray:
    """The peak of each window."""
    size = round(window_s * HZ)
    return np.abs(wave[: len(wave) // size * size].reshape(-1, size)).max(axis=1)


@pytest.mark.parametrize("kind", SOUNDS)
def test_every_kind_is_itself_from_start_to_end(kind: str) -> None:
    wave = synthesise(kind, 2.4, 3)
    assert wave.dtype == np.float32
    assert wave.shape == (round(2.4 * HZ),)
    assert np.isfinite(wave).all()
    assert 0.499 <= np.abs(wave).max() <= 0.701
    assert loudest(wave).min() > 0.1, "it goes on, or comes again"
    assert abs(wave[0]) < 0.01 > abs(wave[-1]), "no click where it begins and ends"
    assert np.array_equal(wave, synthesise(kind, 2.4, 3))
    other = synthesise(kind, 2.4, 4)
    assert abs(np.corrcoef(wave, other)[0, 1]) < 0.9, "another seed, another performance"


@pytest.mark.parametrize("seconds", [0.0, 0.00001, 0.0001, 0.011, 0.3, 1.50001])
def test_lengths_are_exact_however_short(seconds: float) -> None:
    for kind in SOUNDS:
        wave = synthesise(kind, seconds, 7)
        assert wave.shape == (round(seconds * HZ),)
        assert np.isfinite(wave).all()


def test_the_streams_are_frozen() -> None:
    """Weights were trained on these sounds: where this fails, VERSION of lab.toy.world must go up."""
    loudness = {kind: float(np.sqrt(np.square(synthesise(kind, 1.0, 2**40 + 1)).mean())) for kind in FROZEN}
    assert loudness == pytest.approx(FROZEN, abs=2e-4)


FROZEN = {"dog": 0.1564, "rain": 0.1270, "piano": 0.2160, "siren": 0.3279, "bird": 0.1265}


def test_what_cannot_be_sounded_is_said() -> None:
    with pytest.raises(LabError, match=r"sound.*dgo.*dog"):
        synthesise("dgo", 1.0, 0)
    with pytest.raises(LabError, match="ambience"):
        ambience("rom", 1.0, 0)
    with pytest.raises(ValueError, match="seed"):
        synthesise("dog", 1.0, -1)


def test_every_kind_has_verbs_of_its_own() -> None:
    assert set(VERBS) == set(SOUNDS)
    assert len(SOUNDS) >= 32
    verbs = [verb for own in VERBS.values() for verb in own]
    assert len(verbs) == len(set(verbs)), "no verb tells of two kinds"
    assert all(len(own) >= 2 for own in VERBS.values())
    assert all(re.match(r"is \w+ing\b|\w+s\b|goes ", verb) for verb in verbs)


def test_kinds_can_be_told_apart() -> None:
    """By the nearest centroid of a plain summary of the log-mel spectrum, on seeds that it has not heard."""
    mel = LogMel(LogMelSpec())

    def summary(kind: str, seed: int) -> np.ndarray:
        with torch.no_grad():
            bands = mel(torch.from_numpy(synthesise(kind, 1.2, seed))).clamp(min=-60.0).numpy()
        return np.concatenate([bands.mean(0), bands.std(0), np.abs(np.diff(bands, axis=0)).mean(0)])

    known = np.stack([[summary(kind, seed) for seed in range(5)] for kind in SOUNDS])
    heard = np.stack([[summary(kind, seed) for seed in (100, 101)] for kind in SOUNDS])
    centres = known.mean(axis=1)
    spread = (known - centres[:, None]).std(axis=(0, 1))
    distances = np.square((heard[:, :, None] - centres) / spread).sum(axis=3)
    assert np.mean(distances.argmin(axis=2) == np.arange(len(SOUNDS))[:, None]) >= 0.95


def test_backgrounds_are_faint_and_no_silence() -> None:
    clips = [ambience(bed, 1.0, seed) for bed in (*BEDS, None) for seed in range(3)]
    for clip in clips:
        assert clip.shape == (HZ,)
        assert SILENCE < 0.0039 < np.abs(clip).max() <= 0.0201
    assert len({clip.tobytes() for clip in clips}) == len(clips)
    assert np.array_equal(ambience(None, 1.0, 2), clips[-1])


def test_a_soundtrack_lays_its_parts_where_they_belong() -> None:
    wave = soundtrack([Part("siren", 1.0, 2.0, 5, gain=0.5)], 3.0, 0, bed=False)
    assert wave.shape == (3 * HZ,)
    assert not wave[:HZ].any()
    assert not wave[2 * HZ :].any()
    np.testing.assert_array_equal(wave[HZ : 2 * HZ], np.float32(0.5) * synthesise("siren", 1.0, 5))
    assert not soundtrack([], 3.0, 0, bed=False).any(), "nothing sounds like nothing"
    bed = soundtrack([], 3.0, 0)
    assert 0 < np.abs(bed).max() < 0.03
    cut = soundtrack([Part("dog", -1.0, 0.5, 5), Part("cat", 0.9, 9.0, 5), Part("cow", 4.0, 5.0, 5)], 1.0, 0)
    assert cut.shape == (HZ,)


def test_no_sum_clips() -> None:
    parts = [Part(kind, 0.0, 1.0, 1) for kind in ("siren", "flute", "bird", "violin", "wolf")]
    wave = soundtrack(parts, 1.0, 0)
    assert np.abs(wave).max() == pytest.approx(0.95, abs=1e-5)


def test_training_sounds_are_in_no_world(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []

    def listen(parts: list[Part], seconds: float, seed: int, *, bed: bool) -> np.ndarray:
        seeds.extend([seed, *(part.seed for part in parts)])
        return soundtrack(parts, seconds, seed, bed=bed)

    monkeypatch.setattr(train_panns, "soundtrack", listen)
    clips = [train_panns.stray_sound("test", i) for i in range(8)]
    assert min(seeds) >= 2**31, "worlds draw theirs below"
    assert len(set(seeds)) == len(seeds)
    again, kinds = train_panns.stray_sound("test", 5)
    assert np.array_equal(again, clips[5][0])
    assert kinds == clips[5][1]
    assert all(np.abs(wave).max() <= 1.0 and wave.dtype == np.float32 for wave, _ in clips)


def test_the_batched_network_is_the_one_that_features_come_from() -> None:
    torch.manual_seed(0)
    model = Cnn(read_config(TOY / "panns.json")).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    model.bn0.running_var.fill_(400.0)
    waves = [soundtrack([Part("dog", 0, 1.4, i)], 1.4, i) for i in range(2)]
    with torch.no_grad():
        decibels = torch.stack([model.logmel_extractor(torch.from_numpy(wave)) for wave in waves])
        batched, logits = train_panns.tags(model, decibels)
    panns = PannsBackbone(model, name="toy", weights={"random": True})
    alone = np.stack([panns.encode(wave)[0] for wave in waves])
    np.testing.assert_allclose(batched.numpy(), alone, atol=1e-4 * alone.max())
    assert logits.shape == (2, len(SOUNDS))


def test_training_writes_what_the_pass_can_load_and_repeats_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_panns.Bank, "frames", 131)
    monkeypatch.setattr(train_panns.Bank, "beds", 2)
    settings = train_panns.Settings(steps=2, scenes=4, each=1, warmup=1, precision="fp32")
    logs = [train_panns.train(settings, tmp_path / name, probed=False) for name in ("one", "two")]
    assert logs[0]["loss of 50"] == logs[1]["loss of 50"]
    files = [(tmp_path / name / "panns.safetensors").read_bytes() for name in ("one", "two")]
    assert files[0] == files[1]
    assert len(files[0]) <= 4e6
    panns = load_panns(f"{TOY / 'panns.json'}:{tmp_path / 'one' / 'panns.safetensors'}")
    assert panns is not None
    assert not panns.is_random


def test_the_shipped_weights_know_the_kinds() -> None:
    panns = load_panns("toy")
    assert panns is not None
    right = []
    for kind in SOUNDS:
        vector = torch.from_numpy(panns.encode(soundtrack([Part(kind, 0.2, 2.2, 11)], 2.4, 11))[0])
        right.append(list(SOUNDS)[int(panns._model.fc_audioset(vector).argmax())] == kind)
    assert np.mean(right) >= 0.97

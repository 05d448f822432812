"""``--dataset toy`` from nothing to ranks: rendered, cached with the lab's own networks, and without a leak."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from lab import cli, open_store, truth
from lab.backbones import load_clip, load_panns
from lab.backbones.names import TOY
from lab.cache import main as cache
from lab.heads import build_head
from lab.toy.grammar import captions
from lab.toy.probe import probe
from lab.toy.render import render_world
from lab.toy.world import world

SIZES = {"train": 6, "val": 3, "test": 4}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("toy") / "small"
    render_world(path, 5, SIZES, workers=1)
    return path


@pytest.fixture(scope="module")
def store_path(root, tmp_path_factory) -> Path:
    features = tmp_path_factory.mktemp("features")
    (root / "val0001.mp4").unlink()  # rendered again by the pass
    assert cli.run(cache, ["--dataset", "toy", "--root", str(root), "--features", str(features)]) == 0
    return features / "toy-small-toy-midpoints-12.zarr"


def test_the_pass_renders_what_is_missing_and_takes_the_toy_networks(store_path):
    store = open_store(store_path)
    assert store.passport["frames"]["name"] == store.passport["text"]["name"] == "toy"
    assert store.passport["audio"]["name"] == "toy"
    assert not store.warnings
    texts, videos = store.load("train", audio="clip")
    assert texts.dim == videos.dim == 256
    assert (len(texts), len(videos)) == (120, 6)


def test_the_ledger_tells_sound_silence_and_no_sound_apart(store_path):
    store = open_store(store_path)
    presence = {"absent": 1, "silent": 2, "sound": 3}
    held = store.read("audio_presence")
    expected = {clip.id: presence[clip.audio] for clip in world(5, SIZES)}
    assert [expected[row["id"]] for row in store.videos] == held.tolist()


def test_captions_keep_their_truth(store_path):
    store = open_store(store_path)
    rows = list(store.captions)
    told = [line for clip in world(5, SIZES) for line in captions(clip)]
    assert [(row["text"], row["start_s"], row["end_s"], row["needs_sound"]) for row in rows] == [
        (line.text, line.start_s, line.end_s, line.needs_sound) for line in told
    ]
    texts, videos = store.load("train")
    result = truth.against_truth(build_head("topk", texts.dim, top_k=1), store, texts, videos)
    assert np.isfinite(result.uniform).all()


def test_nothing_of_the_truth_is_in_the_features(store_path, root, tmp_path):
    """The same files and captions as a plain folder, which knows no truth, give the same arrays to the bit."""
    plain = tmp_path / "plain"
    plain.mkdir()
    with (plain / "captions.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["video", "caption", "split"])
        for clip in world(5, SIZES):
            (plain / f"{clip.id}.mp4").symlink_to(root / f"{clip.id}.mp4")
            table.writerows([f"{clip.id}.mp4", line.text, clip.split] for line in captions(clip))
    command = ["--dataset", "folder", "--root", str(plain), "--clip", "toy", "--panns", "toy", "--name", "plain"]
    assert cli.run(cache, [*command, "--features", str(tmp_path)]) == 0
    ours, bare = open_store(store_path), open_store(tmp_path / "plain.zarr")
    assert all(row["start_s"] is None and row["needs_sound"] is None for row in bare.captions)
    for split in SIZES:
        (texts, videos), (bare_texts, bare_videos) = (store.load(split, audio="clip") for store in (ours, bare))
        assert torch.equal(texts.sentences, bare_texts.sentences)
        assert torch.equal(texts.words.values, bare_texts.words.values)
        assert torch.equal(videos.frames, bare_videos.frames)
        assert torch.equal(videos.audio[videos.audio_mask], bare_videos.audio[bare_videos.audio_mask])


def test_the_weights_are_small_and_load_as_all_weights_do():
    assert sum(path.stat().st_size for path in TOY.glob("*.safetensors")) <= 24e6
    clip, panns = load_clip("toy"), load_panns("toy")
    assert not clip.is_random
    assert not panns.is_random
    assert clip.dim >= 128
    vectors = clip.encode_texts(["a dog barks", "a dog is barking", "a sheep grows in the snow"]).sentences
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert unit[0] @ unit[1] > unit[0] @ unit[2]


def test_the_frozen_clip_tells_actors_apart():
    """The full probe has 100 clips and R@1 of 95; fewer are easier and take less time."""
    assert probe(load_clip("toy"), number=3, count=20)["R@1"] >= 85

"""What --clip and --panns accept, and the one line that each refusal says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_backbones as tiny
from torch import nn

from lab.backbones import DEFAULT_CLIP, clip_names, load_clip, load_panns, weights
from lab.download import Source
from lab.errors import LabError

BACKBONES: dict[str, Any] = {"clip": load_clip, "panns": load_panns}


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without weights and without a network; returns its weights directory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RETRIEVAL_LAB_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(weights, "unreachable", lambda urls, timeout_s: dict.fromkeys(urls, "no route"))

    def no_network(*arguments: Any, **keywords: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.create_connection", no_network)
    monkeypatch.setattr("socket.socket.connect", no_network)
    return tmp_path / "weights"


@pytest.mark.parametrize(
    ("load", "spec", "said"),
    [
        (load_clip, "ViT-B-32-quickgelu:openai", "openaipublic.azureedge.net"),
        (load_clip, "ViT-B-32:laion2b_s34b_b79k", "https://huggingface.co/laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
        (load_panns, "cnn14", "https://zenodo.org/record/3987831/files/Cnn14_mAP%3D0.431.pth"),
        (load_panns, "cnn10", "Cnn10_mAP%3D0.380.pth"),
        (load_panns, "cnn6", "Cnn6_mAP%3D0.343.pth"),
        (load_panns, "cnn14-16k", "Cnn14_16k_mAP%3D0.438.pth"),
    ],
)
def test_missing_weights_name_the_remedy_at_once(
    offline: Path, load: Callable[..., Any], spec: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nn.Module, "__init__", lambda *_, **__: pytest.fail("a network is made before"))
    with pytest.raises(LabError) as caught:
        load(spec)
    message = str(caught.value)
    assert said in message
    assert str(offline) in message, "where to put it"
    assert "--download" in message
    assert ":FILE" in message
    assert "\n" not in message


def test_a_download_without_a_network_says_so(offline: Path) -> None:
    with pytest.raises(LabError, match=r"cannot reach https://huggingface.co/laion/.*put them at .*weights/clip/"):
        load_clip("ViT-B-32:laion2b_s34b_b79k", download=True)


@pytest.mark.parametrize(("load", "spec"), [(load_clip, "ViT-B-32-quickgelu:openai"), (load_panns, "cnn6")])
def test_a_download_fetches_the_named_source(
    offline: Path, monkeypatch: pytest.MonkeyPatch, load: Callable[..., Any], spec: str
) -> None:
    asked: list[Source] = []

    def fetch(source: Source, root: Path) -> Path:
        asked.append(source)
        assert root == offline
        target = root / source.file
        target.parent.mkdir(parents=True)
        target.write_bytes(b"not weights")
        return target

    monkeypatch.setattr(weights, "fetch", fetch)
    with pytest.raises(LabError, match="cannot read the weights in"):
        load(spec, download=True)
    assert asked == [weights.WEIGHTS[spec]]


def test_weights_are_found_where_people_have_them(offline: Path, tmp_path: Path) -> None:
    pretrained = {"hf_hub": "laion/some-model/", "url": ""}

    def found() -> Path:
        return weights.locate_tag("ViT-B-32", "tag", pretrained, download=False)

    with pytest.raises(LabError):
        found()
    snapshot = tmp_path / "hub" / "models--laion--some-model"
    hub = snapshot / "snapshots" / "abc" / "open_clip_model.safetensors"
    for file, text in ((hub, "x"), (snapshot / "refs" / "main", "abc")):
        file.parent.mkdir(parents=True)
        file.write_text(text)
    assert found() == hub
    ours = offline / "clip" / "ViT-B-32-tag.bin"
    ours.parent.mkdir(parents=True)
    ours.write_text("x")
    assert found() == ours
    clips = tmp_path / ".cache" / "clip" / "ViT-B-32.pt"
    clips.parent.mkdir(parents=True)
    clips.write_text("x")
    openai = {"url": weights.WEIGHTS["ViT-B-32-quickgelu:openai"].url, "hf_hub": "timm/x/"}
    assert weights.locate_tag("ViT-B-32-quickgelu", "openai", openai, download=False) == clips
    panns = tmp_path / "panns_data" / "Cnn14_mAP=0.431.pth"
    panns.parent.mkdir()
    panns.write_text("x")
    with pytest.raises(LabError, match=r"cannot read the weights in .*panns_data"):
        load_panns("cnn14")


def test_the_default_is_looked_for_as_open_clip_names_it() -> None:
    model, tag = DEFAULT_CLIP.split(":")
    pretrained = clip_names.open_clip.get_pretrained_cfg(model, tag)
    assert {key: pretrained[key] for key in ("url", "hf_hub")} == weights._DEFAULT_PRETRAINED


def test_the_default_is_missed_without_open_clips_imports(offline: Path) -> None:
    script = """
import sys
from lab.backbones import load_clip
from lab.errors import LabError
try:
    load_clip()
except LabError:
    sys.exit("open_clip" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_openais_source_is_its_own_checksum() -> None:
    source = weights.WEIGHTS["ViT-B-32-quickgelu:openai"]
    assert source.sha256 is not None
    assert len(source.sha256) == 64
    assert source.sha256 in source.url


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("ViT-B-32:openai", "use ViT-B-32-quickgelu:openai"),
        ("ViT-B-32:laion400m_e32", "use ViT-B-32-quickgelu:laion400m_e32"),
        ("RN50:openai", "use RN50-quickgelu:openai"),
        ("RN50-quickgelu:openai", None),
    ],
)
def test_a_quickgelu_mismatch_is_an_error(offline: Path, spec: str, said: str | None) -> None:
    with pytest.raises(LabError) as caught:
        load_clip(spec)
    if said:
        assert "was trained with QuickGELU" in str(caught.value)
        assert said in str(caught.value)
    else:
        assert "not on this machine" in str(caught.value)


def test_weights_of_gelu_in_a_quickgelu_model_are_an_error(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_names.open_clip, "get_pretrained_cfg", lambda model, tag: {"quick_gelu": False, "url": ""})
    with pytest.raises(LabError, match="'openai' was trained with GELU and ViT-B-32-quickgelu has QuickGELU"):
        clip_names._tagged("ViT-B-32-quickgelu", "openai", {"quick_gelu": True}, False)


def test_openais_own_file_in_a_gelu_model_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "renamed.pt"
    file.write_bytes(b"x")
    monkeypatch.setattr(clip_names, "sha256_of_file", lambda path: weights.WEIGHTS["ViT-B-32-quickgelu:openai"].sha256)
    with pytest.raises(LabError, match="its features would be wrong; use ViT-B-32-quickgelu:openai"):
        load_clip(f"ViT-B-32:{file}")
    with pytest.raises(LabError, match="cannot read the weights"):
        load_clip(f"ViT-B-32-quickgelu:{file}")


@pytest.mark.parametrize(("model", "built"), [("ViT-B-32", "GELU"), ("ViT-B-32-quickgelu", "QuickGELU")])
def test_a_file_that_cannot_tell_its_activation_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, model: str, built: str
) -> None:
    file = tmp_path / "open_clip_model.safetensors"
    file.write_bytes(b"of a mirror")
    assert clip_names.resolve(f"{model}:{file}", download=False).path == file
    assert f"{file.name} tells which activation it was trained with, and {model} computes {built}: " in caplog.text
    caplog.clear()
    assert clip_names.resolve(f"convnext_base:{file}", download=False).path == file  # there is but one of it
    assert not caplog.text


@pytest.mark.parametrize(
    ("load", "spec", "said"),
    [
        (load_clip, "VitB32:openai", "unknown CLIP model 'VitB32': did you mean ViT-B-32"),
        (load_clip, "ViT-B-32-quickgelu:opnai", "unknown weights of ViT-B-32-quickgelu 'opnai': did you mean 'openai'"),
        (load_clip, "ViT-B-32-quickgelu:laion2b_s34b_b79k", "it belongs to ViT-B-32:laion2b_s34b_b79k"),
        (load_clip, "ViT-B-32-quickgelu", "names a model and no weights: use ViT-B-32-quickgelu:TAG (openai, "),
        (load_clip, "ViT-B-32-quickgelu:/no/such.pt", "a weight file must exist, and /no/such.pt does not"),
        (load_clip, "ViT-B-32-quickgelu:nowhere.safetensors", "a weight file must exist, and nowhere.safetensors"),
        (load_clip, "/no/such.json:random", "cannot read the model config /no/such.json"),
        (load_panns, "cnn41", "unknown PANN 'cnn41': did you mean 'cnn14'? known: cnn14, cnn10, cnn6, cnn14-16k, toy,"),
        (load_panns, "cnn14:/no/such.pth", "a weight file must exist, and /no/such.pth does not"),
        (load_panns, "/no/such.json:random", "cannot read the network in /no/such.json"),
    ],
)
def test_what_is_unknown_names_what_is_known(offline: Path, load: Callable[..., Any], spec: str, said: str) -> None:
    with pytest.raises(LabError) as caught:
        load(spec)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", BACKBONES)
def test_the_toy_is_files_in_this_copy_or_a_clear_line(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"lab.backbones.{kind}_names.TOY", tmp_path)
    with pytest.raises(LabError, match=rf"--{kind} toy needs .*{kind}.safetensors, which this copy of the lab lacks"):
        BACKBONES[kind]("toy")


@pytest.mark.parametrize("kind", BACKBONES)
def test_device_and_precision_are_checked(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {"clip": tiny.CLIP, "panns": tiny.PANNS}[kind]
    spec = f"{tiny.config(tmp_path, content)}:random"
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(LabError, match="--device cuda needs a GPU that torch can use, and it sees 0: use --device cpu"):
        BACKBONES[kind](spec, device="cuda")
    for device in ("cdua", "meta"):
        with pytest.raises(LabError, match=f"unknown device '{device}'"):
            BACKBONES[kind](spec, device=device)
    with pytest.raises(LabError, match=r"unknown precision 'fp8'.* known: fp32, bf16, fp16"):
        BACKBONES[kind](spec, precision="fp8")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "must have embed_dim, vision_cfg and text_cfg"),
        ('{"embed_dim": 3, "vision_cfg": {}}', "lacks text_cfg"),
        ("{", "it must be an open_clip JSON config"),
        ('{"embed_dim": 3, "vision_cfg": {"heads": 2}, "text_cfg": {}}', "open_clip cannot build tiny from its config"),
        ('{"embed_dim": 3, "vision_cfg": 3, "text_cfg": {}}', "open_clip cannot build tiny from its config"),
    ],
)
def test_a_config_that_is_none_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "tiny.json"
    path.write_text(content)
    with pytest.raises(LabError) as caught:
        load_clip(f"{path}:random")
    assert said in str(caught.value)


def test_a_config_as_the_hub_has_it_brings_its_preprocessing(tmp_path: Path) -> None:
    preprocess = {"mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.3], "interpolation": "bilinear", "resize_mode": "squash"}
    path = tiny.config(tmp_path, {"model_cfg": tiny.CLIP, "preprocess_cfg": preprocess}, name="open_clip_config")
    image = load_clip(f"{path}:random").image
    assert (image.mean, image.std) == ((0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    assert (image.interpolation, image.resize, image.size) == ("bilinear", "squash", 40)
    path = tiny.config(tmp_path, {"model_cfg": tiny.CLIP, "preprocess_cfg": {"resize_mode": "longest"}})
    with pytest.raises(LabError, match="pictures must be square, resized by 'shortest' or 'squash'"):
        load_clip(f"{path}:random")


def test_a_config_of_ones_own_does_not_shadow_open_clips(tmp_path: Path) -> None:
    assert load_clip(f"{tiny.config(tmp_path, tiny.CLIP, name='ViT-B-32')}:random").dim == 29
    assert clip_names.open_clip.get_model_config("ViT-B-32")["embed_dim"] == 512


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"channels": [3]}, "must say which network it is 'like': one of cnn14, cnn10, cnn6, cnn14-16k"),
        ({"like": "cnn14", "chanels": [3]}, "unknown field of tiny.json 'chanels': did you mean 'channels'?"),
        ({"like": "cnn14", "channels": [3, -5]}, "cannot build the network of"),
        ({"like": "cnn14", "front": {"hopp": 3}}, "unknown field of tiny.json 'hopp': did you mean 'hop'?"),
    ],
)
def test_a_panns_config_is_checked(tmp_path: Path, content: dict[str, Any], said: str) -> None:
    with pytest.raises(LabError) as caught:
        load_panns(f"{tiny.config(tmp_path, content)}:random")
    assert said in str(caught.value)


def test_a_panns_config_without_weights_asks_for_them(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"names a network and no weights: use .*:FILE or .*:random"):
        load_panns(str(tiny.config(tmp_path, tiny.PANNS)))


def test_no_sound_is_a_choice() -> None:
    assert load_panns("none") is None


def test_the_names_cost_no_open_clip() -> None:
    script = "import sys, lab.backbones; sys.exit('open_clip' in sys.modules or 'lab.backbones.clip' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0

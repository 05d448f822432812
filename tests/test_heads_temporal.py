"""CLIP4Clip's temporal encoders in plain steps; starting from a CLIP text tower."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from feature_pairs import FRAMES, D, F, V, agree_in_value_and_gradient, cosine, head_of, linear, norm, pairs, softmax
from safetensors.torch import save_file
from torch import Tensor

from lab.embeddings import Texts, Videos
from lab.errors import LabError
from lab.heads import build_head
from lab.heads.temporal import SeqLSTM, SeqTransf


def unit(x: Tensor) -> Tensor:
    return x / (x * x).sum() ** 0.5


def mean_of(frames: list[Tensor], found: list[Tensor]) -> Tensor:
    """The residual, each to length one, then the mean."""
    return sum((unit(frame + more) for frame, more in zip(frames, found, strict=True)), torch.zeros(D)) / len(frames)


def lstm(head: SeqLSTM, text: Tensor, words: list[Tensor], frames: list[Tensor], sound: list[Tensor]) -> Tensor:
    """The gates of an LSTM, i f g o in torch's order, from a state of zeros."""
    layer, hidden, cell, found = head.lstm, torch.zeros(D), torch.zeros(D), []
    for frame in frames:
        gates = layer.weight_ih_l0 @ frame + layer.bias_ih_l0 + layer.weight_hh_l0 @ hidden + layer.bias_hh_l0
        i, f, g, o = (
            gates[:D].sigmoid(),
            gates[D : 2 * D].sigmoid(),
            gates[2 * D : 3 * D].tanh(),
            gates[3 * D :].sigmoid(),
        )
        cell = f * cell + i * g
        hidden = o * cell.tanh()
        found.append(hidden)
    return cosine(text, mean_of(frames, found))


def transformer(head: Any, text: Tensor, words: list[Tensor], frames: list[Tensor], sound: list[Tensor]) -> Tensor:
    """Blocks of attention with one head and of two linear maps, each after a norm and with a residual."""
    seen = [frame + head.positions[i] for i, frame in enumerate(frames)]
    for block in head.blocks:
        normed = [norm(x, block.ln_1) for x in seen]
        parts = [block.attn.in_proj_weight @ x + block.attn.in_proj_bias for x in normed]
        query, key, value = ([part[n * D : (n + 1) * D] for part in parts] for n in range(3))
        for i in range(len(seen)):
            shares = softmax([(query[i] * other).sum() / D**0.5 for other in key])
            mixed = sum((share * x for share, x in zip(shares, value, strict=True)), torch.zeros(D))
            seen[i] = seen[i] + linear(mixed, block.attn.out_proj)
        for i, x in enumerate(seen):
            hidden = linear(norm(x, block.ln_2), block.mlp["c_fc"])
            seen[i] = x + linear(hidden / (1 + torch.exp(-1.702 * hidden)), block.mlp["c_proj"])
    return cosine(text, mean_of(frames, seen))


@pytest.mark.parametrize(("variant", "reference"), [("seqlstm", lstm), ("seqtransf", transformer)])
def test_it_is_its_equations_in_value_and_gradient(variant: str, reference: Any) -> None:
    agree_in_value_and_gradient(head_of(variant), reference)


@pytest.mark.parametrize("variant", ["seqlstm", "seqtransf"])
def test_where_the_padding_lies_does_not_matter(variant: str) -> None:
    head, (texts, videos) = head_of(variant), pairs()
    wanted = head(texts, videos)
    front = torch.stack([torch.cat([x[~m], x[m]]) for x, m in zip(videos.frames, FRAMES, strict=True)])
    moved = Videos(front, FRAMES.flip(1))
    assert torch.allclose(head(texts, moved), wanted, atol=1e-6)
    holes = Videos(torch.stack([videos.frames, torch.full_like(videos.frames, float("nan"))], 2).view(V, 2 * F, D),
                   torch.stack([FRAMES, torch.zeros_like(FRAMES)], 2).view(V, 2 * F))  # fmt: skip
    assert torch.allclose(head(texts, holes), wanted, atol=1e-6)


def test_the_transformer_starts_near_the_mean() -> None:
    torch.manual_seed(0)
    texts, videos = Texts(torch.randn(3, 128)), Videos(10 * torch.randn(5, 4, 128))
    mean, head = build_head("mean", 128), build_head("seqtransf", 128).eval()
    assert (head(texts, videos) - mean(texts, videos)).abs().max() < 0.1


def test_sizes_are_those_of_the_authors() -> None:
    head = SeqTransf()
    assert (len(head.blocks), head.blocks[0].attn.num_heads, tuple(head.positions.shape)) == (4, 8, (77, 512))
    assert SeqLSTM().lstm.num_layers == 1


def tower(prefix: str, width: int, layers: int) -> dict[str, Tensor]:
    """A text tower as open_clip would save it, with other things beside it."""
    torch.manual_seed(7)
    blocks = SeqTransf(width, layers=layers, heads=1).blocks.state_dict()
    return {
        **{f"{prefix}transformer.resblocks.{name}": torch.randn_like(value) for name, value in blocks.items()},
        f"{prefix}positional_embedding": torch.randn(16, width),
        "visual.transformer.resblocks.0.ln_1.weight": torch.zeros(3),
        "logit_scale": torch.tensor(4.6),
    }


@pytest.mark.parametrize("prefix", ["", "text."])
def test_it_starts_from_the_first_blocks_of_a_text_tower(prefix: str, tmp_path: Path) -> None:
    state = tower(prefix, D, 3)
    save_file(state, tmp_path / "clip.safetensors")
    head = build_head("seqtransf", D, layers=2, frames=20, start=str(tmp_path / "clip.safetensors"))
    for name, value in head.blocks.state_dict().items():
        assert torch.equal(value, state[f"{prefix}transformer.resblocks.{name}"])
    assert torch.equal(head.positions[:16], state[f"{prefix}positional_embedding"])
    assert head.positions[16:].abs().max() < 0.1  # what the tower has no position for stays random


@pytest.mark.parametrize(
    ("width", "layers", "said"),
    [
        (D, 1, r"blocks\.1\.\S+ must be \(.*\) to start seqtransf, found none"),
        (D + 1, 2, r"positions must be \(16, 7\) to start seqtransf, found \(16, 8\)"),
    ],
)
def test_a_tower_that_does_not_fit(width: int, layers: int, said: str, tmp_path: Path) -> None:
    save_file(tower("", width, layers), tmp_path / "clip.safetensors")
    with pytest.raises(LabError, match=said):
        build_head("seqtransf", D, layers=2, start=str(tmp_path / "clip.safetensors"))


@pytest.mark.parametrize("kind", ["saved by torch", "OpenAI's archive", "under ~"])
def test_it_starts_from_each_kind_of_checkpoint_without_open_clip(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith(("lab.backbones", "open_clip"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "open_clip", None)  # importing it fails
    monkeypatch.setenv("HOME", str(tmp_path))
    state, file = tower("", D, 1), tmp_path / "clip.pt"
    if kind == "OpenAI's archive":
        file = archive(state, file)
    else:
        torch.save({"epoch": 3, "state_dict": state}, file)
    start = "~/clip.pt" if kind == "under ~" else str(file)
    head = build_head("seqtransf", D, layers=1, start=start)
    wanted = state["transformer.resblocks.0.mlp.c_fc.weight"]
    assert torch.equal(head.blocks[0].mlp["c_fc"].weight, wanted.half().float() if "archive" in kind else wanted)
    assert head.positions.requires_grad


def archive(state: dict[str, Tensor], file: Path) -> Path:
    """Weights in half precision as a TorchScript archive, in which OpenAI's are."""
    root = torch.nn.Module()
    for name, value in state.items():
        owner = root
        *parents, last = name.split(".")
        for parent in parents:
            if not hasattr(owner, parent):
                owner.add_module(parent, torch.nn.Module())
            owner = getattr(owner, parent)
        owner.register_parameter(last, torch.nn.Parameter(value.half()))
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.script(root), file)
    return file


def test_a_file_without_a_tower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"fc.weight": torch.zeros(2)}, tmp_path / "panns.safetensors")
    with pytest.raises(LabError, match=r"panns\.safetensors: no CLIP text tower in these weights: .* take OpenAI's"):
        build_head("seqtransf", D, start=str(tmp_path / "panns.safetensors"))
    monkeypatch.setenv("RETRIEVAL_LAB_WEIGHTS", "/weights")
    with pytest.raises(LabError, match=r"no file .*clip\.pt to start seqtransf from: .* leaves one in /weights/clip$"):
        build_head("seqtransf", D, start=str(tmp_path / "clip.pt"))


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
def test_a_damaged_file_is_told_in_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"no weights at all")
    with pytest.raises(LabError, match=rf"cannot read the weights in .*{name}: [^\n]*$"):
        build_head("seqtransf", D, layers=1, start=str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "keywords", "said"),
    [
        ("seqtransf", {"heads": 2}, "heads must divide D, got heads=2 for D=7"),
        ("seqtransf", {"layers": 0}, "1 <= layers <= 64 must hold, a whole number, got layers=0"),
        ("seqtransf", {"frames": 1.5}, r"1 <= frames <= 10000 must hold, a whole number, got frames=1\.5"),
        ("seqtransf", {"layers": 10**7}, "1 <= layers <= 64 must hold, a whole number, got layers=10000000"),
        ("seqlstm", {"layers": True}, "1 <= layers <= 64 must hold, a whole number, got layers=True"),
        ("seqlstm", {"layers": 10**7}, "1 <= layers <= 64 must hold, a whole number, got layers=10000000"),
    ],
)
def test_bad_keywords(name: str, keywords: dict[str, Any], said: str) -> None:
    with pytest.raises(LabError, match=said):
        build_head(name, D, **keywords)


def test_more_frames_than_positions() -> None:
    with pytest.raises(LabError, match=r"positions for 3 frames, videos have 4: build it with frames=4"):
        build_head("seqtransf", D, frames=3)(*pairs())

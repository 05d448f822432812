"""CLIP, frozen: pictures, sentences and words into one joint space. With its neighbours the only user of open_clip."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lab.backbones import torchscript, words
from lab.backbones.checkpoints import load_state, read_state, sha256_of_state
from lab.backbones.clip_build import as_open_clip, build
from lab.backbones.clip_names import image_spec, resolve
from lab.backbones.devices import (
    DTYPES,
    Precision,
    at_least_one,
    check_precision,
    exact_numerics,
    fetching,
    to_device,
)
from lab.backbones.text_tower import TextTower
from lab.backbones.words import Tokens
from lab.device import Room, memory_told, pick_device
from lab.errors import LabError
from lab.preprocess import ImageSpec

JSON = Any
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class EncodedTexts:
    """What one pass over T captions leaves: ``sentences`` (T, D) and ``words`` (ΣW, D), float32, un-normalised.

    Caption t owns the rows ``tokens.offsets[t]:tokens.offsets[t + 1]`` of ``words``.
    """

    sentences: Floats
    words: Floats
    tokens: Tokens


class ClipBackbone:
    """A frozen CLIP. Vectors come back float32 and un-normalised, as X-Pool's head wants them (facts: its own code).

    ``logit_scale`` is the learned scale, already exponentiated (100 for OpenAI's). ``passport`` holds all that the
    vectors depend on, and nothing else: two backbones with one passport are interchangeable.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        name: str,
        image: ImageSpec,
        passport: dict[str, JSON],
        precision: Precision = "fp32",
        device: torch.device | None = None,
        batch: int = 48,
        text_batch: int = 64,
        compiled: bool = False,
    ) -> None:
        """``model`` is an open_clip model on its device and in its precision; see :func:`load_clip`."""
        self.name = name
        self.image = image
        self.pictures, self.captions = Room(batch, "pictures"), Room(text_batch, "captions")  # at once
        self.is_random = bool(passport["random"])
        self.device = device or torch.device("cpu")
        self._dtype = DTYPES[precision]
        self._model = model.eval().requires_grad_(False)
        visual = self._model.get_submodule("visual")
        if self.device.type == "cuda":
            visual.to(memory_format=torch.channels_last)
        self._visual = torch.compile(visual) if compiled else visual
        self._text = TextTower(model, name)
        if self._text.vocabulary < len(words.bpe().encoder):
            raise LabError(
                f"the text tower must have CLIP's {len(words.bpe().encoder)} tokens, and {name} has "
                f"{self._text.vocabulary}: its tokenizer is another"
            )
        self.dim = int(passport["dim"])
        self.context_length = self._text.context_length
        # Rounded: the last bits of an exponential differ between machines, and a passport must not.
        self.logit_scale = round(math.exp(float(model.get_parameter("logit_scale").detach().float().reshape(()))), 5)
        self.passport: dict[str, JSON] = {
            **passport,
            "image": {**asdict(image), "mean": list(image.mean), "std": list(image.std)},
            "context_length": self.context_length,
            "precision": precision,
            "logit_scale": self.logit_scale,
            **({"compiled": True} if compiled else {}),
        }
        self._mean = torch.tensor(image.mean, device=self.device)[:, None, None]
        self._std = torch.tensor(image.std, device=self.device)[:, None, None]

    def encode_frames(self, pictures: NDArray[np.uint8]) -> Floats:
        """RGB pictures uint8 (N, S, S, 3), already through ``preprocess.fit``, as float32 (N, D).

        Batches are slices in order, so a picture's batch mates depend on the input alone. Raises ValueError for
        another shape or type: pixels that were normalised twice look plausible and are wrong.
        """
        return self.launch_frames(pictures)()

    def launch_frames(self, pictures: NDArray[np.uint8]) -> Callable[[], Floats]:
        """``encode_frames`` begun: what comes back waits for its vectors. A CPU has them by then; a GPU is at work."""
        size = self.image.size
        if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[1:] != (size, size, 3):
            raise ValueError(
                f"pictures must be uint8 (N, {size}, {size}, 3), got {pictures.dtype} {pictures.shape}: "
                "pass each through lab.preprocess.fit(picture, backbone.image)"
            )
        vectors = [torch.zeros(0, self.dim, device=self.device)]

        def encode(first: int, last: int) -> None:
            pixels = self.normalise(pictures[first:last]).to(self._dtype)
            vectors.append(self._visual(pixels).float())

        with exact_numerics(self.device), memory_told("one picture", "--device cpu"):
            self.pictures.share_out(encode, len(pictures))
            return fetching(torch.cat(vectors))

    def normalise(self, pictures: NDArray[np.uint8]) -> Tensor:
        """Pictures (N, S, S, 3) as the float32 (N, 3, S, S) of open_clip's own transform, to the bit."""
        pixels = to_device(pictures, self.device).permute(0, 3, 1, 2).float().div(255).sub(self._mean).div(self._std)
        # A GPU takes channels last, as they are; a CPU's results would differ in their last bits from those before.
        return pixels if self.device.type == "cuda" else pixels.contiguous()

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """The word tokens of ``texts``, without running the model."""
        return words.tokenize(texts, words.bpe(), self.context_length)

    def encode_texts(self, texts: Sequence[str]) -> EncodedTexts:
        """Sentences and words of ``texts`` from one pass of the text tower.

        Captions go through sorted by length, so that a batch is as long as its longest caption and not 77: the
        attention is causal, so nothing behind the end token reaches anything before it. The order depends on
        ``texts`` alone.
        """
        tokens = self.tokenize(texts)
        offsets = tokens.offsets
        sentences = np.empty((len(tokens.counts), self.dim), np.float32)
        vectors = np.empty((len(tokens.ids), self.dim), np.float32)
        order = np.argsort(tokens.counts, kind="stable")
        begun: list[tuple[NDArray[np.int64], Callable[[], Floats], Callable[[], Floats]]] = []

        def encode(first: int, last: int) -> None:
            rows = order[first:last]
            ids, counts = (to_device(column, self.device) for column in _with_ends(tokens, rows))
            sentence, word = self._text(ids, counts, total=int(tokens.counts[rows].sum()))
            begun.append((rows, fetching(sentence), fetching(word)))

        with exact_numerics(self.device), memory_told("one caption", "--device cpu"):
            self.captions.share_out(encode, len(order))
        for rows, sentence, word in begun:
            sentences[rows] = sentence()
            vectors[np.concatenate([np.arange(offsets[row], offsets[row + 1]) for row in rows])] = word()
        return EncodedTexts(sentences=sentences, words=vectors, tokens=tokens)


def _with_ends(tokens: Tokens, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of ``tokens`` as CLIP's input: ids (B, L) with start and end tokens, L as the longest needs; counts (B,)."""
    counts, offsets = tokens.counts[rows], tokens.offsets[rows]
    ids = np.zeros((len(rows), int(counts.max()) + 2), np.int64)
    ids[:, 0] = words.bpe().sot_token_id
    for i, (count, offset) in enumerate(zip(counts, offsets, strict=True)):
        ids[i, 1 : count + 1] = tokens.ids[offset : offset + count]
        ids[i, count + 1] = words.bpe().eot_token_id
    return ids, counts


def load_clip(
    spec: str,
    *,
    device: str = "cpu",
    precision: str = "fp32",
    batch: int | None = None,
    text_batch: int | None = None,
    seed: int = 0,
    download: bool = False,
    compiled: bool = False,
) -> ClipBackbone:
    """The CLIP that ``spec`` names.

    ``MODEL:TAG`` (open_clip's names), ``MODEL:FILE`` (.safetensors, .pt, .bin, OpenAI's own archives), ``MODEL:random``
    or ``random`` (seeded ViT-B-32-quickgelu), ``toy``. MODEL may be the path of an open_clip .json config.
    ``precision`` is fp32, bf16 or fp16; what comes back is float32 in any case. ``batch`` pictures or ``text_batch``
    captions are encoded at once: 48 and 64 on a CPU, where more outgrow its caches, 256 and 512 on a GPU, or half as
    many where its memory does not hold them. ``compiled``: the image tower by ``torch.compile``, which the passport
    says; not tried on a GPU yet.

    Raises LabError for an unknown name, weights that are not on this machine (unless ``download`` can fetch them), do
    not fit, or were trained with the other activation, and for a model without word features.
    """
    how, where = check_precision(precision), pick_device(device)
    plan = resolve(spec, download=download)
    if plan.path is None:
        model = build(plan, "fp32", seed=seed)
        state = model.state_dict()
        weights = {"weights": "random", "weights_sha256": sha256_of_state(state), "random": True}
    else:
        state = read_state(plan.path)
        weights = {"weights": plan.path.name, "weights_sha256": plan.sha256, "random": False}
    if plan.path is not None or how != "fp32":
        model = build(plan, how, seed=seed)
        archive = plan.path is not None and torchscript.is_archive(plan.path)
        load_state(model, as_open_clip(state, model, archive=archive), str(plan.path or "memory"))
    return ClipBackbone(
        model.to(where),
        name=plan.name,
        image=image_spec(plan.preprocess, getattr(model.visual, "image_size", None), plan.model),
        passport={
            "name": plan.name,
            **weights,
            "config_sha256": hashlib.sha256(json.dumps(plan.config, sort_keys=True).encode()).hexdigest(),
            "activation": plan.activation,
            "dim": int(plan.config["embed_dim"]),
            "versions": {package: version(package).split("+")[0] for package in ("open_clip_torch", "torch")},
        },
        precision=how,
        device=where,
        batch=at_least_one("batch", batch if batch is not None else 256 if where.type == "cuda" else 48),
        text_batch=at_least_one(
            "text_batch", text_batch if text_batch is not None else 512 if where.type == "cuda" else 64
        ),
        compiled=compiled,
    )

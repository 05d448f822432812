"""What the strings of ``--clip`` stand for: an architecture, its preprocessing, and the file that holds its weights."""

from __future__ import annotations

import difflib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.backbones.checkpoints import sha256_of_file
from lab.backbones.clip_package import open_clip
from lab.backbones.names import TOY, split
from lab.backbones.weights import locate_tag
from lab.errors import LabError, unknown
from lab.preprocess import ImageSpec

log = logging.getLogger(__name__)

DEFAULT_MODEL = "ViT-B-32-quickgelu"
WEIGHT_SUFFIXES = {".pt", ".pth", ".bin", ".safetensors"}


@dataclass(frozen=True)
class ClipPlan:
    """A CLIP before it is built. ``config`` is open_clip's model config; ``path`` is None for random weights."""

    name: str
    model: str
    config: dict[str, Any]
    preprocess: dict[str, Any]
    path: Path | None = None
    sha256: str | None = None

    @property
    def activation(self) -> str:
        """``quickgelu`` or ``gelu``: the weights do not tell, and the wrong one gives plausible, wrong features."""
        return "quickgelu" if self.config.get("quick_gelu") else "gelu"


def resolve(spec: str, *, download: bool) -> ClipPlan:
    """The plan for MODEL:TAG, MODEL:FILE, MODEL:random, ``random`` or ``toy``; MODEL is open_clip's or a .json config.

    Raises LabError for what is unknown, cannot be had, or was trained with another activation than the model has.
    """
    if spec == "toy":
        path = TOY / "clip.safetensors"
        if not path.is_file():
            raise LabError(f"--clip toy needs {path}, which this copy of the lab lacks: use --clip random")
        return ClipPlan("toy", "toy", *read_config(TOY / "clip.json"), path, sha256_of_file(path))
    model, weights = split(spec, default=DEFAULT_MODEL)
    config, preprocess = read_config(Path(model)) if model.endswith(".json") else _built_in(model)
    model = Path(model).stem if model.endswith(".json") else model
    tags = open_clip.list_pretrained_tags_by_model(model)
    if not weights:
        raise LabError(
            f"--clip {spec} names a model and no weights: use {spec}:TAG ({', '.join(tags) or 'it has none'}), "
            f"{spec}:FILE or {spec}:random"
        )
    if weights == "random":
        return ClipPlan(f"{model}:random", model, config, preprocess)
    if weights.lower().replace("-", "_") in tags:
        return _tagged(model, weights.lower().replace("-", "_"), config, download)
    path = Path(weights).expanduser()
    if not path.is_file() and path.suffix not in WEIGHT_SUFFIXES and "/" not in weights:
        raise _unknown_tag(model, weights, tags)
    plan = ClipPlan(f"{model}:{path.name}", model, config, preprocess, path)
    return _checked_file(plan)


def _tagged(model: str, tag: str, config: dict[str, Any], download: bool) -> ClipPlan:
    pretrained = open_clip.get_pretrained_cfg(model, tag)
    if bool(pretrained.get("quick_gelu")) != bool(config.get("quick_gelu")):
        raise _mismatch(model, tag, trained_quick=bool(pretrained.get("quick_gelu")))
    path = locate_tag(model, tag, pretrained, download=download)
    return ClipPlan(f"{model}:{tag}", model, config, dict(pretrained), path, sha256_of_file(path))


def _checked_file(plan: ClipPlan) -> ClipPlan:
    """Nothing in a weight file tells its activation, except for OpenAI's own files, known by their SHA-256."""
    if plan.path is None or not plan.path.is_file():
        raise LabError(f"a weight file must exist, and {plan.path} does not: check the path after '{plan.model}:'")
    digest = sha256_of_file(plan.path)
    openai = {open_clip.get_pretrained_cfg(name, "openai").get("url", "") for name in _models_of("openai")}
    if any(digest in url for url in openai):
        if plan.activation != "quickgelu":
            raise _mismatch(plan.model, "openai", trained_quick=True)
    elif f"{plan.model.removesuffix('-quickgelu')}-quickgelu" in open_clip.list_models():
        log.warning(
            "nothing in %s tells which activation it was trained with, and %s computes %s: OpenAI's and LAION-400M's "
            "weights need QuickGELU (a model's name with -quickgelu), most others GELU",
            plan.path.name, plan.model, {"quickgelu": "QuickGELU", "gelu": "GELU"}[plan.activation],
        )  # fmt: skip
    return ClipPlan(plan.name, plan.model, plan.config, plan.preprocess, plan.path, digest)


def _mismatch(model: str, tag: str, *, trained_quick: bool) -> LabError:
    """The error for weights that were trained with another activation than ``model`` has."""
    plain = model.removesuffix("-quickgelu")
    fits = [
        name
        for name in _models_of(tag)
        if name.removesuffix("-quickgelu") == plain and _is_quick(name) == trained_quick
    ]
    trained, built = ("QuickGELU", "GELU") if trained_quick else ("GELU", "QuickGELU")
    remedy = f"use {fits[0]}:{tag}" if fits else f"use a model of {trained}"
    return LabError(
        f"'{tag}' was trained with {trained} and {model} has {built}: its features would be wrong; {remedy}"
    )


def _models_of(tag: str) -> list[str]:
    return list(open_clip.list_pretrained_models_by_tag(tag))


def _is_quick(model: str) -> bool:
    return bool((open_clip.get_model_config(model) or {}).get("quick_gelu"))


def _unknown_tag(model: str, tag: str, tags: list[str]) -> LabError:
    others = _models_of(tag)
    if others:
        near = difflib.get_close_matches(model, others, n=1, cutoff=0.0) or others
        return LabError(f"tag '{tag}' is not one of {model} ({', '.join(tags)}): it belongs to {near[0]}:{tag}")
    return unknown(f"weights of {model}", tag, [*tags, "random"])


def _built_in(model: str) -> tuple[dict[str, Any], dict[str, Any]]:
    config = open_clip.get_model_config(model) if "/" not in model and ":" not in model else None
    if config is None:
        known = {name.lower(): name for name in open_clip.list_models()}
        near = difflib.get_close_matches(model.lower(), known, n=5, cutoff=0.4)
        hint = f"did you mean {' or '.join(known[name] for name in near)}?" if near else "use ViT-B-32-quickgelu"
        raise LabError(
            f"unknown CLIP model '{model}': {hint} (open_clip.list_models() has {len(known)}; or a .json file)"
        )
    # A file of weights does not say how its pictures were prepared; where all tags of the model agree, so does it.
    tags = [open_clip.get_pretrained_cfg(model, tag) for tag in open_clip.list_pretrained_tags_by_model(model)]
    keys = ("mean", "std", "interpolation", "resize_mode")
    ways = {tuple(tag[key] for key in keys) for tag in tags}
    return config, dict(zip(keys, ways.pop(), strict=True)) if len(ways) == 1 else {}


def read_config(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """An open_clip config of a user's own: the model's (``embed_dim``, ``vision_cfg``, ``text_cfg``) and how pictures
    are prepared; either a bare model config or ``{"model_cfg": ..., "preprocess_cfg": ...}`` as on the hub.

    Read here and not through ``open_clip.add_model_config``, which would let a ViT-B-32.json of the user's take the
    built-in's place for the whole process. Raises LabError for a file that is missing or another thing.
    """
    try:
        content: Any = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise LabError(f"cannot read the model config {path}: {error}: it must be an open_clip JSON config") from error
    config = content.get("model_cfg", content) if isinstance(content, dict) else {}
    lacking = [key for key in ("embed_dim", "vision_cfg", "text_cfg") if key not in config]
    if lacking:
        raise LabError(
            f"an open_clip config must have embed_dim, vision_cfg and text_cfg, and {path} lacks {lacking[0]}"
        )
    preprocess = content.get("preprocess_cfg", {})
    return {key: value for key, value in config.items() if key != "model_cfg"}, dict(preprocess)


def image_spec(preprocess: dict[str, Any], size: Any, model: str) -> ImageSpec:
    """How ``model`` wants its pictures. Raises LabError for a way that :func:`lab.preprocess.fit` does not have."""
    sides = {*size} if isinstance(size, (tuple, list)) else {size}
    resize = preprocess.get("resize_mode", "shortest")
    interpolation = preprocess.get("interpolation", "bicubic")
    if len(sides) > 1 or resize not in ("shortest", "squash") or interpolation not in ("bicubic", "bilinear"):
        raise LabError(
            f"pictures must be square, resized by 'shortest' or 'squash', bicubic or bilinear, and {model} wants "
            f"{size}, {resize}, {interpolation}: use another model"
        )
    own = ImageSpec()
    return ImageSpec(
        size=int(sides.pop()),
        mean=tuple(preprocess.get("mean", own.mean)),
        std=tuple(preprocess.get("std", own.std)),
        resize=resize,
        interpolation=interpolation,
    )

"""An open_clip model from its config, and weights that other tools saved under names and types of their own."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn

from lab.backbones.clip_names import ClipPlan
from lab.backbones.clip_package import open_clip
from lab.backbones.devices import DTYPES, Precision
from lab.errors import LabError

_CUSTOM_TEXT = ("text_projection", "positional_embedding", "token_embedding", "transformer", "ln_final")
#: OpenAI's archives carry them, and so does what others have converted from those.
_PLAIN_NUMBERS = ("input_resolution", "context_length", "vocab_size")


def build(plan: ClipPlan, precision: Precision, *, seed: int) -> nn.Module:
    """The model of ``plan`` on the CPU with random weights from ``seed``; the global random state stays as it is.

    Built from the config and not by ``open_clip.create_model``, which looks configs up by name for the whole process,
    warns where it should fail, and installs a handler on the root logger. Raises LabError for a config that open_clip
    cannot build, and for text towers from transformers, whose weights and tokenizer are separate downloads.
    """
    config = deepcopy(plan.config)
    text = config["text_cfg"]
    if (
        "multimodal_cfg" in config
        or text.get("hf_model_name")
        or text.get("hf_tokenizer_name")
        or text.get("tokenizer_kwargs")
    ):
        raise LabError(
            f"word features need CLIP's own text tower and tokenizer, and {plan.model} has others: "
            "use a model like ViT-B-32-quickgelu"
        )
    kind = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    dtype = DTYPES[precision]
    cast_dtype = None if dtype == torch.float32 else dtype
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = cast(nn.Module, kind(**config, cast_dtype=cast_dtype))
    except Exception as error:  # a config that makes no sense fails wherever it first hurts
        said = " ".join(str(error).split())[:160] or type(error).__name__
        raise LabError(f"open_clip cannot build {plan.model} from its config: {said}: correct the config") from error
    if cast_dtype is not None and "timm_model_name" in config["vision_cfg"]:
        raise LabError(f"--precision {precision} needs one of open_clip's own image towers: use fp32 for {plan.model}")
    if cast_dtype is not None:
        open_clip.convert_weights_to_lp(model, dtype=cast_dtype)
    return model


def as_open_clip(state: Mapping[str, Tensor], model: nn.Module, *, archive: bool = False) -> dict[str, Tensor]:
    """``state`` under the names and shapes of ``model``, as far as other tools' differ in form alone.

    logit_scale is a scalar or has one element; the text tower lies on the model or under ``text``. A TorchScript
    ``archive`` holds more than a state dict does (OpenAI's: three plain numbers, attention masks), which nothing marks
    as such, so there what the model has no place for is left out. Position embeddings are never resized: another
    length or picture size is another model.
    """
    renamed: dict[str, Tensor] = open_clip.convert.convert_state_dict(model, dict(state))
    own = model.state_dict()
    if "text.text_projection" in own and "text_projection" in renamed:
        renamed = {f"text.{key}" if key.startswith(_CUSTOM_TEXT) else key: value for key, value in renamed.items()}
    for key in ("logit_scale", "logit_bias"):
        if key in renamed and key in own and renamed[key].numel() == own[key].numel():
            renamed[key] = renamed[key].reshape(own[key].shape)
    for key in [key for key in renamed if key not in own and (archive or key in _PLAIN_NUMBERS)]:
        del renamed[key]
    return renamed

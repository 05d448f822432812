"""open_clip, imported so that it works beside any build of torch: ``from lab.backbones.clip_package import open_clip``.

open_clip imports torchvision, whose wheel on PyPI is built for CUDA. Beside a CPU build of torch its operators are not
registered and the import ends in "operator torchvision::nms does not exist" (pytorch/vision#9085). The lab calls none
of them, so it is enough to say which there are.
"""

from __future__ import annotations

import sys
from importlib import import_module

import torch

#: What torchvision's own modules ask for while they are imported.
_SCHEMAS = ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
            "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # fmt: skip
_kept: list[torch.library.Library] = []  # a library that is collected takes its operators along


def import_torchvision() -> None:
    """Imports torchvision, by its operators' names alone where they are absent. Raises what the import raises."""
    try:
        import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        _kept.append(library)
        for schema in _SCHEMAS:
            library.define(schema)
        import_module("torchvision")


import_torchvision()
import open_clip  # noqa: E402 - after torchvision

__all__ = ["open_clip"]

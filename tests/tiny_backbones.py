"""Networks of the real kinds that are built in milliseconds: a different prime per axis where the kind allows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CLIP: dict[str, Any] = {
    "embed_dim": 29,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 40, "layers": 2, "width": 48, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 34, "heads": 2, "layers": 2},
}
PANNS: dict[str, Any] = {"like": "cnn14", "channels": [3, 5, 7, 11, 13, 17], "embedding": 19, "classes": 23}


def config(folder: Path, content: dict[str, Any], name: str = "tiny", **changes: Any) -> Path:
    """``content`` with ``changes`` as a .json file."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**content, **changes}))
    return path

"""The frozen networks: pictures, sentences and sound in, float32 vectors out. Nothing here is ever trained.

``load_clip`` and ``load_panns`` take the strings of the command line; torch and open_clip are imported on the first
load, so that a command can offer the names without paying for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.backbones.weights import DEFAULT_CLIP, require_default_clip

if TYPE_CHECKING:
    from lab.backbones.clip import ClipBackbone
    from lab.backbones.panns import PannsBackbone

__all__ = ["DEFAULT_CLIP", "DEFAULT_PANNS", "load_clip", "load_panns"]

DEFAULT_PANNS = "cnn14"


def load_clip(spec: str = DEFAULT_CLIP, **options: Any) -> ClipBackbone:
    """The CLIP that ``spec`` names: see :func:`lab.backbones.clip.load_clip` for names and keywords."""
    if spec == DEFAULT_CLIP:
        require_default_clip(download=bool(options.get("download")))
    from lab.backbones import clip

    return clip.load_clip(spec, **options)


def load_panns(spec: str = DEFAULT_PANNS, **options: Any) -> PannsBackbone | None:
    """The audio network that ``spec`` names, None for ``none``: see :func:`lab.backbones.panns.load_panns`."""
    from lab.backbones import panns

    return panns.load_panns(spec, **options)

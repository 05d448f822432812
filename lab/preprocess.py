"""From a decoded picture to the pixels that a CLIP image tower takes: geometry here, normalising in the backbone.

This half runs in the decode processes, so it needs Pillow and NumPy alone (importing torch in each of them would cost
seconds and hundreds of MB), and it hands on uint8, a quarter of the bytes of float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class ImageSpec:
    """What an image tower wants: a square of ``size`` pixels, made the way its authors made theirs."""

    size: int = 224
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    resize: Literal["shortest", "squash"] = "shortest"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"


def fit(picture: NDArray[np.uint8], spec: ImageSpec) -> NDArray[np.uint8]:
    """An RGB picture (H, W, 3) as (size, size, 3): resize, then centre crop, as torchvision does to a PIL image.

    ``shortest`` brings the short side to ``size`` and crops the middle (CLIP); ``squash`` ignores the aspect ratio.
    """
    image = Image.fromarray(picture)
    width, height = image.size
    if spec.resize == "squash":
        return np.asarray(image.resize((spec.size, spec.size), _FILTERS[spec.interpolation]))
    short = min(width, height)
    # torchvision truncates the long side, and rounds the crop's offset half to even: both must match to the pixel.
    new = (
        spec.size if width == short else int(spec.size * width / short),
        spec.size if height == short else int(spec.size * height / short),
    )
    if new != image.size:
        image = image.resize(new, _FILTERS[spec.interpolation])
    left, top = round((new[0] - spec.size) / 2.0), round((new[1] - spec.size) / 2.0)
    return np.asarray(image.crop((left, top, left + spec.size, top + spec.size)))

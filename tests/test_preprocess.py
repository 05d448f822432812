"""The geometry in the decode processes and the normalising in the backbone make open_clip's own transform."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from lab.preprocess import ImageSpec, fit

SIZES = [(320, 240), (240, 320), (321, 243), (241, 317), (224, 224), (224, 500), (500, 224), (97, 53), (31, 640)]


def normalise(pixels: np.ndarray, spec: ImageSpec) -> torch.Tensor:
    chw = torch.from_numpy(np.array(pixels)).permute(2, 0, 1).float().div(255)
    return chw.sub(torch.tensor(spec.mean)[:, None, None]).div(torch.tensor(spec.std)[:, None, None])


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize(
    "spec",
    [
        ImageSpec(),
        ImageSpec(size=37),
        ImageSpec(size=64, mean=(0.5, 0.4, 0.3), std=(0.2, 0.5, 0.9), resize="squash", interpolation="bilinear"),
        ImageSpec(size=53, interpolation="bilinear"),
    ],
    ids=["clip", "small", "squash", "bilinear"],
)
def test_fit_then_normalise_is_open_clips_transform(width: int, height: int, spec: ImageSpec) -> None:
    picture = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    theirs = image_transform_v2(
        PreprocessCfg(
            size=spec.size, mean=spec.mean, std=spec.std, interpolation=spec.interpolation, resize_mode=spec.resize
        ),
        is_train=False,
    )
    ours = fit(picture, spec)
    assert ours.shape == (spec.size, spec.size, 3)
    assert ours.dtype == np.uint8
    assert torch.equal(normalise(ours, spec), theirs(Image.fromarray(picture)))


def test_what_is_made_without_being_told_is_for_openais_towers() -> None:
    spec = ImageSpec()
    assert (spec.size, spec.mean, spec.std) == (224, OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
    assert (spec.resize, spec.interpolation) == ("shortest", "bicubic")


def test_fit_leaves_its_input_alone() -> None:
    picture = np.full((50, 70, 3), 9, np.uint8)
    picture.setflags(write=False)
    assert fit(picture, ImageSpec(size=16)).mean() == 9

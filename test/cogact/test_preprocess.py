# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from tolerance import close

from sqap_vla.cogact.preprocess import DINO_MEAN, DINO_STD, preprocess

EXACT_WITH_THE_SAME_PILLOW = 1e-6
ONE_GREY_LEVEL = 1 / 255 / min(DINO_STD) + 1e-6  # bicubic rounding may differ between Pillow versions


@pytest.mark.parametrize("image", ["img0", "img1", "img2"])
def test_pictures_match_the_official_transforms(arrays, image):
    reference = arrays("d_preprocess")
    for picture, tower in zip(preprocess(reference[image]), ("dino", "siglip"), strict=True):
        expected = reference[f"{image}_{tower}"]
        stride = picture.shape[-1] // expected.shape[-1]
        difference = np.abs(picture.numpy()[:, ::stride, ::stride] - expected)
        assert difference.max() <= ONE_GREY_LEVEL
        assert (difference > EXACT_WITH_THE_SAME_PILLOW).mean() < 1e-3


def test_every_pixel_is_the_antialiased_bicubic_resize(arrays):
    reference = arrays("d_preprocess")
    dino, _ = preprocess(reference["img1"])
    resized = dino.numpy().transpose(1, 2, 0) * np.array(DINO_STD) + np.array(DINO_MEAN)
    close(np.rint(resized * 255), reference["img1_pil_bicubic_u8"].astype(np.float64), atol=1)


@pytest.mark.parametrize(
    "rgb",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_anything_but_an_rgb_image_is_refused(rgb):
    with pytest.raises(ValueError, match="must be uint8"):
        preprocess(rgb)

# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The resize on tensors is Pillow's, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sqap_vla.cogact.preprocess import resize
from sqap_vla.cogact.resize import resize_pictures


@pytest.mark.parametrize("shape", [(480, 640), (720, 1280), (224, 224), (256, 320), (224, 500), (1080, 1920)])
def test_noise_is_resized_as_pillow_does(shape):
    frames = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), dtype=np.uint8)
    made = resize_pictures(torch.from_numpy(frames), 224).numpy()
    assert np.array_equal(made, np.stack([resize(frame) for frame in frames]))


@settings(max_examples=40)
@given(st.integers(224, 500), st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_any_size_and_hard_edges(height, wider, seed):
    frame = 255 * np.random.default_rng(seed).integers(0, 2, (height, height + wider, 3), dtype=np.uint8)
    assert np.array_equal(resize_pictures(torch.from_numpy(frame)[None], 224)[0].numpy(), resize(frame))


@pytest.mark.parametrize("shape", [(640, 480), (100, 300), (300, 300)])
def test_other_pictures_are_left_to_pillow(shape):
    with pytest.raises(ValueError, match="wider than high"):
        resize_pictures(torch.zeros(1, *shape, 3, dtype=torch.uint8), 224)

# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The resize's GPU kernel, in Triton's interpreter, is Pillow's, to the last bit."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from PIL import Image

from sqap_vla.cogact import resize

pytest.importorskip("triton", reason="Triton is not here; make test-kernels runs these with it")
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("TRITON_INTERPRET is set to something else than 1", allow_module_level=True)

from sqap_vla.cogact.resize_kernel import resize_axis_kernel

CPU = torch.device("cpu")


@pytest.mark.parametrize(("shape", "size"), [((17, 24), 16), ((16, 40), 16), ((12, 50), 7)], ids=str)
def test_pictures_are_resized_as_pillow_does(shape, size):
    frames = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), dtype=np.uint8)
    frames[1] = 255 * (frames[1] & 1)  # hard edges
    made = torch.from_numpy(frames)
    for axis, length in ((2, shape[1]), (1, shape[0])):
        if length != size:
            index, weights = resize._taps(length, size, CPU)
            made = resize_axis_kernel(made, axis, index, weights, resize._FRACTION_BITS)
    expected = [Image.fromarray(frame).resize((size, size), Image.Resampling.BICUBIC) for frame in frames]
    np.testing.assert_array_equal(made.numpy(), [np.array(picture) for picture in expected])

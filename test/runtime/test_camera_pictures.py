# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Camera frames of any size, one after another and side by side, are what Pillow makes of them."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch

from sqap_vla.cogact.preprocess import resize
from sqap_vla.runtime.pictures import SIZES_KEPT, Pictures

CPU = torch.device("cpu")
SIZES = ((480, 640), (224, 224), (240, 320), (360, 640), (224, 300))


def camera_frame(size: tuple[int, int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def uploaded(pictures: Pictures, *frames: np.ndarray) -> np.ndarray:
    pictures.upload(frames)
    return pictures.device.numpy()


def test_the_camera_may_change_its_size_and_come_back():
    pictures = Pictures(1, CPU, None)
    for seed, size in enumerate((*SIZES, *SIZES, SIZES[0], SIZES[0])):
        frame = camera_frame(size, seed)
        np.testing.assert_array_equal(uploaded(pictures, frame)[0], resize(frame))


@pytest.mark.parametrize("sizes", [SIZES[:1] * 3, SIZES[1:2] * 3, SIZES[:3], (SIZES[0], SIZES[0], SIZES[1])])
def test_rows_of_a_batch_may_come_from_one_camera_or_several(sizes):
    pictures = Pictures(3, CPU, None)
    for seed in (0, 10):
        frames = [camera_frame(size, seed + row) for row, size in enumerate(sizes)]
        np.testing.assert_array_equal(uploaded(pictures, *frames), [resize(frame) for frame in frames])


@pytest.mark.parametrize("sizes", [SIZES[:1] * 2, SIZES[1:2] * 2, SIZES[:2], SIZES[1::-1]])
def test_the_host_sees_what_the_network_sees(sizes):
    pictures = Pictures(2, CPU, None, read=True)
    for seed in (0, 10):
        frames = [camera_frame(size, seed + row) for row, size in enumerate(sizes)]
        pictures.upload(frames)
        np.testing.assert_array_equal(pictures.host(), [resize(frame) for frame in frames])


def test_frames_may_be_read_only_or_views():
    pictures, frame = Pictures(1, CPU, None), camera_frame(SIZES[0], 0)
    frame.flags.writeable = False
    np.testing.assert_array_equal(uploaded(pictures, frame)[0], resize(frame))
    mirrored = frame[:, ::-1]
    np.testing.assert_array_equal(uploaded(pictures, mirrored)[0], resize(np.ascontiguousarray(mirrored)))


def test_memory_is_kept_for_the_latest_sizes_alone():
    """Freed when its place is taken, not at some collection of garbage: it is the device's memory."""
    pictures = Pictures(1, CPU, None)
    gc.disable()
    try:
        cameras = []
        for size in SIZES[2:]:
            uploaded(pictures, camera_frame(size, 0))
            cameras.append(weakref.ref(pictures._cameras[(*size, 3)]))
            uploaded(pictures, camera_frame(SIZES[0], 0))
            kept = pictures._cameras[(*SIZES[0], 3)]
        assert [camera() is not None for camera in cameras] == [False] * (len(cameras) - SIZES_KEPT + 1) + [True]
        uploaded(pictures, camera_frame(SIZES[0], 1))
        assert pictures._cameras[(*SIZES[0], 3)] is kept, "the size in use stays"
    finally:
        gc.enable()


def test_a_size_that_cannot_be_resized_is_refused():
    with pytest.raises(ValueError, match="wider than high"):
        Pictures(1, CPU, None).upload([camera_frame((640, 480), 0)])

# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Camera frames -> the batch of pictures that the vision towers are given, on the device.

A frame of a camera's own size is uploaded as it is and resized there, by a step that is made when a size is first met.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sqap_vla.cogact.preprocess import IMAGE_SIZE_PX
from sqap_vla.cogact.resize import Resizer, resize_pictures
from sqap_vla.runtime.captured import CapturedStep
from sqap_vla.runtime.transfers import Transfer

SIZES_KEPT = 2  # of cameras: each takes memory on the device
_RGB = "rgb"


class Pictures:
    """Those of one batch size. `device`: uint8 [B, 224, 224, 3], what was uploaded last. captured: the device of CUDA
    graphs; None resizes without. read: whether the host will ask for them with `host`.
    """

    def __init__(self, batch: int, device: torch.device, captured: torch.device | None, read: bool = False) -> None:
        self._captured, self._read = captured, read
        self._small = Transfer({_RGB: ((batch, IMAGE_SIZE_PX, IMAGE_SIZE_PX, 3), torch.uint8)}, device)
        self.device = self._small.device[_RGB]
        self._cameras: OrderedDict[tuple[int, ...], _Camera] = OrderedDict()  # the last one used last

    def upload(self, frames: Sequence[np.ndarray]) -> None:
        """frames: uint8 [H, W, 3], one for each row, 224x224 or `resizable` to it."""
        shapes = {frame.shape for frame in frames}
        if shapes == {self.device.shape[1:]}:
            _send(self._small, frames)
            return
        if len(shapes) == 1:
            camera = self._camera(*shapes)
            _send(camera.frames, frames)
            camera.resize()
        else:
            self._upload_one_by_one(frames)
        if self._read:
            self._small.fetch()

    def host(self) -> np.ndarray:
        """`device` on the host, until the next upload. Waits for the resize, and for nothing that was queued later."""
        return self._small.host()[_RGB]

    def _upload_one_by_one(self, frames: Sequence[np.ndarray]) -> None:
        """Rows of several cameras: rare, and then each copy waits."""
        for row, frame in enumerate(frames):
            there = torch.from_numpy(np.array(frame)).to(self.device.device)
            self.device[row].copy_(resize_pictures(there[None], IMAGE_SIZE_PX)[0])

    def _camera(self, shape: tuple[int, ...]) -> _Camera:
        if shape not in self._cameras:
            self._cameras[shape] = _Camera(shape, self.device, self._captured)
            if len(self._cameras) > SIZES_KEPT:
                self._cameras.popitem(last=False)
        self._cameras.move_to_end(shape)
        return self._cameras[shape]


class _Camera:
    """Frames of one size, [H, W, 3], and the step that resizes them into `resized`."""

    def __init__(self, shape: tuple[int, ...], resized: Tensor, captured: torch.device | None) -> None:
        self.frames = Transfer({_RGB: ((len(resized), *shape), torch.uint8)}, resized.device)
        frames, resizer = self.frames.device[_RGB], Resizer(*shape[:2], IMAGE_SIZE_PX, resized.device)

        def resize() -> None:  # knows nothing of this object, which would otherwise outlive its last use
            resized.copy_(resizer(frames))

        self.resize = CapturedStep(resize, captured)  # memory of its own: it goes when the camera does


def _send(transfer: Transfer, frames: Sequence[np.ndarray]) -> None:
    host = transfer.host()[_RGB]
    for row, frame in enumerate(frames):
        host[row] = frame
    transfer.upload()

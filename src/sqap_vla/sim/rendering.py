# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Off-screen pictures of a scene: colour, and for tests and overlays the geom each pixel shows.

An OpenGL context belongs to the thread that made it; a call from another thread is refused instead of
crashing inside the driver.
"""

from __future__ import annotations

import threading
import weakref

import mujoco
import numpy as np

from sqap_vla.sim.backend import REMEDY, RenderingError
from sqap_vla.sim.scene import CAMERA_NAME, Scene


class CameraRenderer:
    """Renders the third-person camera of one scene at its configured size."""

    def __init__(self, scene: Scene) -> None:
        self._scene, self._thread = scene, threading.get_ident()
        try:
            self._renderer = mujoco.Renderer(scene.model, scene.camera.height_px, scene.camera.width_px)
        except (ImportError, RuntimeError, mujoco.FatalError) as error:
            raise RenderingError(f"no off-screen OpenGL context ({error}); {REMEDY}") from error
        # Also at exit, while the OpenGL bindings are still there: later, OSMesa's clean-up fails noisily.
        self._finalizer = weakref.finalize(self, self._renderer.close)

    def rgb(self) -> np.ndarray:
        """The current image, uint8 [H, W, 3].

        Raises RenderingError from a thread other than the renderer's own.
        """
        self._update()
        return self._renderer.render()

    def geom_ids(self) -> np.ndarray:
        """The id of the geom in each pixel, int32 [H, W]; -1 where there is none."""
        self._update()
        self._renderer.enable_segmentation_rendering()
        try:
            ids, kinds = np.moveaxis(self._renderer.render(), 2, 0)
        finally:
            self._renderer.disable_segmentation_rendering()
        return np.where(kinds == mujoco.mjtObj.mjOBJ_GEOM, ids, -1)

    def close(self) -> None:
        """Frees the OpenGL context."""
        self._finalizer()

    def _update(self) -> None:
        if threading.get_ident() != self._thread:
            raise RenderingError(
                "the camera was rendered from another thread than the one that made it; "
                "keep the environment on one thread"
            )
        self._renderer.update_scene(self._scene.data, CAMERA_NAME)

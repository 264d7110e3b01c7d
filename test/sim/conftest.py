# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""One environment per test session: a model and an OpenGL context are made once, every test resets it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sqap_vla.sim import CameraConfig, EnvironmentConfig, TabletopEnv


@pytest.fixture(scope="session")
def env() -> Iterator[TabletopEnv]:
    """No image in the observation; the camera is there for the tests that ask for it."""
    environment = TabletopEnv(EnvironmentConfig(observe_rgb=False, camera=CameraConfig(width_px=640, height_px=480)))
    yield environment
    environment.close()

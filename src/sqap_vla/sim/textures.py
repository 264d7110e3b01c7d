# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Procedural patterns for table and floor: grey values that a material's colour is multiplied with.

Each is drawn once, the same in every process, into the model's texture memory before OpenGL reads it, and
tiles without a seam.
"""

from __future__ import annotations

from collections.abc import Callable

import mujoco
import numpy as np


def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates u, v in [0, 1), each [size, size], v down the rows."""
    axis = np.arange(size) / size
    return np.meshgrid(axis, axis)


def _noise(size: int, waves: int, seed: int) -> np.ndarray:
    """Smooth periodic noise [size, size] of about unit variance: white noise below `waves` waves a side."""
    spectrum = np.fft.fft2(np.random.default_rng(seed).standard_normal((size, size)))
    frequency = np.fft.fftfreq(size) * size
    spectrum *= np.exp(-0.5 * (frequency[:, None] ** 2 + frequency[None] ** 2) / waves**2)
    noise = np.fft.ifft2(spectrum).real
    return noise / noise.std()


def _wood(size: int) -> np.ndarray:
    _, v = _grid(size)
    rings = np.sin(2 * np.pi * (6 * v + 0.35 * _noise(size, 3, 1)))
    fibres = np.roll(_noise(size, 40, 2).cumsum(axis=1), 1, axis=1)
    return 0.82 + 0.12 * rings + 0.04 * np.tanh(fibres / fibres.std())


def _planks(size: int) -> np.ndarray:
    u, v = _grid(size)
    row = np.floor(5 * v).astype(int)
    shades = np.random.default_rng(3).uniform(0.72, 1.0, (5, 2))
    column = np.floor((u + 0.37 * row) % 1.0 * 2).astype(int)
    joints = (5 * v % 1.0 < 0.04) | ((u + 0.37 * row) % 0.5 < 0.008)
    return np.where(joints, 0.45, shades[row, column] + 0.02 * _noise(size, 30, 4))


def _marble(size: int) -> np.ndarray:
    u, v = _grid(size)
    veins = np.abs(np.sin(np.pi * (2 * u + 2 * v) + 1.1 * _noise(size, 4, 5)))
    return 0.62 + 0.36 * np.clip(veins, 0.0, 1.0) ** 0.4 + 0.02 * _noise(size, 20, 6)


def _checks(size: int) -> np.ndarray:
    u, v = _grid(size)
    return 0.62 + 0.19 * ((4 * u % 1.0 < 0.5).astype(float) + (4 * v % 1.0 < 0.5))


def _stripes(size: int) -> np.ndarray:
    u, _ = _grid(size)
    return 0.65 + 0.35 * (6 * u % 1.0 < 0.6)


def _tiles(size: int) -> np.ndarray:
    u, v = _grid(size)
    joints = (2 * u % 1.0 < 0.03) | (2 * v % 1.0 < 0.03)
    shades = np.random.default_rng(7).uniform(0.85, 1.0, (2, 2))
    return np.where(joints, 0.55, shades[np.floor(2 * u).astype(int), np.floor(2 * v).astype(int)])


def _speckles(size: int) -> np.ndarray:
    return 0.85 + 0.15 * np.tanh(1.5 * _noise(size, 25, 8))


PATTERNS: dict[str, Callable[[int], np.ndarray]] = {
    "wood": _wood,
    "planks": _planks,
    "marble": _marble,
    "checks": _checks,
    "stripes": _stripes,
    "tiles": _tiles,
    "speckles": _speckles,
}


def fill_textures(model: mujoco.MjModel) -> None:
    """Draws every pattern into the texture of its name."""
    for name, draw in PATTERNS.items():
        texture = model.texture(name)
        size, channels = texture.width[0], texture.nchannel[0]
        grey = np.round(255 * np.clip(draw(size), 0.0, 1.0)).astype(np.uint8)  # [size, size]
        start = texture.adr[0]
        model.tex_data[start : start + size * size * channels] = np.repeat(grey.ravel(), channels)

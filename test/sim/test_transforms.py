# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Rotations agree with scipy's, also at half a turn, where the rotation vector is delicate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sqap_vla.sim.transforms import (
    invert_transform,
    make_transform,
    rotation_from_rpy,
    rotation_from_vector,
    rotation_vector,
)

angles = st.tuples(*[st.floats(-3.1, 3.1)] * 3).map(np.array)


@given(angles)
def test_rpy_is_static_xyz(rpy: np.ndarray) -> None:
    assert np.allclose(rotation_from_rpy(rpy), Rotation.from_euler("xyz", rpy).as_matrix(), atol=1e-12)


@given(angles)
def test_rotation_vector_and_matrix_are_inverse(rpy: np.ndarray) -> None:
    rotation = rotation_from_rpy(rpy)
    assert np.allclose(rotation_from_vector(rotation_vector(rotation)), rotation, atol=1e-6)
    assert np.linalg.norm(rotation_vector(rotation)) <= np.pi + 1e-9


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, -2, 3)])
def test_half_a_turn(axis: tuple[int, int, int]) -> None:
    half_turn = np.pi * np.array(axis) / np.linalg.norm(axis)
    rotation = Rotation.from_rotvec(half_turn).as_matrix()
    assert np.allclose(rotation_from_vector(rotation_vector(rotation)), rotation, atol=1e-6)


@given(angles, angles)
def test_inverse_undoes_the_transform(rpy: np.ndarray, translation: np.ndarray) -> None:
    transform = make_transform(rotation_from_rpy(rpy), translation)
    assert np.allclose(invert_transform(transform) @ transform, np.eye(4), atol=1e-12)

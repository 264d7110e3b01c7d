# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Rigid transforms as plain tuples: rotation (x, y, z, w) unit quaternion, translation (x, y, z) in metres.

`Rigid(q, t)` maps a point p of the child frame to q p q* + t in the parent frame. Tuples instead of arrays: a
lookup composes a handful of transforms, for which NumPy's call overhead is larger than the arithmetic.
"""

from __future__ import annotations

import math
from typing import NamedTuple

Quaternion = tuple[float, float, float, float]
Vector = tuple[float, float, float]


class Rigid(NamedTuple):
    """parent_T_child."""

    rotation: Quaternion
    translation: Vector


IDENTITY = Rigid((0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.0))


def multiply(a: Quaternion, b: Quaternion) -> Quaternion:
    """Hamilton product: the rotation b followed by a."""
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )


def rotate(q: Quaternion, v: Vector) -> Vector:
    """Rotate v by the unit quaternion q: v + 2 w (u x v) + 2 u x (u x v), u the vector part of q."""
    x, y, z, w = q
    vx, vy, vz = v
    cx, cy, cz = 2 * (y * vz - z * vy), 2 * (z * vx - x * vz), 2 * (x * vy - y * vx)
    return (vx + w * cx + y * cz - z * cy, vy + w * cy + z * cx - x * cz, vz + w * cz + x * cy - y * cx)


def compose(a_T_b: Rigid, b_T_c: Rigid) -> Rigid:  # noqa: N803 - dst_T_src is the field's notation
    """a_T_c."""
    x, y, z = rotate(a_T_b.rotation, b_T_c.translation)
    tx, ty, tz = a_T_b.translation
    return Rigid(multiply(a_T_b.rotation, b_T_c.rotation), (x + tx, y + ty, z + tz))


def inverse(a_T_b: Rigid) -> Rigid:  # noqa: N803
    """b_T_a."""
    x, y, z, w = a_T_b.rotation
    conjugate = (-x, -y, -z, w)
    tx, ty, tz = rotate(conjugate, a_T_b.translation)
    return Rigid(conjugate, (-tx, -ty, -tz))


def interpolate(start: Rigid, end: Rigid, ratio: float) -> Rigid:
    """Between two samples, ratio in [0, 1]: translation linear, rotation along the shorter great arc
    (slerp).
    """
    q0, q1 = start.rotation, end.rotation
    cosine = sum(a * b for a, b in zip(q0, q1, strict=True))
    sign = -1.0 if cosine < 0 else 1.0
    angle = math.acos(min(1.0, abs(cosine)))
    if angle == 0.0:
        rotation = q0
    else:
        s0, s1 = (
            math.sin((1 - ratio) * angle) / math.sin(angle),
            sign * math.sin(ratio * angle) / math.sin(angle),
        )
        rotation = tuple(s0 * a + s1 * b for a, b in zip(q0, q1, strict=True))
    translation = tuple(a + ratio * (b - a) for a, b in zip(start.translation, end.translation, strict=True))
    return Rigid(rotation, translation)

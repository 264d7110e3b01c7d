# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Points in a camera's optical frame -> pixels of the full-size image (paper eq. 2), with lens distortion.

Frame: optical, REP-103 (z forward, x right, y down), metres. Intrinsics as in sensor_msgs/CameraInfo: K
row-major, D in OpenCV's order. Pixels are in the coordinates of K, as OpenCV projects them.

A distortion polynomial fitted inside the field of view bends back outside it: a point far off to the side
would land in the middle of the image. Distortion is trusted only up to the first fold, the smallest angle at
which the distorted radius stops growing; beyond it a point has no pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.polynomial import Polynomial

# distortion model -> admitted numbers of coefficients (REP-104 names; OpenCV's lengths)
COEFFICIENT_COUNTS: dict[str, tuple[int, ...]] = {
    "": (0,),
    "plumb_bob": (0, 1, 2, 3, 4, 5),  # k1 k2 p1 p2 k3
    "rational_polynomial": (8, 12, 14),  # k1 k2 p1 p2 k3 k4 k5 k6, thin prism s1..s4, tilt tx ty
    "equidistant": (4,),  # Kannala-Brandt fisheye
}
MAX_COEFFICIENT = 1e6  # beyond it is no calibration, and products of coefficients would overflow
MIN_DEPTH_M = 1e-6  # nearer to the camera plane than this counts as behind: the pixel would be rounding error
_ORIGIN = np.zeros(3)


@dataclass(frozen=True, eq=False)
class CameraModel:
    """Intrinsics of one image stream.

    matrix: K, [3, 3] or 9 numbers row-major, without skew. distortion: D, as many coefficients as the model
    takes. width, height: the image the intrinsics belong to [px].
    Raises ValueError for values that are not finite, focal lengths or sizes that are not positive, an unknown
    model, a wrong number of coefficients.
    """

    matrix: np.ndarray  # [3, 3] float64
    distortion_model: str
    distortion: tuple[float, ...]
    width: int
    height: int

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, dtype=np.float64)
        if matrix.size != 9:
            raise ValueError(f"camera matrix has {matrix.size} values; K has 9, row-major")
        matrix = matrix.reshape(3, 3)
        distortion = tuple(float(value) for value in self.distortion)
        if not np.isfinite(matrix).all() or not np.isfinite(distortion).all():
            raise ValueError(
                f"camera_info holds a value that is not finite (K {matrix.ravel().tolist()}, "
                f"D {list(distortion)}); calibrate the camera or publish without camera_info"
            )
        if any(abs(value) > MAX_COEFFICIENT for value in distortion):
            raise ValueError(f"D is {list(distortion)}; a coefficient beyond {MAX_COEFFICIENT:g} is no calibration")
        if matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
            raise ValueError(
                f"focal lengths are {matrix[0, 0]:g} and {matrix[1, 1]:g} px; both must be "
                "positive (an uncalibrated camera publishes zeros)"
            )
        if matrix[0, 1] != 0 or matrix[1, 0] != 0 or not np.array_equal(matrix[2], (0, 0, 1)):
            raise ValueError(f"K is {matrix.ravel().tolist()}; it must be [fx 0 cx, 0 fy cy, 0 0 1] without skew")
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f"camera_info is for {self.width}x{self.height}; give the size of the image in pixels")
        counts = COEFFICIENT_COUNTS.get(self.distortion_model)
        if counts is None:
            known = ", ".join(repr(name) for name in COEFFICIENT_COUNTS)
            raise ValueError(f"distortion_model {self.distortion_model!r} is not supported; known are {known}")
        if len(distortion) not in counts:
            raise ValueError(
                f"distortion_model {self.distortion_model!r} came with {len(distortion)} "
                f"coefficients; it takes {' or '.join(map(str, counts))}"
            )
        matrix.flags.writeable = False
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "distortion", distortion)

    @cached_property
    def max_radius(self) -> float:
        """Distance from the axis on the plane z = 1 at which the distortion first folds; inf if it never
        does."""
        if not any(self.distortion):
            return np.inf
        if self.distortion_model == "equidistant":
            # theta_d = theta (1 + k1 theta^2 + ...); its derivative as a polynomial in theta^2
            terms = np.array([1.0, *self.distortion]) * (1, 3, 5, 7, 9)
            theta = np.sqrt(_smallest_positive_root(Polynomial(terms)))
            return float(np.tan(theta)) if theta < np.pi / 2 else np.inf
        k1, k2, _, _, k3, k4, k5, k6 = (*self.distortion[:8], *[0.0] * 8)[:8]
        # r_d = r N(s) / D(s) with s = r^2; dr_d/dr = ((N + 2 s N') D - 2 s N D') / D^2
        numerator, denominator = Polynomial([1, k1, k2, k3]), Polynomial([1, k4, k5, k6])
        two_s = Polynomial([0, 2])
        slope = (numerator + two_s * numerator.deriv()) * denominator - two_s * numerator * denominator.deriv()
        first = min(_smallest_positive_root(slope), _smallest_positive_root(denominator))
        return float(np.sqrt(first))

    @cached_property
    def opencv_distortion(self) -> np.ndarray:
        """D, float64, as long as OpenCV wants it: it takes no list of 1, 2 or 3 coefficients."""
        least = 4 if self.distortion_model == "equidistant" else 5
        return np.array(self.distortion + (0.0,) * (least - len(self.distortion)))


def _smallest_positive_root(polynomial: Polynomial) -> float:
    """Of a polynomial with constant term 1; inf where there is none (below 1e12)."""
    # t = 1/x turns it into a monic polynomial, whose roots stay accurate however small high coefficients are
    reciprocals = np.roots(polynomial.coef)
    real = reciprocals.real[np.abs(reciprocals.imag) <= 1e-9 * np.abs(reciprocals)]
    largest = real.max(initial=0.0)
    return float(1 / largest) if largest > 1e-12 else np.inf


def project(camera: CameraModel, points_camera: np.ndarray) -> np.ndarray:
    """Pixels of points given in the camera's optical frame.

    points_camera: [N, 3] metres. Returns float64 [N, 2], (u, v) of the full-size image, also outside its
    borders; a row is NaN where the point is not in front of the camera, lies beyond the first fold of the
    distortion, or is not finite.
    """
    points = np.asarray(points_camera, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"points_camera has shape {points.shape}; it must be [N, 3]")
    pixels = np.full((len(points), 2), np.nan)
    in_front = np.isfinite(points).all(axis=1) & (points[:, 2] >= MIN_DEPTH_M)
    rays = points[in_front, :2] / points[in_front, 2:]  # [M, 2] on the plane z = 1
    unfolded = np.hypot(rays[:, 0], rays[:, 1]) < camera.max_radius
    rows = np.flatnonzero(in_front)[unfolded]
    if len(rows) == 0:
        return pixels
    on_plane = np.ones((len(rows), 1, 3))
    on_plane[:, 0, :2] = rays[unfolded]
    project_points = cv2.fisheye.projectPoints if camera.distortion_model == "equidistant" else cv2.projectPoints
    projected, _ = project_points(on_plane, _ORIGIN, _ORIGIN, camera.matrix, camera.opencv_distortion)
    pixels[rows] = projected[:, 0]
    return pixels

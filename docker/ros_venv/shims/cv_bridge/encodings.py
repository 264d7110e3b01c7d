# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What the strings of sensor_msgs/image_encodings mean, and how one is turned into another.

A colour encoding ("bgr8", "mono16", "bayer_rggb8", ...) says what its channels are; a generic one ("16UC1",
"8UC3") only says how they are stored, so it converts to other storage types with as many channels, never to
colours."""

from __future__ import annotations

import re
from typing import NamedTuple

import cv2
import numpy as np

DEPTHS = {
    "8U": np.uint8,
    "8S": np.int8,
    "16U": np.uint16,
    "16S": np.int16,
    "32S": np.int32,
    "32F": np.float32,
    "64F": np.float64,
}
_GENERIC = re.compile(r"(8U|8S|16U|16S|32S|32F|64F)(?:C([0-9]+))?")
_BAYER_CODE = {"rggb": "BayerBG", "bggr": "BayerRG", "gbrg": "BayerGR", "grbg": "BayerGB"}
_YUV_CODE = {"yuv422": "UYVY", "uyvy": "UYVY", "yuv422_yuy2": "YUY2", "yuyv": "YUY2"}
_CHANNELS = {"mono": 1, "rgb": 3, "bgr": 3, "rgba": 4, "bgra": 4}


class Encoding(NamedTuple):
    """dtype and channels as stored; `family` (mono, rgb, ..., bayer_rggb, yuv422, ...) is '' for a generic
    one.
    """

    dtype: np.dtype
    channels: int
    family: str


def parse(encoding: str) -> Encoding:
    """Look an encoding up; ValueError if there is none of that name."""
    if match := _GENERIC.fullmatch(encoding):
        return Encoding(np.dtype(DEPTHS[match[1]]), int(match[2] or 1), "")
    if encoding in _YUV_CODE:
        return Encoding(np.dtype(np.uint8), 2, encoding)
    if match := re.fullmatch(r"(mono|rgb|bgr|rgba|bgra|bayer_(?:rggb|bggr|gbrg|grbg))(8|16)", encoding):
        dtype = np.dtype(np.uint8 if match[2] == "8" else np.uint16)
        return Encoding(dtype, _CHANNELS.get(match[1], 1), match[1])
    raise ValueError(
        f"image encoding '{encoding}' is not known; use one of sensor_msgs/image_encodings, such as "
        "rgb8, bgr8, mono8, mono16, 16UC1 or 32FC1"
    )


def convert(image: np.ndarray, source: str, target: str) -> np.ndarray:
    """Convert an image [H, W] or [H, W, C] from encoding `source` to `target`; ValueError where that has no
    meaning.

    Between 8 and 16 bit colours values are scaled by 257, so that white stays white; generic encodings keep
    values."""
    if source == target:
        return image.copy()
    src, dst = parse(source), parse(target)
    if not src.family or not dst.family:
        if src.channels != dst.channels or (dst.family and not src.family):
            raise ValueError(
                f"'{source}' does not convert to '{target}': a generic encoding does not say what its "
                "channels are; set the image's true encoding"
            )
        return _to_depth(image, src.dtype, dst.dtype)
    if src.family == dst.family:
        return _to_depth(image, src.dtype, dst.dtype)
    code = _colour_code(src.family, dst.family)
    if code is None:
        raise ValueError(f"'{source}' does not convert to '{target}'")
    return _to_depth(cv2.cvtColor(image, code), src.dtype, dst.dtype)


def _colour_code(source: str, target: str) -> int | None:
    if source.startswith("bayer_"):
        if target not in ("mono", "rgb", "bgr"):
            return None
        name = f"{_BAYER_CODE[source.removeprefix('bayer_')]}2{'GRAY' if target == 'mono' else target.upper()}"
    elif target.startswith("bayer_") or target in _YUV_CODE:
        return None
    else:
        names = ["GRAY" if family == "mono" else family.upper() for family in (source, target)]
        name = f"YUV2{names[1]}_{_YUV_CODE[source]}" if source in _YUV_CODE else "2".join(names)
    return getattr(cv2, f"COLOR_{name}")


def _to_depth(image: np.ndarray, source: np.dtype, target: np.dtype) -> np.ndarray:
    if source == target:
        return image.copy()
    bits = (source.itemsize * 8, target.itemsize * 8)
    scale = {(8, 16): 257.0, (16, 8): 1 / 257.0}.get(bits, 1.0)
    if target.kind == "f":
        return (image * target.type(scale)).astype(target)
    limits = np.iinfo(target)
    return np.clip(np.rint(image.astype(np.float64) * scale), limits.min, limits.max).astype(target)

# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Overlay video and picture strip, made frame by frame in bounded memory.

Video: VP9 in MP4 where OpenCV's FFmpeg can encode it (the PyPI wheels can; browsers play it), else MPEG-4
Part 2 in MP4 (old builds; players take it, browsers do not), else an animated GIF by Pillow. Which of them it
became is in `path` and `codec`. All images are RGB uint8 [H, W, 3].
"""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

logger = logging.getLogger(__name__)

MP4_CODECS = ("vp09", "mp4v")
GIF_MAX_FRAMES = 200  # a GIF is held in memory until it is closed
GIF_WIDTH_PX = 320


class VideoWriter:
    """Writes <directory>/<stem>.mp4, or .gif where OpenCV has no encoder.

    rate_hz: frames per second. codecs: FourCCs to try in order; none of them, or an empty tuple, makes a GIF.
    Frames of another size than the first are scaled to it. Nothing is written until the first frame comes.
    """

    def __init__(self, directory: Path, stem: str, rate_hz: float, codecs: tuple[str, ...] = MP4_CODECS) -> None:
        if not rate_hz > 0:
            raise ValueError(f"rate_hz is {rate_hz}; it must be positive, such as 3.0")
        self._directory, self._stem, self._rate_hz, self._codecs = directory, stem, rate_hz, codecs
        self._writer: cv2.VideoWriter | None = None
        self._gif: list[Image.Image] = []
        self._size: tuple[int, int] | None = None
        self.path: Path | None = None
        self.codec = ""
        self.frames = 0

    def add(self, rgb: np.ndarray) -> None:
        """Appends a frame."""
        if self._size is None:
            self._start(rgb)
        if (rgb.shape[1], rgb.shape[0]) != self._size:
            rgb = cv2.resize(rgb, self._size, interpolation=cv2.INTER_AREA)
        self.frames += 1
        if self._writer is not None:
            self._writer.write(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        elif self.frames <= GIF_MAX_FRAMES:
            self._gif.append(Image.fromarray(rgb).convert("P", palette=Image.Palette.ADAPTIVE))

    def close(self) -> Path | None:
        """Finishes the file and returns its path, None without a frame."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
        elif self._gif:
            first, *rest = self._gif
            first.save(self.path, save_all=True, append_images=rest, duration=round(1000 / self._rate_hz), loop=0)
            if self.frames > GIF_MAX_FRAMES:
                logger.warning(
                    "%s holds the first %d of %d frames; OpenCV with FFmpeg would make a whole video",
                    self.path,
                    GIF_MAX_FRAMES,
                    self.frames,
                )
            self._gif = []
        return self.path

    def _start(self, rgb: np.ndarray) -> None:
        height, width = rgb.shape[0] // 2 * 2, rgb.shape[1] // 2 * 2  # 4:2:0 encoders want even sizes
        self.path = self._directory / f"{self._stem}.mp4"
        for codec in self._codecs:
            writer = cv2.VideoWriter(str(self.path), cv2.VideoWriter_fourcc(*codec), self._rate_hz, (width, height))
            if writer.isOpened():
                self._writer, self._size, self.codec = writer, (width, height), codec
                return
            writer.release()
        self.path.unlink(missing_ok=True)
        self.path, self.codec = self._directory / f"{self._stem}.gif", "gif"
        self._size = (GIF_WIDTH_PX, round(height * GIF_WIDTH_PX / width)) if width > GIF_WIDTH_PX else (width, height)
        logger.warning(
            "OpenCV %s encodes none of %s; the overlay video becomes %s",
            cv2.__version__,
            self._codecs,
            self.path,
        )


class PictureStrip:
    """Evenly spaced frames of a sequence whose length is not known beforehand, side by side.

    count: pictures in the strip. Keeps every k-th frame and doubles k whenever it holds more than 8 * count:
    memory is bounded, and each picture lies within an eighth of the spacing of its even place.
    """

    def __init__(self, count: int = 8, columns: int = 4, picture_width_px: int = 480) -> None:
        if min(count, columns, picture_width_px) < 1:
            raise ValueError(
                f"count {count}, columns {columns} and picture_width_px {picture_width_px} must be at least 1"
            )
        self._count, self._columns, self._width = count, columns, picture_width_px
        self._kept: list[tuple[int, np.ndarray]] = []
        self._every = 1
        self._seen = 0

    def add(self, rgb: np.ndarray) -> None:
        """Offers the next frame."""
        if self._seen % self._every == 0:
            scale = self._width / rgb.shape[1]
            size = (self._width, max(1, round(rgb.shape[0] * scale)))
            self._kept.append(
                (
                    self._seen,
                    cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR),
                )
            )
            if len(self._kept) > 8 * self._count:
                self._kept, self._every = self._kept[::2], 2 * self._every
        self._seen += 1

    def chosen(self) -> list[int]:
        """Frame numbers of the pictures, ascending."""
        return [self._kept[i][0] for i in self._choice()]

    def save(self, path: Path) -> Path | None:
        """Writes the strip as PNG and returns its path, None without a frame."""
        pictures = [self._kept[i][1] for i in self._choice()]
        if not pictures:
            return None
        height = max(picture.shape[0] for picture in pictures)
        columns = min(self._columns, len(pictures))
        gap = 6
        rows = -(-len(pictures) // columns)
        strip = np.full((rows * (height + gap) - gap, columns * (self._width + gap) - gap, 3), 255, np.uint8)
        for number, picture in enumerate(pictures):
            top, left = number // columns * (height + gap), number % columns * (self._width + gap)
            strip[top : top + picture.shape[0], left : left + self._width] = picture
        Image.fromarray(strip).save(path, optimize=False)
        return path

    def _choice(self) -> list[int]:
        """Indices into the kept frames, evenly spread over all frames seen."""
        if len(self._kept) <= self._count:
            return list(range(len(self._kept)))
        return np.unique(np.round(np.linspace(0, len(self._kept) - 1, self._count)).astype(int)).tolist()

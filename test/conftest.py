# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Keep the tests' ROS graphs apart: from each other, from a second run on this machine, and from the network.
Let every run draw the same examples, on a machine of any speed.

The variables are set before anything imports rclpy, since the DDS participant reads them once.
"""

import atexit
import logging
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

DOMAINS = 100  # ids 2..101 need no port above Linux' ephemeral range; 0 is everybody's default

_run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))

os.environ["ROS_DOMAIN_ID"] = str(2 + (zlib.crc32(_run.encode()) % (DOMAINS // _workers)) * _workers + _worker)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

# One thread for each process's network: there are as many workers as cores, and OpenMP's threads wait for each other by
# spinning, which made some tests ten times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What commands and nodes compress on their way lands beside the tests' other files, and not in the user's cache.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="sqap_vla_test_cache_")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

# Triton's kernels run in its interpreter, so that a machine without a GPU tests them too. Read when triton is imported.
os.environ.setdefault("TRITON_INTERPRET", "1")

# launch's pytest plugins, which come with a sourced ROS, make every logger one that hands nothing on; caplog listens at
# the root.
logging.setLoggerClass(logging.Logger)

# Other examples in every run: pytest --hypothesis-profile=default
settings.register_profile("same_examples", derandomize=True, deadline=None)
settings.load_profile("same_examples")


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> Generator[None, Any, Any]:
    """A module that skips itself skips itself alone.

    launch's pytest plugin, which comes with a sourced ROS, imports every module where pytest collects its folder: there
    `pytest.importorskip` would silently leave out the whole folder.
    """
    try:
        return (yield)
    except pytest.skip.Exception:
        return pytest.Module.from_parent(parent, path=module_path)


@pytest.fixture(autouse=True)
def same_torch() -> Generator[None, None, None]:
    """A tensor drawn without a generator is the same in every run, whichever tests ran before, and so is the number of
    threads, on which the last bits of a sum depend: some commands that tests run in this process change it.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)

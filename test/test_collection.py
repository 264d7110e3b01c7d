# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What pytest collects beside the plugins that come with a sourced ROS."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CONFTEST = Path(__file__).with_name("conftest.py")
# What launch_testing's plugin does: it looks into every module for the description of a launch test.
PLUGIN = """
import pytest
from _pytest.pathlib import import_path

def pytest_pycollect_makemodule(module_path, parent):
    import_path(module_path, root=parent.config.rootpath, consider_namespace_packages=False)
    return pytest.Module.from_parent(parent, path=module_path)
"""


def test_a_module_that_skips_itself_leaves_its_folder_in(tmp_path: Path):
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "launch_plugin.py").write_text(PLUGIN, encoding="utf-8")
    (tmp_path / "test_a.py").write_text("import pytest\npytest.importorskip('no_such_module', reason='not here')\n")
    (tmp_path / "test_b.py").write_text("def test_that_counts():\n    pass\n")
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "launch_plugin", "-p", "no:cacheprovider", "--rootdir=."]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0 and "1 passed, 1 skipped" in run.stdout and "not here" in run.stdout, run.stdout

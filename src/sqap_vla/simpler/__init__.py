# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""SIMPLER in a process and an interpreter of its own, behind a local socket. No ROS, no torch.

SIMPLER (SimplerEnv on ManiSkill2_real2sim) needs CPython 3.10 or 3.11 and NumPy 1; the nodes run on what ROS runs on.
So this directory is also a program, for SIMPLER's interpreter (`PYTHON DIRECTORY --socket PATH`), and what that program
is made of (`server`, `environment`, `protocol`) keeps to CPython 3.10, NumPy 1 and the standard library, and imports
relatively: there the directory is a package without the rest of sqap_vla. The other modules are its clients'.
"""

# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Makes a plain virtual environment a ROS 2 Jazzy, or completes a sourced one."""

#!/bin/bash
# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
#
# Entry point of the images: ROS 2 and the package sourced, then the command.
set -e
source /opt/ros/jazzy/setup.bash
source /opt/sqap_vla/setup.bash
exec "$@"

# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Which visual tokens the language model keeps. Knows nothing of the network, the runtime or ROS."""

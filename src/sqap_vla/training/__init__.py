# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""CogACT-Mini: a small CogACT trained on the built-in tabletop, in the official checkpoint layout."""

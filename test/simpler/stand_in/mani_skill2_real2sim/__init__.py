# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Where SIMPLER's assets are, as the real package finds out."""

import os
from pathlib import Path

ASSET_DIR = Path(os.environ.get("MS2_REAL2SIM_ASSET_DIR", "data"))

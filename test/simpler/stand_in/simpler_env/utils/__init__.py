# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0

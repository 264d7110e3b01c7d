# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A few frames of demonstrations, collected once."""

from __future__ import annotations

from pathlib import Path

import pytest

from sqap_vla.sim import EnvironmentConfig, TabletopEnv
from sqap_vla.training.collection import CollectionConfig, Collector
from sqap_vla.training.frames import ShardWriter


@pytest.fixture(scope="session")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with two shards of 24 frames, labelled for six sentences of all families."""
    directory = tmp_path_factory.mktemp("demonstrations")
    env = TabletopEnv(EnvironmentConfig(observe_rgb=False))
    config = CollectionConfig(families=("pick", "move_near", "drawer", "place"), tasks_per_frame=6)
    collector, writer = Collector(env, config, seed=0), ShardWriter(directory, "demo", size=24)
    while len(list(directory.glob("*.npz"))) < 2:
        collector.episode(writer)
    env.close()
    return directory

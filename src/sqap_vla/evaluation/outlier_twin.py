# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""A twin of a tabletop policy that computes the same and has the outliers of trained Llamas.

So small a decoder has hardly any, and four bits cost it little whatever is done; on the twin a rotation has something
to do. quantization/outliers.py says what is changed and what cancels it.
"""

from __future__ import annotations

from pathlib import Path

import torch

from sqap_vla.cogact.checkpoint import load_checkpoint
from sqap_vla.cogact.preprocess import normalize_pictures, resize
from sqap_vla.cogact.prompt import Tokenizer
from sqap_vla.quantization.outliers import OutlierSpec, add_outliers
from sqap_vla.sim import FAMILIES, EnvironmentConfig, TabletopEnv
from sqap_vla.training.export import write_checkpoint

# Stronger than the default, which this decoder bears: its cognition feature then has an SQNR in W4A4 of 11 dB without
# a rotation and 17 with it, and here 2 and 13.
OUTLIERS = OutlierSpec(mlp_energy=16.0, value_energy=4.0)
SCENES = 8  # first frames of so many episodes show where the principal directions are


@torch.inference_mode()
def write_outlier_twin(checkpoint: Path, directory: Path) -> Path:
    """Writes the twin as a float32 checkpoint, unless it is there. Returns its directory. Raises as load_checkpoint."""
    if directory.exists():
        return directory
    loaded = load_checkpoint(checkpoint, dtype=torch.float32)
    model, tokenizer = loaded.model, Tokenizer.from_path(checkpoint)
    env = TabletopEnv(EnvironmentConfig(observe_rgb=False))
    pictures, prompts = [], []
    for seed in range(SCENES):
        env.reset(seed=seed, options={"family": FAMILIES[seed % len(FAMILIES)]})
        pictures.append(torch.from_numpy(resize(env.camera_image())))
        prompts.append(tokenizer.encode(env.task.instruction))
    env.close()
    visual = model.encode_images(*normalize_pictures(torch.stack(pictures)))
    add_outliers(model, visual, prompts, OUTLIERS)
    partial = directory.with_name(directory.name + ".partial")
    facts = {"outliers": "added to " + checkpoint.name + ", without changing the network's function"}
    write_checkpoint(partial, loaded.config, model.state_dict(), loaded.step or 0, facts, torch.float32)
    partial.rename(directory)
    return directory

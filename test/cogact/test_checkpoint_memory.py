# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Loading a checkpoint larger than its model must never hold the file in memory."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sqap_vla.cogact.config import CogActConfig, DecoderConfig, HeadConfig, VisionTowerConfig
from sqap_vla.cogact.layout import MODULES, used_shapes
from sqap_vla.cogact.sizes import sizes_of

ALLOWANCE_BYTES = 1e9
CONFIG = CogActConfig(
    dino=VisionTowerConfig(
        embed_dim=64,
        depth=2,
        num_heads=4,
        mlp_hidden=64,
        register_tokens=4,
        class_token=True,
        layer_scale=True,
    ),
    siglip=VisionTowerConfig(embed_dim=64, depth=2, num_heads=4, mlp_hidden=64),
    decoder=DecoderConfig(
        vocab_size=65536,
        hidden_size=2048,
        intermediate_size=8192,
        num_layers=6,
        num_heads=16,
        num_kv_heads=16,
    ),
    head=HeadConfig(depth=1, hidden_size=64, num_heads=4, token_size=2048),
)

# Anonymous and shared memory count; pages of the mapped file do not (the kernel can drop them).
LOAD_AND_WATCH = """
import json, re, sys, threading, time
import torch
from sqap_vla.cogact.checkpoint import load_checkpoint

def used_bytes():
    status = open('/proc/self/status').read()
    kilobytes = [int(re.search(field + r':\\s+(\\d+)', status)[1]) for field in ('RssAnon', 'RssShmem')]
    return 1024 * sum(kilobytes)

samples, done = [used_bytes()], threading.Event()
def watch():
    while not done.wait(0.002):
        samples.append(used_bytes())
watcher = threading.Thread(target=watch)
watcher.start()
begin = time.monotonic()
loaded = load_checkpoint(sys.argv[1], dtype=torch.bfloat16)
seconds = time.monotonic() - begin
done.set()
watcher.join()
model = sum(p.numel() * p.element_size() for p in loaded.model.parameters())
print(json.dumps({'peak': max(samples), 'before': samples[0], 'model': model, 'seconds': seconds}))
"""


@pytest.fixture
def large_checkpoint(demo_directory: Path, tmp_path: Path) -> Path:
    """2.1 GB of float32 zeros in the official layout (no lm_head), removed afterwards."""
    directory = tmp_path / "large"
    needed = 3e9
    if shutil.disk_usage(tmp_path).free < needed:
        pytest.skip(f"needs {needed / 1e9:.0f} GB free in {tmp_path}")
    shutil.copytree(demo_directory, directory, ignore=shutil.ignore_patterns("*.pt", "tiny_sizes.json"))
    (directory / "tiny_sizes.json").write_text(json.dumps(sizes_of(CONFIG)))
    modules: dict[str, dict[str, torch.Tensor]] = {module: {} for module in MODULES}
    for name, shape in used_shapes(CONFIG).items():
        module, _, key = name.partition(".")
        modules[module][key] = torch.zeros(shape)
    torch.save({"model": modules}, directory / "checkpoints" / "step-000000.pt")
    yield directory
    shutil.rmtree(directory)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory in use from /proc")
def test_peak_memory_stays_under_the_loaded_model_plus_one_gigabyte(large_checkpoint):
    assert (large_checkpoint / "checkpoints" / "step-000000.pt").stat().st_size > 2e9
    child = subprocess.run(
        [sys.executable, "-c", LOAD_AND_WATCH, str(large_checkpoint)],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    report = json.loads(child.stdout)
    assert report["model"] > 1e9
    assert report["peak"] >= report["model"], "the watcher missed the load"
    assert report["peak"] < report["model"] + ALLOWANCE_BYTES, report

# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Cut a full reference directory down to what the tests here need. See README.md.

python test/reference/cut_reference.py FULL_DIRECTORY test/reference
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch

CHECKPOINT = "f_cogact_tiny"
COPIED = (
    "a_action_head_tok96.npz",
    "a_action_head_tok4096.npz",
    "a_action_model_tok96.safetensors",
    "a_action_model_tok4096.safetensors",
    "a_dit_shapes.json",
    "b_ensembler.npz",
    "b_policy_step.npz",
    "b_unnormalize.npz",
    "f_fullsize_checkpoint_keys.json",
    "g_fastv.npz",
    "g_vla_cache.npz",
    "g_vla_cache_layers_transcribed.npz",
)
PIXEL_STRIDE = 8
PATCH_STRIDE = 4
EMBEDDINGS = ("llm.model.embed_tokens.weight", "llm.lm_head.weight")


def used_ids(source: Path) -> np.ndarray:
    """Ids that the tokenizer can produce or a reference prompt holds, ascending."""
    vocabulary = json.loads((source / CHECKPOINT / "synthetic_tokenizer.json").read_text())["model"]["vocab"]
    ids = {index for token, index in vocabulary.items() if not token.startswith("<unused")}
    for name in ("e_vlm.npz", "f_end_to_end.npz"):
        with np.load(source / name) as arrays:
            for key in arrays.files:
                if "input_ids" in key:
                    ids.update(arrays[key].ravel().tolist())
    return np.array(sorted(ids))


def cut_tokenizer(source: Path, target: Path, ids: np.ndarray) -> None:
    tokenizer = json.loads(source.read_text())
    token_of = {index: token for token, index in tokenizer["model"]["vocab"].items()}
    tokenizer["model"]["vocab"] = {token_of[old]: new for new, old in enumerate(ids.tolist()) if old in token_of}
    target.write_text(json.dumps(tokenizer, indent=1))


def cut_checkpoint(source: Path, target: Path, ids: np.ndarray) -> None:
    (target / "checkpoints").mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "dataset_statistics.json"):
        shutil.copyfile(source / name, target / name)
    sizes = json.loads((source / "tiny_sizes.json").read_text())
    sizes["llm"] |= {"vocab_size": len(ids) - 1, "vocab_size_padded": len(ids), "pad_token_id": len(ids) - 1}
    (target / "tiny_sizes.json").write_text(json.dumps(sizes, indent=1))
    cut_tokenizer(source / "synthetic_tokenizer.json", target / "synthetic_tokenizer.json", ids)
    weights = next((source / "checkpoints").glob("*.pt"))
    content = torch.load(weights, weights_only=True)
    llm = content["model"]["llm_backbone"]
    for key in EMBEDDINGS:
        llm[key] = llm[key][torch.from_numpy(ids)].clone()
    torch.save(content, target / "checkpoints" / weights.name)


def cut_arrays(source: Path, target: Path, name: str, ids: np.ndarray, dropped: tuple[str, ...] = ()) -> None:
    cut = {}
    with np.load(source / name) as arrays:
        for key in (key for key in arrays.files if key not in dropped):
            array = arrays[key]
            if "input_ids" in key:
                array = np.searchsorted(ids, array)
            elif name == "c_vision.npz" and array.ndim == 3 and array.shape[1] == 256:
                array = array[:, ::PATCH_STRIDE]
            elif name == "d_preprocess.npz" and array.dtype == np.float32:
                array = array[:, ::PIXEL_STRIDE, ::PIXEL_STRIDE]
            cut[key] = array
    np.savez_compressed(target / name, **cut)


def main(source: Path, target: Path) -> None:
    ids = used_ids(source)
    for name in COPIED:
        shutil.copyfile(source / name, target / name)
    keys = json.loads((source / "f_tiny_checkpoint_keys.json").read_text())
    for key in EMBEDDINGS:
        keys["llm_backbone"][key][0] = len(ids)
    (target / "f_tiny_checkpoint_keys.json").write_text(json.dumps(keys))
    cut_checkpoint(source / CHECKPOINT, target / CHECKPOINT, ids)
    cut_arrays(source, target, "c_vision.npz", ids, dropped=("fused",))
    cut_arrays(source, target, "d_preprocess.npz", ids)
    cut_arrays(source, target, "e_vlm.npz", ids, dropped=("last_logits", "generated_ids"))
    cut_arrays(source, target, "f_end_to_end.npz", ids)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

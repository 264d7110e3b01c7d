# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tolerance import close

from sqap_vla.cogact.action_head import ActionModel, timestep_frequencies
from sqap_vla.cogact.config import OFFICIAL_HEADS, HeadConfig, official_config
from sqap_vla.cogact.diffusion import ddim_schedule, ddim_trajectory
from sqap_vla.cogact.layout import unused_shapes, used_shapes

FORWARD_ATOL = 5e-6
SAMPLE_ATOL, SAMPLE_RTOL = 5e-5, 1e-5  # samples of this untrained head have a standard deviation of 8


@pytest.fixture(scope="module", params=["tok96", "tok4096"])
def head(request, reference, arrays):
    """The head, its reference arrays, and x and z as tensors."""
    weights = load_file(reference / f"a_action_model_{request.param}.safetensors")
    expected = arrays(f"a_action_head_{request.param}")
    sizes = json.loads((reference / "f_cogact_tiny" / "tiny_sizes.json").read_text())["dit"]
    hidden, token_size = weights["net.z_embedder.linear.weight"].shape
    depth = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("net.blocks."))
    action_model = ActionModel(
        HeadConfig(depth=depth, hidden_size=hidden, num_heads=sizes["num_heads"], token_size=token_size)
    )
    action_model.load_state_dict({name: tensor for name, tensor in weights.items() if "history_embedder" not in name})
    return action_model.eval(), expected, torch.from_numpy(expected["x"]), torch.from_numpy(expected["z"])


def test_embeddings_match(head):
    action_model, expected, _, z = head
    timesteps = torch.from_numpy(expected["forward_t"])
    close(timestep_frequencies(timesteps), expected["t_freq"], FORWARD_ATOL)
    close(action_model.net.t_embedder(timesteps), expected["t_emb"], FORWARD_ATOL)
    close(action_model.net.z_embedder(z), expected["z_emb"], FORWARD_ATOL)


def test_forward_matches_at_every_timestep(head):
    action_model, expected, x, z = head
    for timestep, out in zip(expected["forward_t"], expected["forward_out"], strict=True):
        close(action_model.net(x, torch.full((len(x),), int(timestep)), z), out, FORWARD_ATOL)


def test_every_block_matches(head):
    action_model, expected, x, z = head
    net = action_model.net
    hidden = net.embed(x, net.t_embedder(torch.full((len(x),), 50))[:, None] + net.z_embedder(z))
    assert len(net.blocks) == len(expected["blocks_t50"])
    for block, out in zip(net.blocks, expected["blocks_t50"], strict=True):
        hidden = block(hidden)
        close(hidden, out, FORWARD_ATOL)


def test_guided_noise_matches(head):
    """One step's epsilon, with the reference's own formula on our network's two halves."""
    action_model, expected, x, z = head
    both = torch.cat([z, action_model.net.z_embedder.uncondition.expand_as(z)])
    for timestep, out in zip(expected["cfg_t"], expected["cfg_out"], strict=True):
        noise = action_model.net(torch.cat([x, x]), torch.full((2 * len(x),), int(timestep)), both)
        conditional, unconditional = noise.chunk(2)
        close(unconditional + 1.5 * (conditional - unconditional), out[: len(x)], FORWARD_ATOL)


@pytest.mark.parametrize("steps", [10, 5])
def test_every_ddim_step_matches(head, steps):
    action_model, expected, _, z = head
    noise = torch.from_numpy(expected["noise"])
    trajectory = action_model.trajectory(z[:, 0], noise, steps, cfg_scale=1.5)
    close(
        torch.stack([step.sample for step in trajectory]),
        expected[f"ddim{steps}_cfg1.5_samples"],
        SAMPLE_ATOL,
        SAMPLE_RTOL,
    )
    close(
        torch.stack([step.pred_x0 for step in trajectory]),
        expected[f"ddim{steps}_cfg1.5_pred_xstart"],
        SAMPLE_ATOL,
        SAMPLE_RTOL,
    )
    close(
        action_model.sample(z[:, 0], noise, steps, 1.5),
        expected[f"ddim{steps}_cfg1.5_final"],
        SAMPLE_ATOL,
        SAMPLE_RTOL,
    )


@pytest.mark.parametrize("steps", [10, 5])
def test_without_guidance_only_the_conditional_half_runs(head, steps, monkeypatch):
    action_model, expected, _, z = head
    noise = torch.from_numpy(expected["noise"])
    batches = []
    run = action_model.net.run_blocks
    monkeypatch.setattr(action_model.net, "run_blocks", lambda x: (batches.append(len(x)), run(x))[1])
    close(
        action_model.sample(z[:, 0], noise, steps, 1.0),
        expected[f"ddim{steps}_nocfg_final"],
        SAMPLE_ATOL,
        SAMPLE_RTOL,
    )
    assert batches == [len(noise)] * steps


@pytest.mark.parametrize("name", ["DiT-S", "DiT-B", "DiT-L"])
def test_official_heads_have_the_official_parameters(reference, name):
    official = json.loads((reference / "a_dit_shapes.json").read_text())[name]["keys"]
    config = official_config(name)
    ours = {
        key.removeprefix("action_model."): list(shape)
        for key, shape in (used_shapes(config) | unused_shapes(config)).items()
        if key.startswith("action_model.")
    }
    assert ours == official
    assert OFFICIAL_HEADS[name].token_size == 4096


def test_a_chunk_does_not_depend_on_its_neighbours_in_the_batch(head):
    action_model, expected, _, z = head
    noise = torch.from_numpy(expected["noise"])
    together = action_model.sample(z[:, 0], noise, 10, 1.5)
    alone = torch.cat(
        [action_model.sample(z[row : row + 1, 0], noise[row : row + 1], 10, 1.5) for row in range(len(noise))]
    )
    np.testing.assert_allclose(together, alone, atol=SAMPLE_ATOL, rtol=SAMPLE_RTOL)


class TestFeatureCache:
    def test_interval_one_caches_nothing(self, head):
        action_model, expected, _, z = head
        noise = torch.from_numpy(expected["noise"])
        plain = action_model.sample(z[:, 0], noise, 10, 1.5)
        assert torch.equal(action_model.sample(z[:, 0], noise, 10, 1.5, cache_interval=1), plain)

    @pytest.mark.parametrize(("interval", "runs"), [(1, 10), (2, 5), (3, 4), (5, 2), (10, 1), (64, 1)])
    def test_the_blocks_run_in_the_first_of_every_n_steps(self, head, monkeypatch, interval, runs):
        action_model, expected, _, z = head
        ran = []
        run = action_model.net.run_blocks
        monkeypatch.setattr(action_model.net, "run_blocks", lambda x: (ran.append(1), run(x))[1])
        action_model.sample(z[:, 0], torch.from_numpy(expected["noise"]), 10, 1.5, interval)
        assert len(ran) == runs

    @pytest.mark.parametrize("scale", [1.0, 1.5])
    def test_steps_between_add_each_block_s_last_attention_and_mlp(self, head, scale):
        """Written out as the paper has it: one cache per module and block."""
        action_model, expected, _, z = head
        net, schedule = action_model.net, ddim_schedule(10)
        noise = torch.from_numpy(expected["noise"])
        both = torch.cat([z, net.z_embedder.uncondition.expand_as(z)])
        cached: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

        def predict(x, level):
            t = torch.full((2 * len(x),), int(schedule.timesteps[level]))
            hidden = net.embed(torch.cat([x, x]), net.t_embedder(t)[:, None] + net.z_embedder(both))
            for index, block in enumerate(net.blocks):
                if (9 - level) % 5 == 0:
                    attention = block.attn(block.norm1(hidden))
                    cached[index] = attention, block.mlp(block.norm2(hidden + attention))
                hidden = hidden + cached[index][0] + cached[index][1]
            conditional, unconditional = net.project(hidden).chunk(2)
            return unconditional + scale * (conditional - unconditional)

        *_, last = ddim_trajectory(predict, noise, schedule)
        ours = action_model.sample(z[:, 0], noise, 10, scale, cache_interval=5)
        close(ours, last.sample.numpy(), SAMPLE_ATOL, SAMPLE_RTOL)

    def test_an_interval_below_one_is_refused(self, head):
        action_model, expected, _, z = head
        with pytest.raises(ValueError, match="cache_interval is 0; it must be >= 1"):
            action_model.sample(z[:, 0], torch.from_numpy(expected["noise"]), 10, 1.5, cache_interval=0)

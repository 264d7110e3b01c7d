# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Training learns, can be put away and taken up again, and leaves a checkpoint that the official loader takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sqap_vla.cogact.checkpoint import load_checkpoint
from sqap_vla.cogact.normalization import statistics_for
from sqap_vla.training.dataset import FrameStore
from sqap_vla.training.export import UNNORM_KEY, write_checkpoint
from sqap_vla.training.trainer import GPU_PHASES, Phase, Trainer, TrainingConfig, further_phase

PHASES = (
    Phase("towers", steps=8, batch=4, towers=True, decoder=False, rate=2e-3, warmup=2),
    Phase("decoder", steps=10, batch=4, towers=False, decoder=True, tokens=96, rate=2e-3, warmup=2),
    Phase("together", steps=2, batch=2, towers=True, decoder=True, rate=2e-4),
)


def trainer(demonstrations: Path, phases: tuple[Phase, ...] = PHASES) -> Trainer:
    return Trainer(TrainingConfig(phases=phases, ema=0.9), FrameStore({demonstrations: 1.0}))


@pytest.fixture(scope="module")
def trained(demonstrations: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, list[dict], Path]:
    """A finished run, its losses, and its state as it was in the middle of the second phase."""
    run, losses = trainer(demonstrations), []
    state = tmp_path_factory.mktemp("run") / "state.pt"
    while run.step < run.config.steps:
        losses.append({name: float(loss) for name, loss in run.train_step().items()})
        if run.step == 12:
            run.save(state)
    return run, losses, state


def test_every_loss_falls(trained) -> None:
    _, losses, _ = trained
    towers, decoder = losses[:8], losses[8:18]
    assert towers[-1]["patch"] < 0.95 * towers[0]["patch"]
    for name in ("attention", "cognition", "chunk", "diffusion"):
        assert sum(row[name] for row in decoder[-3:]) < sum(row[name] for row in decoder[:3]), name
    assert set(losses[-1]) == {"patch", "attention", "cognition", "chunk", "diffusion"}


def test_a_run_taken_up_again_ends_with_the_same_weights(trained, demonstrations: Path) -> None:
    run, _, state = trained
    again = trainer(demonstrations)
    again.restore(state)
    assert again.step == 12
    while again.step < again.config.steps:
        again.train_step()
    for name, tensor in run.average.items():
        torch.testing.assert_close(again.average[name], tensor, atol=1e-5, rtol=1e-4, msg=name)


def test_a_run_can_start_from_trained_weights(trained, demonstrations: Path, tmp_path: Path) -> None:
    run, _, _ = trained
    write_checkpoint(tmp_path, run.network, run.average, 20, {"seed": 0}, torch.float32)
    again = trainer(demonstrations, (further_phase(PHASES),))
    again.start_from(load_checkpoint(tmp_path).model.state_dict())
    for name, tensor in load_checkpoint(tmp_path).model.state_dict().items():
        assert torch.equal(again.average[name], tensor) and torch.equal(again.model.state_dict()[name], tensor)
    again.train_step()
    assert again.step == 1
    with pytest.raises(ValueError, match="start from are of another network"):
        again.start_from({"decoder.norm.weight": torch.ones(3)})


def test_a_further_phase_is_the_last_one_at_half_its_rate() -> None:
    phase = further_phase(GPU_PHASES)
    assert (phase.rate, phase.warmup, phase.steps) == (0.5 * GPU_PHASES[-1].rate, 900, GPU_PHASES[-1].steps)
    assert phase.towers and phase.decoder and phase.rate_at(0) < 0.01 * phase.rate < phase.rate_at(900)


def test_towers_stand_still_while_the_decoder_learns(demonstrations: Path) -> None:
    run = trainer(demonstrations, (Phase("decoder", steps=3, batch=2, towers=False, decoder=True, tokens=96),))
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    for _ in range(3):
        run.train_step()
    after = run.model.state_dict()
    moved = {name.partition(".")[0] for name in after if not torch.equal(after[name], before[name])}
    assert moved == {"llm_backbone", "action_model"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_checkpoint_is_taken_by_the_official_loader(trained, tmp_path: Path, dtype: torch.dtype) -> None:
    run, _, _ = trained
    write_checkpoint(tmp_path, run.network, run.average, 7, {"seed": 0}, torch.float32)
    write_checkpoint(tmp_path, run.network, run.average, 20, {"seed": 0}, dtype)
    loaded = load_checkpoint(tmp_path)
    assert loaded.step == 20 and loaded.config == run.network
    assert [file.name for file in (tmp_path / "checkpoints").iterdir()] == ["step-000020.pt"]
    for name, tensor in loaded.model.state_dict().items():
        torch.testing.assert_close(tensor, run.average[name], atol=2e-3, rtol=1e-3)
    statistics = statistics_for(loaded.statistics, UNNORM_KEY)
    assert statistics.q99[0] == 0.03 and not statistics.mask[6]


def test_the_network_is_small() -> None:
    from sqap_vla.training.mini import mini_config, untrained

    parameters = {name: p.numel() for name, p in untrained(mini_config(), 0).named_parameters()}
    assert sum(count for name, count in parameters.items() if "embed_tokens" not in name) < 8e6


def test_a_directory_without_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no frames in"):
        FrameStore({tmp_path: 1.0})

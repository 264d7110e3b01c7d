# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""What `sqap-vla train` asks of a run, from its arguments. Nothing is trained."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

import pytest
import torch

from sqap_vla.training import train_command
from sqap_vla.training.run import Recipe
from sqap_vla.training.trainer import DEFAULT_PHASES


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch):
    """Arguments after --out -> the recipe."""
    recipes: list[Recipe] = []
    monkeypatch.setattr(train_command, "train", lambda recipe, out, say: recipes.append(recipe) or out / "checkpoint")

    def ask(*arguments: str) -> Recipe:
        parser = ArgumentParser()
        train_command.add_arguments(parser)
        said = train_command.run(parser.parse_args(["--out", "runs/x", "--device", "cpu", *arguments]))
        assert said == f"checkpoint: {Path('runs/x/checkpoint')}"
        return recipes[-1]

    return ask


def test_without_arguments_it_is_the_default_run(asked) -> None:
    recipe = asked()
    assert recipe.training.phases == DEFAULT_PHASES and recipe.start is None and recipe.evaluate_steps > 0


def test_from_a_checkpoint_only_the_last_phase_is_left(asked) -> None:
    recipe = asked("--start", "runs/mini/checkpoint", "--minutes", "3.5", "--capacity", "160000", "--seed", "1")
    (phase,) = recipe.training.phases
    assert (phase.name, phase.rate) == ("further", 0.5 * DEFAULT_PHASES[-1].rate)
    assert (recipe.start, recipe.minutes, recipe.capacity) == ("runs/mini/checkpoint", 3.5, 160_000)
    assert recipe.training.seed == 1 and recipe.evaluate_steps == 0


def test_a_scale_stretches_every_phase(asked) -> None:
    phases = asked("--scale", "0.5").training.phases
    assert [phase.steps for phase in phases] == [phase.steps // 2 for phase in DEFAULT_PHASES]


def test_what_cannot_be_is_refused(asked) -> None:
    with pytest.raises(ValueError, match="--scale is 0.0; it must be above 0"):
        asked("--scale", "0")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="torch sees no CUDA device"):
            asked("--device", "cuda")

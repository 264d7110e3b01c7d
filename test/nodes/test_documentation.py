# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""docs/nodes.md lists every parameter with its default, and every preset loads with the rules of the live node."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from sqap_vla.evaluation.bag import BagReader
from sqap_vla.nodes.diagnostics import DiagnosticsParameters
from sqap_vla.nodes.model_loader_parameters import ModelLoaderParameters
from sqap_vla.nodes.parameter_files import build, read_parameter_file
from sqap_vla.nodes.parameters import ros_name
from sqap_vla.nodes.policy_parameters import PolicyParameters
from sqap_vla.nodes.simpler_bridge_parameters import SimplerBridgeParameters
from sqap_vla.nodes.tabletop_parameters import TabletopParameters
from sqap_vla.training.shipped import SHIPPED_POLICY

ROOT = Path(__file__).resolve().parents[2]
NODES = {
    "policy": PolicyParameters,
    "model_loader": ModelLoaderParameters,
    "diagnostics": DiagnosticsParameters,
    "tabletop": TabletopParameters,
    "simpler_bridge": SimplerBridgeParameters,
}


def documented(node: str) -> dict[str, str]:
    """Default by parameter name, as the node's table says."""
    section = (ROOT / "docs" / "nodes.md").read_text().split(f"### {node}\n")[1].split("###")[0]
    return dict(re.findall(r"^\| `([\w.]+)`[ *]*\| (.+?) \|", section, re.MULTILINE))


def as_written(default: object) -> str:
    if default is None or default == ():
        return "–"
    if isinstance(default, tuple):
        return f"`{list(default)}`"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return '`""`' if default == "" else f"`{default}`"


@pytest.mark.parametrize("node", NODES)
def test_every_parameter_is_documented_with_its_default(node: str) -> None:
    declared = {ros_name(field): as_written(field.default) for field in dataclasses.fields(NODES[node])}
    assert documented(node) == declared


@pytest.mark.parametrize("preset", ["google_robot", "widowx", "tabletop"])
def test_presets_hold_what_the_policy_needs_to_start(preset: str) -> None:
    file = ROOT / "config" / f"{preset}.yaml"
    params = build(PolicyParameters, read_parameter_file(file, "policy"), str(file))
    assert params.make_limits().max_linear_m_s > 0
    assert params.unnorm_key


def snippets(page: str, of: str) -> list[str]:
    """Blocks of a page in one language."""
    text = (ROOT / "docs" / page).read_text()
    return re.findall(rf"^```{of}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_presets_of_the_documentation_are_presets_and_what_is_added_to_one_fits(tmp_path: Path) -> None:
    preset, *additions = [
        text for page in ("presets.md", "robot_bringup.md") for text in snippets(page, "yaml") if "/**/policy" in text
    ]
    assert len(additions) == 2
    values: dict[str, object] = {}
    for number, snippet in enumerate([preset, *additions]):
        file = tmp_path / f"{number}.yaml"
        file.write_text(snippet)
        added = read_parameter_file(file, "policy")
        assert added, snippet
        limits = build(PolicyParameters, {**values, **added}, str(file)).make_limits()
        values = values or added
        assert limits.max_linear_m_s == added.get("limits.max_linear_m_s", values["limits.max_linear_m_s"])


@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_python_of_the_documentation_can_be_read(page: str) -> None:
    for snippet in snippets(page, "python"):
        compile(snippet, page, "exec")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """A network as small as the package's is slower on two that others use, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_the_page_about_python_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Snippet by snippet, with the policy of the package for the 7B one, and on a CPU."""
    monkeypatch.chdir(tmp_path)
    policy = str(SHIPPED_POLICY)
    instead = {
        'device="cuda", dtype=torch.bfloat16': 'device="cpu", dtype=torch.float32',
        '"/models/CogACT-Base", "cuda"': f'"{policy}", "cpu"',
        "/models/CogACT-Base": policy,
        "/models/llama-2/tokenizer.json": f"{policy}/tokenizer.json",
        "bridge_orig": "tabletop",
    }
    camera_T_ee = np.eye(4)
    camera_T_ee[2, 3] = 1.0
    known = {  # what the page leaves to its reader
        "rgb": np.full((480, 640, 3), 90, np.uint8),
        "stamp_ns": 1_700_000_000_000_000_000,
        "K": np.array([[600.0, 0, 320], [0, 600.0, 240], [0, 0, 1]]),
        **dict.fromkeys(("k1", "k2", "p1", "p2", "k3"), 0.0),
        "camera_T_ee": camera_T_ee,
        "base_T_ee": np.eye(4),
    }
    for snippet in snippets("python.md", "python"):
        for old, new in instead.items():
            snippet = snippet.replace(old, new)
        exec(compile(snippet, "python.md", "exec"), known)
    assert known["actions"].shape == known["chunk"].actions.shape == (16, 7)
    assert len(known["output"].selections[0].kept) == 154
    with BagReader(tmp_path / "out" / "episode") as bag:
        assert {name: topic.count for name, topic in bag.topics.items()} == dict.fromkeys(
            ("/camera/image_raw", "/camera/camera_info", "/tf", "/instruction"), 12
        )


def test_the_documentation_of_presets_names_parameters_that_exist() -> None:
    page = (ROOT / "docs" / "presets.md").read_text()
    cells = re.findall(r"^\| (`.+?) \|", page, re.MULTILINE)
    names = [name for cell in cells for name in re.findall(r"`([\w.*]+)`", cell)]
    known = [ros_name(field) for field in dataclasses.fields(PolicyParameters)]
    assert names
    for name in names:
        assert any(re.fullmatch(name.replace(".", r"\.").replace("*", ".*"), one) for one in known), name

# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The RViz configuration and the Foxglove layout name topics that the nodes publish, with their types."""

import json
import re
from pathlib import Path

import yaml

from sqap_vla.nodes.chunk_output import SCALARS
from sqap_vla.nodes.parameter_files import read_parameter_file
from sqap_vla.nodes.policy_parameters import PolicyParameters

ROOT = Path(__file__).resolve().parents[2]
NODES = ROOT / "src" / "sqap_vla" / "nodes"
PUBLISHERS = ("policy", "command_output", "gripper_output", "joint_output", "chunk_output", "diagnostics")
RVIZ_TYPES = {"rviz_default_plugins/Image": "Image", "rviz_default_plugins/Pose": "PoseStamped"}
TWIST_FIELDS = {f"twist.{part}.{axis}" for part in ("linear", "angular") for axis in "xyz"}
PLOTTED_FIELDS = {"Float32": {"data"}, "TwistStamped": TWIST_FIELDS}


def published() -> dict[str, str]:
    """Message type by topic, as the sources of policy and diagnostics create their publishers."""
    topics = {}
    for module in PUBLISHERS:
        text = (NODES / f"{module}.py").read_text()
        for kind, prefix, name in re.findall(r'publisher\((\w+), (prefix \+ )?f?"([^"]+)"', text):
            for written in [name.replace("{name}", scalar) for scalar in SCALARS] if "{name}" in name else [name]:
                places = ("/policy/", "/policy/dry_run/") if prefix else ("",)
                topics |= {place + written.replace("~/", "/policy/"): kind for place in places}
    return topics


def layout() -> dict:
    return json.loads((ROOT / "config" / "foxglove_layout.json").read_text())


def panels(kind: str) -> list[dict]:
    found = [panel for name, panel in layout()["configById"].items() if name.split("!")[0] == kind]
    assert found, f"the layout has no {kind} panel"
    return found


def leaves(node: str | dict) -> list[str]:
    return [node] if isinstance(node, str) else leaves(node["first"]) + leaves(node["second"])


def test_rviz_displays_show_published_topics_of_their_type() -> None:
    displays = yaml.safe_load((ROOT / "config" / "sqap_vla.rviz").read_text())["Visualization Manager"]["Displays"]
    shown = {display["Topic"]["Value"]: RVIZ_TYPES[display["Class"]] for display in displays if "Topic" in display}
    assert set(shown) == {"/policy/debug/overlay", "/policy/target_pose", "/policy/dry_run/target_pose"}
    assert shown.items() <= published().items()


def test_the_viewers_stand_in_the_presets_base_frame() -> None:
    rviz = yaml.safe_load((ROOT / "config" / "sqap_vla.rviz").read_text())["Visualization Manager"]
    frames = {rviz["Global Options"]["Fixed Frame"]} | {panel["followTf"] for panel in panels("3D")}
    presets = ("google_robot", "widowx", "tabletop")
    bases = {read_parameter_file(ROOT / "config" / f"{name}.yaml", "policy")["base_frame"] for name in presets}
    assert frames == bases


def test_foxglove_panels_show_published_topics_of_their_type() -> None:
    topics = published()
    for panel in panels("Image"):
        assert topics[panel["imageMode"]["imageTopic"]] == "Image"
    for panel in panels("3D"):
        assert {topics[name] for name in panel["topics"]} == {"PoseStamped"}
    for panel in panels("DiagnosticSummary"):
        assert topics[panel["topicToRender"]] == "DiagnosticArray"
    for panel in panels("RawMessages"):
        assert topics[panel["topicPath"]] == "DiagnosticStatus"


def test_foxglove_plots_draw_fields_of_published_messages() -> None:
    for path in (path["value"] for panel in panels("Plot") for path in panel["paths"]):
        topic, field = path.split(".", 1)
        assert field in PLOTTED_FIELDS[published()[topic]], path


def test_foxglove_sends_the_instruction_that_the_policy_hears() -> None:
    (panel,) = panels("Publish")
    assert panel["topicName"] == "/" + PolicyParameters().instruction_topic.lstrip("/")
    assert panel["datatype"] == "std_msgs/msg/String"
    assert json.loads(panel["value"]).keys() == {"data"}


def test_every_foxglove_panel_has_its_place() -> None:
    assert sorted(leaves(layout()["layout"])) == sorted(layout()["configById"])

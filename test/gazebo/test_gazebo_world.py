# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The Gazebo world is the built-in tabletop: same kinematics, places and camera; and the bridge speaks of its topics.

Gazebo is not needed for this: the numbers of the SDF are compared with those of the built-in model.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import mujoco
import numpy as np
import pytest
import yaml
from scipy.spatial.transform import Rotation

from sqap_vla.sim.camera import CameraConfig, base_T_camera, intrinsics
from sqap_vla.sim.scene import ARM_JOINTS, JOINTS, Scene
from sqap_vla.sim.transforms import make_transform

CONFIG = Path(__file__).resolve().parents[2] / "config"
WORLD = ET.parse(CONFIG / "gazebo_tabletop.sdf").getroot().find("world")
BRIDGE = yaml.safe_load((CONFIG / "gazebo_bridge.yaml").read_text())
# ros_gz_bridge, Jazzy: keys of an entry, and which message answers to which
KEYS = {"ros_topic_name", "gz_topic_name", "ros_type_name", "gz_type_name", "direction"}
TYPES = {
    "rosgraph_msgs/msg/Clock": "gz.msgs.Clock",
    "sensor_msgs/msg/Image": "gz.msgs.Image",
    "sensor_msgs/msg/CameraInfo": "gz.msgs.CameraInfo",
    "sensor_msgs/msg/JointState": "gz.msgs.Model",
    "std_msgs/msg/Float64": "gz.msgs.Double",
}


def model(name: str) -> ET.Element:
    return WORLD.find(f"model[@name='{name}']")


def pose(element: ET.Element) -> np.ndarray:
    """[4, 4] of an element's pose, in what it is relative to."""
    numbers = [float(word) for word in element.findtext("pose").split()]
    return make_transform(Rotation.from_euler("xyz", numbers[3:]).as_matrix(), np.array(numbers[:3]))


@pytest.fixture(scope="module")
def scene() -> Scene:
    scene = Scene(CameraConfig())
    scene.data.qpos[scene.arm_qpos] = 0.0
    mujoco.mj_kinematics(scene.model, scene.data)
    return scene


def test_links_stand_where_the_built_in_arm_has_them(scene: Scene) -> None:
    links = {link.get("name"): link for link in model("arm").findall("link")}

    def base_T_link(name: str) -> np.ndarray:
        parent = links[name].find("pose").get("relative_to")
        return pose(links[name]) if parent is None else base_T_link(parent) @ pose(links[name])

    for name in links:
        body = scene.data.body(name.removesuffix("_link") if "finger" in name else name)
        assert np.allclose(base_T_link(name), make_transform(body.xmat.reshape(3, 3), body.xpos), atol=1e-6), name
    tool = base_T_link("gripper") @ pose(model("arm").find("frame[@name='gripper_tcp']"))
    assert np.allclose(tool, scene.base_T_ee(), atol=1e-6)


def test_joints_have_the_built_in_axes_and_ranges(scene: Scene) -> None:
    joints = {joint.get("name"): joint for joint in model("arm").findall("joint") if joint.get("type") != "fixed"}
    assert set(joints) == set(JOINTS)
    for name, joint in joints.items():
        built_in = scene.model.joint(name)
        assert joint.get("type") == ("revolute" if name in ARM_JOINTS else "prismatic")
        assert np.allclose([float(word) for word in joint.findtext("axis/xyz").split()], built_in.axis)
        limits = [float(joint.findtext(f"axis/limit/{end}")) for end in ("lower", "upper")]
        assert np.allclose(limits, built_in.range, atol=1e-6)


def test_names_differ_between_siblings_as_gz_sdf_check_wants_it() -> None:
    """Gazebo's own exception is plugins: each names its system."""
    for parent in WORLD.iter():
        names = [child.get("name") for child in parent if child.tag != "plugin" and child.get("name")]
        assert len(set(names)) == len(names), (parent.tag, parent.get("name"))


def test_every_joint_has_a_controller_and_every_topic_a_bridge() -> None:
    controllers = {
        plugin.findtext("joint_name"): plugin.findtext("topic")
        for plugin in model("arm").findall("plugin")
        if "JointPositionController" in plugin.get("name")
    }
    assert set(controllers) == set(JOINTS)
    camera = model("camera").find("link/sensor")
    published = {"/clock", camera.findtext("topic"), camera.findtext("camera/camera_info_topic"), "/arm/joint_states"}
    by_direction = {
        direction: {entry["gz_topic_name"] for entry in BRIDGE if entry["direction"] == direction}
        for direction in ("GZ_TO_ROS", "ROS_TO_GZ")
    }
    assert by_direction == {"GZ_TO_ROS": published, "ROS_TO_GZ": set(controllers.values())}
    assert {entry["ros_topic_name"] for entry in BRIDGE if entry["direction"] == "ROS_TO_GZ"} == {
        f"arm/{name}/position" for name in JOINTS
    }


def test_the_bridges_entries_are_what_ros_gz_bridge_reads() -> None:
    for entry in BRIDGE:
        assert set(entry) == KEYS
        assert TYPES[entry["ros_type_name"]] == entry["gz_type_name"]


def test_the_camera_is_the_built_in_one_and_its_frame_is_optical() -> None:
    sensor = model("camera").find("link/sensor")
    optical_T_sdf = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]])  # SDF's camera looks along x, z up
    base_T_sdf = pose(model("camera"))
    expected = base_T_camera(CameraConfig())
    assert np.allclose(base_T_sdf[:3, 3], expected[:3, 3], atol=1e-6)
    assert np.allclose(base_T_sdf[:3, :3], expected[:3, :3] @ optical_T_sdf, atol=1e-6)
    width, height = (int(sensor.findtext(f"camera/image/{side}")) for side in ("width", "height"))
    focal_px = 0.5 * width / np.tan(0.5 * float(sensor.findtext("camera/horizontal_fov")))
    assert focal_px == pytest.approx(intrinsics(CameraConfig(width_px=width, height_px=height))[0, 0], abs=1e-3)
    assert sensor.findtext("camera/optical_frame_id") == "camera_optical_frame"


def test_cubes_lie_on_the_table() -> None:
    top = model("table").find("link/collision[@name='table_top_collision']")
    surface_m = (pose(model("table")) @ pose(top))[2, 3] + 0.5 * float(top.findtext("geometry/box/size").split()[2])
    assert surface_m == pytest.approx(0.0, abs=1e-6)
    for color in ("red", "green", "blue"):
        size_m = [float(word) for word in model(f"{color}_cube").findtext("link/collision/geometry/box/size").split()]
        assert pose(model(f"{color}_cube"))[2, 3] == pytest.approx(surface_m + 0.5 * size_m[2])

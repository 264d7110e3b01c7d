# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""The policy as a process: frames in, commands out at their rate, and the stop that ends them.

Pinned: a dry run has no live command topic; the zero twist is the last command; nothing follows it.
"""

from __future__ import annotations

import numpy as np
from lifecycle_msgs.msg import State
from policy_client import (
    ACTIVATE,
    CLEANUP,
    COMMANDS,
    CONFIGURE,
    DEACTIVATE,
    Robot,
    nothing,
    seconds,
    velocity,
)
from std_srvs.srv import SetBool, Trigger

DRY = [f"dry_run/{name}" for name in COMMANDS]


def test_a_dry_run_answers_frames_with_chunks_and_commands_and_moves_nothing(robot: Robot):
    robot.start()
    for name in ("chunk", *DRY):
        robot.more(name, 3)
    assert not any(robot.heard[name] for name in COMMANDS)
    assert not any(robot.node.count_publishers(f"/shared/policy/{name}") for name in COMMANDS)


def test_live_commands_are_fresh_named_and_within_limits(robot: Robot):
    robot.start(dry_run=False, limits__max_linear_m_s=0.02, limits__max_angular_rad_s=0.05)
    for name in COMMANDS:
        robot.more(name, 10)
    assert not any(robot.heard[name] for name in DRY)
    twists, poses = robot.heard["twist"], robot.heard["target_pose"]
    for msg in (*twists, *poses):
        assert msg.header.frame_id == "base_link"
    stamps = [seconds(msg) for msg in twists]
    assert stamps == sorted(set(stamps)), "each tick has a stamp of its own"
    now_s = robot.node.get_clock().now().nanoseconds / 1e9
    assert 0 <= now_s - stamps[-1] < 1.0
    speeds = np.array([velocity(msg) for msg in twists])
    assert (np.linalg.norm(speeds[:, :3], axis=1) <= 0.02 + 1e-9).all()
    assert (np.linalg.norm(speeds[:, 3:], axis=1) <= 0.05 + 1e-9).all()
    assert np.abs(speeds).max() > 0
    for pose in poses:  # what the speed reaches in one row of 0.2 s, from (0.3, 0, 0.2)
        p = pose.pose.position
        assert np.linalg.norm([p.x - 0.3, p.y, p.z - 0.2]) <= 0.02 * 0.2 + 1e-9
    assert all(len(msg.data) == 1 and 0.0 <= msg.data[0] <= 1.0 for msg in robot.heard["gripper"])


def test_a_chunk_has_16_rows_of_7(robot: Robot):
    robot.start()
    robot.more("chunk")
    msg = robot.heard["chunk"][-1]
    assert [(dim.label, dim.size, dim.stride) for dim in msg.layout.dim] == [("step", 16, 112), ("action", 7, 7)]
    assert len(msg.data) == 112 and np.isfinite(msg.data).all()


def test_commands_come_at_their_rate_not_the_cameras(robot: Robot):
    robot.start(rate_hz=50.0)
    robot.more("dry_run/twist", 60)
    gaps_s = np.diff([seconds(msg) for msg in robot.heard["dry_run/twist"]])
    assert 0.8 / 50 < np.median(gaps_s) < 2.0 / 50


def test_the_stop_goes_out_last_when_it_is_deactivated(robot: Robot):
    robot.start(dry_run=False)
    robot.wait(lambda: any(any(velocity(msg)) for msg in robot.heard["twist"]), "motion")
    robot.go(DEACTIVATE)
    robot.wait_stopped(prefix="")
    robot.quiet("chunk")
    robot.go(ACTIVATE)
    robot.more("twist")
    robot.more("chunk")


def test_commands_stop_when_images_cease_and_go_on_when_they_return(robot: Robot):
    robot.start(max_chunk_age_s=0.6)
    robot.more("dry_run/twist", 3)
    robot.bend["image"] = nothing
    last_frame_s = robot.node.get_clock().now().nanoseconds / 1e9
    robot.has_value("command/stop_reason", "chunk_too_old")
    robot.wait_stopped()
    moving_s = [seconds(msg) for msg in robot.heard["dry_run/twist"] if any(velocity(msg))]
    assert moving_s[-1] < last_frame_s + 0.6 + 0.2
    robot.bend.clear()
    robot.more("dry_run/target_pose", 3)


def test_commands_stop_when_the_hands_pose_is_stale_while_inference_goes_on(robot: Robot):
    robot.start(max_ee_age_s=0.3, max_chunk_age_s=20.0)
    robot.more("dry_run/twist", 3)
    robot.bend["tf"] = nothing
    robot.has_value("command/stop_reason", "no_end_effector_pose")
    robot.wait_stopped()
    robot.more("chunk", 2)
    robot.wait(lambda: "tf/warning/ee_transform_stale" in robot.values(), "a warning")
    robot.bend.clear()
    robot.more("dry_run/target_pose", 3)
    robot.has_value("command/stop_reason", "")


def test_another_instruction_ends_the_chunk_of_the_last_one_and_the_same_does_not(robot: Robot):
    robot.start(max_chunk_age_s=20.0, max_silence_s=60.0)
    robot.more("chunk", 2)
    robot.bend["image"] = nothing  # nothing new comes: what moves now is the old chunk
    robot.say("pick up the red cube")
    robot.more("dry_run/target_pose", 10)
    robot.say("open the top drawer")
    robot.has_value("command/stop_reason", "no_chunk")
    robot.has_value("input/instruction", "open the top drawer")
    robot.wait_stopped()
    robot.bend.clear()
    robot.more("dry_run/target_pose", 2)
    assert robot.set({"instruction": "close the drawer"}) == [(True, "")]
    robot.has_value("input/instruction", "close the drawer")
    robot.more("chunk")


def test_an_empty_instruction_holds_still_until_there_is_one(robot: Robot):
    robot.start()
    robot.more("dry_run/twist")
    for empty in ("", "  \n"):
        robot.say(empty)
        robot.has_value("input/last_rejection", "instruction_empty")
        robot.wait_stopped()
        robot.quiet("chunk")
        robot.say("push the green block")
        robot.more("dry_run/target_pose")
        robot.has_value("input/last_rejection", "")


def test_an_operator_holds_commands_back_while_inference_goes_on(robot: Robot):
    robot.start()
    robot.more("dry_run/twist")
    assert robot.call(SetBool, "enable", SetBool.Request(data=False)).success
    robot.has_value("command/stop_reason", "disabled")
    robot.wait_stopped()
    robot.more("chunk")
    assert robot.call(Trigger, "stop", Trigger.Request()).success
    assert robot.call(SetBool, "enable", SetBool.Request(data=True)).success
    robot.has_value("command/stop_reason", "stopped_by_operator")
    robot.go(DEACTIVATE, ACTIVATE)
    robot.more("chunk")
    robot.quiet(*DRY)
    robot.call(Trigger, "reset_stop", Trigger.Request())
    robot.more("dry_run/target_pose")


def test_limits_may_be_set_while_it_moves(robot: Robot):
    robot.start()
    robot.more("dry_run/twist", 3)
    assert robot.set({"limits.max_linear_m_s": 0.001}) == [(True, "")]
    robot.forget()
    robot.more("dry_run/twist", 10)
    speeds = np.array([velocity(msg) for msg in robot.heard["dry_run/twist"]])
    assert (np.linalg.norm(speeds[1:, :3], axis=1) <= 0.001 + 1e-9).all()
    robot.wait(lambda: int(robot.values().get("command/limit/linear_speed", "0")) > 0, "the limit is counted")
    for values, said in (
        ({"limits.max_linear_m_s": 0.0}, "max_linear_m_s is 0"),
        ({"limits.max_linear_m_s": 11.0}, ""),
        ({"limits.workspace_min_m": [2.0, 0.0, 0.0]}, "workspace is"),
        ({"limits.workspace_min_m": [0.0]}, "workspace is"),
    ):
        ((successful, reason),) = robot.set(values)
        assert not successful and said in reason


def test_transitions_that_the_state_does_not_have_are_refused_and_it_lives_on(robot: Robot):
    robot.start()
    assert not robot.transition(ACTIVATE) and not robot.transition(CONFIGURE) and not robot.transition(99)
    assert robot.state() == State.PRIMARY_STATE_ACTIVE
    robot.more("dry_run/twist")


def test_it_can_be_cleaned_up_set_otherwise_and_configured_again(robot: Robot):
    for method, kept in (("dense", "256"), ("random", "154"), ("sqap", "154")):
        robot.start(method=method)
        robot.has_value("tokens/kept", kept)
        robot.go(DEACTIVATE, CLEANUP)
        robot.has_status("not configured")
        for name in ("chunk", *DRY):
            assert robot.node.count_publishers(f"/shared/policy/{name}") == 0, "nothing is left of it"

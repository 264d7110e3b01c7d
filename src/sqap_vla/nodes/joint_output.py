# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""~/joint_trajectory for ros2_control's joint_trajectory_controller, or the same under ~/dry_run/.

One trajectory per tick, stamped now, at most half a second long and at rest at its end; each goes on where the one
before is at that time. So a controller that hears nothing more stops the arm by itself, and one that gets a
trajectory late drops the part that is over. A stop is a trajectory that slows down at once.
"""

from __future__ import annotations

import numpy as np
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from sqap_vla.nodes import qos
from sqap_vla.nodes.conversions import InputError, stamp_msg
from sqap_vla.nodes.joint_state_input import JointStateInput
from sqap_vla.nodes.latched_text import latched_text
from sqap_vla.nodes.policy_parameters import PolicyParameters
from sqap_vla.runtime.command import Stop
from sqap_vla.runtime.joint_plan import JointPlan, JointPlanner, Preview
from sqap_vla.runtime.kinematics import ArmKinematics
from sqap_vla.runtime.limits import Limits, RefusedCommand

TRACKING_ERROR = "joint_tracking_error"
PLAN_REFUSED = "joint_plan_refused"


def arm_from_description(node: LifecycleNode, params: PolicyParameters) -> ArmKinematics | None:
    """None without joint_names. Raises ValueError where the description does not come, or does not fit."""
    if not params.joint_names:
        return None
    if params.limit_joint_accel_rad_s2 is None:
        raise ValueError("limits not set: limits.max_joint_accel_rad_s2; joint commands do not start without it")
    topic, timeout_s = params.robot_description_topic, params.robot_description_timeout_s
    urdf = latched_text(node, topic, timeout_s)
    if urdf is None:
        raise ValueError(
            f"no robot description came on {node.resolve_topic_name(topic)} within {timeout_s:.0f} s; start "
            "robot_state_publisher, or set robot_description_topic"
        )
    return ArmKinematics(urdf, params.joint_names, params.base_frame, params.ee_frame)


class JointOutput:
    """Raises ValueError where limits are missing or times do not fit."""

    def __init__(self, node: LifecycleNode, params: PolicyParameters, arm: ArmKinematics) -> None:
        joint_limits = arm.limits(
            params.limit_joint_accel_rad_s2, params.limit_joint_velocity_rad_s, params.limit_joint_jerk_rad_s3
        )
        self._planner = JointPlanner(
            arm,
            joint_limits,
            params.make_limits(),
            params.step_s,
            params.trajectory_horizon_s,
            params.trajectory_span_s,
        )
        self._node, self._names, self._dry_run = node, params.joint_names, params.dry_run
        self._frame, self._max_error = params.base_frame, params.max_joint_error_rad
        self._plan: JointPlan | None = None
        prefix = "~/dry_run/" if params.dry_run else "~/"
        self._states = JointStateInput(node, params.joint_states_topic, params.joint_names, params.max_joint_age_s)
        self._publisher = node.create_lifecycle_publisher(JointTrajectory, prefix + "joint_trajectory", qos.command())

    @property
    def limits(self) -> Limits:
        return self._planner.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._planner.limits = limits

    def plan(self, now_ns: int, base_T_ee: np.ndarray, preview: Preview, scale: float) -> JointPlan | Stop:
        """The next trajectory; it is not sent yet."""
        try:
            state = self._state(now_ns)
            return self._planner.plan(now_ns, state, base_T_ee, preview, scale)
        except InputError as error:
            return Stop(error.reason, str(error))
        except RefusedCommand as refused:
            return Stop(PLAN_REFUSED, str(refused))

    def send(self, plan: JointPlan) -> None:
        msg = JointTrajectory(joint_names=list(self._names))
        msg.header.stamp, msg.header.frame_id = stamp_msg(plan.start_ns), self._frame
        for time_s, positions, velocities in zip(plan.times_s, plan.positions, plan.velocities, strict=True):
            point = JointTrajectoryPoint(positions=positions.tolist(), velocities=velocities.tolist())
            point.time_from_start = Duration(seconds=float(time_s)).to_msg()
            msg.points.append(point)
        self._plan = plan
        self._publisher.publish(msg)

    def stop(self, now_ns: int) -> None:
        """Slows down what is under way, once."""
        plan, self._plan = self._plan, None
        if plan is not None:
            stopping = self._planner.stop(now_ns, plan.at(now_ns))
            self.send(stopping)
            self._plan = None

    def halt(self, now_ns: int, timeout_s: float) -> None:
        """The same, and waits until every reliable consumer has it."""
        if self._plan is not None:
            self.stop(now_ns)
            self._publisher.wait_for_all_acked(Duration(seconds=timeout_s))

    def destroy(self) -> None:
        self._states.destroy()
        self._node.destroy_lifecycle_publisher(self._publisher)

    def _state(self, now_ns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where the next plan begins: on the one before, or where the arm is at rest. Raises InputError."""
        at_ns, measured = self._states.at(now_ns)
        if self._plan is None or self._dry_run:  # in a dry run nobody follows
            return measured, np.zeros_like(measured), np.zeros_like(measured)
        error = np.abs(self._plan.at(at_ns)[0] - measured)
        if error.max() > self._max_error:
            worst = int(np.argmax(error))
            raise InputError(
                TRACKING_ERROR,
                f"{self._names[worst]} is {error[worst]:.3f} away from its trajectory; at most max_joint_error_rad = "
                f"{self._max_error:g} is allowed. Does a controller follow {self._publisher.topic_name}?",
            )
        return self._plan.at(now_ns)

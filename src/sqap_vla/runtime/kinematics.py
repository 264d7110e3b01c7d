# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Forward and differential inverse kinematics of one arm, from its URDF (pinocchio, on PyPI as `pin`).

Twists and poses are of the end-effector's origin along the axes of the base frame, as everywhere in this package.
Joint vectors follow the order of `joint_names`; radians, or metres for prismatic joints.

Differential IK: damped least squares (Nakamura and Hanafusa 1986), damped only where the smallest singular value is
below a threshold, so that the speed of joints stays bounded near a singularity. A joint at its limit is held there
and the others make up for it as far as they can. Velocity limits scale all joints alike, so that the direction is
kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sqap_vla.runtime.limits import RefusedCommand

SINGULARITY = "singularity"
JOINT_POSITION = "joint_position"
JOINT_VELOCITY = "joint_velocity"
SINGULAR_VALUE = 0.05  # below this the damping sets in; m/rad and rad/rad, a mixture that serves arms of about a metre
MAX_DAMPING = 0.05


class KinematicsError(ValueError):
    """The robot description, its joints or frames do not fit."""


@dataclass(frozen=True, eq=False)
class JointLimits:
    """[n] each. Raises ValueError unless lower < upper and the rest is positive; upper and lower may be infinite."""

    lower: np.ndarray
    upper: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray
    jerk: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not (self.lower < self.upper).all():
            raise ValueError(f"joint limits are {self.lower} to {self.upper}; each lower must be below its upper")
        for name in ("velocity", "acceleration", "jerk"):
            values = getattr(self, name)
            if values is not None and not (np.isfinite(values).all() and (values > 0).all()):
                raise ValueError(f"joint {name} limits are {values}; they must be positive and finite")


class ArmKinematics:
    """The chain from base_frame to ee_frame. Not thread-safe.

    Raises KinematicsError where pinocchio is missing, the URDF cannot be read, a frame or joint is not in it, or the
    chain has a movable joint that is not named.
    """

    def __init__(self, urdf: str, joint_names: tuple[str, ...], base_frame: str, ee_frame: str) -> None:
        self._pin = pin = _pinocchio()
        try:
            full = pin.buildModelFromXML(urdf)
        except (ValueError, RuntimeError) as error:
            raise KinematicsError(f"robot_description cannot be read as a URDF: {error}") from error
        for name in joint_names:
            if not full.existJointName(name):
                raise KinematicsError(
                    f"joint '{name}' is not in robot_description; it has: {', '.join(full.names[1:])}"
                )
        for name in (base_frame, ee_frame):
            if not full.existFrame(name):
                links = [frame.name for frame in full.frames if frame.type == pin.FrameType.BODY]
                raise KinematicsError(f"frame '{name}' is not a link of robot_description; it has: {', '.join(links)}")
        between = _chain(full, base_frame) ^ _chain(full, ee_frame)
        unnamed = [full.names[joint] for joint in sorted(between) if full.names[joint] not in joint_names]
        if unnamed:
            raise KinematicsError(
                f"{', '.join(unnamed)} moves '{ee_frame}' against '{base_frame}' and is not among the joint names"
            )
        locked = [joint for joint in range(1, full.njoints) if full.names[joint] not in joint_names]
        self._model = model = pin.buildReducedModel(full, locked, pin.neutral(full))
        self._data = model.createData()
        self._joints = [model.joints[model.getJointId(name)] for name in joint_names]
        if any(joint.nv != 1 for joint in self._joints):
            raise KinematicsError(f"joints {', '.join(joint_names)} must have one degree of freedom each")
        self._columns = [joint.idx_v for joint in self._joints]
        in_chain = {full.names[joint] for joint in between}
        self._moves = np.array(
            [float(name in in_chain) for name in joint_names]
        )  # the others carry base and hand alike
        self._base, self._ee = model.getFrameId(base_frame), model.getFrameId(ee_frame)
        self.joint_names = joint_names

    def limits(self, acceleration: float, max_velocity: float | None = None, jerk: float | None = None) -> JointLimits:
        """Positions and velocities as the URDF has them, the velocity at most max_velocity; the same acceleration for
        every joint. Raises KinematicsError where the URDF gives a joint no velocity limit and max_velocity is None.
        """
        count = len(self._joints)
        lower, upper, velocity = np.full(count, -np.inf), np.full(count, np.inf), np.empty(count)
        for number, joint in enumerate(self._joints):
            if joint.nq == 1:  # a continuous joint has two numbers, cosine and sine, and no limit
                lower[number] = self._model.lowerPositionLimit[joint.idx_q]
                upper[number] = self._model.upperPositionLimit[joint.idx_q]
            velocity[number] = self._model.velocityLimit[joint.idx_v]
        velocity[(velocity <= 0) | (velocity > 1e3)] = np.inf  # how an absent limit is read
        if max_velocity is not None:
            velocity = np.minimum(velocity, max_velocity)
        without = [name for name, value in zip(self.joint_names, velocity, strict=True) if not np.isfinite(value)]
        if without:
            raise KinematicsError(
                f"robot_description has no velocity limit for {', '.join(without)}; set limits.max_joint_velocity_rad_s"
            )
        jerks = None if jerk is None else np.full(count, jerk)
        return JointLimits(lower, upper, velocity, np.full(count, acceleration), jerks)

    def forward(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """base_T_ee [4, 4] and the Jacobian [6, n]: twist along base axes = Jacobian x joint velocities."""
        pin, model, data = self._pin, self._model, self._data
        configuration = pin.neutral(model)
        for joint, position in zip(self._joints, positions, strict=True):
            if joint.nq == 1:
                configuration[joint.idx_q] = position
            else:
                configuration[joint.idx_q : joint.idx_q + 2] = np.cos(position), np.sin(position)
        pin.computeJointJacobians(model, data, configuration)
        pin.updateFramePlacements(model, data)
        base_T_world = data.oMf[self._base].inverse()
        pose = (base_T_world * data.oMf[self._ee]).homogeneous
        rotation = base_T_world.rotation
        jacobian = pin.getFrameJacobian(model, data, self._ee, pin.ReferenceFrame.LOCAL_WORLD_ALIGNED)
        jacobian = jacobian[:, self._columns] * self._moves
        return pose, np.concatenate([rotation @ jacobian[:3], rotation @ jacobian[3:]])


def joint_velocities(
    jacobian: np.ndarray, twist: np.ndarray, positions: np.ndarray, limits: JointLimits, period_s: float
) -> tuple[np.ndarray, list[str]]:
    """Velocities [n] that perform the twist [6] as well as the limits let them, and the names of those that engaged.

    Within one period no joint passes its limit, and each can still brake before it. Raises RefusedCommand for numbers
    that are not finite.
    """
    if not (np.isfinite(jacobian).all() and np.isfinite(twist).all() and np.isfinite(positions).all()):
        raise RefusedCommand("jacobian, twist or joint positions hold a value that is not finite")
    engaged: list[str] = []
    low, high = (
        np.sign(room) * np.minimum(np.abs(room) / period_s, np.sqrt(2 * limits.acceleration * np.abs(room)))
        for room in (np.minimum(limits.lower - positions, 0.0), np.maximum(limits.upper - positions, 0.0))
    )
    fastest = float(np.max(np.abs(_damped_least_squares(jacobian, twist)[0]) / limits.velocity))
    if fastest > 1:
        engaged.append(JOINT_VELOCITY)
        twist = twist / fastest
    velocities = np.zeros(len(positions))
    free = np.ones(len(positions), dtype=bool)
    left = twist
    while free.any():
        solved, damped = _damped_least_squares(jacobian[:, free], left)
        if damped:
            engaged.append(SINGULARITY)
        velocities[free] = solved
        excess = np.maximum(velocities - high, low - velocities)
        excess[~free] = 0.0
        worst = int(np.argmax(excess))
        if excess[worst] <= 1e-12:
            break
        engaged.append(JOINT_POSITION)
        velocities[worst] = np.clip(velocities[worst], low[worst], high[worst])
        free[worst] = False
        left = left - jacobian[:, worst] * velocities[worst]
    fastest = float(np.max(np.abs(velocities) / limits.velocity))
    if fastest > 1:  # those that make up for a joint at its limit
        engaged.append(JOINT_VELOCITY)
        velocities = velocities / fastest
    return velocities, list(dict.fromkeys(engaged))


def _damped_least_squares(jacobian: np.ndarray, twist: np.ndarray) -> tuple[np.ndarray, bool]:
    left, singular, right = np.linalg.svd(jacobian, full_matrices=False)
    smallest = float(singular[-1])
    damping = 0.0
    if smallest < SINGULAR_VALUE:
        damping = (1 - (smallest / SINGULAR_VALUE) ** 2) * MAX_DAMPING**2
    return right.T @ (singular / (singular**2 + damping) * (left.T @ twist)), damping > 0


def _chain(model, frame: str) -> set[int]:
    """Joints that move the frame against the world."""
    joint = model.frames[model.getFrameId(frame)].parentJoint
    return {int(parent) for parent in model.supports[joint] if parent > 0}


def _pinocchio():
    try:
        import pinocchio  # only who sends joint commands needs it
    except ImportError as error:
        raise KinematicsError(
            "joint commands need pinocchio, which is not installed: pip install pin, or the ROS package pinocchio"
        ) from error
    return pinocchio

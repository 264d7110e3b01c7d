# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""tf2 lookups against matrix composition and SciPy's slerp. They hold for the true tf2_ros just as well."""

from __future__ import annotations

import numpy as np
import pytest
import tf2_ros
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.duration import Duration
from rclpy.time import Time
from scipy.spatial.transform import Rotation, Slerp
from tf2_ros import Buffer
from transforms import matrix, message, stamp_ns

SECOND = 1_000_000_000

coordinates = st.floats(-10, 10, allow_nan=False)
translations = st.tuples(coordinates, coordinates, coordinates)
rotations = st.tuples(*[st.floats(-3.0, 3.0)] * 3).map(lambda v: Rotation.from_rotvec(np.array(v)))
edges = st.tuples(rotations, translations, st.booleans())


@st.composite
def trees(draw: st.DrawFn) -> list[tuple[int, Rotation, tuple[float, float, float], bool]]:
    """For the frames 1, 2, ...: parent (any frame before it, 0 is the root), transform, whether it is
    static.
    """
    count = draw(st.integers(1, 8))
    return [(draw(st.integers(0, index)), *draw(edges)) for index in range(count)]


@settings(max_examples=60, deadline=None)
@given(trees(), st.data())
def test_any_two_frames_compose_through_their_common_ancestor(tree: list, data: st.DataObject) -> None:
    buffer = Buffer()
    world = [np.eye(4)]  # root_T_frame
    for index, (parent, rotation, translation, is_static) in enumerate(tree, start=1):
        transform = message(f"f{parent}", f"f{index}", 5 * SECOND, rotation, translation)
        (buffer.set_transform_static if is_static else buffer.set_transform)(transform, "test")
        world.append(world[parent] @ matrix(transform))
    target, source = (data.draw(st.integers(0, len(tree))) for _ in range(2))
    found = buffer.lookup_transform(f"f{target}", f"f{source}", Time(nanoseconds=5 * SECOND))
    assert (found.header.frame_id, found.child_frame_id) == (f"f{target}", f"f{source}")
    assert stamp_ns(found) == 5 * SECOND
    np.testing.assert_allclose(matrix(found), np.linalg.inv(world[target]) @ world[source], atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(rotations, rotations, translations, translations, st.floats(0, 1))
def test_between_samples_translation_is_linear_and_rotation_slerp(
    first: Rotation, second: Rotation, start: tuple, end: tuple, ratio: float
) -> None:
    buffer = Buffer()
    buffer.set_transform(message("base", "ee", SECOND, first, start), "test")
    buffer.set_transform(message("base", "ee", 2 * SECOND, second, end), "test")
    time_ns = SECOND + round(ratio * SECOND)
    found = matrix(buffer.lookup_transform("base", "ee", Time(nanoseconds=time_ns)))
    ratio = (time_ns - SECOND) / SECOND
    if (first.inv() * second).magnitude() < np.pi - 1e-6:  # at half a turn there are two shortest ways
        expected = Slerp([0, 1], Rotation.concatenate([first, second]))(ratio)
        np.testing.assert_allclose(found[:3, :3], expected.as_matrix(), atol=1e-7)
    np.testing.assert_allclose(found[:3, 3], (1 - ratio) * np.array(start) + ratio * np.array(end), atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(6)), st.integers(0, 5 * 1000))
def test_samples_may_arrive_in_any_order(order: list[int], time_ms: int) -> None:
    buffer = Buffer()
    for index in order:
        buffer.set_transform(message("a", "b", (index + 1) * SECOND, translation=(index**2, 0, 0)), "test")
    found = matrix(buffer.lookup_transform("a", "b", Time(nanoseconds=SECOND + time_ms * 1_000_000)))
    assert found[0, 3] == pytest.approx(np.interp(time_ms / 1000, range(6), [i**2 for i in range(6)]))


def test_time_zero_is_the_latest_time_common_to_the_chain() -> None:
    buffer = Buffer()
    for stamp in (1, 2, 3):
        buffer.set_transform(message("world", "base", stamp * SECOND, translation=(stamp, 0, 0)), "test")
    for stamp in (1, 2):
        buffer.set_transform(message("base", "ee", stamp * SECOND, translation=(0, stamp, 0)), "test")
    buffer.set_transform_static(message("world", "camera"), "test")
    found = buffer.lookup_transform("camera", "ee", Time())
    assert stamp_ns(found) == 2 * SECOND
    np.testing.assert_allclose(matrix(found)[:3, 3], [2, 2, 0])


def test_static_transforms_hold_at_any_time_and_have_stamp_zero_for_latest() -> None:
    buffer = Buffer()
    buffer.set_transform_static(message("base", "camera", 7 * SECOND, translation=(1, 0, 0)), "test")
    assert stamp_ns(buffer.lookup_transform("base", "camera", Time())) == 0
    assert stamp_ns(buffer.lookup_transform("base", "camera", Time(seconds=1e6))) == 10**6 * SECOND


def test_full_lookup_moves_the_source_in_the_fixed_frame() -> None:
    buffer = Buffer()
    for stamp in (1, 2, 3):
        buffer.set_transform(message("odom", "base", stamp * SECOND, translation=(stamp, 0, 0)), "test")
    found = buffer.lookup_transform_full("base", Time(seconds=3), "base", Time(seconds=1), "odom")
    np.testing.assert_allclose(matrix(found)[:3, 3], [-2, 0, 0])
    assert buffer.can_transform_full("base", Time(seconds=3), "base", Time(seconds=1), "odom")


def test_errors_have_the_class_of_their_cause() -> None:
    buffer = Buffer()
    buffer.set_transform(message("base", "ee", 2 * SECOND), "test")
    buffer.set_transform(message("base", "ee", 3 * SECOND), "test")
    buffer.set_transform(message("other", "thing", 2 * SECOND), "test")
    buffer.set_transform(message("base", "once", 2 * SECOND), "test")
    for arguments, error in (
        (("base", "nowhere", Time()), tf2_ros.LookupException),
        (("", "ee", Time()), tf2_ros.InvalidArgumentException),
        (("/base", "ee", Time()), tf2_ros.InvalidArgumentException),
        (("base", "thing", Time()), tf2_ros.ConnectivityException),
        (("base", "thing", Time(seconds=2)), tf2_ros.ConnectivityException),
        (("base", "ee", Time(seconds=1)), tf2_ros.ExtrapolationException),
        (("base", "ee", Time(seconds=4)), tf2_ros.ExtrapolationException),
        (("base", "once", Time(seconds=1)), tf2_ros.ExtrapolationException),
    ):
        assert issubclass(error, tf2_ros.TransformException)
        with pytest.raises(error):
            buffer.lookup_transform(*arguments)
        possible, reason = buffer.can_transform(*arguments, return_debug_tuple=True)
        assert not possible and reason
    with pytest.raises(ValueError, match="null character"):
        buffer.can_transform("ba\0se", "ee", Time())


def test_a_loop_of_frames_is_a_lookup_error() -> None:
    buffer = Buffer()
    for parent, child in (("a", "b"), ("b", "c"), ("c", "a"), ("x", "y")):
        buffer.set_transform(message(parent, child, SECOND), "test")
    with pytest.raises(tf2_ros.LookupException):
        buffer.lookup_transform("x", "a", Time(seconds=1))


@pytest.mark.parametrize("cache_s", [10, 2])
def test_the_buffer_keeps_ten_seconds_or_what_it_is_told(cache_s: int) -> None:
    buffer = Buffer() if cache_s == 10 else Buffer(cache_time=Duration(seconds=cache_s))
    for stamp in range(1, 40):
        buffer.set_transform(message("a", "b", stamp * SECOND), "test")
    assert buffer.can_transform("a", "b", Time(seconds=39 - cache_s))
    assert not buffer.can_transform("a", "b", Time(seconds=39 - cache_s - 2))
    buffer.set_transform(message("a", "b", (39 - cache_s - 5) * SECOND), "test")  # too old to be taken
    assert not buffer.can_transform("a", "b", Time(seconds=39 - cache_s - 4))


def test_clear_forgets_moving_transforms_and_keeps_static_ones() -> None:
    buffer = Buffer()
    buffer.set_transform(message("base", "ee", 90 * SECOND), "test")
    buffer.set_transform_static(message("base", "camera"), "test")
    buffer.clear()
    assert buffer.can_transform("base", "camera", Time())
    with pytest.raises(tf2_ros.TransformException):
        buffer.lookup_transform("base", "ee", Time())
    buffer.set_transform(message("base", "ee", SECOND), "test")  # after a jump back
    assert stamp_ns(buffer.lookup_transform("base", "ee", Time())) == SECOND


def test_malformed_transforms_are_left_out() -> None:
    buffer = Buffer()
    bad = message("a", "b", SECOND)
    bad.transform.rotation.w = 0.0
    infinite = message("a", "b", SECOND, translation=(float("nan"), 0, 0))
    for transform in (
        bad,
        infinite,
        message("a", "a", SECOND),
        message("", "b", SECOND),
        message("a", "", SECOND),
    ):
        buffer.set_transform(transform, "test")
    assert not buffer.can_transform("a", "b", Time())

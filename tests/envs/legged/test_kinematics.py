import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from hinf_rl.envs.legged import kinematics
from hinf_rl.envs.legged.mjcf import build_mjcf
from hinf_rl.envs.legged.robots import LEGS, ROBOTS

NAMES = st.sampled_from(sorted(ROBOTS))
UNIT = st.floats(-1.0, 1.0)
ANGLES = st.lists(UNIT, min_size=12, max_size=12)
ROTATION_VECTORS = st.tuples(*[st.floats(-2.0, 2.0)] * 3)


@functools.cache
def model_of(name):
    return mujoco.MjModel.from_xml_string(build_mjcf(ROBOTS[name]))


@functools.cache
def legs_of(name):
    return jax.jit(functools.partial(kinematics.leg_kinematics, ROBOTS[name]))


def joints_in_range(name, units):
    low, high = np.tile(ROBOTS[name].joint_range, (4, 1)).T
    return low + (np.asarray(units) + 1.0) / 2.0 * (high - low)


def placed(name, joints, quaternion=(1.0, 0.0, 0.0, 0.0)):
    data = mujoco.MjData(model_of(name))
    data.qpos[:7] = (0, 0, 0, *quaternion)
    data.qpos[7:] = joints
    mujoco.mj_kinematics(model_of(name), data)
    mujoco.mj_comPos(model_of(name), data)
    return data


def feet_of(name, joints):
    data = placed(name, joints)
    return np.array([data.geom(f"{leg}_foot").xpos for leg in LEGS])


def unit_quaternion(vector):
    """Scalar first, float32, of a rotation vector."""
    return np.roll(Rotation.from_rotvec(vector).as_quat(), 1).astype(np.float32)


@given(name=NAMES, units=ANGLES)
@settings(deadline=None)
def test_feet_are_where_mujoco_puts_them(name, units):
    joints = joints_in_range(name, units)
    feet, _ = legs_of(name)(jnp.asarray(joints, jnp.float32))
    np.testing.assert_allclose(feet, feet_of(name, joints), atol=2e-6)


@given(name=NAMES, units=ANGLES)
@settings(deadline=None)
def test_jacobians_are_those_of_mujoco_and_of_finite_differences(name, units):
    joints, step = joints_in_range(name, units), 1e-5
    _, jacobians = legs_of(name)(jnp.asarray(joints, jnp.float32))
    data, model = placed(name, joints), model_of(name)
    for leg in range(4):
        columns = np.zeros((3, model.nv))
        mujoco.mj_jacGeom(model, data, columns, None, model.geom(f"{LEGS[leg]}_foot").id)
        own = columns[:, 6 + 3 * leg : 9 + 3 * leg]
        np.testing.assert_allclose(jacobians[leg], own, atol=2e-6)
        for joint in range(3):
            nudge = step * np.eye(12)[3 * leg + joint]
            slope = (feet_of(name, joints + nudge) - feet_of(name, joints - nudge)) / (2 * step)
            np.testing.assert_allclose(jacobians[leg, :, joint], slope[leg], atol=5e-6)


@given(vector=ROTATION_VECTORS, point=st.tuples(UNIT, UNIT, UNIT))
@settings(deadline=None)
def test_rotations_are_those_of_scipy_and_undo_each_other(vector, point):
    quaternion = jnp.asarray(unit_quaternion(vector))
    point = jnp.asarray(point, jnp.float32)
    turned = kinematics.rotate(quaternion, point)
    np.testing.assert_allclose(turned, Rotation.from_rotvec(vector).apply(point), atol=2e-6)
    np.testing.assert_allclose(kinematics.rotate_inverse(quaternion, turned), point, atol=2e-6)


def test_several_vectors_turn_together():
    quaternion = jnp.asarray(unit_quaternion((0.3, -0.5, 1.0)))
    points = jnp.arange(12, dtype=jnp.float32).reshape(4, 3)
    together = kinematics.rotate(quaternion, points)
    for point, turned in zip(points, together, strict=True):
        np.testing.assert_allclose(kinematics.rotate(quaternion, point), turned, atol=1e-5)


@given(yaw=st.floats(-3.1, 3.1), pitch=st.floats(-1.2, 1.2), roll=st.floats(-3.0, 3.0))
@settings(deadline=None)
def test_heading_is_the_first_of_the_three_euler_angles(yaw, pitch, roll):
    x, y, z, w = Rotation.from_euler("ZYX", [yaw, pitch, roll]).as_quat()
    found = kinematics.yaw_angle(jnp.array([w, x, y, z], jnp.float32))
    np.testing.assert_allclose(np.angle(np.exp(1j * (np.float64(found) - yaw))), 0.0, atol=5e-6)


def test_heading_frame_turns_about_the_vertical():
    # A quarter turn to the left: forward becomes left, left becomes backward, up stays.
    turned = kinematics.rotate_heading(
        jnp.float32(np.pi / 2), jnp.array([1.0, 2.0, 3.0], jnp.float32)
    )
    np.testing.assert_allclose(turned, [-2.0, 1.0, 3.0], atol=1e-6)


@pytest.mark.parametrize(
    "angle, wrapped", [(0.0, 0.0), (3.0, 3.0), (4.0, 4.0 - 2 * np.pi), (-7.0, -7.0 + 2 * np.pi)]
)
def test_angles_wrap_to_half_a_turn(angle, wrapped):
    np.testing.assert_allclose(kinematics.wrap_angle(jnp.float32(angle)), wrapped, atol=1e-6)


@given(name=NAMES, vector=ROTATION_VECTORS, height=st.floats(0.0, 1.0))
@settings(deadline=None)
def test_clearance_is_the_height_of_the_lowest_of_the_eight_corners(name, vector, height):
    half = np.asarray(ROBOTS[name].trunk_box) / 2
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * half
    lowest = height + Rotation.from_rotvec(vector).apply(corners)[:, 2].min()
    found = kinematics.trunk_clearance(
        ROBOTS[name], jnp.float32(height), jnp.asarray(unit_quaternion(vector))
    )
    np.testing.assert_allclose(found, lowest, atol=2e-6)

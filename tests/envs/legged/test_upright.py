import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from hinf_rl.envs.legged import upright
from hinf_rl.envs.legged.hind_config import HindLegsConfig
from hinf_rl.envs.legged.kinematics import yaw_angle
from hinf_rl.envs.legged.robots import LEGS

POSE = HindLegsConfig().pose


def quaternion(rotation):
    return jnp.asarray(np.roll(rotation.as_quat(), 1), jnp.float32)


def apart(a, b):
    """Difference of two angles, the short way round."""
    return np.abs(np.angle(np.exp(1j * (np.asarray(a, np.float64) - b))))


@given(yaw=st.floats(-3.1, 3.1), pitch=st.floats(-2.0, 1.5))
def test_heading_is_the_yaw_before_the_nose_rises_and_stays_it(yaw, pitch):
    # Past the vertical too (-2 rad), where the yaw angle has jumped by half a turn.
    turned = quaternion(Rotation.from_euler("ZYX", [yaw, pitch, 0.0]))
    assert apart(upright.heading_angle(turned), yaw) < 1e-3
    np.testing.assert_allclose(
        np.abs(jnp.vdot(upright.pitched(jnp.float32(yaw), pitch), turned)), 1.0, atol=1e-5
    )
    if abs(pitch) < 1.4:
        assert apart(yaw_angle(turned), yaw) < 1e-3


@given(yaw=st.floats(-3.1, 3.1), lean=st.floats(-1.0, 1.0))
def test_heading_ignores_a_lean_to_the_side_on_two_legs(yaw, lean):
    # Upright, a rotation about the trunk's z axis (the world's x before it yaws) leans sideways.
    turned = Rotation.from_euler("ZYX", [yaw, -np.pi / 2, 0.0]) * Rotation.from_euler("z", lean)
    assert apart(upright.heading_angle(quaternion(turned)), yaw) < 1e-3


def test_the_belly_faces_forward_on_two_legs():
    turned = Rotation.from_quat(np.roll(upright.pitched(jnp.float32(0.7), -np.pi / 2), -1))
    np.testing.assert_allclose(
        turned.apply([0.0, 0.0, -1.0]), [np.cos(0.7), np.sin(0.7), 0.0], atol=1e-6
    )


def test_places_of_knees_and_centre_of_mass_are_mujocos(posed, robot, random):
    model, data = posed
    low, high = np.array(robot.joint_range * 4).T
    for _ in range(5):
        joints = random.uniform(low, high)
        data.qpos[7:] = joints
        mujoco.mj_forward(model, data)
        knees = [data.xpos[model.body(f"{leg}_calf").id] for leg in LEGS]
        found = upright.knee_positions(robot, jnp.asarray(joints, jnp.float32))
        np.testing.assert_allclose(found, knees, atol=1e-6)
        np.testing.assert_allclose(
            upright.centre_of_mass(robot, joints), data.subtree_com[1], atol=1e-9
        )


def test_the_stance_balances_on_the_hind_feet(posed, robot):
    model, data = posed
    stance = upright.balanced_stance(robot, POSE)
    data.qpos[:3] = 0, 0, stance.height_m
    data.qpos[3:7] = upright.pitched(jnp.float32(0.0), stance.pitch_rad)
    data.qpos[7:] = POSE
    mujoco.mj_forward(model, data)
    feet = np.array([data.geom_xpos[model.geom(f"{leg}_foot").id] for leg in LEGS])
    com = data.subtree_com[1]
    # Above the line between the hind feet, within their width; the line is all the support.
    np.testing.assert_allclose(feet[2:, 0], com[0], atol=1e-5)
    assert feet[3, 1] + 0.05 < com[1] < feet[2, 1] - 0.05
    np.testing.assert_allclose(feet[2:, 2], robot.foot_radius, atol=1e-6)
    np.testing.assert_allclose(com[2], stance.com_height_m, atol=1e-5)
    vertical = data.xmat[1].reshape(3, 3).T @ [0.0, 0.0, 1.0]
    np.testing.assert_allclose(vertical, stance.vertical, atol=1e-6)
    # Nose up, within 5 degrees; the front feet far above the ground.
    assert vertical[0] > np.cos(np.radians(5.0)) and feet[:2, 2].min() > 0.5
    q = jnp.asarray(data.qpos, jnp.float32)
    np.testing.assert_allclose(
        upright.sole_heights(robot, q), feet[:, 2] - robot.foot_radius, atol=1e-6
    )
    knees = [data.xpos[model.body(f"{leg}_calf").id][2] for leg in LEGS]
    np.testing.assert_allclose(upright.knee_heights(robot, q), knees, atol=1e-6)


@pytest.mark.parametrize("bend", [-1.3, -1.6])
def test_bent_knees_lower_the_stance(robot, bend):
    straight = upright.balanced_stance(robot, POSE)
    lower = upright.balanced_stance(robot, (*POSE[:6], *(0.0, 2.1 - bend - 1.3, bend - 0.3) * 2))
    assert lower.height_m < straight.height_m

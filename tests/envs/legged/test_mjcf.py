import mujoco
import numpy as np
import pytest

from hinf_rl.envs.legged.mjcf import build_mjcf
from hinf_rl.envs.legged.robots import A1, ALIENGO, JOINTS, LEG_SIGNS, LEGS
from hinf_rl.errors import UserError


def compiled(robot, **options):
    model = mujoco.MjModel.from_xml_string(build_mjcf(robot, **options))
    return model, mujoco.MjData(model)


def test_sizes_and_joint_order(robot):
    model, _ = compiled(robot)
    assert (model.nq, model.nv, model.nu) == (19, 18, 12)
    names = [f"{leg}_{joint}" for leg in LEGS for joint in JOINTS]
    assert [model.joint(1 + i).name for i in range(12)] == names
    assert [model.actuator(i).name for i in range(12)] == names
    assert [int(model.actuator_trnid[i, 0]) for i in range(12)] == list(range(1, 13))


def test_joint_ranges_reach_the_model(robot):
    model, _ = compiled(robot)
    np.testing.assert_allclose(model.jnt_range[1:], np.tile(robot.joint_range, (4, 1)))
    assert model.jnt_limited[1:].all()


def test_every_leg_has_its_mirrored_inertials(robot):
    model, _ = compiled(robot)
    for leg, (sx, sy) in zip(LEGS, LEG_SIGNS, strict=True):
        for part, flip_x in (("hip", sx), ("thigh", 1), ("calf", 1)):
            given, body = getattr(robot, part), model.body(f"{leg}_{part}")
            flip = (flip_x, 1 if part == "calf" else sy, 1)
            np.testing.assert_allclose(body.mass, given.mass)
            np.testing.assert_allclose(body.ipos, np.multiply(given.com, flip), atol=1e-9)


def test_actuators_are_clipped_pd_control(robot, random):
    # Far targets reach the torque limits, near ones do not: both sides of the clip are tested.
    model, data = compiled(robot)
    low, high = model.jnt_range[1:].T
    clipped = 0
    for spread in (0.1, 3.0):
        data.qpos[7:] = random.uniform(low, high)
        data.qvel[6:] = random.normal(size=12)
        data.ctrl[:] = data.qpos[7:] + spread * random.normal(size=12)
        mujoco.mj_forward(model, data)
        torque = robot.stiffness * (data.ctrl - data.qpos[7:]) - robot.damping * data.qvel[6:]
        limit = np.tile(robot.torque_limit, 4)
        clipped += (np.abs(torque) > limit).sum()
        np.testing.assert_allclose(data.actuator_force, np.clip(torque, -limit, limit), atol=1e-9)
        np.testing.assert_allclose(data.qfrc_actuator[6:], data.actuator_force, atol=1e-9)
    assert 0 < clipped < 24


def lying_contacts(robot, collisions):
    """Names of the geoms that touch the floor when a folded robot lies in it."""
    model, data = compiled(robot, collisions=collisions)
    data.qpos[:] = (0, 0, 0.02, 1, 0, 0, 0, *robot.default_pose)
    mujoco.mj_forward(model, data)
    pairs = [{model.geom(g).name for g in contact.geom} for contact in data.contact]
    assert all("floor" in pair for pair in pairs), "parts of the robot must not meet each other"
    return set().union(*pairs) - {"floor"}


def test_collision_modes(robot):
    feet = {f"{leg}_foot" for leg in LEGS}
    assert lying_contacts(robot, "feet") == feet | {"trunk"}
    limbs = {f"{leg}_{part}" for leg in LEGS for part in JOINTS}
    assert lying_contacts(robot, "full") == feet | {"trunk"} | limbs


def test_friction_of_a_contact_is_that_of_the_foot_alone(robot):
    model, data = compiled(robot)
    model.geom("floor").friction[0] = 5.0
    for foot, friction in zip(LEGS, (0.1, 0.4, 0.9, 1.2), strict=True):
        model.geom(f"{foot}_foot").friction[0] = friction
    data.qpos[:] = (0, 0, robot.standing_height - 0.01, 1, 0, 0, 0, *robot.default_pose)
    mujoco.mj_forward(model, data)
    found = {model.geom(c.geom[1]).name: c.friction[:2].tolist() for c in data.contact}
    assert found["FL_foot"] == [0.1, 0.1] and found["FR_foot"] == [0.4, 0.4]


def test_options_reach_the_model():
    model, _ = compiled(
        A1,
        timestep=0.002,
        integrator="Euler",
        friction=0.7,
        armature=0.03,
        joint_damping=0.4,
        frictionloss=0.2,
        iterations=7,
        ls_iterations=9,
    )
    assert model.opt.timestep == 0.002
    assert model.opt.integrator == mujoco.mjtIntegrator.mjINT_EULER
    assert (model.opt.iterations, model.opt.ls_iterations) == (7, 9)
    assert model.geom("FL_foot").friction[0] == 0.7
    np.testing.assert_array_equal(model.dof_armature[6:], 0.03)
    np.testing.assert_array_equal(model.dof_damping[6:], 0.4)
    np.testing.assert_array_equal(model.dof_frictionloss[6:], 0.2)
    np.testing.assert_array_equal(model.dof_armature[:6], 0.0)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"timestep": 0.0}, "timestep must be > 0"),
        ({"friction": -1.0}, "friction and armature >= 0"),
        ({"armature": -0.1}, "friction and armature >= 0"),
        ({"collisions": "mesh"}, "'feet' or 'full', got 'mesh'"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        build_mjcf(ALIENGO, **options)

import dataclasses

import mujoco
import numpy as np
import pytest

from hinf_rl.envs.legged.mjcf import build_mjcf
from hinf_rl.envs.legged.robots import A1, ALIENGO, LEGS, get_robot
from hinf_rl.errors import UserError

# Links of the published URDFs: mass, centre of mass, inertia (xx yy zz xy xz yz) about it, and
# where the link sits in the moving body that it is fixed to.
ORIGIN = (0.0, 0.0, 0.0)
ALIENGO_IMU = (0.001, ORIGIN, (1e-4, 1e-6, 1e-4, 0, 0, 0), ORIGIN)
HIP_ROTOR = (1.38702e-4, 8.3352e-5, 8.3352e-5, 0, 0, 0)
LINKS = {
    ("aliengo", "trunk"): [
        (
            11.644,
            (0.008811, 0.003839, 0.000273),
            (0.051944892, 0.24693924, 0.270948307, 0.001703617, 0.000235941, 0.000119783),
            ORIGIN,
        ),
        ALIENGO_IMU,
        *(
            (0.146, ORIGIN, HIP_ROTOR, (sx * 0.139985, sy * 0.051, 0.0))
            for sx in (1, -1)
            for sy in (1, -1)
        ),
    ],
    ("aliengo", "hip"): [
        (
            1.993,
            (-0.022191, 0.015144, -1.5e-5),
            (0.002446735, 0.003925876, 0.004148145, -0.00059805, 1.945e-6, 1.284e-6),
            ORIGIN,
        ),
        (0.146, ORIGIN, (8.3352e-5, 1.38702e-4, 8.3352e-5, 0, 0, 0), (0.0, 0.0298, 0.0)),
    ],
    ("aliengo", "thigh"): [
        (
            0.639,
            (-0.005607, -0.003877, -0.048199),
            (0.004173855, 0.004343802, 0.000340136, 1.0284e-5, -0.000318874, 0.000109233),
            ORIGIN,
        ),
        (0.132, ORIGIN, (1.45463e-4, 1.33031e-4, 1.45463e-4, 0, 0, 0), (0.0, -0.0997, 0.0)),
    ],
    ("aliengo", "calf"): [
        (
            0.207,
            (0.002781, 6.3e-5, -0.142518),
            (0.002129279, 0.002141463, 3.7583e-5, 3.9e-8, 5.757e-6, -5.16e-7),
            ORIGIN,
        ),
        (0.06, ORIGIN, (1.6854e-5, 1.6854e-5, 1.6854e-5, 0, 0, 0), (0.0, 0.0, -0.25)),
    ],
    ("a1", "trunk"): [
        (
            4.713,
            (0.012731, 0.002186, 0.000515),
            (0.01683993, 0.056579028, 0.064713601, 8.3902e-5, 5.97679e-4, 2.5134e-5),
            ORIGIN,
        ),
        (0.001, ORIGIN, (1e-4, 1e-4, 1e-4, 0, 0, 0), ORIGIN),
    ],
    ("a1", "calf"): [
        (
            0.166,
            (0.006435, 0.0, -0.107388),
            (0.002997972, 0.003014022, 3.2426e-5, 0.0, -1.41163e-4, 0.0),
            ORIGIN,
        ),
        (0.06, ORIGIN, (9.6e-6, 9.6e-6, 9.6e-6, 0, 0, 0), (0.0, 0.0, -0.2)),
    ],
}
# Table of both robots in the default pose: mass, weight, feet and centre of mass in the trunk
# frame, composite inertia about the centre of mass, trunk height with the soles on the ground.
SANITY = {
    "aliengo": {
        "mass": 24.937,
        "weight": 244.6,
        "FL": (0.2224, 0.1378, -0.3654),
        "RL": (-0.2590, 0.1378, -0.3654),
        "com": (-0.0028, 0.0018, -0.0158),
        "inertia": (0.277, 1.061, 1.087),
        "height": 0.392,
    },
    "a1": {
        "mass": 12.454,
        "weight": 122.2,
        "FL": (0.1684, 0.1608, -0.2824),
        "RL": (-0.2554, 0.1599, -0.2737),
        "com": (-0.0084, 0.0008, -0.0184),
        "inertia": (0.159, 0.407, 0.437),
        "height": 0.302,
    },
}


def matrix(inertia):
    xx, yy, zz, xy, xz, yz = inertia
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def shifted(inertia, mass, offset):
    """Parallel-axis theorem: inertia about a point `offset` away from the centre of mass."""
    offset = np.asarray(offset)
    return inertia + mass * (offset @ offset * np.eye(3) - np.outer(offset, offset))


def merged(links):
    masses = np.array([mass for mass, *_ in links])
    centres = np.array([np.add(com, place) for _, com, _, place in links])
    centre = masses @ centres / masses.sum()
    inertia = sum(
        shifted(matrix(about), mass, np.add(com, place) - centre)
        for mass, com, about, place in links
    )
    return masses.sum(), centre, inertia


@pytest.mark.parametrize("name, part", LINKS, ids=lambda value: value)
def test_inertials_are_the_published_links_merged_by_the_parallel_axis_theorem(name, part):
    mass, centre, inertia = merged(LINKS[name, part])
    typed = getattr(get_robot(name), part)
    # As many digits as the specification carries: 1e-7 m, nine of the inertia.
    np.testing.assert_allclose(typed.mass, mass, rtol=1e-12)
    np.testing.assert_allclose(typed.com, centre, atol=6e-8)
    np.testing.assert_allclose(matrix(typed.inertia), inertia, rtol=1e-6, atol=2e-10)


@pytest.mark.parametrize("part", ["trunk", "hip", "thigh", "calf"])
def test_inertias_belong_to_real_bodies(robot, part):
    moments = np.linalg.eigvalsh(matrix(getattr(robot, part).inertia))
    assert moments[0] > 0 and moments[2] <= moments[0] + moments[1]


@pytest.mark.parametrize("sx, sy", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_mirrored_inertial_is_that_of_the_mirrored_point_masses(random, sx, sy):
    # An inertial made of five weighed points; reflecting the points must give the reflected one.
    masses, points = random.uniform(0.1, 1.0, 5), random.normal(size=(5, 3))

    def inertial(points):
        links = [(m, p, (0,) * 6, ORIGIN) for m, p in zip(masses, points, strict=True)]
        return merged(links)

    _, com, inertia = inertial(points)
    entries = (*np.diag(inertia), inertia[0, 1], inertia[0, 2], inertia[1, 2])
    given = dataclasses.replace(ALIENGO.hip, mass=masses.sum(), com=tuple(com), inertia=entries)
    reflected = given.mirrored(sx=sx, sy=sy)
    _, com, inertia = inertial(points * [sx, sy, 1.0])
    np.testing.assert_allclose(reflected.com, com, atol=1e-12)
    np.testing.assert_allclose(matrix(reflected.inertia), inertia, atol=1e-12)


def test_mass_and_weight(robot, posed):
    model, _ = posed
    expected = SANITY[robot.name]
    np.testing.assert_allclose(robot.total_mass, expected["mass"], atol=5e-4)
    np.testing.assert_allclose(model.body_mass.sum(), robot.total_mass, rtol=1e-9)
    np.testing.assert_allclose(robot.total_mass * 9.81, expected["weight"], atol=0.06)


def test_feet_of_the_default_pose(robot, posed):
    _, data = posed
    for leg in LEGS:
        x, y, z = SANITY[robot.name][leg[0] + "L"]
        expected = (x, y if leg[1] == "L" else -y, z)
        np.testing.assert_allclose(data.geom(f"{leg}_foot").xpos, expected, atol=1e-4)


def test_composite_centre_and_inertia_of_the_default_pose(robot, posed):
    model, data = posed
    centre = data.subtree_com[1]
    np.testing.assert_allclose(centre, SANITY[robot.name]["com"], atol=1e-4)
    total = np.zeros((3, 3))
    for body in range(1, model.nbody):
        turn = data.ximat[body].reshape(3, 3)
        own = turn @ np.diag(model.body_inertia[body]) @ turn.T
        total += shifted(own, model.body_mass[body], data.xipos[body] - centre)
    np.testing.assert_allclose(np.diag(total), SANITY[robot.name]["inertia"], atol=1e-3)


def test_trunk_height_with_the_soles_on_the_ground(robot, posed):
    _, data = posed
    lowest = min(data.geom(f"{leg}_foot").xpos[2] for leg in LEGS) - robot.foot_radius
    np.testing.assert_allclose(-lowest, SANITY[robot.name]["height"], atol=6e-4)
    np.testing.assert_allclose(robot.standing_height, -lowest, atol=6e-4)


def test_joint_and_torque_limits_are_the_published_ones():
    assert ALIENGO.joint_range == ((-0.873, 1.047), (-0.524, 3.927), (-2.775, -0.611))
    assert ALIENGO.torque_limit == (44.0, 44.0, 55.0)
    assert A1.joint_range == ((-0.802851, 0.802851), (-1.0472, 4.18879), (-2.69653, -0.916298))
    assert A1.torque_limit == (33.5, 33.5, 33.5)


def stand(robot, stiffness, damping, seconds):
    """Settles under PD control to the default pose, from soles 1 mm above the ground."""
    robot = dataclasses.replace(robot, stiffness=stiffness, damping=damping)
    model = mujoco.MjModel.from_xml_string(build_mjcf(robot))
    data = mujoco.MjData(model)
    data.qpos[:] = (0, 0, robot.standing_height + 1e-3, 1, 0, 0, 0, *robot.default_pose)
    data.ctrl[:] = robot.default_pose
    mujoco.mj_step(model, data, nstep=round(seconds / model.opt.timestep))
    mujoco.mj_forward(model, data)
    return model, data


def test_aliengo_stands_on_stiff_legs():
    _, data = stand(ALIENGO, 100.0, 3.0, 3.0)
    assert data.xmat[1].reshape(3, 3)[2, 2] > 0.99
    np.testing.assert_allclose(data.qpos[2], 0.366, atol=3e-3)


def test_a1_stands_on_its_own_gains():
    _, data = stand(A1, 40.0, 1.0, 3.0)
    assert data.xmat[1].reshape(3, 3)[2, 2] > 0.99
    np.testing.assert_allclose(data.qpos[2], 0.276, atol=3e-3)
    front = data.qpos[7:].reshape(4, 3)[:2] - np.reshape(A1.default_pose, (4, 3))[:2]
    np.testing.assert_allclose(front[:, 2], -0.112, atol=5e-3)
    torque = np.abs(data.actuator_force.reshape(4, 3)[:2])
    np.testing.assert_allclose(torque[:, 0], 3.3, atol=0.1)
    np.testing.assert_allclose(torque[:, 2], 4.5, atol=0.15)


def test_standing_robot_rests_on_its_feet_with_its_weight():
    model, data = stand(A1, 100.0, 3.0, 3.0)
    total, wrench = 0.0, np.zeros(6)
    for index, contact in enumerate(data.contact):
        assert model.geom(contact.geom[1]).name.endswith("_foot")
        mujoco.mj_contactForce(model, data, index, wrench)
        total += wrench[0]
    np.testing.assert_allclose(total, SANITY["a1"]["weight"], rtol=0.01)


def test_a_default_pose_beyond_the_joints_is_refused():
    with pytest.raises(UserError, match=r"aliengo: RL_calf = -0.5 rad lies outside its range"):
        pose = (*ALIENGO.default_pose[:8], -0.5, *ALIENGO.default_pose[9:])
        dataclasses.replace(ALIENGO, default_pose=pose)
    with pytest.raises(UserError, match="needs 12 angles, got 3"):
        dataclasses.replace(ALIENGO, default_pose=(0.0, 0.8, -1.5))


def test_an_unknown_robot_gets_a_suggestion():
    with pytest.raises(UserError, match=r"unknown robot 'alienga'; did you mean 'aliengo'"):
        get_robot("alienga")

"""The velocity task on terrain: what it sees, pays and ends, against MuJoCo's own geometry."""

import dataclasses
import functools
import importlib.util

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hinf_rl.control_tasks import make_velocity
from hinf_rl.envs.batch import BatchEnv
from hinf_rl.envs.legged.config import RandomisationConfig, TerrainConfig, VelocityConfig
from hinf_rl.envs.legged.ground import SCAN, UNDER_TRUNK
from hinf_rl.envs.legged.heights import TILE_KINDS
from hinf_rl.envs.legged.mjcf import build_mjcf
from hinf_rl.envs.legged.randomisation import FRICTION
from hinf_rl.envs.legged.robots import A1
from hinf_rl.envs.legged.symmetry import velocity_mirror
from hinf_rl.envs.legged.terrain import height_at, tile_centre
from hinf_rl.envs.legged.velocity import VelocityEnv
from hinf_rl.envs.physics.make import make_physics
from hinf_rl.envs.wrappers import HistoryWrapper

# Every kind once, at levels 0 to 2 of 3; A1 stands on its own gains. Episodes of 5 steps.
TERRAIN = TerrainConfig(
    kind="mixed", num_levels=3, num_columns=6, shares=(1.0,) * 6, cell_m=0.1, seed=3
)
CONFIG = VelocityConfig(
    robot="a1",
    randomise=False,
    physics_dt_s=0.01,
    substeps=2,
    history=1,
    episode_length_s=0.1,
    terrain=TERRAIN,
)
RANDOMISED = dataclasses.replace(CONFIG, randomise=True)
COUNT = 36
KINDS, LEVELS = tuple(TILE_KINDS), (0, 1, 2)


@functools.cache
def env_of(config=CONFIG):
    return VelocityEnv(config)


@functools.cache
def step_of(config=CONFIG):
    return jax.jit(jax.vmap(env_of(config).step))


@functools.cache
def fresh(config=CONFIG):
    return jax.jit(jax.vmap(env_of(config).reset))(jax.random.split(jax.random.key(0), COUNT))


@functools.cache
def restart_of(config=CONFIG):
    return jax.jit(env_of(config).restart)


@functools.cache
def jitted(name):
    """A function of positions that the ground answers."""
    return jax.jit(getattr(env_of().ground, name))


def still():
    return jnp.zeros((COUNT, 12), jnp.float32), jnp.zeros((COUNT, 3), jnp.float32)


def placed(qpos, qvel=None):
    """Fresh episodes, the first with robots put at `qpos` [N, 19]; one size compiles once."""
    state = fresh()
    count = len(qpos)
    positions = state.physics.qpos.at[:count].set(jnp.asarray(qpos, jnp.float32))
    velocities = jnp.zeros((COUNT, 18), jnp.float32)
    if qvel is not None:
        velocities = velocities.at[:count].set(jnp.asarray(qvel, jnp.float32))
    simulation = state.physics.simulation._replace(qpos=positions, qvel=velocities)
    return state.replace(physics=state.physics._replace(simulation=simulation))


@functools.cache
def one_of_each():
    """Robots in the middle of each tile, one for each level and kind, 1 cm above the ground."""
    terrain = env_of().ground.terrain
    state = fresh()
    qpos = np.array(state.physics.qpos[: len(KINDS) * len(LEVELS)])
    for row in range(len(qpos)):
        level, column = divmod(row, len(KINDS))
        centre = np.asarray(tile_centre(terrain, jnp.int32(level), jnp.int32(column)))
        qpos[row, :2] = centre + 0.2
        feet = qpos[row, :2] + np.array([[x, y] for x in (-0.3, 0.3) for y in (-0.2, 0.2)])
        feet = np.float32(feet)
        ground = height_at(terrain, jnp.asarray(feet[:, 0]), jnp.asarray(feet[:, 1]))
        qpos[row, 2] = A1.standing_height + 0.03 + float(ground.max())
    return placed(qpos)


def ray_heights(points):
    """Heights of the floor at [N, 2] points by MuJoCo's rays."""
    model = env_of().model
    data = mujoco.MjData(model)
    data.qpos[2] = 100.0
    mujoco.mj_forward(model, data)
    hit, down = np.zeros(1, np.int32), np.array([0.0, 0.0, -1.0])
    heights = []
    for x, y in points:
        start = np.array([x, y, 20.0])
        heights.append(20.0 - mujoco.mj_ray(model, data, start, down, None, 1, -1, hit))
    return np.array(heights)


def feet_of(qpos):
    """Centres of the feet [4, 3] by MuJoCo's kinematics."""
    model = env_of().model
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    return np.array([data.geom(f"{leg}_foot").xpos for leg in ("FL", "FR", "RL", "RR")])


def around(qpos, points):
    """Points of the heading frame in the world."""
    yaw = Rotation.from_quat(np.roll(qpos[3:7], -1)).as_euler("ZYX")[0]
    turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    return qpos[:2] + points @ turn.T


@functools.cache
def scattered():
    """Robots anywhere in the world, turned, 0.4 m above the ground; the step after."""
    random = np.random.default_rng(0)
    qpos = np.array(fresh().physics.qpos[:12], np.float64)
    qpos[:, 0], qpos[:, 1] = random.uniform(-11, 11, 12), random.uniform(-23, 23, 12)
    turns = Rotation.from_euler("ZYX", random.uniform(-0.5, 0.5, (12, 3)) * [6.0, 1.0, 1.0])
    qpos[:, 3:7] = np.roll(turns.as_quat(), 1, axis=1)
    qpos[:, 2] = ray_heights(qpos[:, :2]) + 0.4
    return step_of()(placed(qpos), *still())


def test_only_the_critic_sees_the_terrain():
    spec, flat = env_of().spec, VelocityEnv(dataclasses.replace(CONFIG, terrain=TerrainConfig()))
    assert (spec.policy_size, spec.privileged_size) == (45, 56 + 187)
    assert (flat.spec.policy_size, flat.spec.privileged_size) == (45, 56)
    assert jax.eval_shape(flat.reset, jax.random.key(0)).physics.visit is None
    # 17 lines of 11 points, 0.1 m apart; the 9 x 7 grid under the trunk, 0.05 m apart.
    assert SCAN.shape == (187, 2) and UNDER_TRUNK.shape == (63, 2)
    np.testing.assert_allclose(np.abs(SCAN).max(axis=0), [0.8, 0.5])
    np.testing.assert_allclose(np.abs(UNDER_TRUNK).max(axis=0), [0.15, 0.2])


def test_the_scan_is_what_rays_find_around_the_trunk():
    state = scattered()
    for row in range(12):
        qpos = np.asarray(state.physics.qpos[row], np.float64)
        depths = qpos[2] - 0.5 - ray_heights(around(qpos, SCAN))
        expected = 5.0 * np.clip(depths, -1.0, 1.0)
        found = state.observation["privileged"][row, 56:]
        np.testing.assert_allclose(found, expected, atol=2e-3)
        under = qpos[2] - ray_heights(around(qpos, UNDER_TRUNK)).mean()
        height = 5.0 * np.clip(under - 0.5, -1.0, 1.0)
        np.testing.assert_allclose(state.observation["privileged"][row, 51], height, atol=2e-3)
        reward = CONFIG.reward.base_height * (under - 0.3) ** 2
        np.testing.assert_allclose(state.metrics["reward_base_height"][row], reward, atol=5e-4)


def test_the_mirrored_scan_is_the_scan_of_the_mirrored_world():
    permutation, sign = velocity_mirror((17, 11)).privileged
    order = np.array(permutation[56:]) - 56
    np.testing.assert_allclose(SCAN[order], SCAN * [1.0, -1.0], atol=1e-6)
    assert sign[56:] == (1.0,) * 187 and env_of().spec.mirror == velocity_mirror((17, 11))


def test_noise_on_the_scan_is_the_tabled_one():
    state = fresh(RANDOMISED)
    scan = jax.vmap(jitted("scan"), (0, None))(state.physics.qpos, jax.random.key(0))[0]
    noise = np.asarray(state.observation["privileged"][:, 56:] - scan)
    assert 0.49 < np.abs(noise).max() <= 0.5 + 1e-6  # 0.1 m times 5


def test_episodes_begin_on_their_tile_just_above_the_ground():
    env, state = env_of(), fresh()
    visit = state.physics.visit
    for row in range(COUNT):
        qpos = np.asarray(state.physics.qpos[row], np.float64)
        centre = tile_centre(env.ground.terrain, visit.level[row], visit.column[row])
        np.testing.assert_allclose(qpos[:2], centre, atol=1e-5)  # no spread where nothing is drawn
        feet = feet_of(qpos)
        gaps = feet[:, 2] - A1.foot_radius - ray_heights(feet[:, :2])
        assert gaps.min() > 0.009
    assert set(visit.level.tolist()) == {0, 1, 2} and set(visit.column.tolist()) == set(range(6))
    spread = fresh(RANDOMISED)
    visit = spread.physics.visit
    centre = jax.vmap(lambda *tile: tile_centre(env.ground.terrain, *tile))(*visit[:2])
    off = np.abs(spread.physics.qpos[:, :2] - centre)
    assert 0.8 < off.max() <= 1.0 + 1e-5


@functools.cache
def settled():
    """`one_of_each` after half a second of holding the default pose."""
    state, fallen = one_of_each(), np.zeros(COUNT, bool)
    for _ in range(25):
        state = step_of()(state, *still())
        fallen |= np.asarray(state.terminated)
        assert not state.metrics["nonfinite"].any()
    return state, fallen


def test_robots_come_to_rest_on_every_kind_at_every_level():
    state, fallen = settled()
    assert not fallen.any()
    gaps = []
    for qpos in np.asarray(state.physics.qpos[:18], np.float64):
        feet = feet_of(qpos)
        gaps.append(feet[:, 2] - A1.foot_radius - ray_heights(feet[:, :2]))
    # Contacts give way by a millimetre; a sphere on a rough facet reaches further over its centre.
    gaps = np.array(gaps)
    assert gaps.min() > -0.003 and np.abs(gaps).max(axis=1).max() < 0.03
    level = [row for row in range(18) if KINDS[row % 6] != "rough_slope"]
    assert np.abs(gaps[level]).max() < 0.003
    assert state.physics.in_contact[np.array(level)].all()
    # In the deepest pit the trunk is far below 0, on the highest pyramid far above.
    heights = dict(zip(KINDS, np.asarray(state.physics.qpos[12:18, 2]), strict=True))
    assert heights["stairs_up"] < -1.0 and heights["stairs_down"] > 1.5


def at_rest(name):
    """Positions [36, 19] of `one_of_each` after half a second under one physics alone."""
    physics = make_physics(name, env_of().model, force_body="trunk")
    pose = jnp.asarray(A1.default_pose, jnp.float32)
    force, none = jnp.zeros(6, jnp.float32), jnp.zeros(0, jnp.float32)
    step = jax.jit(jax.vmap(lambda state: physics.step(state, pose, force, none, 2)))
    state = one_of_each().physics.simulation
    for _ in range(25):
        state = step(state)
        assert not state.nonfinite.any()
    return np.asarray(state.qpos, np.float64)


@pytest.mark.long
def test_native_physics_and_mjx_rest_at_the_same_heights():
    if importlib.util.find_spec("mujoco.mjx") is None:
        pytest.skip("needs mujoco-mjx")
    native, mjx = at_rest("native"), at_rest("mjx")
    feet = [np.array([feet_of(qpos) for qpos in found]) for found in (native, mjx)]
    np.testing.assert_allclose(feet[1][..., 2], feet[0][..., 2], atol=2e-3)
    np.testing.assert_allclose(mjx[:, 2], native[:, 2], atol=2e-3)
    # Sideways they may slide a little apart while they land: the two engines share a contact out
    # among the cells that a sphere touches in different ways.
    np.testing.assert_allclose(feet[1], feet[0], atol=1e-2)


def on_the_field(bodies, *, timestep):
    """The world's height field and some bodies on it, in MuJoCo alone."""
    field = env_of().ground.height_field
    size = f"{field.half_size_m[0]} {field.half_size_m[1]} {field.range_m} {field.base_m}"
    rows, columns = field.elevation.shape
    model = mujoco.MjModel.from_xml_string(
        f'<mujoco><option timestep="{timestep}"/><asset><hfield name="h" nrow="{rows}" '
        f'ncol="{columns}" size="{size}"/></asset><worldbody><geom type="hfield" hfield="h" '
        f'contype="2" conaffinity="0" pos="0 0 {field.lowest_m}"/>{"".join(bodies)}</worldbody>'
        "</mujoco>"
    )
    model.hfield_data[:] = field.elevation.reshape(-1)
    return model, mujoco.MjData(model)


def test_nothing_that_falls_on_any_kind_falls_through():
    """Balls and boxes dropped from 0.3 m.

    A contact's time constant is 20 ms: what hits at v sinks in by v times 7 ms, which must be less
    than its radius. From 0.3 m v is 2.4 m/s, 18 mm.
    """
    terrain = env_of().ground.terrain
    random = np.random.default_rng(0)
    bodies = []
    for index in range(60):
        x, y = random.uniform(-11, 11), random.uniform(-23, 23)
        shape = 'type="sphere" size="0.0265"' if index % 2 else 'type="box" size="0.1 0.05 0.04"'
        z = float(height_at(terrain, jnp.float32(x), jnp.float32(y))) + 0.3
        bodies.append(
            f'<body pos="{x} {y} {z}"><freejoint/><geom {shape} mass="1" contype="0" '
            'conaffinity="2"/></body>'
        )
    model, data = on_the_field(bodies, timestep=0.002)
    mujoco.mj_step(model, data, 500)
    places = data.xpos[1:]
    depths = places[:, 2] - ray_heights(places[:, :2])
    assert depths.min() > 0.0 and not data.warning.number.any()
    speeds = np.abs(data.qvel.reshape(60, 6)[:, 2])
    assert np.median(speeds) < 0.05  # most have come to rest; some still slide or roll


def test_contacts_on_terrain_are_as_quick_as_the_timestep_allows():
    field = env_of().ground.height_field
    for height_field, constant_s in ((field, 0.01), (None, 0.02)):
        text = build_mjcf(A1, timestep=0.005, collisions="feet", height_field=height_field)
        model = mujoco.MjModel.from_xml_string(text)
        feet = [model.geom(f"{leg}_foot").id for leg in ("FL", "FR", "RL", "RR")]
        np.testing.assert_allclose(model.geom_solref[feet], [[constant_s, 1.0]] * 4)


@pytest.mark.parametrize(("time_constant_s", "sinks"), [(0.01, False), (0.02, True)])
def test_the_centre_of_a_foot_that_strikes_at_5_m_s_stays_above_the_ground(time_constant_s, sinks):
    """With the task's contacts on terrain; with MuJoCo's own it does not."""
    terrain = env_of().ground.terrain
    random = np.random.default_rng(0)
    places = random.uniform((-11, -23), (11, 23), (40, 2))
    heights = np.asarray(height_at(terrain, *places.T.astype(np.float32)))
    balls = [
        f'<body pos="{x} {y} {z + 0.04}"><freejoint/><geom type="sphere" size="0.0265" mass="1" '
        f'contype="0" conaffinity="2" priority="1" solref="{time_constant_s} 1"/></body>'
        for (x, y), z in zip(places, heights, strict=True)
    ]
    model, data = on_the_field(balls, timestep=0.005)
    data.qvel.reshape(-1, 6)[:, 2] = -5.0
    lowest = np.full(40, np.inf)
    for _ in range(40):
        mujoco.mj_step(model, data)
        lowest = np.minimum(lowest, data.xpos[1:, 2] - ray_heights(data.xpos[1:, :2]))
    assert (lowest < 0.0).any() == sinks


def test_a_fall_is_the_trunk_touching_the_ground_where_it_is():
    """Legs point up; a millimetre above the ground is a fall, 15 mm are none."""
    legs_up = np.tile([0.0, np.pi, -1.0], 4)
    terrain = env_of().ground.terrain
    qpos = []
    for gap_m in (0.001, 0.015):
        for column in (2, 3):  # in a pit of 1.36 m, on a pyramid as high
            centre = tile_centre(terrain, jnp.int32(2), jnp.int32(column))
            height = float(height_at(terrain, centre[0], centre[1]))
            z = height + A1.trunk_box[2] / 2 + gap_m
            qpos.append([*np.asarray(centre), z, 1.0, 0.0, 0.0, 0.0, *legs_up])
    hold = jnp.asarray((legs_up - A1.default_pose) / A1.action_scale, jnp.float32)
    stepped = step_of()(placed(qpos), jnp.tile(hold[None], (COUNT, 1)), still()[1])
    assert stepped.terminated[:4].tolist() == [True, True, False, False]


def test_the_gap_under_the_trunk_is_that_of_its_whole_box():
    """Against rays under a dense grid of points of the box's faces."""
    steps = np.linspace(-1.0, 1.0, 15)
    box = np.array([[x, y, z] for x in steps for y in steps for z in (-1, 1)]) / 2 * A1.trunk_box
    missed = []
    for qpos in np.asarray(scattered().physics.qpos[:12], np.float64):
        turn = Rotation.from_quat(np.roll(qpos[3:7], -1))
        points = qpos[:3] + turn.apply(box)
        expected = (points[:, 2] - ray_heights(points[:, :2])).min()
        missed.append(float(jitted("trunk_gap")(jnp.asarray(qpos, jnp.float32))) - expected)
    # Between its points along the edges a riser can hide by half their distance, 17 mm, times
    # its slope of at most 1.7.
    assert min(missed) > -0.02 and max(missed) < 0.03 and np.median(missed) < 0.005


def test_a_sole_on_a_slope_touches_along_its_normal():
    ground = env_of().ground
    centre = np.asarray(tile_centre(ground.terrain, jnp.int32(2), jnp.int32(0)))
    # On the side of the pyramid that falls along +x by 0.4 x 2/3.
    fall = 0.8 / 3
    x, y = centre[0] + 2.5, centre[1]
    height = float(height_at(ground.terrain, jnp.float32(x), jnp.float32(y)))
    gap_m = 0.004
    normal = np.array([fall, 0.0, 1.0]) / np.hypot(fall, 1.0)
    foot = np.array([x, y, height]) + (A1.foot_radius + gap_m) * normal
    qpos = jnp.array([*foot, 1.0, 0.0, 0.0, 0.0, *A1.default_pose], jnp.float32)
    found = jitted("foot_gap")(qpos, jnp.zeros((1, 3), jnp.float32))
    np.testing.assert_allclose(found, [gap_m], atol=2e-6)


def test_a_robot_that_leaves_the_world_goes_on_where_it_is_the_same():
    state = fresh()
    qpos = np.tile(np.asarray(state.physics.qpos[0]), (2, 1))
    terrain = env_of().ground.terrain
    qpos[:, 0], qpos[:, 1] = (11.99, -11.99), (-3.7, -4.4)
    height = height_at(terrain, jnp.asarray(qpos[:, 0]), jnp.asarray(qpos[:, 1]))
    qpos[:, 2] = A1.standing_height + 0.05 + np.asarray(height)
    qvel = np.zeros((2, 18), np.float32)
    qvel[:, 0] = 1.5, -1.5
    before = placed(qpos, qvel)
    visit = before.physics.visit._replace(start_m=before.physics.qpos[:, :2])
    before = before.replace(physics=before.physics._replace(visit=visit))
    after = step_of()(before, *still())
    np.testing.assert_allclose(after.physics.qpos[:2, 0], [-11.98, 11.98], atol=2e-3)
    np.testing.assert_allclose(after.physics.visit.start_m[:2, 0], [-12.01, 12.01], atol=1e-5)
    np.testing.assert_allclose(after.physics.visit.furthest_m[:2], 0.03, atol=2e-3)
    # A physics that knows no wrap goes on beyond the edge, over the border.
    rows = before.physics.simulation, still()[0], jnp.zeros((COUNT, 6), jnp.float32)
    target = jnp.asarray(A1.default_pose, jnp.float32)[None] + rows[1]
    physics = env_of().physics
    beyond = jax.jit(jax.vmap(lambda s, t, f, p: physics.step(s, t, f, p, 2)))(
        rows[0], target, rows[2], before.parameters.model
    )
    shift = np.array([-24.0, 24.0])
    np.testing.assert_allclose(after.physics.qpos[:2, 0], beyond.qpos[:2, 0] + shift, atol=1e-5)
    np.testing.assert_array_equal(after.physics.qpos[:, 1:], beyond.qpos[:, 1:])
    np.testing.assert_array_equal(after.physics.qvel, beyond.qvel)


def test_feet_on_slippery_patches_lose_friction():
    ground, state = env_of().ground, one_of_each()
    grip = np.asarray(ground.terrain.grip)
    lost = 0
    for row in range(len(KINDS) * len(LEVELS)):
        qpos = state.physics.qpos[row]
        given = state.parameters.model[row]
        found = np.asarray(jitted("foothold")(qpos, given))
        feet = feet_of(np.asarray(qpos, np.float64))
        patch = np.floor((feet[:, :2] + [12.0, 24.0]) / 0.5).astype(int)
        expected = np.array(given)
        expected[FRICTION] *= grip[patch[:, 1], patch[:, 0]]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        lost += (expected != np.asarray(given)).sum()
        np.testing.assert_array_equal(given[FRICTION], 1.0)
    assert lost > 0


def test_feet_on_slippery_ground_slide_where_others_hold():
    """A1 with all feet on one patch of level 2, pushed by half of its weight."""
    terrain = env_of().ground.terrain
    patches = np.asarray(terrain.grip)[80:96, 32:48]
    assert patches.min() == np.float32(0.4)  # 1 - 0.9 x 2/3
    qpos = []
    for grip in (patches.min(), 1.0):
        row, column = np.argwhere(patches == grip)[0] + [80, 32]
        # The feet reach 0.17 m ahead and 0.26 m back: 4 cm ahead of the patch's middle.
        x, y = 0.5 * (column + 0.5) - 12.0 + 0.04, 0.5 * (row + 0.5) - 24.0
        qpos.append([x, y, A1.standing_height + 0.01, 1.0, 0.0, 0.0, 0.0, *A1.default_pose])
    state = placed(qpos)
    for _ in range(15):
        state = step_of()(state, *still())
    before = [feet_of(q)[:, 1].mean() for q in state.physics.qpos[:2]]
    push = jnp.tile(jnp.array([[0.0, 60.0, 0.0]]), (COUNT, 1))
    for _ in range(15):
        state = step_of()(state, still()[0], push)
    slid, held = np.array([feet_of(q)[:, 1].mean() for q in state.physics.qpos[:2]]) - before
    assert slid > held + 0.01


def test_levels_follow_the_rule_over_resets():
    """Robots that hold still for a whole episode: down where a walk was asked for, else as is."""
    env = make_velocity(dataclasses.replace(CONFIG, history=2))
    assert isinstance(env, HistoryWrapper)
    batch = BatchEnv(env, COUNT)
    state = jax.jit(batch.reset)(jax.random.key(2))
    step = jax.jit(batch.step)
    for _ in range(2):
        first = state.env.physics.visit
        speed = np.linalg.norm(state.env.physics.command[:, :2], axis=1)
        for _ in range(5):
            assert not np.asarray(state.env.terminated).any()
            last, (state, out) = state, step(state, still()[0])
        assert out.truncated.all()
        np.testing.assert_allclose(last.env.physics.visit.asked_m, 0.08 * speed, rtol=1e-5)
        # Nobody gets 4 m far in 0.1 s, and few get half of what was asked for.
        down = np.asarray(out.metrics["furthest_m"]) < 0.5 * 0.1 * speed
        assert down.sum() > COUNT / 2
        expected = np.maximum(np.asarray(first.level) - down, 0)
        np.testing.assert_array_equal(state.env.physics.visit.level, expected)
        np.testing.assert_array_equal(state.env.physics.visit.column, first.column)
        np.testing.assert_array_equal(out.metrics["terrain_level"], first.level)
        centre = jax.vmap(jax.jit(lambda *tile: tile_centre(env_of().ground.terrain, *tile)))(
            *state.env.physics.visit[:2]
        )
        np.testing.assert_allclose(state.env.physics.qpos[:, :2], centre, atol=1e-5)
    assert step._cache_size() == 1


@pytest.mark.parametrize("terminated, expected", [(True, 1), (False, 2)])
def test_a_fall_is_measured_by_the_whole_episode(terminated, expected):
    # 0.03 m gone of the 0.04 m asked for in 2 steps of 1 m/s; the whole episode asks for 0.1.
    state = jax.tree.map(lambda leaf: leaf[0], fresh())
    visit = state.physics.visit._replace(
        level=jnp.int32(2), furthest_m=jnp.float32(0.03), asked_m=jnp.float32(0.04)
    )
    physics = state.physics._replace(
        visit=visit,
        command=jnp.array([0.6, -0.8, 0.3], jnp.float32),
        time_s=jnp.float32(0.04),
    )
    final = state.replace(physics=physics, terminated=jnp.array(terminated))
    assert restart_of()(jax.random.key(0), final).physics.visit.level == expected


def test_a_lost_robot_starts_again_on_sound_ground():
    state = jax.tree.map(lambda leaf: leaf[0], fresh())
    lost = jax.tree.map(
        lambda leaf: jnp.full_like(leaf, jnp.nan) if leaf.dtype == jnp.float32 else leaf,
        state.physics,
    )
    again = restart_of()(jax.random.key(0), state.replace(physics=lost))
    assert again.physics.visit.level == state.physics.visit.level
    for leaf in jax.tree.leaves((again.physics, again.observation, again.reward)):
        assert np.isfinite(leaf).all()


def test_a_fixed_level_has_one_row_of_tiles_and_no_curriculum():
    terrain = TerrainConfig(kind="stairs_up", level=7, num_columns=2, cell_m=0.1)
    config = dataclasses.replace(CONFIG, terrain=terrain)
    env = env_of(config)
    state = jax.jit(env.reset)(jax.random.key(0))
    assert state.physics.visit.level == 7 and state.metrics["terrain_level"] == 7
    # 8 steps of 0.05 + 0.18 x 0.7 = 0.176 m down.
    ground = float(height_at(env.ground.terrain, *state.physics.qpos[:2]))
    np.testing.assert_allclose(ground, -8 * 0.176, atol=1e-5)
    again = restart_of(config)(jax.random.key(1), state)
    assert again.physics.visit.level == 7


def test_full_collisions_and_gains_of_the_config_work_on_terrain():
    config = dataclasses.replace(
        CONFIG, collisions="full", randomisation=RandomisationConfig(), stiffness=60.0
    )
    model = VelocityEnv(config).model
    assert model.geom("trunk").conaffinity[0] and model.geom("FL_calf").conaffinity[0]
    names = [model.geom(index).name for index in range(model.ngeom)]
    assert not any("corner" in name for name in names)
    feet_only = env_of().model
    assert not feet_only.geom("trunk").conaffinity[0]
    assert feet_only.geom("trunk_corner_7").conaffinity[0]

import dataclasses
import functools
import importlib.util

import chex
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hinf_rl.envs.legged.hind_config import HindLegsConfig, HindRewardConfig
from hinf_rl.envs.legged.hind_legs import HindLegsEnv
from hinf_rl.envs.legged.robots import A1, ALIENGO, LEGS
from hinf_rl.envs.wrappers import HistoryWrapper
from hinf_rl.errors import UserError
from hinf_rl.evaluation import scene
from hinf_rl.tasks import get_task

COUNT = 16
NOMINAL = HindLegsConfig(randomise=False, physics_dt_s=0.01, substeps=2, command_interval_s=0.1)
# Actions may be late, and every second step kicks.
RANDOMISED = HindLegsConfig(
    physics_dt_s=0.01,
    substeps=2,
    randomisation=dataclasses.replace(
        HindLegsConfig().randomisation,
        action_delay=True,
        push_interval_s=0.04,
        push_speed_m_s=1.0,
    ),
)
# Draws no command of its own within the first seconds.
CALM = dataclasses.replace(NOMINAL, command_interval_s=5.0)
RISING = dataclasses.replace(NOMINAL, start="four_legs", stand_up_s=0.1)


@functools.cache
def env_of(config) -> HindLegsEnv:
    return HindLegsEnv(config)


@functools.cache
def step_of(config):
    return jax.jit(jax.vmap(env_of(config).step))


@functools.cache
def states(config):
    reset = jax.jit(jax.vmap(env_of(config).reset))
    return reset(jax.random.split(jax.random.key(0), COUNT))


def still():
    return jnp.zeros((COUNT, 12), jnp.float32)


def held(config, joints):
    """The action that asks for the joint angles [12]."""
    env = env_of(config)
    action = (np.asarray(joints) - config.pose) / env.robot.action_scale
    return jnp.tile(jnp.asarray(action, jnp.float32)[None], (COUNT, 1))


def pushes(force=(0.0, 0.0, 0.0)):
    return jnp.tile(jnp.asarray([force], jnp.float32), (COUNT, 1))


def placed(config, qpos, qvel=None):
    """The given positions [19] in every row of fresh episodes."""
    state = states(config)
    simulation = state.physics.simulation
    qpos = jnp.tile(jnp.asarray(qpos, jnp.float32)[None], (COUNT, 1))
    qvel = jnp.zeros_like(simulation.qvel) if qvel is None else jnp.tile(qvel[None], (COUNT, 1))
    simulation = simulation._replace(qpos=qpos, qvel=qvel)
    return state.replace(physics=state.physics._replace(simulation=simulation))


def simulated(config, qpos, qvel=None):
    model = env_of(config).model
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    if qvel is not None:
        data.qvel[:] = qvel
    mujoco.mj_forward(model, data)
    return data


def test_spec():
    spec = env_of(NOMINAL).spec
    assert (spec.name, spec.policy_size, spec.privileged_size) == ("a1-hind-legs", 45, 57)
    assert (spec.dt_s, spec.episode_length) == (0.02, 500)
    # (1.0 + 0.5) per second over a step of 0.02 s.
    assert spec.task_reward_max == spec.task_reward_scale == pytest.approx(0.03)
    assert (spec.disturbance.size, spec.disturbance.limit, spec.disturbance.unit) == (3, 25.0, "N")


def test_an_episode_starts_balanced_with_both_hind_soles_on_the_ground():
    for qpos in np.asarray(states(NOMINAL).physics.qpos[:3], np.float64):
        data = simulated(NOMINAL, qpos)
        feet = np.array([data.geom(f"{leg}_foot").xpos for leg in LEGS])
        np.testing.assert_allclose(feet[2:, 2], A1.foot_radius, atol=2e-6)
        assert feet[:2, 2].min() > 0.5
        # Seen from above the centre of mass lies on the line between the hind feet.
        left, right, com = feet[2, :2], feet[3, :2], data.subtree_com[1][:2]
        along = (left - right) / np.linalg.norm(left - right)
        across = np.array([-along[1], along[0]])
        assert abs((com - right) @ across) < 1e-5
        assert 0.05 < (com - right) @ along < np.linalg.norm(left - right) - 0.05
        # Nothing is deeper in the ground than rounding.
        assert all(contact.dist > -5e-6 for contact in data.contact)


def test_a_randomised_start_stands_on_the_ground_too():
    state = states(RANDOMISED)
    for qpos in np.asarray(state.physics.qpos, np.float64):
        data = simulated(RANDOMISED, qpos)
        heights = [data.geom(f"{leg}_foot").xpos[2] - A1.foot_radius for leg in LEGS]
        assert min(heights) > -5e-6 and min(heights[2:]) < 5e-6
    assert np.ptp(state.parameters.payload_kg) > 0.3
    assert not step_of(RANDOMISED)(state, still(), pushes()).terminated.any()


def test_it_starts_at_the_maximum_of_the_reward_when_asked_to_stand():
    """A step from the stance at the commanded rest: all but the settling of the feet is earned."""
    state = states(NOMINAL)
    physics = state.physics._replace(command=jnp.zeros_like(state.physics.command))
    stepped = step_of(NOMINAL)(state.replace(physics=physics), still(), pushes())
    np.testing.assert_allclose(stepped.task_reward, 0.03, rtol=5e-3)
    assert (stepped.task_reward <= 0.03 + 1e-6).all()
    np.testing.assert_allclose(stepped.reward, 3.5 * 0.02, rtol=0.02)


@functools.cache
def falling():
    """Whether each robot has fallen after each step of zero action, and its last state."""
    state, fallen, trail = states(NOMINAL), [], []
    for _ in range(120):
        state = step_of(NOMINAL)(state, still(), pushes())
        fallen.append(np.asarray(state.terminated))
        trail.append(state)
    return np.array(fallen), trail


def test_zero_action_falls_within_two_seconds():
    fallen, _ = falling()
    first = 0.02 * (fallen.argmax(axis=0) + 1)
    assert fallen.any(axis=0).all()
    assert first.min() > 1.0 and first.max() < 2.2


def test_commands_change_at_their_interval_only():
    commands = np.array([np.asarray(state.physics.command) for state in falling()[1][:30]])
    limits = np.array([0.5, 0.2, 0.5])
    assert (np.abs(commands) <= limits).all() and (
        np.abs(commands).max((0, 1)) > 0.8 * limits
    ).all()
    speed = np.linalg.norm(commands[..., :2], axis=-1)
    assert not ((speed > 0) & (speed < 0.1)).any()
    for index in range(1, 30):  # the command of entry i is that after step i + 1
        changed = (commands[index] != commands[index - 1]).any(axis=-1)
        assert changed.all() if (index + 1) % 5 == 0 else not changed.any()


@pytest.mark.parametrize("yaw", [0.0, 2.0])
def test_velocities_are_those_in_the_heading_frame(yaw):
    env = env_of(NOMINAL)
    turn = Rotation.from_euler("Z", yaw) * Rotation.from_euler("Y", env.stance.pitch_rad)
    x, y, z, w = turn.as_quat()
    qpos = np.array([0, 0, env.stance.height_m + 0.3, w, x, y, z, *NOMINAL.pose])
    # 0.4 m/s to where the belly faces, 0.1 to the left, turning left at 0.5 rad/s.
    world = Rotation.from_euler("Z", yaw).apply([0.4, 0.1, 0.0])
    spin = turn.inv().apply([0.0, 0.0, 0.5])
    qvel = jnp.asarray([*world, *spin, *np.zeros(12)], jnp.float32)
    state = placed(NOMINAL, qpos, qvel)
    command = jnp.tile(jnp.array([[0.4, 0.1, 0.5]], jnp.float32), (COUNT, 1))
    state = state.replace(physics=state.physics._replace(command=command))
    stepped = step_of(NOMINAL)(state, still(), pushes())
    np.testing.assert_allclose(stepped.metrics["velocity_error"], 0.0, atol=0.02)
    np.testing.assert_allclose(stepped.metrics["yaw_error"], 0.0, atol=0.02)
    np.testing.assert_allclose(stepped.metrics["lean_error"], 0.0, atol=0.02)
    np.testing.assert_allclose(stepped.task_reward, 0.03, rtol=0.01)
    seen = stepped.observation["privileged"][:, 45:47]
    np.testing.assert_allclose(seen, [[0.8, 0.2]] * COUNT, atol=0.03)


@pytest.mark.parametrize("force", [(20.0, 0.0, 0.0), (0.0, -15.0, 0.0)])
def test_forces_push_in_the_heading_frame(force):
    env = env_of(NOMINAL)
    yaw = 1.2
    attitude = Rotation.from_euler("Z", yaw) * Rotation.from_euler("Y", env.stance.pitch_rad)
    x, y, z, w = attitude.as_quat()
    state = placed(NOMINAL, [0, 0, 3.0, w, x, y, z, *NOMINAL.pose])
    data = simulated(NOMINAL, state.physics.qpos[0])
    mujoco.mj_subtreeVel(env.model, data)
    pushed = step_of(NOMINAL)(state, still(), pushes(force))
    data = simulated(NOMINAL, pushed.physics.qpos[0], pushed.physics.qvel[0])
    mujoco.mj_subtreeVel(env.model, data)
    # In the air the centre of mass gains F t / m, and falls.
    gained = Rotation.from_euler("Z", yaw).apply(force) * 0.02 / A1.total_mass
    np.testing.assert_allclose(data.subtree_linvel[1] - [0, 0, -0.1962], gained, atol=2e-3)
    np.testing.assert_allclose(pushed.observation["privileged"][0, 48:51], np.divide(force, 100))


def on_four_legs():
    return [0.0, 0.0, 0.302, 1.0, 0.0, 0.0, 0.0, *A1.default_pose]


def tilted(angle, height=0.9):
    """The stance in the air, leaning back by `angle`."""
    half = (env_of(NOMINAL).stance.pitch_rad - angle) / 2
    return [0.0, 0.0, height, np.cos(half), 0.0, np.sin(half), 0.0, *NOMINAL.pose]


# Thighs straight down, calves folded up: the knees are 0.383 m below the trunk's middle.
KNEELING = [*tilted(0.0, 0.39)[:7], *NOMINAL.pose[:6], *(0.0, 1.57, -2.3) * 2]


@pytest.mark.parametrize(
    "qpos, fallen",
    [
        (tilted(0.6), False),
        (tilted(0.8), True),  # beyond max_lean_rad = 0.7
        (tilted(-0.8), True),
        (on_four_legs(), True),
        (KNEELING, True),
    ],
    ids=["leans", "leans too far", "leans too far forward", "on four legs", "kneels"],
)
def test_what_is_a_fall(qpos, fallen):
    stepped = step_of(NOMINAL)(placed(NOMINAL, qpos), held(NOMINAL, qpos[7:]), pushes())
    np.testing.assert_array_equal(stepped.terminated, fallen)


def test_a_knee_alone_is_what_touches_of_a_kneeling_robot():
    data = simulated(NOMINAL, KNEELING)
    assert data.body("RL_calf").xpos[2] < 0.015
    assert data.geom("RL_foot").xpos[2] > 0.05 and data.body("trunk").xpos[2] > 0.3


@pytest.mark.parametrize("height, fallen", [(0.06, True), (0.3, False)])
def test_lying_on_the_belly_is_a_fall_even_in_the_time_to_rise(height, fallen):
    legs_up = (0.0, 2.5, -1.0) * 4  # they touch nothing; the trunk's belly is 0.057 m below
    stepped = step_of(RISING)(
        placed(RISING, [0, 0, height, 1, 0, 0, 0, *legs_up]), held(RISING, legs_up), pushes()
    )
    np.testing.assert_array_equal(stepped.terminated, fallen)


def test_rising_from_four_legs_is_given_its_time():
    state = states(RISING)
    for qpos in np.asarray(state.physics.qpos):
        data = simulated(RISING, qpos)
        assert max(data.geom(f"{leg}_foot").xpos[2] for leg in LEGS) < 0.06
    action = held(RISING, A1.default_pose)
    left, fallen = [np.asarray(state.observation["privileged"][:, -1])], []
    for _ in range(5):
        state = step_of(RISING)(state, action, pushes())
        left.append(np.asarray(state.observation["privileged"][:, -1]))
        fallen.append(np.asarray(state.terminated))
    np.testing.assert_allclose(np.array(left)[:, 0], [0.1, 0.08, 0.06, 0.04, 0.02, 0], atol=1e-6)
    np.testing.assert_array_equal(np.array(fallen)[:, 0], [False] * 4 + [True])
    # Following the command on four legs is worth next to nothing.
    assert (state.task_reward < 0.02 * env_of(RISING).spec.task_reward_max).all()


def symmetric(robot):
    """The robot with its trunk's mass in the sagittal plane, and hips that swing evenly."""
    (x, _, z), (xx, yy, zz, _, xz, _) = robot.trunk.com, robot.trunk.inertia
    trunk = dataclasses.replace(robot.trunk, com=(x, 0.0, z), inertia=(xx, yy, zz, 0.0, xz, 0.0))
    swing = min(abs(angle) for angle in robot.joint_range[0])
    ranges = ((-swing, swing), *robot.joint_range[1:])
    return dataclasses.replace(robot, trunk=trunk, joint_range=ranges)


def reflect(part, x):
    permutation, sign = part
    return jnp.asarray(sign, jnp.float32) * x[..., jnp.asarray(permutation, jnp.int32)]


def reflected(physics, mirror):
    """Mirror image of a `HindLegsState`, from the geometry alone."""

    def velocity(qvel):
        root = qvel[:6] * jnp.array([1, -1, 1, -1, 1, -1], jnp.float32)
        return jnp.concatenate([root, reflect(mirror.action, qvel[6:])])

    old = physics.simulation
    root = old.qpos[:7] * jnp.array([1, -1, 1, 1, -1, 1, -1], jnp.float32)
    return physics._replace(
        simulation=old._replace(
            qpos=jnp.concatenate([root, reflect(mirror.action, old.qpos[7:])]),
            qvel=velocity(old.qvel),
            warmstart=velocity(old.warmstart),
        ),
        command=physics.command * jnp.array([1, -1, -1], jnp.float32),
        action=reflect(mirror.action, physics.action),
        previous_action=reflect(mirror.action, physics.previous_action),
        force=physics.force * jnp.array([1, -1, 1], jnp.float32),
    )


def test_a_symmetric_robot_lives_the_mirror_image():
    env = HindLegsEnv(CALM, robot=symmetric(A1))
    mirror, step = env.spec.mirror, jax.jit(env.step)
    state, touched = jax.jit(env.reset)(jax.random.key(4)), 0.0
    for index in range(15):
        key_action, key_push = jax.random.split(jax.random.key(index))
        action = 0.5 * jax.random.normal(key_action, (12,), jnp.float32)
        push = jax.random.uniform(key_push, (3,), jnp.float32, -15.0, 15.0)
        image = step(
            state.replace(physics=reflected(state.physics, mirror)),
            reflect(mirror.action, action),
            reflect(mirror.disturbance, push),
        )
        state = step(state, action, push)
        for part in ("policy", "privileged"):
            found, seen = image.observation[part], state.observation[part]
            np.testing.assert_allclose(found, reflect(getattr(mirror, part), seen), atol=2e-3)
        for name, value in state.metrics.items():
            np.testing.assert_allclose(image.metrics[name], value, rtol=2e-2, atol=2e-3)
        np.testing.assert_allclose(image.task_reward, state.task_reward, atol=1e-4)
        assert image.terminated == state.terminated
        touched += float(state.observation["privileged"][-3:-1].sum())
    assert touched > 10, "without contacts the comparison would prove little"


def test_the_picture_turns_the_force_by_the_heading_and_sees_the_robot_from_its_side():
    env = HistoryWrapper(env_of(NOMINAL), 2)
    physics = jax.tree.map(np.asarray, states(NOMINAL).physics)
    qpos = physics.qpos
    forward = Rotation.from_quat(np.roll(qpos[:, 3:7], -1, axis=1)).apply([0.0, 0.0, -1.0])
    expected = np.arctan2(forward[:, 1], forward[:, 0])
    np.testing.assert_allclose(scene.heading_of(env, qpos), expected, atol=1e-3)
    side, top = scene.views_of(env, physics, np.zeros((COUNT, 3)), None)(0)
    # The head is above the feet, and from the top the robot is as wide as its hips.
    assert side.segments[..., 1].max() > 0.6 and np.ptp(side.segments[..., 0]) < 0.6
    assert np.ptp(top.segments[..., 1]) == pytest.approx(2 * (0.047 + 0.08505), abs=0.02)


def test_aliengo_stands_too():
    config = dataclasses.replace(NOMINAL, robot="aliengo")
    env = HindLegsEnv(config)
    assert env.spec.name == "aliengo-hind-legs" and env.robot.trunk == ALIENGO.trunk
    data = mujoco.MjData(env.model)
    data.qpos[:] = jax.jit(env.reset)(jax.random.key(0)).physics.qpos
    mujoco.mj_forward(env.model, data)
    feet = [data.geom(f"{leg}_foot").xpos[2] for leg in LEGS]
    np.testing.assert_allclose(feet[2:], ALIENGO.foot_radius, atol=2e-6)
    assert min(feet[:2]) > 0.5 and data.subtree_com[1][2] > 0.5


def test_settings_reach_the_model_and_the_history():
    task = get_task("a1-hind-legs")
    config = dataclasses.replace(task.env_config, history=3, stiffness=77.0, action_scale=0.4)
    env = task.make_env(config)
    assert env.spec.policy_size == 3 * 45 and env.env.robot.action_scale == 0.4
    np.testing.assert_array_equal(env.env.model.actuator_gainprm[:, 0], 77.0)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"robot": "a2"}, r"unknown robot 'a2'; did you mean 'a1'"),
        ({"start": "sitting"}, "start must be 'upright' or 'four_legs', got 'sitting'"),
        ({"stand_up_s": 10.0}, r"stand_up_s must lie in \(0, episode_length_s = 10.0\)"),
        ({"max_lean_rad": 2.0}, r"max_lean_rad must lie in \(0, pi/2\], got 2.0"),
        ({"action_scale": 0.0}, "action_scale must be positive or none"),
        ({"pose": (0.0,) * 3}, "pose needs 12 angles, got 3"),
        ({"pose": (0.0, 0.8, 0.0) * 4}, r"pose\[2\] = 0.0 rad lies outside"),
        ({"pose": (0.1, 0.8, -1.6) * 4}, "pose must be its own mirror image"),
        ({"push_limit_n": -5.0}, "push_limit_n must be positive"),
        ({"physics": "mjxx"}, "unknown physics 'mjxx'; did you mean 'mjx'"),
        ({"history": 0}, "history must be at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        HindLegsConfig(**settings)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"tracking_linear": -1.0}, "reward.tracking_linear must be >= 0"),
        ({"tracking_linear": 0.0, "tracking_yaw": 0.0}, "without a task reward"),
        ({"tracking_width": 0.0}, "reward.tracking_width must be positive"),
        ({"height_width_m": -0.1}, "reward.height_width_m must be positive"),
        ({"soft_limit": 1.5}, r"reward.soft_limit must lie in \(0, 1\]"),
    ],
)
def test_rewards_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        HindRewardConfig(**settings)


def test_late_actions_and_kicks():
    state = states(RANDOMISED)
    action = still().at[:, 2].set(4.0)  # a front calf, at its torque limit
    first = step_of(RANDOMISED)(state, action, pushes())
    second = step_of(RANDOMISED)(first, action, pushes())
    # The torque acts for both substeps or, where the action is late, for the second alone.
    turned = np.sort(np.asarray(first.physics.qpos[:, 7 + 2] - state.physics.qpos[:, 7 + 2]))
    assert turned[-1] > 1.7 * turned[0] > 0
    drift = [np.abs(np.asarray(s.physics.qvel[:, :2])).max() for s in (first, second)]
    assert drift[0] < 0.4 < 0.6 < drift[1]


@pytest.mark.skipif(importlib.util.find_spec("mujoco.mjx") is None, reason="needs mujoco-mjx")
def test_it_is_the_same_task_on_mjx():
    env = HindLegsEnv(dataclasses.replace(RANDOMISED, physics="mjx"))
    assert type(env.physics).__name__ == "MjxPhysics"
    # Traced, not compiled: how MJX steps such a robot is tested with the velocity task.
    shapes = []
    for one in (env, env_of(RANDOMISED)):
        state = jax.eval_shape(one.reset, jax.random.key(0))
        shapes.append(jax.eval_shape(one.step, state, still()[0], pushes()[0]))
        chex.assert_trees_all_equal_shapes_and_dtypes(state, shapes[-1])
    chex.assert_trees_all_equal_shapes_and_dtypes(*shapes)

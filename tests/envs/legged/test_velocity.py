import dataclasses
import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hinf_rl.envs.legged.commands import draw_command, yaw_command
from hinf_rl.envs.legged.config import RandomisationConfig, RewardConfig, VelocityConfig
from hinf_rl.envs.legged.mjcf import build_mjcf
from hinf_rl.envs.legged.robots import A1, LEGS
from hinf_rl.envs.legged.velocity import VelocityEnv, pd_torque
from hinf_rl.envs.physics.native import NativePhysics
from hinf_rl.errors import UserError

COUNT = 200
# A1 stands on its own gains; a command every 5 steps, towards a heading.
NOMINAL = VelocityConfig(
    robot="a1", randomise=False, command_interval_s=0.1, max_lateral_m_s=0.5, physics_dt_s=0.005
)
RANDOMISED = VelocityConfig()
# A kick every 5 steps and a late action, without anything that hides them.
DELAYED = VelocityConfig(
    robot="a1",
    randomisation=RandomisationConfig(action_delay=True, push_interval_s=0.1, push_speed_m_s=1.0),
)


@functools.cache
def env_of(config) -> VelocityEnv:
    return VelocityEnv(config)


@functools.cache
def reset_of(config):
    return jax.jit(jax.vmap(env_of(config).reset))


@functools.cache
def step_of(config):
    return jax.jit(jax.vmap(env_of(config).step))


def states(config, count=COUNT, seed=0):
    return reset_of(config)(jax.random.split(jax.random.key(seed), count))


def placed(config, qpos, qvel=None):
    """Fresh episodes whose robots were put at `qpos` [N, 19] with `qvel` [N, 18]."""
    qpos = jnp.asarray(qpos, jnp.float32)
    qvel = jnp.zeros((len(qpos), 18), jnp.float32) if qvel is None else qvel
    state = states(config, len(qpos))
    simulation = state.physics.simulation._replace(qpos=qpos, qvel=jnp.asarray(qvel, jnp.float32))
    return state.replace(physics=state.physics._replace(simulation=simulation))


def pose(height, rotation=None):
    x, y, z, w = (rotation or Rotation.identity()).as_quat()
    return np.array([0.0, 0.0, height, w, x, y, z, *A1.default_pose])


def actions(count, seed=0, scale=0.5):
    return scale * jax.random.normal(jax.random.key(seed), (count, 12), jnp.float32)


def pushes(count, force=(0.0, 0.0, 0.0)):
    return jnp.tile(jnp.asarray([force], jnp.float32), (count, 1))


@functools.cache
def standing_rollout():
    """States of robots that hold the default pose for 1.2 s."""
    state, trail = states(NOMINAL), []
    for _ in range(60):
        state = step_of(NOMINAL)(state, jnp.zeros((COUNT, 12), jnp.float32), pushes(COUNT))
        trail.append(state)
    return trail


@functools.cache
def moving_pair():
    """States before and after a step in the middle of wild motion, and the action between."""
    state = states(NOMINAL, 8)
    for index in range(12):
        before, action = state, actions(8, index, 1.0)
        state = step_of(NOMINAL)(before, action, pushes(8, (30.0, -20.0, 10.0)))
    return before, action, state


def simulated(config, state, row):
    """MuJoCo's own data at one row's state, with the row's parameters in the model."""
    env = env_of(config)
    text = build_mjcf(env.robot, timestep=config.physics_dt_s)
    model = mujoco.MjModel.from_xml_string(text)
    values = iter(np.asarray(state.parameters.model[row], np.float64))
    for name, indices in env.physics.fields:
        for index in indices:
            getattr(model, name).reshape(-1)[index] = next(values)
    data = mujoco.MjData(model)
    mujoco.mj_setConst(model, data)
    data.qpos, data.qvel = state.physics.qpos[row], state.physics.qvel[row]
    mujoco.mj_forward(model, data)
    mujoco.mj_subtreeVel(model, data)
    return model, data


@pytest.mark.smoke
def test_spec_of_the_default_task():
    spec = env_of(RANDOMISED).spec
    assert (spec.policy_size, spec.privileged_size, spec.action_size) == (45, 56, 12)
    assert (spec.dt_s, spec.episode_length) == (0.02, 1000)
    # (1.0 + 0.5) per second over a step of 0.02 s.
    assert spec.task_reward_max == spec.task_reward_scale == pytest.approx(0.03)
    assert (spec.disturbance.size, spec.disturbance.limit, spec.disturbance.unit) == (3, 100.0, "N")
    assert env_of(NOMINAL).spec.disturbance.limit == 50.0


def test_reset_needs_no_simulator(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("the simulator was asked")

    monkeypatch.setattr(NativePhysics, "step", refuse)
    env = VelocityEnv(RANDOMISED)
    assert "callback" not in str(jax.make_jaxpr(env.reset)(jax.random.key(0)))


@pytest.mark.smoke
def test_observation_is_what_the_table_says():
    _, action, state = moving_pair()
    for row in range(8):
        qpos, qvel = (
            np.asarray(x[row], np.float64) for x in (state.physics.qpos, state.physics.qvel)
        )
        turn = Rotation.from_quat(np.roll(qpos[3:7], -1))
        command = np.asarray(state.physics.command[row])
        expected = np.concatenate(
            [
                command * [2.0, 2.0, 0.25],
                0.25 * qvel[3:6],
                turn.inv().apply([0.0, 0.0, -1.0]),
                qpos[7:] - A1.default_pose,
                0.05 * qvel[6:],
                action[row],
            ]
        )
        np.testing.assert_allclose(state.observation["policy"][row], expected, atol=1e-5)
        extra = np.concatenate(
            [
                2.0 * turn.inv().apply(qvel[:3]),
                [0.3, -0.2, 0.1],
                [5.0 * np.clip(qpos[2] - 0.5, -1.0, 1.0)],
                state.physics.in_contact[row],
            ]
        )
        np.testing.assert_allclose(state.observation["privileged"][row, :45], expected, atol=1e-5)
        np.testing.assert_allclose(state.observation["privileged"][row, 45:], extra, atol=1e-5)


def test_reward_is_the_control_period_times_the_sum_of_its_terms():
    _, _, state = moving_pair()
    terms = {n: v for n, v in state.metrics.items() if n.startswith("reward_")}
    task = terms["reward_tracking_linear"] + terms["reward_tracking_yaw"]
    np.testing.assert_allclose(state.task_reward, 0.02 * task, rtol=1e-5)
    np.testing.assert_allclose(state.reward, 0.02 * sum(terms.values()), rtol=1e-4, atol=1e-6)
    assert (state.task_reward >= 0).all() and (state.task_reward <= 0.03 + 1e-6).all()


def test_terms_see_the_motion_that_mujoco_sees():
    before, action, state = moving_pair()
    config, spatial = NOMINAL.reward, np.zeros(6)
    for row in range(8):
        model, data = simulated(NOMINAL, state, row)
        inverse = data.xmat[1].reshape(3, 3).T
        clearance = 0.0
        for leg in LEGS:
            foot = model.geom(f"{leg}_foot").id
            kind = mujoco.mjtObj.mjOBJ_GEOM
            mujoco.mj_objectVelocity(model, data, kind, foot, spatial, 0)
            velocity = inverse @ (spatial[3:] - data.qvel[:3])
            height = (inverse @ (data.geom_xpos[foot] - data.xpos[1]))[2]
            clearance += (height + 0.2) ** 2 * np.hypot(velocity[0], velocity[1])
        data.ctrl[:] = A1.default_pose + 0.25 * np.asarray(action[row], np.float64)
        mujoco.mj_forward(model, data)
        rates, old_rates = data.qvel[6:], np.asarray(before.physics.qvel[row, 6:])
        expected = {
            "foot_clearance": config.foot_clearance * clearance,
            "joint_power": config.joint_power * np.abs(rates) @ np.abs(data.actuator_force),
            "joint_acceleration": config.joint_acceleration
            * np.sum(((rates - old_rates) / 0.02) ** 2),
            "vertical_velocity": config.vertical_velocity * (inverse @ data.qvel[:3])[2] ** 2,
        }
        for name, value in expected.items():
            found = state.metrics[f"reward_{name}"][row]
            np.testing.assert_allclose(found, value, rtol=1e-3, atol=1e-6, err_msg=name)


def test_velocity_error_of_a_standing_robot_is_the_mean_command():
    # E|c| of a uniform rectangle (1 by 0.5 m/s) outside the deadband of 0.2 m/s, by midpoints.
    x, y = np.meshgrid((np.arange(1000) + 0.5) / 1000, (np.arange(1000) + 0.5) / 2000)
    speed = np.hypot(x, y)
    expected = np.mean(np.where(speed < 0.2, 0.0, speed))
    trail = standing_rollout()[40::5]  # four draws of 200 commands; their spread is 0.29
    found = np.mean([np.asarray(state.metrics["velocity_error"]) for state in trail])
    np.testing.assert_allclose(found, expected, atol=4 * 0.29 / np.sqrt(4 * COUNT))


@pytest.mark.smoke
def test_standing_robot_stays_up_with_all_feet_on_the_ground():
    last = standing_rollout()[-1]
    assert not last.terminated.any()
    assert (last.observation["privileged"][:, -4:] == 1.0).all()
    np.testing.assert_array_equal(last.physics.air_time, 0.0)


def test_commands_change_at_their_interval_only():
    trail = standing_rollout()
    planar = np.array([np.asarray(state.physics.command[:, :2]) for state in trail])
    headings = np.array([np.asarray(state.physics.heading) for state in trail])
    for index in range(1, len(trail)):  # trail[i] is the state after step i + 1
        moved = (planar[index] != planar[index - 1]).any(axis=1)
        turned = headings[index] != headings[index - 1]
        due = (index + 1) % 5 == 0
        # Two commands in the deadband are equal: 6 % of 6 %.
        assert moved.mean() > 0.9 if due else not moved.any()
        assert turned.all() if due else not turned.any()


def test_commands_keep_to_their_ranges_and_to_the_deadband():
    keys = jax.random.split(jax.random.key(3), 4000)
    config = VelocityConfig(max_forward_m_s=1.5, max_lateral_m_s=0.4, max_yaw_rad_s=0.7)
    commands, headings = jax.vmap(lambda key: draw_command(key, config))(keys)
    for column, limit in zip(commands.T, (1.5, 0.4, 0.7), strict=True):
        assert 0.98 * limit < np.abs(column).max() <= limit * (1 + 1e-6)
    speed = np.linalg.norm(commands[:, :2], axis=1)
    assert not ((speed > 0) & (speed < 0.2)).any()
    # The deadband's share of the rectangle: pi 0.2^2 / (3.0 x 0.8) = 0.0524.
    np.testing.assert_allclose((speed == 0).mean(), 0.0524, atol=0.015)
    assert 3.1 < np.abs(headings).max() <= np.float32(np.pi)


@pytest.mark.parametrize(
    "heading, yaw, rate",
    [(1.0, 0.2, 0.4), (-3.0, 3.0, 0.5 * (2 * np.pi - 6.0)), (0.0, 3.0, -1.5), (2.0, 2.0, 0.0)],
)
def test_yaw_rate_is_half_the_heading_error_the_short_way_round(heading, yaw, rate):
    attitude = jnp.array([np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)], jnp.float32)
    command = jnp.array([0.3, -0.4, 9.0], jnp.float32)
    found = yaw_command(command, jnp.float32(heading), attitude, VelocityConfig())
    np.testing.assert_allclose(found, [0.3, -0.4, rate], atol=1e-6)
    kept = yaw_command(
        command, jnp.float32(heading), attitude, VelocityConfig(heading_command=False)
    )
    np.testing.assert_array_equal(kept, command)


def test_the_observed_command_turns_towards_the_heading():
    for state in standing_rollout()[20:30]:
        qpos = np.asarray(state.physics.qpos, np.float64)
        yaw = Rotation.from_quat(np.roll(qpos[:, 3:7], -1, axis=1)).as_euler("ZYX")[:, 0]
        error = np.asarray(state.physics.heading) - yaw
        error = np.angle(np.exp(1j * error))
        np.testing.assert_allclose(state.physics.command[:, 2], 0.5 * error, atol=1e-5)


TUMBLES = {
    "level": Rotation.identity(),
    "rolled": Rotation.from_euler("x", 40, degrees=True),
    "nose down": Rotation.from_euler("y", 60, degrees=True),
    "tail down and rolled": Rotation.from_euler("yx", [-30, 20], degrees=True),
}


@pytest.mark.parametrize("gap_m, fallen", [(0.001, True), (0.015, False)])
def test_a_fall_is_the_trunk_touching_the_ground(gap_m, fallen):
    # The legs point up, where they touch nothing; in 20 ms a robot falls 2 mm, and below 5 mm
    # the trunk counts as touching.
    legs_up = np.tile([0.0, np.pi, -1.0], 4)
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    qpos = []
    for turn in TUMBLES.values():
        lowest = turn.apply(corners * np.asarray(A1.trunk_box) / 2)[:, 2].min()
        qpos.append([*pose(gap_m - lowest, turn)[:7], *legs_up])
    hold = jnp.asarray((legs_up - A1.default_pose) / A1.action_scale, jnp.float32)
    count = len(qpos)
    state = placed(NOMINAL, np.array(qpos))
    stepped = step_of(NOMINAL)(state, jnp.tile(hold[None], (count, 1)), pushes(count))
    found = dict(zip(TUMBLES, stepped.terminated.tolist(), strict=True))
    assert found == dict.fromkeys(TUMBLES, fallen)


@pytest.mark.parametrize("config", [NOMINAL, RANDOMISED], ids=["a1", "aliengo with payload"])
def test_force_acts_in_the_heading_frame_and_moves_the_whole_mass(config):
    # 100 N for 0.1 s in the air change the velocity of the centre of mass by F t / m, which is
    # 0.80 m/s for A1 and 0.40 m/s for Aliengo without payload; yawed by 90 degrees, "forward"
    # is the world's y, whatever the roll.
    turn = Rotation.from_euler("ZYX", [90, 0, 20], degrees=True)
    qpos = pose(5.0, turn)
    qpos[7:] = env_of(config).robot.default_pose
    state = placed(config, np.tile(qpos, (4, 1)))
    before = [simulated(config, state, row)[1].subtree_linvel[1] for row in range(4)]
    for _ in range(5):
        state = step_of(config)(state, jnp.zeros((4, 12), jnp.float32), pushes(4, (100, 0, 0)))
    for row in range(4):
        model, data = simulated(config, state, row)
        mass = env_of(config).robot.total_mass + float(state.parameters.payload_kg[row])
        np.testing.assert_allclose(model.body_mass.sum(), mass, rtol=1e-6)
        gained = data.subtree_linvel[1] - before[row]
        np.testing.assert_allclose(gained, [0.0, 10.0 / mass, -0.981], atol=4e-3)
    if config is NOMINAL:
        np.testing.assert_allclose(gained[1], 0.80, atol=6e-3)


def test_disturbance_is_left_as_given():
    """Bounding it is the players' part; the critic sees what was applied."""
    state = step_of(NOMINAL)(states(NOMINAL, 1), actions(1), pushes(1, (500.0, 0.0, -3.0)))
    np.testing.assert_allclose(state.observation["privileged"][0, 48:51], [5.0, 0.0, -0.03])


def test_noise_spans_its_range_and_spares_command_and_action():
    state = states(RANDOMISED, 2000)
    physics = state.physics
    qpos, qvel = np.asarray(physics.qpos), np.asarray(physics.qvel)
    pose = np.asarray(env_of(RANDOMISED).robot.default_pose, np.float32)
    clean = np.concatenate(
        [
            np.asarray(physics.command) * np.float32([2.0, 2.0, 0.25]),
            0.25 * qvel[:, 3:6],
            np.tile(np.float32([0.0, 0.0, -1.0]), (2000, 1)),  # every episode starts level
            qpos[:, 7:] - pose,
            0.05 * qvel[:, 6:],
            np.zeros((2000, 12), np.float32),
        ],
        axis=1,
    )
    noise = np.asarray(state.observation["policy"]) - clean
    bounds = np.repeat([0.0, 0.05, 0.05, 0.01, 0.075, 0.0], [3, 3, 3, 12, 12, 12])
    assert (np.abs(noise) <= bounds + 2e-6).all()
    assert (np.abs(noise).max(axis=0) >= 0.98 * bounds).all()
    np.testing.assert_array_equal(
        state.observation["privileged"][:, :45], state.observation["policy"]
    )


def test_late_actions_and_kicks():
    """Each step equals the physics with the old target before some substep, then the new one."""
    env, count = env_of(DELAYED), 24
    state, counts = states(DELAYED, count), np.zeros(4, int)
    physics = jax.jit(jax.vmap(lambda s, t, f, p: env.physics.step(s, t, f, p, 4)))
    previous, none = jnp.zeros((count, 12), jnp.float32), jnp.zeros((count, 6), jnp.float32)
    for index in range(1, 11):
        action = actions(count, index, 2.0)
        stepped = step_of(DELAYED)(state, action, pushes(count))
        targets = [
            jnp.asarray(A1.default_pose, jnp.float32)[None] + 0.25 * a for a in (previous, action)
        ]
        matches = []
        for delay in range(4):
            late = (np.arange(4) >= delay)[None, :, None]
            target = jnp.where(late, targets[1][:, None], targets[0][:, None])
            expected = physics(state.physics.simulation, target, none, state.parameters.model)
            found = stepped.physics
            same = np.abs(found.qpos - expected.qpos).max(axis=1) < 1e-4
            same &= np.abs(found.qvel[:, 2:] - expected.qvel[:, 2:]).max(axis=1) < 1e-2
            kick = np.abs(found.qvel[:, :2] - expected.qvel[:, :2])
            if index % 5:
                same &= kick.max(axis=1) < 1e-3
            else:
                assert kick[same].max() <= 1.0 and (kick[same].min(axis=1) > 1e-3).all()
            matches.append(same)
        # Exactly one delay explains a row, but for rows whose joints all sit at torque limits.
        assert np.any(matches, axis=0).all()
        counts += np.sum(matches, axis=1)
        state, previous = stepped, action
    assert (counts > 30).all(), "each of the four delays is drawn in a quarter of 240 steps"


def test_parameters_of_the_episode_stay_and_rule_the_physics():
    state = states(RANDOMISED, 6)
    action = actions(6)
    stepped = step_of(RANDOMISED)(state, action, pushes(6))
    for old, new in zip(
        jax.tree.leaves(state.parameters), jax.tree.leaves(stepped.parameters), strict=True
    ):
        np.testing.assert_array_equal(old, new)
    env = env_of(RANDOMISED)
    target = jnp.asarray(env.robot.default_pose, jnp.float32)[None] + 0.5 * action
    expected = jax.jit(jax.vmap(lambda s, t, f, p: env.physics.step(s, t, f, p, 4)))(
        state.physics.simulation, target, jnp.zeros((6, 6), jnp.float32), state.parameters.model
    )
    np.testing.assert_allclose(stepped.physics.qvel, expected.qvel, atol=1e-4)


def test_pd_torque_by_hand():
    # 40 (0.5 - 0.1) - 2 x 3 = 10; the second joint asks for 40 x 2 = 80 and gets its limit.
    torque = pd_torque(
        jnp.array([0.5, 2.0], jnp.float32),
        jnp.array([0.1, 0.0], jnp.float32),
        jnp.array([3.0, 0.0], jnp.float32),
        stiffness=40.0,
        damping=2.0,
        limit=jnp.array([33.5, 33.5], jnp.float32),
    )
    np.testing.assert_allclose(torque, [10.0, 33.5], rtol=1e-6)


def test_a_diverged_robot_reports_it():
    state = states(NOMINAL, 3)
    simulation = state.physics.simulation
    broken = simulation._replace(qvel=simulation.qvel.at[1, 2].set(jnp.inf))
    state = state.replace(physics=state.physics._replace(simulation=broken))
    stepped = step_of(NOMINAL)(state, actions(3), pushes(3))
    np.testing.assert_array_equal(stepped.metrics["nonfinite"], [0, 1, 0])


def test_a_robot_of_ones_own_can_be_given():
    heavy = dataclasses.replace(
        A1, name="heavy", trunk=dataclasses.replace(A1.trunk, mass=9.0), push_limit=70.0
    )
    env = VelocityEnv(VelocityConfig(robot="a1", randomise=False), robot=heavy)
    assert env.spec.name == "heavy" and env.spec.disturbance.limit == 70.0
    assert env.model.body("trunk").mass == 9.0
    assert env.reset(jax.random.key(0)).parameters.model[0] == 9.0


def test_gains_of_the_config_reach_the_model():
    env = VelocityEnv(
        VelocityConfig(randomise=False, stiffness=80.0, damping=2.5, collisions="full")
    )
    np.testing.assert_array_equal(env.model.actuator_gainprm[:, 0], 80.0)
    np.testing.assert_array_equal(env.model.actuator_biasprm[:, 2], -2.5)
    assert env.model.geom("FL_calf").conaffinity[0] != 0
    drawn = env.reset(jax.random.key(0)).parameters.model
    np.testing.assert_allclose(drawn, env.physics.nominal_parameters(), rtol=1e-7)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"robot": "a2"}, r"unknown robot 'a2'; did you mean 'a1'"),
        ({"substeps": 0}, "substeps must be at least 1, got 0"),
        ({"physics_dt_s": 0.05}, r"physics_dt_s must lie in \(0, 0.02\]"),
        ({"history": 0}, "history must be at least 1"),
        ({"episode_length_s": 0.01}, r"at least one control step \(0.02 s\)"),
        ({"push_limit_n": -5.0}, "push_limit_n must be positive"),
        ({"command_interval_s": 0.0}, "command_interval_s must be positive"),
        ({"collisions": "mesh"}, "collisions must be 'feet' or 'full', got 'mesh'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        VelocityConfig(**settings)


def test_reward_scales_decide_the_maximum():
    config = RewardConfig(tracking_linear=2.0, tracking_yaw=0.25)
    env = VelocityEnv(VelocityConfig(reward=config, physics_dt_s=0.01, substeps=2))
    assert env.spec.task_reward_max == pytest.approx(2.25 * 0.02)

"""Pendulum and cart-pole: equations of motion, energy, rewards, ends and randomisation."""

import dataclasses

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from hinf_rl.envs.batch import BatchEnv
from hinf_rl.envs.classic import CartPole, CartPoleConfig, Pendulum, PendulumConfig
from hinf_rl.envs.classic_dynamics import (
    CartPoleParameters,
    PendulumParameters,
    cart_pole_acceleration,
    pendulum_acceleration,
    runge_kutta,
)
from hinf_rl.errors import UserError

F32 = jnp.float32


def parameters(kind, *values):
    return kind(*(F32(v) for v in values))


CART_POLE = parameters(CartPoleParameters, 1.0, 0.2, 0.5, 0.0)


def test_cart_pole_accelerations_upright_by_hand():
    # M = 1, m = 0.2, l = 0.5, upright: 1.2 x'' + 0.1 t'' = F + w and
    # 0.1 x'' + (4/3)(0.05) t'' = 0.5 w.
    # F = 10, w = 0: t'' = -1.5 x'', so 1.05 x'' = 10: x'' = 9.52381, t'' = -14.28571.
    # F = 0, w = 1: t'' = 7.5 - 1.5 x'', so 1.05 x'' = 0.25: x'' = 0.238095, t'' = 7.142857.
    rest, upright = jnp.zeros(2, F32), F32(0)
    push_cart = cart_pole_acceleration(CART_POLE, upright, rest, 10.0, 0.0)
    np.testing.assert_allclose(push_cart, [9.52381, -14.28571], rtol=1e-5)
    push_pole = cart_pole_acceleration(CART_POLE, upright, rest, 0.0, 1.0)
    np.testing.assert_allclose(push_pole, [0.238095, 7.142857], rtol=1e-5)


def mujoco_cart_pole(cart_mass, pole_mass, half_length, friction):
    """The same machine in MuJoCo, y pointing away: a hinge about y turns z towards x."""
    inertia = pole_mass * half_length**2 / 3.0
    return mujoco.MjModel.from_xml_string(
        f"""<mujoco><option gravity="0 0 -9.81"/><worldbody><body name="cart">
        <inertial pos="0 0 0" mass="{cart_mass}" diaginertia="1 1 1"/>
        <joint type="slide" axis="1 0 0" damping="{friction}"/>
        <body name="pole"><joint type="hinge" axis="0 1 0"/>
        <inertial pos="0 0 {half_length}" mass="{pole_mass}"
          diaginertia="{inertia} {inertia} 1e-6"/>
        </body></body></worldbody></mujoco>"""
    )


@pytest.mark.parametrize("machine", [(1.0, 0.2, 0.5, 0.0), (0.7, 0.4, 0.35, 0.5)])
def test_cart_pole_accelerations_equal_mujoco(machine):
    model = mujoco_cart_pole(*machine)
    data = mujoco.MjData(model)
    pole = model.body("pole").id
    draw = np.random.default_rng(0)
    for _ in range(20):
        angle, force, push = draw.uniform(-3, 3), draw.uniform(-10, 10), draw.uniform(-5, 5)
        rates = draw.uniform(-3, 3, size=2)
        data.qpos[:], data.qvel[:] = (0.3, angle), rates
        data.qfrc_applied[0] = force
        data.xfrc_applied[pole, 0] = push
        mujoco.mj_forward(model, data)
        ours = cart_pole_acceleration(
            parameters(CartPoleParameters, *machine),
            F32(angle),
            jnp.asarray(rates, F32),
            force,
            push,
        )
        np.testing.assert_allclose(ours, data.qacc, rtol=2e-4, atol=2e-4)


def cart_pole_energy(physics):
    """Kinetic plus potential energy of cart and uniform rod, in joules, in float64."""
    angle, v, w = (np.float64(physics[k]) for k in ("angle", "velocity", "angle_rate"))
    m, half = 0.2, 0.5
    v_x, v_y = v + half * w * np.cos(angle), -half * w * np.sin(angle)
    kinetic = 0.5 * v**2 + 0.5 * m * (v_x**2 + v_y**2) + 0.5 * m * half**2 / 3.0 * w**2
    return kinetic + m * 9.81 * half * np.cos(angle)


def pendulum_energy(physics):
    angle, w = np.float64(physics["angle"]), np.float64(physics["angle_rate"])
    return 0.5 * w**2 + 9.8 * np.cos(angle)


@pytest.mark.parametrize(
    ("env", "energy", "scale"),
    [
        (CartPole(), cart_pole_energy, 0.2 * 9.81 * 0.5),
        (Pendulum(PendulumConfig(friction_nms=0.0)), pendulum_energy, 9.8),
    ],
    ids=["cart_pole", "pendulum"],
)
def test_energy_is_kept_without_input(env, energy, scale):
    state = env.reset(jax.random.key(0))
    state = state.replace(physics={**state.physics, "angle": F32(2.0), "angle_rate": F32(1.0)})
    still = jnp.zeros((200, 1), F32)

    def advance(state, action):
        state = env.step(state, action)
        return state, state.physics

    _, path = jax.jit(lambda s: jax.lax.scan(advance, s, still))(state)
    assert np.ptp(path["angle"]) > 1.0, "the test must see large swings"
    # Fourth order: the drift over 200 steps stays far below the energy that is exchanged.
    drift = np.abs(energy(path) - energy(state.physics)) / scale
    assert drift.max() < 1e-3


def test_runge_kutta_is_the_taylor_series_to_fourth_order():
    # On x' = x a fourth-order step of 1 from 1 gives 1 + 1 + 1/2 + 1/6 + 1/24 = 65/24.
    step = runge_kutta(lambda x: x, jnp.ones((1,), F32), 1.0)
    np.testing.assert_allclose(step, [65 / 24], rtol=1e-6)
    # x' = x^2 from 1 is 1 / (1 - t), whose stages are not linear: 1/0.9 but for O(0.1^5).
    step = runge_kutta(lambda x: x**2, jnp.ones((1,), F32), 0.1)
    np.testing.assert_allclose(step, [1 / 0.9], atol=2e-5)


def test_pendulum_acceleration_by_hand():
    # m = 2, l = 0.5, friction 0.1 at angle pi/2, rate 3, torque 1:
    # (2 * 9.8 * 0.5 - 0.1 * 3 + 1) / (2 * 0.25) = 10.5 / 0.5 = 21.
    values = parameters(PendulumParameters, 2.0, 0.5, 0.1)
    result = pendulum_acceleration(values, F32(np.pi / 2), F32(3.0), 1.0)
    np.testing.assert_allclose(result, 21.0, rtol=1e-6)


def test_pendulum_linearised_upright_is_the_published_system():
    # Morimoto & Doya: A = [[0, 1], [9.8, -0.01]] and both inputs enter by (0, 1).
    env = Pendulum()
    at_rest = env.reset(jax.random.key(0)).parameters
    slope = jax.jacobian(
        lambda x: pendulum_acceleration(at_rest, x[0], x[1], x[2]),
    )(jnp.zeros(3, F32))
    np.testing.assert_allclose(slope, [9.8, -0.01, 1.0], rtol=1e-6)


def test_pendulum_rewards_by_hand():
    env = Pendulum(PendulumConfig(torque_limit_nm=4.9, friction_nms=0.0))
    state = env.reset(jax.random.key(0))
    # Held level against gravity by 4.9 + 4.9 N m of action and disturbance: it stays level.
    state = state.replace(physics={"angle": F32(-np.pi / 2), "angle_rate": F32(0)})
    state = env.step(state, jnp.array([7.0], F32), jnp.array([4.9], F32))
    np.testing.assert_allclose(state.physics["angle"], -np.pi / 2, atol=1e-5)
    np.testing.assert_allclose(state.task_reward, 0.5, atol=1e-5)
    np.testing.assert_allclose(state.reward, 0.5 - 0.02 * 4.9**2, atol=1e-5)
    np.testing.assert_allclose(state.metrics["tracking_error"], np.pi / 2, rtol=1e-5)
    np.testing.assert_allclose(state.observation["policy"], [0.0, -1.0, 0.0], atol=1e-5)


def test_cart_pole_rewards_and_observation_by_hand():
    env = CartPole()
    state = env.reset(jax.random.key(0))
    at_rest = dict.fromkeys(state.physics, F32(0))
    upright = {**at_rest, "velocity": F32(0.5), "command": F32(1.0)}
    # Upright at constant speed is an equilibrium: v stays 0.5, the error is -0.5.
    rolling = env.step(state.replace(physics=upright), jnp.zeros(1, F32))
    np.testing.assert_allclose(rolling.task_reward, np.exp(-1.0), rtol=1e-6)
    np.testing.assert_allclose(rolling.reward, np.exp(-1.0) + 0.3, rtol=1e-6)
    np.testing.assert_allclose(rolling.observation["policy"], [-0.5, 0, 0, 0, 0.5], atol=1e-7)
    np.testing.assert_allclose(rolling.physics["position"], 0.01, rtol=1e-6)
    np.testing.assert_allclose(rolling.metrics["tracking_error"], 0.5, rtol=1e-6)

    pushed = env.step(state.replace(physics=upright), jnp.array([3.0], F32), jnp.array([0.3], F32))
    rate = float(pushed.physics["angle_rate"])
    error = float(pushed.physics["velocity"]) - 1.0
    # An action of 3 counts as 1; half of the 0.6 N limit shows as 0.5 to the critic.
    expected = np.exp(-(error**2) / 0.25) + 0.3 - 0.02 - 0.01 * rate**2
    np.testing.assert_allclose(pushed.reward, expected, rtol=1e-5)
    np.testing.assert_allclose(pushed.observation["privileged"][-1], 0.5, rtol=1e-6)
    # Over one step from rest the rates are nearly acceleration times dt: 10 N and 0.3 N by hand.
    np.testing.assert_allclose(rate, 0.02 * (-14.28571 + 0.3 * 7.142857), rtol=0.02)
    np.testing.assert_allclose(error, -0.5 + 0.02 * (9.52381 + 0.3 * 0.238095), rtol=0.02)


@pytest.mark.parametrize(
    ("change", "falls"),
    [
        ({"angle": 0.79}, False),
        ({"angle": 0.85}, True),
        ({"angle": -0.85}, True),
        ({"velocity": 5.9}, False),
        ({"velocity": -6.1}, True),
    ],
)
def test_cart_pole_ends_at_the_limits(change, falls):
    env = CartPole()
    state = env.reset(jax.random.key(0))
    at_rest = dict.fromkeys(state.physics, F32(0))
    state = state.replace(physics={**at_rest, **{k: F32(v) for k, v in change.items()}})
    assert bool(env.step(state, jnp.zeros(1, F32)).terminated) is falls


def test_cart_pole_command_is_drawn_per_episode_and_held():
    env = CartPole()
    states = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 500))
    command = np.asarray(states.physics["command"])
    assert command.min() > -1.0 and command.max() < 1.0
    # Uniform on (-1, 1): mean 0 +- 0.026 (one standard error), standard deviation 0.577.
    assert abs(command.mean()) < 0.1 and abs(command.std() - 0.577) < 0.05
    stepped = jax.vmap(env.step)(states, jnp.ones((500, 1), F32))
    np.testing.assert_array_equal(stepped.physics["command"], command)


@pytest.mark.parametrize(
    ("make", "config", "field", "name"),
    [
        (Pendulum, PendulumConfig(randomise=True), "mass_range_kg", "mass"),
        (Pendulum, PendulumConfig(randomise=True), "length_range_m", "length"),
        (Pendulum, PendulumConfig(randomise=True), "friction_range_nms", "friction"),
        (CartPole, CartPoleConfig(randomise=True), "pole_mass_range_kg", "pole_mass"),
        (CartPole, CartPoleConfig(randomise=True), "half_length_range_m", "half_length"),
        (CartPole, CartPoleConfig(randomise=True), "friction_range_ns_per_m", "friction"),
    ],
)
def test_randomised_parameters_fill_their_range_and_act(make, config, field, name):
    env = make(config)
    keys = jax.random.split(jax.random.key(0), 200)
    drawn = np.asarray(getattr(jax.vmap(env.reset)(keys).parameters, name))
    low, high = getattr(config, field)
    assert low <= drawn.min() < low + 0.1 * (high - low)
    assert high - 0.1 * (high - low) < drawn.max() <= high
    nominal = jax.vmap(make(dataclasses.replace(config, randomise=False)).reset)(keys).parameters
    assert len(np.unique(getattr(nominal, name))) == 1

    # The drawn value, not the nominal one, moves the machine.
    state = env.reset(keys[0])
    moving = {k: F32(0.5) for k in state.physics}
    other = state.parameters._replace(**{name: F32(high)})
    one = env.step(state.replace(physics=moving), jnp.ones(1, F32))
    two = env.step(state.replace(physics=moving, parameters=other), jnp.ones(1, F32))
    assert float(one.physics["angle_rate"]) != float(two.physics["angle_rate"])


@given(
    angle=st.floats(-0.75, 0.75, width=32),
    rate=st.floats(-2, 2, width=32),
    velocity=st.floats(-3, 3, width=32),
    command=st.floats(-1, 1, width=32),
    action=st.floats(-1.5, 1.5, width=32),
    push=st.floats(-0.5, 0.5, width=32),
)
@settings(deadline=None, max_examples=40)
def test_mirrored_cart_pole_moves_as_the_mirror_image(angle, rate, velocity, command, action, push):
    env = CartPole()
    state = env.reset(jax.random.key(0))
    values = (0.0, angle, velocity, rate, command)
    names = ("position", "angle", "velocity", "angle_rate", "command")
    physics = {k: F32(v) for k, v in zip(names, values, strict=True)}
    action, push = jnp.array([action], F32), jnp.array([push], F32)
    image = env.step(state.replace(physics=jax.tree.map(jnp.negative, physics)), -action, -push)
    original = env.step(state.replace(physics=physics), action, push)
    for name in names:
        np.testing.assert_array_equal(image.physics[name], -original.physics[name])
    np.testing.assert_array_equal(image.reward, original.reward)
    for part in ("policy", "privileged"):
        permutation, sign = getattr(env.spec.mirror, part)
        mirrored = np.array(sign) * np.asarray(original.observation[part])[list(permutation)]
        np.testing.assert_array_equal(image.observation[part], mirrored)


def test_cart_pole_is_solvable_by_the_linear_regulator():
    # Upright, from the accelerations by hand above: gravity gives the pole m g l = 0.981 N m.
    inverse_mass = np.linalg.inv([[1.2, 0.1], [0.1, 0.2 / 3]])
    by_angle, by_action = inverse_mass @ [0, 0.981], inverse_mass @ [10.0, 0]
    a = np.array([[0, by_angle[0], 0], [0, 0, 1], [0, by_angle[1], 0]])
    b = np.array([[by_action[0]], [0], [by_action[1]]])
    riccati = scipy.linalg.solve_continuous_are(a, b, np.diag([1, 1, 0.01]), np.eye(1))
    gain = jnp.asarray(b.T @ riccati, F32)[0]

    def survival_and_task_reward(push_n):
        num_envs = 64
        batch = BatchEnv(CartPole(), num_envs)
        push = jnp.full((num_envs, 1), push_n, F32)

        def advance(state, _):
            physics = state.env.physics
            error = physics["velocity"] - physics["command"]
            x = jnp.stack([error, physics["angle"], physics["angle_rate"]], axis=-1)
            state, step = batch.step(state, -(x @ gain)[:, None], push)
            return state, (step.terminated, step.task_reward)

        start = batch.reset(jax.random.key(0))
        _, (fell, task) = jax.lax.scan(advance, start, None, length=250)
        return 1.0 - fell.any(axis=0).mean(), task.mean()

    survival, task_reward = survival_and_task_reward(0.0)
    assert survival == 1.0 and task_reward > 0.9
    # A held push at the limit can be survived, but not without giving up the command.
    survival, task_reward = survival_and_task_reward(0.6)
    assert survival == 1.0 and task_reward < 0.2


def test_pendulum_cannot_be_lifted_but_can_be_swung_up():
    num_envs, torque = 32, 5.0
    env = Pendulum()
    angles = jnp.linspace(2.0, 4.0, num_envs, dtype=F32)

    def final_height(control):
        state = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), num_envs))
        state = state.replace(physics={"angle": angles, "angle_rate": jnp.zeros_like(angles)})

        def advance(state, _):
            action = control(state.physics["angle"], state.physics["angle_rate"])
            state = jax.vmap(env.step)(state, action[:, None])
            return state, state.task_reward

        _, height = jax.lax.scan(advance, state, None, length=200)
        return height

    def balance(angle, rate):
        upright = jnp.arctan2(jnp.sin(angle), jnp.cos(angle))
        return -(22.0 * upright + 6.0 * rate) / torque

    def pump(angle, rate):
        # Push along the motion until the energy is that of rest at the top.
        lacking = 9.8 * (1.0 - jnp.cos(angle)) - 0.5 * rate**2
        is_near = (jnp.cos(angle) > 0.94) & (jnp.abs(rate) < 2.0)
        swing = jnp.where(rate < 0, F32(-1), F32(1)) * jnp.sign(lacking)
        return jnp.where(is_near, balance(angle, rate), swing)

    assert np.all(final_height(pump)[-1] > 0.95)
    assert np.all(final_height(balance)[-1] < 0.95)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PendulumConfig(mass_kg=0.0), "mass_kg must be positive, got 0.0"),
        (lambda: PendulumConfig(friction_nms=-1.0), "friction_nms must not be negative"),
        (lambda: PendulumConfig(length_range_m=(0.0, 1.0)), "length_range_m must satisfy 0 < low"),
        (lambda: CartPoleConfig(dt_s=float("nan")), "dt_s must be positive, got nan"),
        (lambda: CartPoleConfig(pole_mass_range_kg=(0.4, 0.1)), "pole_mass_range_kg must satisfy"),
        (lambda: CartPole(CartPoleConfig(episode_length=0)).spec, "episode_length must be at"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(make, message):
    with pytest.raises(UserError, match=message):
        make()

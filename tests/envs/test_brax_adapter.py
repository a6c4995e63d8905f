"""Brax environments as ours, and ours as Brax's."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("brax")

from hinf_rl.envs import BatchEnv, CartPole, CartPoleConfig
from hinf_rl.envs.brax_adapter import BraxConfig, brax_envs, from_brax, make_brax, to_brax
from hinf_rl.envs.foreign import foreign_code
from hinf_rl.errors import UserError

FAST = {"dt_s": 0.02, "task_reward_max": 1.0}


class Odd(brax_envs.Env):
    """x moves by the action; reset and step disagree wherever Brax lets them."""

    backend = "none"
    observation_size = 1
    action_size = 2
    dt = 0.1

    def reset(self, rng):
        x = jax.random.uniform(rng)
        metrics = {"only_reset": x, "both": 0}
        return brax_envs.State(x, x[None], 0.0, 0.0, metrics, {"kept": 1, "lost": x})

    def step(self, state, action):
        assert state.done.shape == ()
        x = state.pipeline_state + action[0]
        state.metrics["both"] = x * 2
        state.metrics["only_step"] = x * 3
        del state.metrics["only_reset"]
        info = {"kept": state.info["kept"] + 1, "new": x}
        return state.replace(pipeline_state=x, obs=x[None], reward=1, done=x > 2.0, info=info)


def odd(**settings):
    return from_brax(Odd(), task_reward_max=1.0, **settings)


def test_the_adapted_physics_is_braxs_own():
    action = jnp.array([0.3], jnp.float32)
    ours = from_brax("inverted_pendulum")
    state = ours.reset(jax.random.key(0))
    other = state.physics.state
    # The start is Brax's: everything within 0.01 of upright and at rest.
    assert np.all(np.abs(state.observation["policy"]) <= 0.01)
    with foreign_code():
        step = jax.jit(ours.foreign.step)
        for _ in range(5):
            state, other = ours.step(state, action), step(other, action)
    np.testing.assert_allclose(state.observation["policy"], other.obs, rtol=1e-5, atol=1e-6)
    assert (ours.spec.dt_s, ours.spec.task_reward_max, ours.spec.policy_size) == (0.04, 1.0, 4)


def test_differences_between_reset_and_step_are_evened_out():
    env = odd()
    state = env.reset(jax.random.key(0))
    x = float(state.physics.state.pipeline_state)
    assert sorted(state.metrics) == ["both", "only_reset", "only_step"]
    assert float(state.metrics["only_step"]) == 0.0
    state = env.step(state, jnp.array([0.5, 0.0], jnp.float32))
    np.testing.assert_allclose(state.metrics["both"], 2 * (x + 0.5), rtol=1e-6)
    np.testing.assert_allclose(state.metrics["only_step"], 3 * (x + 0.5), rtol=1e-6)
    assert float(state.metrics["only_reset"]) == 0.0
    # "new" is not there at reset, so it cannot be kept; "lost" is not reported, so it stays.
    info = state.physics.state.info
    assert sorted(info) == ["kept", "lost"] and int(info["kept"]) == 2
    np.testing.assert_allclose(info["lost"], x, rtol=1e-6)


def test_done_terminates_and_our_clock_truncates():
    env = odd(episode_length=4, disturbance_limit=1.5)
    batch = BatchEnv(env, 2)
    state = batch.reset(jax.random.key(0))
    # From x in [0, 1]: +1 per step passes 2 within two or three steps, standing still never does.
    action = jnp.array([[1.0, 0.0], [0.0, 0.0]], jnp.float32)
    ends = []
    for _ in range(4):
        state, step = batch.step(state, action)
        ends.append((bool(step.terminated[0]), bool(step.truncated[1])))
    assert [t for t, _ in ends].index(True) in (1, 2)
    assert [t for _, t in ends] == [False, False, False, True]
    # After an episode's end comes a fresh start, not a cached one.
    starts = [float(batch.reset(jax.random.key(k)).env.observation["policy"][1, 0]) for k in (0, 1)]
    assert float(state.env.observation["policy"][1, 0]) not in starts


def test_actions_are_clipped_and_the_disturbance_is_added_after():
    env = odd(disturbance_limit=0.5)
    state = env.reset(jax.random.key(0))
    x = float(state.physics.state.pipeline_state)
    pushed = env.step(state, jnp.array([9.0, 0.0], jnp.float32), jnp.array([-0.25, 0], jnp.float32))
    np.testing.assert_allclose(pushed.physics.state.pipeline_state, x + 1.0 - 0.25, rtol=1e-6)
    # The critic sees the push over its limit.
    np.testing.assert_allclose(pushed.observation["privileged"][1:], [-0.5, 0.0])
    assert env.spec.disturbance.unit == "action"


def test_dictionaries_of_observations_are_asymmetric():
    fast = brax_envs.get_environment("fast", asymmetric_obs=True, obs_mode="dict_state")
    env = from_brax(fast, **FAST)
    assert (env.spec.policy_size, env.spec.privileged_size) == (2, 4 + 1)


def test_the_task_reward_is_a_metric_or_a_function():
    action = jnp.array([0.5, 0.0], jnp.float32)
    named, free = odd(task_reward="both"), odd(task_reward=lambda state: state.obs[0] - 1)
    for env, expected in ((named, lambda x: 2 * x), (free, lambda x: x - 1)):
        state = env.step(env.reset(jax.random.key(0)), action)
        x = float(state.physics.state.pipeline_state)
        np.testing.assert_allclose(state.task_reward, expected(x), rtol=1e-5)
        assert float(state.reward) == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: from_brax("hoper"), "unknown Brax environment 'hoper'; did you mean 'hopper'"),
        (lambda: from_brax("hopper", backnd="mjx"), "did you mean 'backend'"),
        (lambda: from_brax("fast", dt_s=0.02), "set task_reward_max"),
        (lambda: from_brax("fast", task_reward_max=1.0), "set dt_s"),
        (lambda: odd(task_reward="bth"), "did you mean 'both'"),
        (lambda: odd(disturbance="force", body="x"), "backend = 'mjx'"),
        (lambda: odd(disturbance_limit=0.0), "disturbance_limit must be positive"),
        (lambda: odd(axes="zx"), "axes must be letters"),
        (lambda: odd(backend="mjx"), "backend is chosen where"),
        (lambda: from_brax(CartPole()), "wants a Brax environment or its name, got CartPole"),
        (lambda: from_brax(brax_envs.training.VmapWrapper(Odd())), "VmapWrapper must go"),
        (lambda: to_brax(CartPole(), disturbance="learned"), "'none' or 'random'"),
        (lambda: to_brax(CartPole(), disturbance="random", limit=-1.0), "positive, finite limit"),
        (lambda: to_brax(CartPole(), hold_s=(2.0, 1.0)), "hold_s must be"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(UserError, match=re.escape(message)):
        call()


def test_a_function_of_the_reward_needs_its_own_bound():
    with pytest.raises(UserError, match="set task_reward_max"):
        from_brax("inverted_pendulum", task_reward=lambda state: state.reward)


@pytest.mark.slow
def test_a_force_on_a_body_of_mjx_is_that_of_newtons_law():
    """At rest and upright, a horizontal force f on the pole's centre of mass, at height h above
    the hinge of a cart: (M + m) x'' + m h a = f and m h x'' + (I + m h^2) a = f h."""
    config = BraxConfig(
        name="inverted_pendulum", backend="mjx", disturbance="force", body="pole", axes="x",
        disturbance_limit=1.0,
    )  # fmt: skip
    env = make_brax(config)
    model = env.model
    cart, pole = model.body("cart").id, model.body("pole").id
    big, small = model.body_mass[cart], model.body_mass[pole]
    height, inertia = model.body_ipos[pole][2], model.body_inertia[pole][0]
    mass = np.array([[big + small, small * height], [small * height, inertia + small * height**2]])
    damping = np.diag(model.dof_damping)
    force, substep = 1e-2, model.opt.timestep
    # MuJoCo's Euler integrator takes the damping implicitly; two substeps are a control step.
    velocity = np.zeros(2)
    for _ in range(round(env.spec.dt_s / substep)):
        push = force * np.array([1.0, height]) - damping @ velocity
        velocity = velocity + substep * np.linalg.solve(mass + substep * damping, push)
    state = env.reset(jax.random.key(0))
    zero = jnp.zeros((1,), jnp.float32)
    pushed = env.step(state, zero, jnp.array([force], jnp.float32))
    rested = env.step(state, zero)
    gained = pushed.observation["policy"][2:] - rested.observation["policy"][2:]
    # Gravity on the angle gained meanwhile is left out.
    np.testing.assert_allclose(gained, velocity, rtol=0.02)


def cart_pole(**settings):
    return to_brax(CartPole(CartPoleConfig(episode_length=8)), **settings)


def wrapped(env, episode_length=8):
    """As Brax's trainers wrap it for their evaluations."""
    return brax_envs.training.EvalWrapper(brax_envs.training.wrap(env, episode_length, 1))


def rollout(env, num_envs=3, steps=20):
    with foreign_code():
        state = jax.jit(env.reset)(jax.random.split(jax.random.PRNGKey(0), num_envs))

        def body(state, _):
            state = env.step(state, jnp.zeros((num_envs, 1), jnp.float32))
            return state, state

        return state, *jax.jit(lambda s: jax.lax.scan(body, s, length=steps))(state)


@pytest.mark.parametrize("disturbance", ["none", "random"])
def test_ours_run_under_braxs_wrappers(disturbance):
    env = cart_pole(disturbance=disturbance)
    assert (env.observation_size, env.action_size, env.backend) == (5, 1, "hinf_rl")
    _, final, states = rollout(wrapped(env))
    # Without action the pole does not fall within 8 steps: the clock ends each episode.
    assert np.all(np.asarray(states.done[7::8]) == 1) and np.asarray(states.done).sum() == 6
    assert np.all(np.asarray(states.info["truncation"][7::8]) == 1)
    assert np.all(np.isfinite(states.obs))
    np.testing.assert_allclose(final.info["eval_metrics"].episode_steps, 8)
    pushes = np.asarray(states.pipeline_state["push"])
    assert np.all(np.linalg.norm(pushes, axis=-1) <= 0.6 + 1e-6)
    if disturbance == "none":
        assert not pushes.any()
    else:
        # Forces differ between instances and between episodes that start from one cached state.
        assert len(np.unique(pushes[0])) == 3
        assert np.all(pushes[0] != pushes[8])


def test_ours_step_as_they_do_outside_brax():
    inner = CartPole(CartPoleConfig(episode_length=8))
    env = to_brax(inner)
    state = env.reset(jax.random.PRNGKey(0))
    expected = inner.reset(jax.random.split(jax.random.key(0))[0])
    action = jnp.array([0.4], jnp.float32)
    for _ in range(3):
        state, expected = env.step(state, action), inner.step(expected, action)
    np.testing.assert_array_equal(state.obs, expected.observation["policy"])
    np.testing.assert_array_equal(state.reward, expected.reward)
    np.testing.assert_array_equal(state.metrics["task_reward"], expected.task_reward)


def test_a_random_force_is_held():
    env = to_brax(CartPole(), disturbance="random", hold_s=(0.1, 0.1))  # 5 steps of 20 ms
    _, _, states = rollout(brax_envs.training.wrap(env, 100, 1), num_envs=1, steps=15)
    pushes = np.asarray(states.pipeline_state["push"]).reshape(3, 5)
    assert np.all(pushes == pushes[:, :1]) and len(np.unique(pushes)) == 3


def test_the_critic_may_see_more():
    env = cart_pole(asymmetric=True)
    assert env.observation_size == {"state": (5,), "privileged_state": (6,)}
    state, _, states = rollout(wrapped(env), steps=2)
    assert state.obs["state"].shape == (3, 5)
    assert states.obs["privileged_state"].shape == (2, 3, 6)


def test_there_and_back_again():
    inner = CartPole(CartPoleConfig(episode_length=8))
    env = from_brax(to_brax(inner), task_reward="task_reward", task_reward_max=1.0)
    state = env.step(env.reset(jax.random.key(0)), jnp.array([0.4], jnp.float32))
    assert env.spec.dt_s == inner.spec.dt_s and env.spec.policy_size == 5
    np.testing.assert_allclose(
        state.task_reward, jnp.exp(-(state.observation["policy"][0] ** 2) / 0.25), rtol=1e-5
    )


@pytest.mark.slow
def test_braxs_ppo_trains_ours():
    if not hasattr(jax, "device_put_replicated"):
        pytest.skip("Brax 0.14.2's trainers need jax < 0.10: jax.device_put_replicated is gone")
    from experiments.interop.brax_ppo import Arm, train

    arm = Arm(is_pushed=True, asymmetric=True)
    lines = train(arm, num_timesteps=100_000, episode_length=50)
    assert lines[-1]["return"] > lines[0]["return"]

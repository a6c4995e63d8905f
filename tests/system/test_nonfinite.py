"""What is not finite is counted, reset and left out, and never reaches the parameters."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.agents.hinf import make
from hinf_rl.envs.batch import BatchEnv
from hinf_rl.tasks import configure, get_task

SMALL = {
    "agent.iterations": 4,
    "agent.num_envs": 8,
    "agent.unroll_length": 16,
    "agent.num_epochs": 1,
    "agent.num_minibatches": 2,
    "agent.disturbance.warmup_fraction": 0.0,
    "agent.disturbance.ramp_fraction": 0.0,
    "agent.normalize_observations": True,
}
GARBAGE = (np.nan, np.inf, -np.inf)


class Poisoned:
    """Adds `garbage` = (physics, observation, reward, metrics) to one step in twenty."""

    def __init__(self, env, garbage):
        self._env, self._garbage = env, garbage

    @property
    def spec(self):
        return self._env.spec

    def reset(self, key):
        return self._env.reset(key)

    def step(self, state, action, disturbance=None):
        stepped = self._env.step(state, action, disturbance)
        is_hit = jax.random.bernoulli(jax.random.fold_in(state.key, 99), 0.05)
        added = jnp.where(is_hit, self._garbage, jnp.zeros_like(self._garbage))

        def add(tree, amount):
            return jax.tree.map(lambda x: x + amount, tree)

        return dataclasses.replace(
            stepped,
            physics=add(stepped.physics, added[0]),
            observation=add(stepped.observation, added[1]),
            reward=stepped.reward + added[2],
            task_reward=stepped.task_reward + added[2],
            metrics=add(stepped.metrics, added[3]),
        )


@pytest.fixture(scope="module")
def training():
    """(init, step(carry, garbage)); garbage is traced, so that all cases share a compilation."""
    config = configure("pendulum", "hinf", SMALL)
    env = get_task("pendulum").make_env(config.env)

    @jax.jit
    def step(carry, garbage):
        return make(config.agent, Poisoned(env, garbage)).step(carry)

    return jax.jit(make(config.agent, env).init), step


def parameters(carry):
    return (carry.actor.params, carry.disturber.params, carry.critic.params)


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def is_finite(tree):
    floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    return all(bool(jnp.isfinite(leaf).all()) for leaf in floats)


def trained(training, garbage, iterations=2):
    init, step = training
    carry, counts = init(jax.random.key(3)), []
    for _ in range(iterations):
        carry, metrics = step(carry, jnp.asarray(garbage, jnp.float32))
        counts.append((metrics["env/nonfinite_steps"], metrics["train/nonfinite_updates"]))
    return carry, np.sum(counts, axis=0)


@pytest.mark.parametrize("where", range(4), ids=["physics", "observation", "reward", "metrics"])
def test_a_poisoned_step_is_left_out(training, where):
    results = []
    for value in GARBAGE:
        garbage = np.zeros(4)
        garbage[where] = value
        carry, (steps, updates) = trained(training, garbage)
        assert is_finite(carry)
        # About 2 * 8 * 16 / 20 = 13 steps are hit; no update had to be skipped for them.
        assert 3 <= steps <= 30
        assert updates == 0
        results.append((bits(parameters(carry)), steps))
    # Whatever stood in the poisoned step, the parameters are the same, to the last bit.
    assert results[0] == results[1] == results[2]


def test_the_other_samples_are_used(training):
    init, _ = training
    first = init(jax.random.key(3))
    clean, (steps, _) = trained(training, np.zeros(4))
    assert steps == 0
    poisoned, _ = trained(training, [np.nan] * 4)
    for before, after in zip(bits(parameters(first)), bits(parameters(poisoned)), strict=True):
        assert before != after
    assert bits(parameters(clean)) != bits(parameters(poisoned))


def test_players_that_answer_nan_lose_one_step(training):
    init, step = training
    carry = init(jax.random.key(3))
    seen = jax.tree.map(lambda x: x.at[2].set(jnp.nan), carry.env.env.observation)
    state = dataclasses.replace(carry.env.env, observation=seen)
    carry = carry._replace(env=dataclasses.replace(carry.env, env=state))
    # Actor and disturber act on NaN in environment 2: one step is lost, and nothing else.
    carry, metrics = step(carry, jnp.zeros(4, jnp.float32))
    assert metrics["env/nonfinite_steps"] == 1
    assert metrics["train/nonfinite_updates"] == 0
    assert is_finite(carry)


@pytest.fixture(scope="module")
def robots():
    config = configure("aliengo", "hinf")
    batch = BatchEnv(get_task("aliengo").make_env(config.env), 4)
    return batch, jax.jit(batch.reset)(jax.random.key(0)), jax.jit(batch.step)


def with_velocity(state, value):
    physics = state.env.physics
    simulation = physics.simulation
    thrown = simulation._replace(qvel=simulation.qvel.at[1, 2].set(value))
    return dataclasses.replace(
        state, env=dataclasses.replace(state.env, physics=physics._replace(simulation=thrown))
    )


@pytest.mark.parametrize(
    ("velocity", "force"),
    [(np.inf, 0.0), (np.nan, 0.0), (1e30, 0.0), (None, 1e30), (None, np.inf), (None, np.nan)],
)
def test_native_physics_loses_one_robot_and_no_other(robots, velocity, force):
    batch, state, step = robots
    action = jnp.zeros((4, batch.spec.action_size), jnp.float32)
    push = np.zeros((4, 3), np.float32)
    whole, untouched = step(state, action, jnp.asarray(push))
    push[1, 2] = force
    start = state if velocity is None else with_velocity(state, velocity)
    after, found = step(start, action, jnp.asarray(push))
    assert found.valid.tolist() == [True, False, True, True]
    assert (float(found.reward[1]), bool(found.truncated[1])) == (0.0, True)
    assert is_finite((after.env.physics, after.env.observation, found))
    others = np.array([0, 2, 3])
    for one, other in zip(
        jax.tree.leaves((after.env.physics, found.observation, found.reward)),
        jax.tree.leaves((whole.env.physics, untouched.observation, untouched.reward)),
        strict=True,
    ):
        np.testing.assert_array_equal(one[others], other[others])
    again, recovered = step(after, action, jnp.zeros((4, 3), jnp.float32))
    assert bool(recovered.valid.all()) and is_finite(again.env.physics)


@pytest.mark.slow
def test_training_survives_a_disturber_of_1e30_newtons():
    # The players' networks are small: what is tried is what reaches them.
    networks = ("actor", "critic", "disturbance.player")
    settings = SMALL | {"agent.num_envs": 16, "agent.disturbance.limit": 1e30}
    settings |= {f"agent.{name}.hidden": "(16,)" for name in networks}
    config = configure("aliengo", "hinf", settings)
    algorithm = make(config.agent, get_task("aliengo").make_env(config.env))
    init, step = jax.jit(algorithm.init), jax.jit(algorithm.step)
    first = carry = init(jax.random.key(0))
    for _ in range(2):
        carry, metrics = step(carry)
        # A quarter of the robots is left alone, the others blow up at nearly every step.
        assert 0 < metrics["env/nonfinite_steps"] <= 12 * 16
        assert metrics["train/nonfinite_updates"] == 0
    assert is_finite(carry)
    assert bits(first.actor.params) != bits(carry.actor.params)

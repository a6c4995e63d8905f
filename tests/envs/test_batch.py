"""The batch layer: episode ends, fresh resets, statistics and the finite guard."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.envs.api import DisturbanceSpec, EnvSpec, State
from hinf_rl.envs.batch import BatchEnv
from hinf_rl.errors import UserError

EPISODE_LENGTH = 4


class Walk:
    """A walk x' = x + a + w whose start is drawn per episode; reward x', task reward 2 x'.

    It falls at |x| > 3, and its physics breaks (in the observation, the physics and the reward,
    or only by the warning metric) when x passes the marks given.
    """

    def __init__(self, *, inf_above=jnp.inf, report_above=jnp.inf, truncate_above=jnp.inf):
        self.inf_above = inf_above
        self.report_above = report_above
        self.truncate_above = truncate_above

    @property
    def spec(self):
        return EnvSpec(
            name="walk",
            policy_size=1,
            privileged_size=2,
            action_size=1,
            disturbance=DisturbanceSpec(size=1, limit=1.0, unit="m", meaning="added to x"),
            dt_s=1.0,
            episode_length=EPISODE_LENGTH,
            task_reward_max=6.0,
            task_reward_scale=1.0,
        )

    def _state(self, x, key, reward, broken):
        false = jnp.zeros((), bool)
        observation = {"policy": x[None], "privileged": jnp.stack([x, -x])}
        return State(
            physics=x,
            observation=observation,
            reward=reward,
            task_reward=2 * reward,
            terminated=jnp.abs(x) > 3.0,
            truncated=false,
            metrics={"x": x, "nonfinite": broken.astype(jnp.float32)},
            parameters={},
            key=key,
        )

    def reset(self, key):
        key_x, key = jax.random.split(key)
        x = jax.random.uniform(key_x, (), jnp.float32, -0.5, 0.5)
        return self._state(x, key, jnp.zeros((), jnp.float32), jnp.zeros((), bool))

    def step(self, state, action, disturbance=None):
        push = 0 if disturbance is None else disturbance[0]
        x = state.physics + action[0] + push
        broken = x > self.report_above
        x = jnp.where(x > self.inf_above, jnp.float32(jnp.inf), x)
        state = self._state(x, state.key, x, broken)
        return state.replace(truncated=x > self.truncate_above)


def rollout(batch, state, actions, disturbances=None):
    """Steps with actions [T, E]; returns the states after each step and the steps."""
    step = jax.jit(batch.step)
    states, steps = [], []
    for t, action in enumerate(actions):
        push = None if disturbances is None else disturbances[t][:, None]
        state, out = step(state, action[:, None], push)
        states.append(state)
        steps.append(out)
    return states, steps


def row(tree, index):
    return jax.tree.map(lambda x: x[index], tree)


def plain(tree):
    """Typed keys as numbers, for comparison."""
    return jax.tree.map(
        lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x,
        tree,
    )


def assert_same_row(tree_a, tree_b, index):
    chex.assert_trees_all_equal(plain(row(tree_a, index)), plain(row(tree_b, index)))


def assert_all_finite(tree):
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            assert bool(jnp.all(jnp.isfinite(leaf)))


def test_timeout_shows_the_final_observation_and_hands_out_a_fresh_one():
    batch = BatchEnv(Walk(), 3)
    state = batch.reset(jax.random.key(0))
    start = state.env.physics
    states, steps = rollout(batch, state, 0.1 * jnp.ones((EPISODE_LENGTH, 3)))
    # Four steps of 0.1: the final x is start + 0.4 and belongs to the episode that ended.
    np.testing.assert_allclose(steps[-1].observation["policy"][:, 0], start + 0.4, rtol=1e-5)
    assert np.all(steps[-1].truncated) and not np.any(steps[-1].terminated)
    fresh = states[-1].env.observation["policy"][:, 0]
    assert np.all(np.abs(fresh) <= 0.5)
    assert not np.any(np.isclose(fresh, start + 0.4))
    for t in range(EPISODE_LENGTH - 1):
        assert not np.any(steps[t].done)
        chex.assert_trees_all_equal(steps[t].observation, states[t].env.observation)


def test_a_fall_terminates_and_is_not_a_truncation_even_on_the_last_step():
    batch = BatchEnv(Walk(), 2)
    state = batch.reset(jax.random.key(0))
    actions = jnp.zeros((EPISODE_LENGTH, 2)).at[1, 0].set(5.0).at[3, 1].set(5.0)
    _, steps = rollout(batch, state, actions)
    terminated = np.stack([s.terminated for s in steps])
    truncated = np.stack([s.truncated for s in steps])
    np.testing.assert_array_equal(terminated[:, 0], [False, True, False, False])
    np.testing.assert_array_equal(terminated[:, 1], [False, False, False, True])
    assert not truncated.any()


def test_the_environments_own_truncation_is_kept():
    batch = BatchEnv(Walk(truncate_above=1.0), 2)
    _, steps = rollout(batch, batch.reset(jax.random.key(0)), jnp.array([[2.0, 0.0]]))
    np.testing.assert_array_equal(steps[0].truncated, [True, False])
    assert np.all(steps[0].valid)


def test_starts_differ_between_instances_and_between_episodes():
    batch = BatchEnv(Walk(), 4)
    state = batch.reset(jax.random.key(1))
    starts = [state.env.physics]
    for _ in range(5):
        states, _ = rollout(batch, state, jnp.zeros((EPISODE_LENGTH, 4)))
        state = states[-1]
        starts.append(state.env.physics)
    # 24 draws from a continuous distribution: equal ones would be a cached first state.
    assert len(np.unique(np.stack(starts))) == 24


def test_episode_statistics_by_hand():
    batch = BatchEnv(Walk(), 1)
    state = batch.reset(jax.random.key(0))
    state = state.replace(env=state.env.replace(physics=jnp.array([1.0], jnp.float32)))
    states, steps = rollout(batch, state, jnp.array([[0.5], [-1.0], [4.0], [0.0]]))
    # x: 1 -> 1.5 -> 0.5 -> 4.5 (fall). Returns 1.5, 2.0, 6.5; task returns twice that.
    np.testing.assert_allclose([s.episode_return[0] for s in steps[:3]], [1.5, 2.0, 6.5])
    np.testing.assert_allclose([s.episode_task_return[0] for s in steps[:3]], [3.0, 4.0, 13.0])
    np.testing.assert_array_equal([s.episode_length[0] for s in steps], [1, 2, 3, 1])
    np.testing.assert_allclose(states[2].episode_return, [0.0])
    np.testing.assert_allclose(steps[3].episode_return, steps[3].reward)
    np.testing.assert_array_equal(states[3].step_count, [1])


def test_staggered_clocks_spread_over_the_episode_and_lengths_stay_true():
    batch = BatchEnv(Walk(), 64)
    state = batch.reset(jax.random.key(0), stagger=True)
    clock = np.asarray(state.step_count)
    assert set(clock) == set(range(EPISODE_LENGTH))
    _, steps = rollout(batch, state, jnp.zeros((2 * EPISODE_LENGTH, 64)))
    done = np.stack([s.done for s in steps])
    length = np.stack([s.episode_length for s in steps])
    for e in range(64):
        ends = np.flatnonzero(done[:, e])
        # The first episode is short by the stagger, the second is whole.
        assert ends[0] == EPISODE_LENGTH - clock[e] - 1
        assert length[ends[0], e] == EPISODE_LENGTH - clock[e]
        assert length[ends[1], e] == EPISODE_LENGTH


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["action", "disturbance"])
def test_bad_input_is_contained_and_leaves_the_others_bit_for_bit(where, bad):
    batch = BatchEnv(Walk(), 3)
    start = batch.reset(jax.random.key(0))
    actions = 0.1 * jax.random.normal(jax.random.key(1), (3, 3), jnp.float32)
    pushes = 0.1 * jax.random.normal(jax.random.key(2), (3, 3), jnp.float32)
    good_states, good_steps = rollout(batch, start, actions, pushes)
    if where == "action":
        actions = actions.at[1, 2].set(bad)
    else:
        pushes = pushes.at[1, 2].set(bad)
    states, steps = rollout(batch, start, actions, pushes)
    assert_all_finite((states, steps))
    np.testing.assert_array_equal(steps[1].valid, [True, True, False])
    np.testing.assert_array_equal(steps[1].truncated, [False, False, True])
    assert not np.any(steps[1].terminated)
    assert steps[1].reward[2] == 0 and steps[1].task_reward[2] == 0
    # The last finite observation is the one that was acted on.
    assert_same_row(steps[1].observation, states[0].env.observation, 2)
    assert states[1].step_count[2] == 0
    for t in range(3):
        for e in range(2):
            assert_same_row(states[t], good_states[t], e)
            assert_same_row(steps[t], good_steps[t], e)


def test_physics_never_sees_a_bad_input():
    class Witness(Walk):
        """Remembers what reached it, as a simulator that swallows NaN would not."""

        def step(self, state, action, disturbance=None):
            saw_bad = ~(jnp.isfinite(action[0]) & jnp.isfinite(disturbance[0]))
            stepped = super().step(state, jnp.zeros_like(action), None)
            return stepped.replace(metrics={**stepped.metrics, "x": saw_bad.astype(jnp.float32)})

    bad = jnp.array([[np.nan, 0.0, np.inf]], jnp.float32)
    batch = BatchEnv(Witness(), 3)
    _, steps = rollout(batch, batch.reset(jax.random.key(0)), bad, bad[:, ::-1])
    np.testing.assert_array_equal(steps[0].metrics["x"], [0.0, 0.0, 0.0])
    np.testing.assert_array_equal(steps[0].valid, [False, True, False])


def test_trouble_hidden_in_the_physics_is_found():
    class Blind(Walk):
        """Its observation and rewards never show that x is infinite."""

        def step(self, state, action, disturbance=None):
            stepped = super().step(state, jnp.zeros_like(action), None)
            return stepped.replace(physics=jnp.where(action[0] > 1.0, jnp.inf, stepped.physics))

    batch = BatchEnv(Blind(), 2)
    states, steps = rollout(batch, batch.reset(jax.random.key(0)), jnp.array([[2.0, 0.0]]))
    np.testing.assert_array_equal(steps[0].valid, [False, True])
    assert_all_finite((states, steps))


def test_broken_physics_is_contained():
    batch = BatchEnv(Walk(inf_above=2.0), 2)
    states, steps = rollout(
        batch, batch.reset(jax.random.key(0)), jnp.array([[1.0, 0.0], [1.5, 0.0], [0.0, 0.0]])
    )
    assert_all_finite((states, steps))
    np.testing.assert_array_equal([s.valid[0] for s in steps], [True, False, True])
    assert np.all([s.valid[1] for s in steps])
    # An infinite x lies beyond the fall's mark, yet a broken step is never a fall.
    assert not steps[1].terminated[0] and steps[1].truncated[0]
    np.testing.assert_allclose(steps[1].episode_return[0], steps[0].episode_return[0])
    assert np.abs(states[1].env.physics[0]) <= 0.5


def test_trouble_that_the_environment_reports_counts_as_invalid():
    batch = BatchEnv(Walk(report_above=1.0), 2)
    _, steps = rollout(batch, batch.reset(jax.random.key(0)), jnp.array([[2.0, 0.0]]))
    np.testing.assert_array_equal(steps[0].valid, [False, True])
    np.testing.assert_array_equal(steps[0].metrics["nonfinite"], [1.0, 0.0])


def test_no_disturbance_equals_zeros():
    batch = BatchEnv(Walk(), 2)
    start = batch.reset(jax.random.key(0))
    actions = jnp.ones((3, 2), jnp.float32)
    without, _ = rollout(batch, start, actions)
    zeros, _ = rollout(batch, start, actions, jnp.zeros((3, 2), jnp.float32))
    for e in range(2):
        assert_same_row(without[-1], zeros[-1], e)


def test_scan_carries_the_same_types_and_equals_the_loop():
    batch = BatchEnv(Walk(), 2)
    start = batch.reset(jax.random.key(0), stagger=True)
    actions = jax.random.normal(jax.random.key(1), (9, 2, 1), jnp.float32)
    final, steps = jax.jit(lambda s: jax.lax.scan(batch.step, s, actions))(start)
    states, loop_steps = rollout(batch, start, actions[:, :, 0])
    for e in range(2):
        assert_same_row(final, states[-1], e)
    np.testing.assert_array_equal(steps.done, np.stack([s.done for s in loop_steps]))


def test_vmap_over_seeds_equals_each_seed_alone():
    batch = BatchEnv(Walk(), 3)
    keys = jax.random.split(jax.random.key(5), 2)
    action = jnp.ones((3, 1), jnp.float32)

    def run(key):
        state = batch.reset(key, stagger=True)
        return jax.lax.scan(lambda s, _: batch.step(s, action), state, None, length=6)

    together = jax.jit(jax.vmap(run))(keys)
    for seed in range(2):
        alone = jax.jit(run)(keys[seed])
        chex.assert_trees_all_equal(plain(row(together, seed)), plain(alone))


@pytest.mark.parametrize("num_envs", [0, -1])
def test_too_few_instances_are_refused(num_envs):
    with pytest.raises(UserError, match=f"at least 1, got {num_envs}"):
        BatchEnv(Walk(), num_envs)


def test_wrong_shapes_are_refused_by_name():
    batch = BatchEnv(Walk(), 2)
    state = batch.reset(jax.random.key(0))
    with pytest.raises(UserError, match=r"action of 'walk' has shape \(2,\), expected \(2, 1\)"):
        jax.eval_shape(batch.step, state, jnp.zeros((2,)))
    with pytest.raises(UserError, match=r"disturbance of 'walk' has shape \(1, 1\)"):
        jax.eval_shape(batch.step, state, jnp.zeros((2, 1)), jnp.zeros((1, 1)))


def test_reset_and_step_of_different_structure_are_refused():
    class Forgetful(Walk):
        def reset(self, key):
            return super().reset(key).replace(metrics={})

    batch = BatchEnv(Forgetful(), 2)
    with pytest.raises(UserError, match="same structure"):
        jax.eval_shape(lambda k: batch.step(batch.reset(k), jnp.zeros((2, 1))), jax.random.key(0))


def test_actions_may_be_whole_numbers():
    env = BatchEnv(Walk(), 3)
    state = env.reset(jax.random.key(0))
    with jax.numpy_dtype_promotion("standard"):
        _, step = env.step(state, jnp.ones((3, 1), jnp.int32))
    assert step.valid.all() and not step.terminated.any()

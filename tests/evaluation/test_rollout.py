import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.errors import UserError
from hinf_rl.evaluation import disturbances, record, rollout


def _run(env, policy, disturbance, *, num_envs=3, **options):
    return rollout.evaluate(
        env, policy, disturbance, jax.random.key(7), num_envs=num_envs, **options
    )


def test_an_undisturbed_episode_by_hand(hazard_env, idle_policy):
    # 40 steps of 0.1 s, task reward 2 of at most 2, reward 3 per step.
    result = _run(hazard_env(), idle_policy, disturbances.Quiet(size=3))
    np.testing.assert_array_equal(result.survived, True)
    np.testing.assert_array_equal(result.nonfinite, False)
    np.testing.assert_allclose(result.survival_time_s, 4.0, rtol=1e-6)
    np.testing.assert_allclose(result.task_reward_fraction, 1.0)
    np.testing.assert_allclose(result.episode_return, 120.0)
    np.testing.assert_allclose(result.cost, 0.0)
    np.testing.assert_allclose(result.force, 0.0)
    assert set(result.tracking) == {"velocity_error"}  # not "height": it is no error


def test_a_fall_counts_until_the_end_of_the_episode_by_hand(hazard_env, idle_policy):
    # Force 5: task reward 1.5, cost 0.25, intensity 5/10. Falls with step 10 of 40, so 9 steps
    # = 0.9 s were survived, 10 were made. Task 10 * 1.5 / (40 * 2); cost (10 * 0.25 + 30) / 40;
    # intensity 10 * 0.5 / 40; return 10 * 2.5.
    env = hazard_env(fall_at=10)
    result = _run(env, idle_policy, disturbances.continuous(env.spec, 5.0))
    np.testing.assert_array_equal(result.survived, False)
    np.testing.assert_array_equal(result.nonfinite, False)
    np.testing.assert_allclose(result.survival_time_s, 0.9, rtol=1e-6)
    np.testing.assert_allclose(result.task_reward_fraction, 15 / 80, rtol=1e-5)
    np.testing.assert_allclose(result.cost, 32.5 / 40, rtol=1e-5)
    np.testing.assert_allclose(result.intensity, 5 / 40, rtol=1e-5)
    np.testing.assert_allclose(result.episode_return, 25.0, rtol=1e-5)
    np.testing.assert_allclose(result.force, 5.0, rtol=1e-5)
    np.testing.assert_allclose(result.tracking["velocity_error"], 5.0, rtol=1e-5)


def test_nonfinite_counts_as_a_fall_and_apart(hazard_env, idle_policy):
    # Step 11 is lost: 10 full steps of reward 2 before it, 30 of cost 1 from it on.
    env = hazard_env(nonfinite_at=11)
    result = _run(env, idle_policy, disturbances.Quiet(size=3))
    np.testing.assert_array_equal(result.survived, False)
    np.testing.assert_array_equal(result.nonfinite, True)
    np.testing.assert_allclose(result.survival_time_s, 1.0, rtol=1e-6)
    np.testing.assert_allclose(result.task_reward_fraction, 10 / 40)
    np.testing.assert_allclose(result.cost, 30 / 40)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result))


def test_a_policy_that_turns_nonfinite_is_counted(hazard_env):
    policy = jax.tree_util.Partial(lambda observation: observation["policy"][:, :1] * jnp.nan)
    result = _run(hazard_env(), policy, disturbances.Quiet(size=3))
    np.testing.assert_array_equal(result.nonfinite, True)
    np.testing.assert_allclose(result.survival_time_s, 0.0)


def test_a_truncated_episode_survives_and_is_measured_over_its_own_length(hazard_env, idle_policy):
    env = hazard_env(truncate_at=10)
    result = _run(env, idle_policy, disturbances.continuous(env.spec, 5.0))
    np.testing.assert_array_equal(result.survived, True)
    np.testing.assert_allclose(result.cost, 0.25, rtol=1e-5)
    np.testing.assert_allclose(result.task_reward_fraction, 0.75, rtol=1e-5)
    np.testing.assert_allclose(result.episode_return, 25.0, rtol=1e-5)


def test_survival_follows_the_closed_form(hazard_env, idle_policy):
    # P(survive 40 steps at force F) = exp(-40 hazard F). 4000 episodes: 5 sigma < 0.04.
    env = hazard_env(hazard=0.005)
    magnitude = np.repeat([0.0, 2.0, 8.0], 4000).astype(np.float32)
    result = _run(env, idle_policy, disturbances.continuous(env.spec, magnitude), num_envs=12000)
    measured = result.survived.reshape(3, 4000).mean(axis=1)
    np.testing.assert_allclose(measured, np.exp(-40 * 0.005 * np.array([0, 2, 8])), atol=0.04)


def test_survival_time_follows_the_closed_form(hazard_env, idle_policy):
    # Steps before the fall of a step hazard p, capped at N: E = q (1 - q^N) / p with q = 1 - p.
    env = hazard_env(hazard=0.01)
    result = _run(env, idle_policy, disturbances.continuous(env.spec, 5.0), num_envs=4000)
    q = np.exp(-0.05)
    expected_s = 0.1 * q * (1 - q**40) / (1 - q)
    assert result.survival_time_s.mean() == pytest.approx(expected_s, abs=0.12)  # 5 sigma


def test_steps_beyond_a_compiled_chunk_and_short_of_one_count_exactly(hazard_env, idle_policy):
    env = hazard_env(episode_length=230)
    assert _run(env, idle_policy, disturbances.Quiet(size=3)).episode_return[0] == 690.0
    shorter = _run(env, idle_policy, disturbances.Quiet(size=3), num_steps=7)
    assert shorter.episode_return[0] == 21.0
    np.testing.assert_allclose(shorter.task_reward_fraction, 1.0)


def test_environments_that_share_a_start_begin_alike(hazard_env):
    env = hazard_env()
    seen = []

    def policy(observation):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), observation["policy"])
        return observation["policy"][:, :1]

    _run(env, jax.tree_util.Partial(policy), disturbances.Quiet(size=3), num_envs=6, num_starts=2)
    jax.effects_barrier()
    np.testing.assert_array_equal(seen[0][:2], seen[0][4:])
    assert np.abs(seen[0][0] - seen[0][1]).max() > 0


def test_another_policy_and_disturbance_do_not_compile_again(hazard_env, idle_policy):
    env = hazard_env()
    evaluator = rollout.Evaluator(env)
    evaluator._chunk = chex.assert_max_traces(evaluator._chunk, n=1)
    evaluator._advance = jax.jit(evaluator._chunk)
    for size in (1.0, 2.0):
        push = disturbances.continuous(env.spec, size)
        result = evaluator(idle_policy, push, jax.random.key(0), num_envs=2, num_steps=230)
        np.testing.assert_allclose(result.force, size, rtol=1e-5)


def test_progress_ends_with_all_steps_and_no_time_left(hazard_env, idle_policy):
    told = []
    _run(
        hazard_env(episode_length=130),
        idle_policy,
        disturbances.Quiet(size=3),
        progress=lambda *numbers: told.append(numbers),
    )
    assert [numbers[:2] for numbers in told] == [(100, 130), (130, 130)]
    assert told[0][2] > 0 and told[1][2] == 0


def test_rose_sorts_forces_by_direction():
    # +x, -y (-90 degrees = sector 12) and -x; the vertical part does not count.
    force = jnp.array([[3.0, 0.0, 1.0], [0.0, -2.0, 0.0], [-4.0, 0.0, 0.0]])
    expected = np.zeros((3, 16))
    expected[0, 0], expected[1, 12], expected[2, 8] = 3.0, 2.0, 4.0
    np.testing.assert_allclose(record._sectors(force), expected, atol=1e-6)
    # With one component only the sign is left, with none nothing.
    np.testing.assert_allclose(record._sectors(force[:, :1]).argmax(axis=1), [0, 0, 8])
    np.testing.assert_array_equal(record._sectors(force[:, :0]), np.zeros((3, 16)))


def test_intensity_is_the_share_of_a_limit_or_else_the_square(hazard_env):
    assert record.Intensity.of(hazard_env(limit=10.0).spec) == (10.0, 1.0)
    assert record.Intensity.of(hazard_env(limit=np.inf).spec) == (1.0, 2.0)


def test_a_reward_without_lower_bound_does_not_get_cheaper_by_ending(hazard_env, idle_policy):
    # Force 40: task reward 2 - 4 = -2, cost (2 + 2) / 2 = 2 per step, before and after the fall.
    env = hazard_env(fall_at=10)
    result = _run(env, idle_policy, disturbances.continuous(env.spec, 40.0))
    np.testing.assert_allclose(result.cost, 2.0, rtol=1e-5)


def test_bad_sizes_are_named(hazard_env, idle_policy):
    with pytest.raises(UserError, match="at least 1, got 0"):
        _run(hazard_env(), idle_policy, disturbances.Quiet(size=3), num_envs=0)

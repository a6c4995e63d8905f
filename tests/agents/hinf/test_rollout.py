"""The rollout: what is stored, what is executed, who is pushed, how long and how hard."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.agents.hinf import make
from hinf_rl.envs.probe import PROBES
from hinf_rl.ops.normalize import NormalizerState


def collect(kit, config, env=None, *, iteration=1):
    """Rolls out moved players with a normaliser that has seen something: (builder, carry, data)."""
    algorithm = make(config, kit.Plane() if env is None else env)
    builder = kit.parts(algorithm)
    carry = kit.shaken(algorithm.init(jax.random.key(1)), jax.random.key(2))
    spec = builder._spec
    carry = carry._replace(
        policy_normalizer=_seen(spec.policy_size),
        privileged_normalizer=_seen(spec.privileged_size),
        iteration=jnp.int32(iteration),
    )
    after, transition, statistics = jax.jit(builder._rollout.collect)(carry)
    return builder, carry, after, jax.tree.map(np.asarray, transition), statistics


def _seen(size):
    ramp = jnp.arange(size, dtype=jnp.float32)
    return NormalizerState(jnp.float32(10), 0.1 * ramp - 0.2, 4.0 + ramp)


def normalized(x, size):
    """NumPy: mean 0.1 i - 0.2, variance (4 + i) / 10."""
    ramp = np.arange(size)
    return np.clip((x - (0.1 * ramp - 0.2)) / np.sqrt((4.0 + ramp) / 10.0), -10.0, 10.0)


def log_density(raw, mean, log_std):
    return np.sum(
        -0.5 * ((raw - mean) / np.exp(log_std)) ** 2 - log_std - 0.5 * np.log(2 * np.pi), axis=-1
    )


@pytest.fixture(scope="module")
def learned(kit):
    return collect(kit, kit.tiny(unroll_length=16))


def test_stored_log_prob_is_that_of_the_stored_sample_at_the_stored_observation(learned, kit):
    _, carry, _, data, _ = learned
    for turn, player in ((data.actor, carry.actor), (data.disturber, carry.disturber)):
        mean = kit.forward(player.params["mean"], normalized(data.observation["policy"], 2))
        low, high = (-4.0, 1.0) if player is carry.actor else (-2.0, 0.5)
        log_std = np.clip(np.asarray(player.params["log_std"]), low, high)
        np.testing.assert_allclose(turn.mean, mean, atol=1e-5)
        np.testing.assert_allclose(turn.log_prob, log_density(turn.raw, mean, log_std), atol=1e-4)


def test_observations_chain_through_each_episode(learned):
    _, carry, after, data, _ = learned
    privileged, final = data.observation["privileged"], data.final_observation
    done = data.terminated | data.truncated
    np.testing.assert_array_equal(privileged[0], carry.env.env.observation["privileged"])
    goes_on = ~done[:-1]
    np.testing.assert_array_equal(privileged[1:][goes_on], final[:-1][goes_on])
    np.testing.assert_array_equal(data.observation["policy"], privileged[..., :2])
    # After an end the next observation is a fresh episode's: nothing was done to it yet.
    assert done[:-1].any()
    assert np.all(privileged[1:][~goes_on][:, 3:] == 0.0)
    assert np.all(final[:-1][~goes_on][:, 5:] != 0.0)
    np.testing.assert_array_equal(
        after.env.env.observation["privileged"][~done[-1]], final[-1][~done[-1]]
    )


def test_final_observation_is_that_of_the_true_dynamics(learned, kit):
    _, _, _, data, _ = learned
    x, final = data.observation["policy"], data.final_observation
    expected = 0.8 * x + 0.3 * np.clip(data.actor.raw, -1, 1) + 0.1 * final[..., kit.PUSH]
    np.testing.assert_allclose(final[..., :2], expected, atol=1e-5)
    np.testing.assert_array_equal(final[..., kit.ACTION], data.actor.raw)


def test_executed_force_is_the_sample_clipped_to_the_ball_and_scaled(learned, kit):
    _, _, _, data, _ = learned
    raw, pushed = data.disturber.raw, data.final_observation[..., kit.PUSH]
    norm = np.linalg.norm(raw, axis=-1, keepdims=True)
    expected = 3.0 * raw / np.maximum(norm, 1.0)
    expected[:, :2] = 0.0  # 25 % of 8 environments are left alone
    np.testing.assert_allclose(pushed, expected, atol=1e-5)
    assert np.linalg.norm(pushed, axis=-1).max() <= 3.0 * (1.0 + 1e-6)
    assert (norm[:, 2:] > 1.0).any() and (norm[:, 2:] < 1.0).any()
    # The stored sample was not clipped.
    assert norm.max() > 1.0


def test_intensity_is_that_of_the_executed_force(learned, kit):
    _, _, _, data, _ = learned
    pushed = data.final_observation[..., kit.PUSH]
    np.testing.assert_allclose(
        data.intensity, np.linalg.norm(pushed, axis=-1) / 3.0, rtol=1e-5, atol=1e-7
    )
    assert np.all(data.intensity[:, :2] == 0.0)
    assert data.intensity.max() <= 1.0 + 1e-6


def test_the_bill_is_for_what_was_asked_also_beyond_the_bound(learned):
    data = learned[3]
    asked = np.linalg.norm(data.disturber.raw, axis=-1)
    asked[:, :2] = 0.0
    np.testing.assert_allclose(data.asked_intensity, asked, rtol=1e-5, atol=1e-7)
    assert data.asked_intensity.max() > 1.0


def test_episodes_last_as_long_as_the_time_limit_and_add_up(learned):
    _, _, _, data, statistics = learned
    assert not data.terminated.any()
    assert np.all(np.flatnonzero(data.truncated[:, 0]) == [6, 13])  # 7 steps each
    # 16 steps hold two whole episodes of each of the 8 environments.
    total, share = data.reward[:14].sum(), data.task_reward[:14].sum() / (7 * 0.5)
    np.testing.assert_allclose(statistics.episodes, [total, share, 16 * 7, 16], rtol=1e-5)


def test_bound_rests_then_rises_then_holds(kit):
    pushes = {"warmup_fraction": 0.2, "ramp_fraction": 0.4}
    algorithm = make(kit.tiny(iterations=10, disturbance=pushes), kit.Plane())
    rollout, carry = kit.parts(algorithm)._rollout, algorithm.init(jax.random.key(0))
    found = [
        float(rollout.disturbance_bound(carry._replace(iteration=jnp.int32(i)))) for i in range(11)
    ]
    # 3 N (i / 10 - 0.2) / 0.4 between iterations 2 and 6.
    expected = [0, 0, 0, 0.75, 1.5, 2.25, 3, 3, 3, 3, 3]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("limit", [3.0, float("inf")])
def test_nobody_is_pushed_in_the_warm_up(kit, limit):
    pushes = {"warmup_fraction": 0.5}
    config = kit.tiny(iterations=10, disturbance=pushes)
    rollout = kit.parts(make(config, kit.Plane(limit=limit)))._rollout
    sample = jnp.full((8, 2), 0.5, jnp.float32)
    assert not np.any(rollout._execute(sample, jnp.float32(0)))
    pushed = rollout._execute(sample, jnp.float32(limit))
    # Bounded, a sample is in units of the bound; unbounded, it is the force itself.
    np.testing.assert_allclose(pushed[2:], 1.5 if limit == 3.0 else 0.5, rtol=1e-6)
    assert not np.any(pushed[:2])


def run_lengths(rows):
    """Lengths of the runs of equal rows of [T, D], without the first and the last run."""
    changes = np.flatnonzero(np.any(rows[1:] != rows[:-1], axis=-1)) + 1
    return np.diff(changes)


def test_random_forces_are_held_as_long_as_configured(kit):
    pushes = {"source": "random", "hold_s": (0.2, 0.5), "undisturbed_fraction": 0.25}
    config = kit.tiny(unroll_length=60, disturbance=pushes)
    _, _, after, data, _ = collect(kit, config, kit.Plane(episode_length=1000))
    pushed = data.final_observation[..., kit.PUSH]
    lengths = np.concatenate([run_lengths(pushed[:, env]) for env in range(2, 8)])
    # 0.2 s to 0.5 s are 2 to 5 steps of 0.1 s; about 100 draws miss none of them.
    assert set(lengths) == {2, 3, 4, 5}
    assert np.all(pushed[:, :2] == 0.0)
    norm = np.linalg.norm(pushed[:, 2:], axis=-1)
    assert norm.max() <= 3.0 * (1.0 + 1e-6) and norm.min() < 1.0
    # What is still held goes over into the next iteration; nothing else could make this so.
    still = np.asarray(after.held.remaining) > 0
    np.testing.assert_allclose(3.0 * after.held.sample[2:], pushed[-1, 2:], rtol=1e-5)
    assert still.any() and np.all(data.disturber.log_prob == 0.0)


def test_a_random_force_outlives_the_iteration(kit):
    pushes = {"source": "random", "hold_s": (0.4, 0.4), "undisturbed_fraction": 0.0}
    endless = kit.Plane(episode_length=1000)  # a new episode begins with a new force
    algorithm = make(kit.tiny(unroll_length=6, disturbance=pushes), endless)
    rollout, carry = kit.parts(algorithm)._rollout, algorithm.init(jax.random.key(3))
    step = jax.jit(rollout.collect)
    rows = []
    for _ in range(4):
        carry, transition, _ = step(carry)
        rows.append(np.asarray(transition.final_observation[..., kit.PUSH]))
    pushed = np.concatenate(rows)
    lengths = [set(run_lengths(pushed[:, env])) for env in range(8)]
    assert lengths == [{4}] * 8  # 24 steps in 4 iterations, one force each 0.4 s


def test_a_learned_force_is_held_between_decisions(kit):
    pushes = {"decision_s": 0.3, "undisturbed_fraction": 0.25}
    config = kit.tiny(unroll_length=25, disturbance=pushes)
    _, carry, _, data, _ = collect(kit, config, kit.Plane(episode_length=7))
    pushed = data.final_observation[..., kit.PUSH]
    norm = np.linalg.norm(data.disturber.raw, axis=-1, keepdims=True)
    chosen = 3.0 * data.disturber.raw / np.maximum(norm, 1.0)
    for env in range(2, 8):
        count, age, last = int(carry.env.step_count[env]), 0, 0
        for t in range(25):
            # Episodes of 7 steps: decisions at steps 0, 3 and 6, and anew in the next episode.
            assert data.is_decision[t, env] == (age % 3 == 0)
            last = t if age % 3 == 0 else last
            np.testing.assert_allclose(pushed[t, env], chosen[last, env], rtol=1e-5)
            count, age = count + 1, age + 1
            if count == 7:
                count, age = 0, 0
    assert np.all(pushed[:, :2] == 0.0)


def test_random_forces_push_their_share_beside_the_disturber(kit):
    # Of 8 environments 2 are left alone, 2 are pushed at random, 4 are the disturber's.
    pushes = {"undisturbed_fraction": 0.25, "random_fraction": 0.25, "hold_s": (0.4, 0.4)}
    config = kit.tiny(unroll_length=24, disturbance=pushes)
    builder, _, _, data, _ = collect(kit, config, kit.Plane(episode_length=1000))
    rollout = builder._rollout
    np.testing.assert_array_equal(rollout.undisturbed, np.arange(8) < 2)
    np.testing.assert_array_equal(rollout.disturbed, np.arange(8) >= 4)
    pushed = data.final_observation[..., kit.PUSH]
    assert np.all(pushed[:, :2] == 0.0)
    assert [set(run_lengths(pushed[:, env])) for env in (2, 3)] == [{4}, {4}]
    norm = np.linalg.norm(data.disturber.raw, axis=-1, keepdims=True)
    chosen = 3.0 * data.disturber.raw / np.maximum(norm, 1.0)
    np.testing.assert_allclose(pushed[:, 4:], chosen[:, 4:], rtol=1e-5)


def test_by_default_every_step_is_a_decision(learned):
    assert np.all(learned[3].is_decision)


def test_nobody_pushes_without_a_source(kit):
    env = kit.Plane()
    _, _, _, data, _ = collect(kit, kit.tiny(disturbance={"source": "none"}), env)
    assert np.all(data.final_observation[..., kit.PUSH] == 0.0)
    assert np.all(data.intensity == 0.0)


def test_an_environment_without_disturbance_input_can_be_rolled_out(kit):
    config = kit.tiny(disturbance={"source": "none"})
    _, _, _, data, _ = collect(kit, config, PROBES["action_reward"])
    assert data.disturber.raw.shape == (6, 8, 0)


def test_a_privileged_disturber_sees_the_critics_observation(kit):
    _, carry, _, data, _ = collect(kit, kit.tiny(disturbance={"privileged": True}))
    mean = kit.forward(
        carry.disturber.params["mean"], normalized(data.observation["privileged"], 7)
    )
    np.testing.assert_allclose(data.disturber.mean, mean, atol=1e-5)


def test_squashed_actions_lie_within_one_and_their_density_is_of_the_action(kit):
    _, _, _, data, _ = collect(kit, kit.tiny(actor={"distribution": "tanh_normal"}))
    raw = data.actor.raw.astype(np.float64)
    np.testing.assert_allclose(data.final_observation[..., kit.ACTION], np.tanh(raw), atol=1e-6)
    # p(tanh u) = p(u) / |d tanh u / du|.
    change = np.sum(np.log(1.0 - np.tanh(raw) ** 2), axis=-1)
    density = log_density(raw, data.actor.mean, data.actor.log_std) - change
    np.testing.assert_allclose(data.actor.log_prob, density, atol=1e-3)

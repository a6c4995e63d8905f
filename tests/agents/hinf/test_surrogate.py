"""The update of network players: one player's step by hand, and that players never mix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.agents.hinf import PlayerConfig, advantages, make
from hinf_rl.agents.hinf.players import Player
from hinf_rl.agents.hinf.rollout import Turn
from hinf_rl.agents.hinf.surrogate import Batch, _improve, _mirror_half

RATE, SAMPLES = 0.01, 32


class Problem:
    """A linear player, samples that it drew itself, and made-up advantages."""

    def __init__(self, **changes):
        settings = {"hidden": (), "desired_kl": None, "learning_rate": RATE} | changes
        self.player = Player(PlayerConfig(**settings), input_size=2, size=2)
        state = self.player.init(jax.random.key(0), jnp.float32(RATE))
        kernel = jnp.array([[0.5, 2.0], [-1.0, 0.25]], jnp.float32)
        params = state.params | {"mean": {"params": {"gain": {"kernel": kernel}}}}
        self.state = state._replace(params=params)
        keys = jax.random.split(jax.random.key(1), 3)
        self.x = jax.random.normal(keys[0], (SAMPLES, 2))
        self.turn = Turn(*self.player.sample(keys[1], params, self.x))
        self.advantage = jax.random.normal(keys[2], (SAMPLES,))
        self.mask = jnp.arange(SAMPLES) % 4 != 0

    def improve(self, *, entropy_cost=0.0, clip_ratio=0.2, mirrored=False, **changes):
        values = {
            "turn": self.turn, "x": self.x, "advantage": self.advantage, "mask": self.mask,
            "is_mirrored": jnp.full((SAMPLES,), mirrored),
        } | changes  # fmt: skip
        return _improve(
            self.player, self.player.config, self.state, **values, key=jax.random.key(2),
            clip_ratio=jnp.float32(clip_ratio), entropy_cost=jnp.float32(entropy_cost),
        )  # fmt: skip


def test_the_first_step_climbs_the_policy_gradient():
    problem, cost = Problem(), 0.05
    state, metrics = problem.improve(entropy_cost=cost)
    x, mask = np.asarray(problem.x, np.float64), np.asarray(problem.mask)
    noise = np.asarray(problem.turn.raw - problem.turn.mean, np.float64)  # std 1 = exp(0)
    advantage = np.asarray(problem.advantage, np.float64)[:, None]
    # d log N = noise x' / std^2 for the gain, (noise / std)^2 - 1 for log std; entropy adds 1.
    kernel = -(x[mask].T @ (advantage * noise)[mask]) / mask.sum()
    log_std = -(advantage * (noise**2 - 1.0))[mask].mean(axis=0) - cost
    norm = np.sqrt(np.sum(kernel**2) + np.sum(log_std**2))
    kernel, log_std = (g * min(1.0, 1.0 / norm) for g in (kernel, log_std))
    old = problem.state.params
    # Adam's first step is rate * g / (|g| + epsilon).
    np.testing.assert_allclose(
        state.params["mean"]["params"]["gain"]["kernel"],
        old["mean"]["params"]["gain"]["kernel"] - RATE * kernel / (np.abs(kernel) + 1e-5),
        atol=1e-6,
    )
    expected = old["log_std"] - RATE * log_std / (np.abs(log_std) + 1e-5)
    np.testing.assert_allclose(state.params["log_std"], expected, atol=1e-6)
    # At ratio 1 the surrogate is -mean A; entropy of two unit normals is log(2 pi e).
    entropy = np.log(2.0 * np.pi * np.e)
    np.testing.assert_allclose(metrics["entropy"], entropy, rtol=1e-5)
    expected = -advantage[mask].mean() - cost * entropy
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-4)
    np.testing.assert_allclose(metrics["kl"], 0.0, atol=1e-7)


def test_samples_outside_the_mask_do_not_count(kit):
    problem = Problem()
    noise = jnp.where(problem.mask, 0.0, 100.0)
    turn = problem.turn._replace(raw=problem.turn.raw + noise[:, None])
    found = problem.improve(turn=turn, advantage=jnp.where(problem.mask, problem.advantage, 7.0))
    assert kit.same_bits(found, problem.improve())


@pytest.mark.parametrize(
    ("shift", "factor"), [(0.3, 1 / 1.5), (0.2, 1.0), (0.1, 1.5)], ids=["far", "near", "short"]
)
def test_the_step_size_follows_the_divergence(shift, factor):
    # KL of two unit normals whose means differ by s in each of 2 components: s^2.
    problem = Problem(desired_kl=0.03, learning_rate_range=(1e-5, 1.0))
    turn = problem.turn._replace(mean=problem.turn.mean + shift)
    state, metrics = problem.improve(turn=turn)
    np.testing.assert_allclose(metrics["kl"], shift**2, rtol=1e-4)
    np.testing.assert_allclose(state.learning_rate, RATE * factor, rtol=1e-5)
    # The new rate is the one of this very step.
    moved = state.params["log_std"] - problem.state.params["log_std"]
    np.testing.assert_allclose(np.abs(moved), RATE * factor, rtol=1e-2)


def test_mirrored_samples_do_not_count_as_divergence():
    problem = Problem(desired_kl=0.03)
    turn = problem.turn._replace(mean=problem.turn.mean + 5.0)
    state, metrics = problem.improve(turn=turn, mirrored=True)
    assert float(metrics["kl"]) == 0.0
    np.testing.assert_allclose(state.learning_rate, RATE, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_step_that_is_not_finite_is_skipped_and_counted(kit, bad):
    problem = Problem()
    state, metrics = problem.improve(advantage=problem.advantage.at[1].set(bad))
    assert kit.same_bits(state, problem.state)
    assert float(metrics["skipped"]) == 1.0
    assert all(np.isfinite(float(value)) for value in metrics.values())
    assert float(problem.improve()[1]["skipped"]) == 0.0


def made_up_batch(kit):
    data = jax.tree.map(
        lambda x: x.reshape(48, *x.shape[2:]), kit.made_up_transition(jax.random.key(3))
    )
    one = data.reward
    return Batch(
        policy=data.observation["policy"], privileged=data.observation["privileged"],
        actor=data.actor, disturber=data.disturber, actor_advantage=one,
        disturber_advantage=one, returns=one[:, None], values=one[:, None], valid=data.valid,
        is_disturbed=data.valid, is_mirrored=jnp.zeros(48, bool),
    )  # fmt: skip


def test_mirroring_is_an_involution_of_about_half_the_samples(kit):
    batch, mirror, key = made_up_batch(kit), kit.Plane().spec.mirror, jax.random.key(4)
    once = _mirror_half(batch, mirror, key)
    twice = _mirror_half(once, mirror, key)
    flipped = np.asarray(once.is_mirrored)
    assert 12 < flipped.sum() < 36
    assert kit.same_bits(twice._replace(is_mirrored=batch.is_mirrored), batch)
    # By hand: the mirror swaps the axes and turns both around.
    np.testing.assert_array_equal(once.policy[flipped], -batch.policy[flipped][:, ::-1])
    np.testing.assert_array_equal(once.actor.raw[flipped], -batch.actor.raw[flipped][:, ::-1])
    np.testing.assert_array_equal(once.policy[~flipped], batch.policy[~flipped])
    for name in ("actor_advantage", "disturber_advantage", "returns", "values", "valid"):
        assert kit.same_bits(getattr(once, name), getattr(batch, name))


def test_an_equivariant_policy_gives_a_mirrored_sample_the_same_log_prob(kit):
    # W [[0, 1], [1, 0]] = [[0, 1], [1, 0]] W for W = [[a, b], [b, a]].
    problem = Problem()
    gain = jnp.array([[0.5, -1.0], [-1.0, 0.5]], jnp.float32)
    params = problem.state.params | {"mean": {"params": {"gain": {"kernel": gain}}}}
    batch = made_up_batch(kit)
    once = _mirror_half(batch, kit.Plane().spec.mirror, jax.random.key(4))
    before, *_ = problem.player.log_prob(params, batch.policy, batch.actor.raw)
    after, *_ = problem.player.log_prob(params, once.policy, once.actor.raw)
    np.testing.assert_allclose(after, before, rtol=1e-5)


@pytest.fixture(scope="module")
def update(kit):
    """The whole update, compiled, with its arguments; half of the run is warm-up."""
    settings = {"desired_kl": 0.01}
    player = PlayerConfig(hidden=(8,), desired_kl=0.01)
    config = kit.tiny(
        actor=settings, disturbance={"player": player, "warmup_fraction": 0.5},
        num_epochs=3, symmetry="augment",
    )  # fmt: skip
    algorithm = make(config, kit.Plane())
    builder = kit.parts(algorithm)
    carry = algorithm.init(jax.random.key(0))._replace(iteration=jnp.int32(9))
    data = jax.tree.map(jnp.asarray, kit.made_up_transition(jax.random.key(1)))

    def run(carry, data):
        values, final = builder._values(carry, data)
        estimated = advantages.estimate(
            config, builder._spec, builder._heads, carry, data, values, final,
            builder._rollout.disturbed,
        )  # fmt: skip
        return builder._update(carry, data, estimated)

    return jax.jit(run), carry, data


def test_each_player_moves_and_none_is_skipped(update, kit):
    run, carry, data = update
    after, metrics = run(carry, data)
    for name in ("actor", "disturber", "critic"):
        assert not kit.same_bits(getattr(after, name).params, getattr(carry, name).params)
    assert float(metrics["train/nonfinite_updates"]) == 0.0


def test_the_actors_update_knows_nothing_of_the_disturber(update, kit):
    # Other parameters, other samples, and a gradient that would swamp a shared norm clip.
    run, carry, data = update
    other = kit.shaken(carry, jax.random.key(5)).disturber
    turn = data.disturber._replace(raw=1e3 * data.disturber.raw)
    base, _ = run(carry, data)
    found, _ = run(carry._replace(disturber=other), data._replace(disturber=turn))
    assert kit.same_bits(found.actor, base.actor)
    assert kit.same_bits(found.critic, base.critic)
    assert not kit.same_bits(found.disturber, base.disturber)


def test_the_disturbers_update_knows_nothing_of_the_actor(update, kit):
    run, carry, data = update
    other = kit.shaken(carry, jax.random.key(5)).actor
    turn = data.actor._replace(raw=1e3 * data.actor.raw)
    base, _ = run(carry, data)
    found, _ = run(carry._replace(actor=other), data._replace(actor=turn))
    assert kit.same_bits(found.disturber, base.disturber)
    assert kit.same_bits(found.critic, base.critic)
    assert not kit.same_bits(found.actor, base.actor)


def test_a_disturber_without_force_keeps_its_parameters_and_moments(update, kit):
    run, carry, data = update
    resting, _ = run(carry._replace(iteration=jnp.int32(4)), data)
    assert kit.same_bits(resting.disturber, carry.disturber)
    pushing, _ = run(carry._replace(iteration=jnp.int32(6)), data)
    assert not kit.same_bits(pushing.disturber, carry.disturber)


def test_broken_values_reach_no_parameter_and_every_skip_is_counted(update, kit):
    run, carry, data = update
    broken = jax.tree.map(lambda p: jnp.full_like(p, jnp.nan), carry.critic.params)
    after, metrics = run(carry._replace(critic=carry.critic._replace(params=broken)), data)
    assert kit.same_bits(after.actor.params, carry.actor.params)
    assert kit.same_bits(after.disturber.params, carry.disturber.params)
    # 3 epochs of 2 minibatches, each skipped by actor, disturber and critic.
    assert float(metrics["train/nonfinite_updates"]) == 18.0
    assert all(np.isfinite(float(value)) for value in metrics.values())


def test_nothing_is_learned_where_every_step_is_broken(update, kit):
    run, carry, data = update
    invalid = jnp.zeros_like(data.valid)
    data = data._replace(valid=invalid, terminated=invalid, truncated=~invalid)
    after, metrics = run(carry, data)
    for name in ("actor", "disturber", "critic"):
        assert kit.same_bits(getattr(after, name).params, getattr(carry, name).params)
    assert float(metrics["train/nonfinite_updates"]) == 0.0

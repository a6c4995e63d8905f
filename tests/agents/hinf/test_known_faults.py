"""The faults that other implementations of this method were found with, each planted once.

`check_*` holds the claim; `plant_*` puts the fault into our code; every claim must hold without
its fault and break with it. Source: third-party implementations of H-infinity locomotion control.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.agents.hinf import advantages, algorithm, make
from hinf_rl.agents.hinf.critic import Heads
from hinf_rl.agents.hinf.rollout import Rollout, Turn
from hinf_rl.agents.hinf.surrogate import _improve
from hinf_rl.ops.hinf import radial_clip
from hinf_rl.ops.surrogate import masked_mean, normalize_advantage


class Scene:
    """A tiny algorithm with moved players, and made-up data."""

    def __init__(self, kit, **settings):
        self.config = kit.tiny(**settings)
        self.builder = kit.parts(make(self.config, kit.Plane()))
        self.carry = kit.shaken(self.builder.init(jax.random.key(0)), jax.random.key(1))
        self.data = kit.made_up_transition(jax.random.key(2))
        self.heads = self.builder._heads

    def collect(self):
        return jax.jit(self.builder._rollout.collect)(self.carry)[1]

    def estimate(self, data, values=None, final_values=None):
        shape = (*data.valid.shape, len(self.heads.names))
        zeros = jnp.zeros(shape, jnp.float32)
        values = zeros if values is None else values
        final_values = zeros if final_values is None else final_values
        return advantages.estimate(
            self.config, self.builder._spec, self.heads, self.carry, data, values,
            final_values, self.builder._rollout.disturbed,
        )  # fmt: skip

    def dual(self, data):
        return advantages.dual_step(
            self.config,
            self.builder._spec,
            self.carry,
            data,
            self.builder._rollout.disturbed,
            self.builder._rollout.undisturbed,
        )[0]

    def constant(self, **values):
        like = self.data.reward
        return self.data._replace(
            valid=jnp.ones_like(self.data.valid),
            **{name: jnp.full_like(like, value) for name, value in values.items()},
        )


# (a) The constraint bounds the force, which is clipped to its bound anyway: the multiplier decays
# to 0 whatever the force does to the task.
def check_the_multiplier_answers_to_cost_per_force(kit):
    scene = Scene(kit, constraint={"attenuation": 0.5})
    scene.carry = scene.carry._replace(
        nominal_cost=jnp.float32(0.2), iteration=jnp.int32(3), multiplier=jnp.float32(1)
    )
    # Full force each time. C = 1 - r / 0.5; Cbar moves a tenth of the way to C:
    # r = 0: extra cost 1 - 0.28 > 0.5; r = 0.3: 0.4 - 0.22 < 0.5.
    harmful = scene.dual(scene.constant(intensity=1.0, task_reward=0.0))
    harmless = scene.dual(scene.constant(intensity=1.0, task_reward=0.3))
    assert float(harmful.multiplier) > 1.0
    assert float(harmless.multiplier) < 1.0


def plant_a_bound_on_the_force(monkeypatch):
    monkeypatch.setattr(
        advantages,
        "hinf_constraint",
        lambda cost, intensity, nominal, eta, mask: eta - masked_mean(intensity, mask),
    )


# (b) The multiplier is updated but never enters the actor's loss.
def check_the_multiplier_turns_the_actor_to_the_task(kit):
    scene = Scene(kit)
    only_task = scene.estimate(scene.data._replace(reward=scene.data.task_reward)).actor
    likeness = []
    for multiplier in (0.0, 9.0):
        scene.carry = scene.carry._replace(multiplier=jnp.float32(multiplier))
        actor = scene.estimate(scene.data).actor
        likeness.append(np.corrcoef(np.ravel(actor), np.ravel(only_task))[0, 1])
    assert likeness[1] > likeness[0] + 0.1 and likeness[1] > 0.9


def plant_a_multiplier_that_is_not_used(monkeypatch):
    monkeypatch.setattr(
        advantages,
        "actor_advantage",
        lambda whole, task, multiplier, mask, **options: normalize_advantage(whole, mask),
    )


# (c) The price on force is computed from stored forces, and so has no gradient.
def check_the_price_lowers_the_force(kit):
    scene = Scene(kit, constraint={"attenuation": 1e3}, disturbance={"undisturbed_fraction": 0.0})
    player, state = scene.builder._disturber, scene.carry.disturber
    x = scene.data.observation["policy"]
    turn = Turn(*player.sample(jax.random.key(3), state.params, x))
    size = jnp.linalg.norm(turn.raw, axis=-1)
    data = scene.data._replace(asked_intensity=size, valid=jnp.ones_like(scene.data.valid))
    advantage = scene.estimate(data).disturber
    assert np.corrcoef(np.ravel(advantage), np.ravel(size))[0, 1] < -0.99
    flat = jax.tree.map(lambda leaf: leaf.reshape(48, *leaf.shape[2:]), (turn, x, advantage))
    improved, _ = _improve(
        player, player.config, state, flat[0], flat[1], flat[2], jnp.ones(48, bool),
        jnp.zeros(48, bool), jax.random.key(4), jnp.float32(0.2), jnp.float32(0),
    )  # fmt: skip

    def force(params):
        mean, log_std = player.distribution(params, x)
        return float(jnp.mean(jnp.sum(mean**2 + jnp.exp(2.0 * log_std), axis=-1)))

    assert force(improved.params) < force(state.params)


def plant_a_price_without_gradient(monkeypatch):
    true = advantages.disturber_advantage
    monkeypatch.setattr(
        advantages,
        "disturber_advantage",
        lambda lost, intensity, eta, unit, mask, **options: true(
            lost, jnp.zeros_like(intensity), eta, unit, mask, **options
        ),
    )


# (d) The force is computed from o_t but stored with o_{t+1}.
def check_samples_are_stored_with_what_they_answered_to(kit):
    scene = Scene(kit)
    data = scene.collect()
    for player, state, turn in (
        (scene.builder._actor, scene.carry.actor, data.actor),
        (scene.builder._disturber, scene.carry.disturber, data.disturber),
    ):
        _, mean, _ = player.log_prob(state.params, data.observation["policy"], turn.raw)
        np.testing.assert_allclose(turn.mean, mean, atol=1e-5)


def plant_the_next_observation(monkeypatch):
    true = Rollout._step

    def shifted(self, carry, bound, state, key):
        after, (transition, *rest) = true(self, carry, bound, state, key)
        transition = transition._replace(observation=after[0].env.observation)
        return after, (transition, *rest)

    monkeypatch.setattr(Rollout, "_step", shifted)


# (e) The log-probability is taken of the clipped force under the unclipped density.
def check_the_log_prob_is_of_the_sample_before_the_clip(kit):
    scene = Scene(kit)
    turn = jax.tree.map(np.asarray, scene.collect().disturber)
    noise = (turn.raw - turn.mean) / np.exp(turn.log_std)
    # Noise of the sample that was drawn is standard normal; clipping would pull it inwards.
    density = np.sum(-0.5 * noise**2 - turn.log_std - 0.5 * np.log(2 * np.pi), axis=-1)
    np.testing.assert_allclose(turn.log_prob, density, atol=1e-4)
    assert np.linalg.norm(turn.raw, axis=-1).max() > 1.0


def plant_the_clipped_force(monkeypatch):
    true = Rollout._disturb

    def clipped(self, carry, observation, key):
        turn, raw = true(self, carry, observation, key)
        return turn._replace(raw=radial_clip(raw, 1.0)), raw

    monkeypatch.setattr(Rollout, "_disturb", clipped)


# (f) The last bootstrap value is computed from a slice of the critic's observation.
def check_the_bootstrap_sees_all_that_the_critic_sees(kit):
    scene = Scene(kit, unroll_length=7)
    data = scene.collect()
    assert np.asarray(data.truncated)[-1].all()
    _, final = scene.builder._values(scene.carry, data)
    whole = kit.forward(scene.carry.critic.params, np.asarray(data.final_observation))
    np.testing.assert_allclose(final, whole, atol=1e-5)


def plant_a_sliced_observation(monkeypatch):
    true = algorithm._Builder._values

    def sliced(self, carry, transition):
        final = transition.final_observation
        return true(self, carry, transition._replace(final_observation=final.at[..., 2:].set(0.0)))

    monkeypatch.setattr(algorithm._Builder, "_values", sliced)


# (g) The cost is summed up to the fall, so that a fall ends it and the disturber avoids falls.
def check_the_disturber_gains_by_a_fall(kit):
    scene = Scene(kit, disturbance={"undisturbed_fraction": 0.0})
    data = scene.constant(reward=0.3, task_reward=0.3, intensity=0.5)
    nobody = jnp.zeros_like(data.valid)
    data = data._replace(terminated=nobody.at[3, 2].set(True), truncated=nobody)
    # What a fitted critic says where every step pays the same: r / (1 - gamma).
    values = scene.heads.rewards(data) / (1.0 - 0.99)
    found = np.asarray(scene.estimate(data, values, values).disturber)
    others = np.delete(found, 2, axis=1)
    assert found[3, 2] > others.max() + 1.0


def plant_a_cost_that_ends_with_the_fall(monkeypatch):
    true = Heads.rewards

    def cost(self, transition):
        found = true(self, transition)
        return found.at[..., self.index("task")].add(-0.5)  # r - r_max = -C

    monkeypatch.setattr(Heads, "rewards", cost)


FAULTS = {
    "a": (check_the_multiplier_answers_to_cost_per_force, plant_a_bound_on_the_force),
    "b": (check_the_multiplier_turns_the_actor_to_the_task, plant_a_multiplier_that_is_not_used),
    "c": (check_the_price_lowers_the_force, plant_a_price_without_gradient),
    "d": (check_samples_are_stored_with_what_they_answered_to, plant_the_next_observation),
    "e": (check_the_log_prob_is_of_the_sample_before_the_clip, plant_the_clipped_force),
    "f": (check_the_bootstrap_sees_all_that_the_critic_sees, plant_a_sliced_observation),
    "g": (check_the_disturber_gains_by_a_fall, plant_a_cost_that_ends_with_the_fall),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.slow
def test_the_fault_is_absent(fault, kit):
    FAULTS[fault][0](kit)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_planted_fault_is_found(fault, kit, monkeypatch):
    check, plant = FAULTS[fault]
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        check(kit)

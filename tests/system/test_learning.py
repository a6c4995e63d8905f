"""The whole algorithm on probes whose values and best actions are known in closed form.

All runs use seed 0, the same settings and the same `make(config, env)`. Over seeds 0 to 7 on a
CPU the largest error was 0.0004 for a value, 0.024 for an action and 0.015 for a disturbance; the
margins leave room for another PRNG or device. A wrong sign, a lost observation or a wrong
discount is off by 0.1 (delayed reward) to 1.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.agents.hinf import (
    ConstraintConfig,
    CriticConfig,
    DisturbanceConfig,
    HinfConfig,
    PlayerConfig,
    make,
)
from hinf_rl.envs.probe import PROBES

pytestmark = pytest.mark.slow
DISCOUNT = 0.9
VALUE_MARGIN, ACTION_MARGIN = 0.02, 0.06
PLAYER = PlayerConfig(
    hidden=(16,), activation="tanh", desired_kl=None, init_log_std=-1.0, learning_rate=1e-2,
    entropy_cost=0.0,
)  # fmt: skip


def settings(probe):
    source = "learned" if probe.takes_disturbance else "none"
    return HinfConfig(
        iterations=60, num_envs=32, unroll_length=8, num_epochs=4, num_minibatches=2,
        gamma=DISCOUNT, actor_objective="reward", normalize_observations=False,
        symmetry="augment" if probe.is_symmetric else "none", actor=PLAYER,
        critic=CriticConfig(
            hidden=(16,), activation="tanh", clip_value=None, learning_rate=1e-2
        ),
        disturbance=DisturbanceConfig(
            source=source, player=PLAYER, undisturbed_fraction=0.0, warmup_fraction=0.0,
            ramp_fraction=0.0,
        ),
        constraint=ConstraintConfig(multiplier="off"),
    )  # fmt: skip


def learn(probe, seed=0):
    """Trains once: (actor, values of the overall and the task head, disturber)."""
    algorithm = make(settings(probe), probe)

    def train(key):
        return jax.lax.scan(lambda carry, _: algorithm.step(carry), algorithm.init(key), length=60)[
            0
        ]

    carry = jax.jit(train)(jax.random.key(seed))
    critic = algorithm.step.__self__._critic

    def values(observation):
        return critic.values(carry.critic.params, observation["privileged"])

    return algorithm.policy(carry), values, algorithm.disturber(carry)


def observed(probe):
    """What the probe shows: the two signs, or the count of the steps taken."""
    seen = [-1.0, 1.0] if probe.observes_sign else range(probe.num_steps)
    column = jnp.array([[float(x)] for x in seen], jnp.float32)
    return {"policy": column, "privileged": column}


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_is_learned_to_its_closed_form(name):
    probe = PROBES[name]
    actor, values, disturber = learn(probe)
    observation = observed(probe)
    seen = observation["policy"][:, 0]
    best = np.asarray(probe.optimal_value(seen, DISCOUNT))
    # All reward is task reward: both heads have the same target.
    for head in range(2):
        np.testing.assert_allclose(values(observation)[:, head], best, atol=VALUE_MARGIN)
    if "action" in name or name == "saddle":
        expected = probe.optimal_action(seen)
        np.testing.assert_allclose(actor(observation)[:, 0], expected, atol=ACTION_MARGIN)
    if probe.takes_disturbance:
        # Without a price, the saddle: w = 0.2 o against a = 0.4 o.
        np.testing.assert_allclose(disturber(observation)[:, 0], 0.2 * seen, atol=ACTION_MARGIN)

"""A small plane to move on, whose critic's observation repeats what was done to it."""

import dataclasses

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
)
from hinf_rl.agents.hinf.rollout import Transition, Turn
from hinf_rl.envs.api import DisturbanceSpec, EnvSpec, Mirror, State

# The critic's observation: place (2), a constant of the episode (1), last push (2), last action (2)
PUSH, ACTION = slice(3, 5), slice(5, 7)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plane:
    """x' = 0.8 x + 0.3 clip(a, -1, 1) + 0.1 w; task reward 0.5 exp(-|x'|^2).

    The whole reward is the task reward + 0.2 - 0.05 |a|^2. An episode falls where |x'| exceeds
    `fall_radius`. `nan_share`: share of the steps whose `nan_in` is not a number.
    """

    fall_radius: float = 10.0
    limit: float = 3.0
    episode_length: int = 7
    nan_share: float = 0.0
    nan_in: str = "reward"
    takes_disturbance: bool = True

    @property
    def spec(self):
        size = 2 if self.takes_disturbance else 0
        # Swapping the axes and turning both around leaves the task as it is.
        swap = ((1, 0), (-1.0, -1.0))
        rest = ((1, 0, 2, 4, 3, 6, 5), (-1.0, -1.0, 1.0, -1.0, -1.0, -1.0, -1.0))
        return EnvSpec(
            name="plane",
            policy_size=2,
            privileged_size=7,
            action_size=2,
            disturbance=DisturbanceSpec(
                size=size, limit=self.limit if size else 0.0, unit="N", meaning="moves the point"
            ),
            dt_s=0.1,
            episode_length=self.episode_length,
            task_reward_max=0.5,
            task_reward_scale=0.5,
            mirror=Mirror(
                policy=swap, privileged=rest, action=swap, disturbance=swap if size else ((), ())
            ),
        )

    def reset(self, key):
        key_x, key_hidden, key = jax.random.split(key, 3)
        x = 0.5 * jax.random.normal(key_x, (2,), jnp.float32)
        hidden = jax.random.normal(key_hidden, (1,), jnp.float32)
        none = jnp.zeros(2, jnp.float32)
        zero = jnp.float32(0)
        return State(
            physics={"x": x},
            observation={"policy": x, "privileged": jnp.concatenate([x, hidden, none, none])},
            reward=zero,
            task_reward=zero,
            terminated=jnp.bool_(False),
            truncated=jnp.bool_(False),
            metrics={"speed": zero},
            parameters={"hidden": hidden},
            key=key,
        )

    def step(self, state, action, disturbance=None):
        push = disturbance if self.takes_disturbance else jnp.zeros(2, jnp.float32)
        old = state.physics["x"]
        x = 0.8 * old + 0.3 * jnp.clip(action, -1.0, 1.0) + 0.1 * push
        task_reward = 0.5 * jnp.exp(-jnp.sum(x**2))
        reward = task_reward + 0.2 - 0.05 * jnp.sum(action**2)
        broken = jax.random.bernoulli(state.key, self.nan_share)
        spoil = jnp.where(broken, jnp.nan, 0.0).astype(jnp.float32)
        seen = x + (spoil if self.nan_in == "observation" else jnp.float32(0))
        return dataclasses.replace(
            state,
            physics={"x": x},
            observation={
                "policy": seen,
                "privileged": jnp.concatenate([seen, state.parameters["hidden"], push, action]),
            },
            reward=reward + (spoil if self.nan_in == "reward" else jnp.float32(0)),
            task_reward=task_reward,
            terminated=jnp.sum(x**2) > self.fall_radius**2,
            metrics={"speed": jnp.linalg.norm(x - old)},
        )


def tiny(*, actor=None, critic=None, disturbance=None, constraint=None, **changes):
    """Settings that compile fast: 8 environments, 6 steps, 8 hidden units, no warm-up."""
    small = {"hidden": (8,), "activation": "tanh", "desired_kl": None, "learning_rate": 1e-2}
    pushes = {"warmup_fraction": 0.0, "ramp_fraction": 0.0, "hold_s": (0.2, 0.5)}
    wide = PlayerConfig(**small, log_std_range=(-2.0, 0.5))
    settings = {
        "iterations": 10, "num_envs": 8, "unroll_length": 6, "num_epochs": 2,
        "num_minibatches": 2, "stagger_episodes": False,
    }  # fmt: skip
    return HinfConfig(
        **(settings | changes),
        actor=PlayerConfig(**(small | (actor or {}))),
        critic=CriticConfig(**({"hidden": (8,), "activation": "tanh"} | (critic or {}))),
        disturbance=DisturbanceConfig(**(pushes | {"player": wide} | (disturbance or {}))),
        constraint=ConstraintConfig(**(constraint or {})),
    )


def parts(algorithm):
    """The builder behind an algorithm: the very pieces that `step` is made of."""
    return algorithm.step.__self__


def shaken(carry, key):
    """The carry with all players' and the critic's parameters moved at random."""

    def shake(tree, key):
        leaves, structure = jax.tree.flatten(tree)
        keys = jax.random.split(key, len(leaves))
        moved = [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
        return jax.tree.unflatten(structure, moved)

    key_actor, key_disturber, key_critic = jax.random.split(key, 3)
    return carry._replace(
        actor=carry.actor._replace(params=shake(carry.actor.params, key_actor)),
        disturber=carry.disturber._replace(params=shake(carry.disturber.params, key_disturber)),
        critic=carry.critic._replace(params=shake(carry.critic.params, key_critic)),
    )


def made_up_transition(key, *, steps=6, envs=8, fall_share=0.15, invalid_share=0.1):
    """A rollout of random numbers with falls, time-outs and broken steps."""
    keys = jax.random.split(key, 12)
    shape = (steps, envs)

    def normal(i, *size):
        return jax.random.normal(keys[i], (*shape, *size), jnp.float32)

    def turn(i):
        mean, log_std = normal(i, 2), jnp.full((*shape, 2), -0.5, jnp.float32)
        raw = mean + jnp.exp(log_std) * normal(i + 1, 2)
        scaled = (raw - mean) * jnp.exp(-log_std)
        each = -0.5 * scaled**2 - log_std - 0.5 * np.float32(np.log(2 * np.pi))
        return Turn(raw, jnp.sum(each, axis=-1), mean, log_std)

    valid = jax.random.uniform(keys[8], shape) >= invalid_share
    terminated = (jax.random.uniform(keys[9], shape) < fall_share) & valid
    # The batch layer ends the episode of a broken step and pays nothing for it.
    truncated = ~terminated & ((jax.random.uniform(keys[10], shape) < 0.15) | ~valid)
    task_reward = jnp.where(valid, 0.5 * jax.random.uniform(keys[11], shape), 0.0)
    return Transition(
        observation={"policy": normal(0, 2), "privileged": normal(1, 7)},
        final_observation=normal(2, 7),
        actor=turn(3),
        disturber=turn(5),
        reward=jnp.where(valid, task_reward + 0.3 * normal(7), 0.0),
        task_reward=task_reward,
        intensity=jax.random.uniform(keys[6], shape),
        # Every other sample asked for twice of what was executed.
        asked_intensity=jax.random.uniform(keys[6], shape)
        * (1 + jnp.arange(envs) % 2).astype(jnp.float32)[None],
        terminated=terminated,
        truncated=truncated,
        valid=valid,
        is_decision=jnp.ones(shape, bool),
    )


def forward(params, x):
    """NumPy: a network with one hidden tanh layer."""
    layers = jax.tree.map(np.asarray, params["params"])
    hidden = np.tanh(x @ layers["Dense_0"]["kernel"] + layers["Dense_0"]["bias"])
    return hidden @ layers["Dense_1"]["kernel"] + layers["Dense_1"]["bias"]


def same_bits(first, second):
    """Whether two trees hold the same numbers, bit for bit."""
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)


@pytest.fixture(scope="session")
def kit():
    """The helpers above, for every test of this folder."""

    class Kit:
        Plane = Plane
        PUSH = PUSH
        ACTION = ACTION
        tiny = staticmethod(tiny)
        parts = staticmethod(parts)
        shaken = staticmethod(shaken)
        made_up_transition = staticmethod(made_up_transition)
        forward = staticmethod(forward)
        same_bits = staticmethod(same_bits)

    return Kit

"""A fresh disturber trained against a frozen policy: the deliberate attack of the protocol."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from hinf_rl.agents.hinf.algorithm import make
from hinf_rl.agents.hinf.config import HinfConfig
from hinf_rl.agents.hinf.players import GaussianPolicy
from hinf_rl.envs.api import Env
from hinf_rl.errors import UserError
from hinf_rl.types import Array, Metrics

Objective = Literal["task", "fall"]
"""What an attacker seeks: a low task reward, or the fall."""

# How an attacker explores: forces of about the bound's size, each held for a while. On the
# cart-pole at 0.9 N, attackers of 80 iterations so topple every policy; those that redraw a third
# of the bound at every step topple hardly any (experiments/cartpole).
# Nor may it depend on how widely the disturber of the policy's own training had to explore.
_DECISION_S = 0.3
_INIT_LOG_STD = 0.0
_LOG_STD_RANGE = (-2.0, 0.5)


def attack_config(
    config: HinfConfig, *, objective: Objective, iterations: int, num_envs: int | None = None
) -> HinfConfig:
    """The settings that turn a training run's configuration into an attack on its policy.

    Every environment is disturbed from the start, at the full bound and at no price. The
    attacker explores with held forces of about the bound's size, whatever the training did.

    Args:
      config: of the policy's own training: discount, network and optimiser are kept.
      objective: "task" seeks a low task reward, "fall" terminations.
      iterations: length of the attack.
      num_envs: parallel environments; None takes those of the training.

    Raises:
      UserError: an unknown objective, or a number that the configuration refuses.
    """
    if objective not in ("task", "fall"):
        raise UserError(f"attack objective must be 'task' or 'fall', got {objective!r}")
    player = dataclasses.replace(
        config.disturbance.player, init_log_std=_INIT_LOG_STD, log_std_range=_LOG_STD_RANGE
    )
    disturbance = dataclasses.replace(
        config.disturbance,
        source="learned",
        objective=objective,
        undisturbed_fraction=0.0,
        random_fraction=0.0,
        warmup_fraction=0.0,
        ramp_fraction=0.0,
        decision_s=_DECISION_S,
        player=player,
    )
    return dataclasses.replace(
        config,
        iterations=iterations,
        num_envs=config.num_envs if num_envs is None else num_envs,
        update="surrogate",
        actor_objective="reward",
        disturbance=disturbance,
        constraint=dataclasses.replace(
            config.constraint, multiplier="off", intensity_horizon="step"
        ),
        critic=dataclasses.replace(config.critic, kind="network"),
    )


@functools.lru_cache(maxsize=16)
def make_attack(
    env: Env, config: HinfConfig
) -> Callable[[GaussianPolicy, Array], tuple[GaussianPolicy, Metrics]]:
    """Compiles the whole attack once for all policies of one architecture.

    Args:
      env: the environment.
      config: of `attack_config`.

    Returns:
      `attack(policy, key) -> (disturber, metrics of the last iteration)`; works under `vmap`.
    """

    def attack(policy: GaussianPolicy, key: Array) -> tuple[GaussianPolicy, Metrics]:
        algorithm = make(config, env, frozen_actor=policy)
        carry, metrics = jax.lax.scan(
            lambda carry, _: algorithm.step(carry),
            algorithm.init(key),
            length=config.iterations,
        )
        return algorithm.disturber(carry), jax.tree.map(lambda x: x[-1], metrics)

    return jax.jit(attack)


def train_attacker(
    env: Env,
    policy: GaussianPolicy,
    config: HinfConfig,
    key: Array,
    *,
    objective: Objective,
    iterations: int,
    num_envs: int | None = None,
    size: float = 1.0,
) -> GaussianPolicy:
    """Trains a disturber against the frozen `policy` from scratch.

    Args:
      env: the environment that the attack may use; held-out keys come from `key`.
      policy: the policy under attack; it acts by its mean.
      config: settings of the policy's own training.
      key: consumed.
      objective: "task" or "fall".
      iterations: length of the attack.
      num_envs: parallel environments; None takes those of the training.
      size: the attack is trained at `size` times the environment's bound. Above 1 it meets
        falls to learn from where the policy withstands everything within the bound.

    Returns:
      The attacker, in the disturbance's unit, clipped to the environment's bound.
    """
    limit = env.spec.disturbance.limit
    settings = attack_config(config, objective=objective, iterations=iterations, num_envs=num_envs)
    disturbance = dataclasses.replace(settings.disturbance, limit=size * limit)
    settings = dataclasses.replace(settings, disturbance=disturbance)
    attacker, _ = make_attack(env, settings)(policy, key)
    # Shortened, not scaled: a force within the environment's bound stays what it was found to be.
    return dataclasses.replace(attacker, limit=jnp.asarray(limit, jnp.float32))


__all__ = ["Objective", "attack_config", "make_attack", "train_attacker"]

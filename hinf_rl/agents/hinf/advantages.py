"""From a rollout to what each player climbs: two-head advantages and the dual signal."""

from typing import NamedTuple

import jax.numpy as jnp

from hinf_rl.agents.hinf.config import HinfConfig
from hinf_rl.agents.hinf.critic import Heads
from hinf_rl.agents.hinf.rollout import Carry, Transition
from hinf_rl.envs.api import EnvSpec
from hinf_rl.ops.hinf import (
    actor_advantage,
    centred_intensity,
    disturber_advantage,
    dual_update,
    hinf_constraint,
    nominal_cost_ema,
    task_cost,
)
from hinf_rl.ops.returns import multi_head_gae
from hinf_rl.ops.surrogate import masked_mean
from hinf_rl.types import Array, Metrics


class Advantages(NamedTuple):
    """What the updates need beside the transitions, time-major."""

    actor: Array  # [T, E]
    disturber: Array  # [T, E], 0 where undisturbed
    returns: Array  # [T, E, H]
    values: Array  # [T, E, H]
    is_disturbed: Array  # [T, E] bool, valid, and the disturber chose its force here


def estimate(
    config: HinfConfig,
    spec: EnvSpec,
    heads: Heads,
    carry: Carry,
    transition: Transition,
    values: Array,
    final_values: Array,
    disturbed: Array,
) -> Advantages:
    """Advantages of both players.

    Args:
      config: the settings.
      spec: the environment's bounds.
      heads: the value heads.
      carry: multiplier and hyperparameters.
      transition: the rollout [T, E].
      values: [T, E, H] at the observation.
      final_values: [T, E, H] at the true next observation.
      disturbed: [E] bool, environments that the disturber acts on.
    """
    numbers = carry.hyperparameters
    advantages, returns = multi_head_gae(
        heads.rewards(transition),
        values,
        final_values,
        transition.terminated,
        transition.truncated,
        transition.valid,
        gamma=numbers.gamma,
        gae_lambda=numbers.gae_lambda,
    )
    valid = transition.valid
    is_disturbed = valid & jnp.broadcast_to(disturbed, valid.shape) & transition.is_decision
    if config.has_intensity_head:
        intensity = advantages[..., heads.index("intensity")]
    else:
        # What is chosen once is paid for at every step that it is held, and what is beyond the
        # bound, too: else the price would lose its hold on a disturber that has saturated.
        held = config.disturbance.decision_steps(spec.dt_s)
        intensity = held * centred_intensity(transition.asked_intensity, is_disturbed)
    scale = spec.task_reward_scale
    if heads.is_attack:
        actor = jnp.zeros_like(transition.reward)
    else:
        task = advantages[..., heads.index("task")]
        paid = task + numbers.attenuation * scale * intensity
        actor = _actor(config, carry, advantages[..., heads.index("reward")], task, paid, valid)
    disturber = _disturber(config, heads, carry, advantages, intensity, scale, is_disturbed)
    return Advantages(actor, disturber, returns, values, is_disturbed)


def _actor(
    config: HinfConfig,
    carry: Carry,
    advantage: Array,
    task: Array,
    paid: Array,
    valid: Array,
) -> Array:
    """The actor's advantage; `paid` is the task's plus eta times the intensity's."""
    normalize = config.update == "surrogate"
    none = jnp.zeros((), jnp.float32)
    if config.actor_objective == "game":
        return actor_advantage(paid, paid, none, valid, normalize=normalize)
    if config.actor_objective == "reward" or config.constraint.multiplier == "off":
        return actor_advantage(advantage, task, none, valid, normalize=normalize)
    second = paid if config.constraint.actor_sees_intensity else task
    return actor_advantage(advantage, second, carry.multiplier, valid, normalize=normalize)


def _disturber(
    config: HinfConfig,
    heads: Heads,
    carry: Carry,
    advantages: Array,
    intensity: Array,
    scale: float,
    mask: Array,
) -> Array:
    """The disturber's advantage; without a constraint its force has no price."""
    objective = config.disturbance.objective
    lost = advantages[..., heads.index(objective)]
    price = carry.hyperparameters.attenuation
    if config.constraint.multiplier == "off" and config.actor_objective != "game":
        price = jnp.zeros((), jnp.float32)
    normalize = config.update == "surrogate"
    # A fall has no unit; both rewards carry that of the task reward, and the price has none.
    unit = 1.0 if objective == "fall" else scale
    return disturber_advantage(lost, intensity, price, unit, mask, normalize=normalize)


def dual_step(
    config: HinfConfig,
    spec: EnvSpec,
    carry: Carry,
    transition: Transition,
    disturbed: Array,
    undisturbed: Array,
) -> tuple[Carry, Metrics]:
    """Moves multiplier and nominal cost by one iteration's measured constraint.

    The multiplier rests while nobody is disturbed (warm-up), or it would answer to nothing.

    Args:
      config: the settings.
      spec: the environment's bounds.
      carry: multiplier, nominal cost and hyperparameters.
      transition: the rollout [T, E].
      disturbed: [E] bool, environments that the disturber acts on.
      undisturbed: [E] bool, environments that nobody acts on.
    """
    settings = config.constraint
    valid = transition.valid
    is_disturbed = valid & jnp.broadcast_to(disturbed, valid.shape)
    is_undisturbed = valid & jnp.broadcast_to(undisturbed, valid.shape)
    cost = task_cost(
        transition.task_reward, spec.task_reward_max, task_reward_scale=spec.task_reward_scale
    )
    nominal = carry.nominal_cost
    if settings.baseline_decay is not None:
        nominal = _nominal_cost(carry, cost, is_undisturbed, valid, settings.baseline_decay)
    slack = hinf_constraint(
        cost, transition.intensity, nominal, carry.hyperparameters.attenuation, is_disturbed
    )
    multiplier = carry.multiplier
    if settings.multiplier == "dual":
        moved = dual_update(
            multiplier,
            slack,
            lr=carry.hyperparameters.multiplier_lr,
            max_multiplier=settings.multiplier_max,
        )
        is_pushed = masked_mean(transition.intensity, is_disturbed) > 0.0
        multiplier = jnp.where(is_pushed, moved, multiplier)
    metrics = {
        "constraint/multiplier": multiplier,
        "constraint/slack": slack,
        "constraint/intensity": masked_mean(transition.intensity, is_disturbed),
        "constraint/cost_disturbed": masked_mean(cost, is_disturbed),
        "constraint/cost_undisturbed": masked_mean(cost, is_undisturbed),
        "constraint/nominal_cost": nominal,
    }
    return carry._replace(multiplier=multiplier, nominal_cost=nominal), metrics


def _nominal_cost(
    carry: Carry, cost: Array, is_undisturbed: Array, valid: Array, decay: float
) -> Array:
    """Running mean of the undisturbed cost, started at its first measurement."""
    is_first = carry.iteration == 0
    decay_now = jnp.where(is_first, 0.0, decay)
    return nominal_cost_ema(carry.nominal_cost, cost, is_undisturbed, valid, decay_now)


__all__ = ["Advantages", "dual_step", "estimate"]

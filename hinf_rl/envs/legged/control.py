"""What a randomised episode does to commands and motion on their way: late targets, kicks."""

import jax
import jax.numpy as jnp

from hinf_rl.envs.legged.config import RandomisationConfig
from hinf_rl.envs.physics.api import PhysicsState
from hinf_rl.types import Array


def delayed_targets(key: Array, target: Array, previous: Array, substeps: int) -> Array:
    """Joint targets of each substep, the old ones until a uniformly drawn substep.

    Args:
      key: consumed.
      target: [J] what the new action asks for.
      previous: [J] what the last one asked for.
      substeps: physics steps of the control step.

    Returns:
      [substeps, J].
    """
    delay = jax.random.randint(key, (), 0, substeps)
    late = jnp.arange(substeps) >= delay
    return jnp.where(late[:, None], target[None], previous[None])


def kicked(
    simulation: PhysicsState,
    time_s: Array,
    key: Array,
    *,
    settings: RandomisationConfig,
    dt_s: float,
) -> PhysicsState:
    """Kicks the trunk's horizontal velocity at the interval of `settings`, else changes nothing.

    Args:
      simulation: after the control step.
      time_s: [] since the episode began, before that step.
      key: consumed.
      settings: `push_interval_s`, and the largest `push_speed_m_s` along each axis.
      dt_s: control period.
    """
    if settings.push_speed_m_s <= 0.0:
        return simulation
    steps = max(1, round(settings.push_interval_s / dt_s))
    index = jnp.round(time_s / dt_s).astype(jnp.int32) + 1
    kick = jax.random.uniform(
        key, (2,), minval=-settings.push_speed_m_s, maxval=settings.push_speed_m_s
    )
    kick = jnp.where(index % steps == 0, kick, jnp.zeros_like(kick))
    return simulation._replace(qvel=simulation.qvel.at[:2].add(kick))


__all__ = ["delayed_targets", "kicked"]

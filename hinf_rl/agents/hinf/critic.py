"""The critic's value heads: overall reward, task reward, and where asked intensity and falls."""

from typing import cast

import jax.numpy as jnp

from hinf_rl.agents.hinf.config import HinfConfig
from hinf_rl.agents.hinf.optimizer import Adam
from hinf_rl.agents.hinf.rollout import CriticState, Transition
from hinf_rl.networks import MLP
from hinf_rl.ops.surrogate import clipped_value_loss, masked_mean
from hinf_rl.types import Array, PyTree


class Heads:
    """Which reward each value head sums, in order.

    Args:
      config: the settings.
      is_attack: only the disturber learns. What nobody climbs is not valued then: rewards are
        far larger than the chance of a fall, and would have the common trunk to themselves.

    Attributes:
      names: "reward", "task", then "intensity" and "fall" where the configuration uses them; of
        an attack its objective alone.
    """

    def __init__(self, config: HinfConfig, *, is_attack: bool = False) -> None:
        self.is_attack = is_attack
        if is_attack:
            self.names = [config.disturbance.objective]
            return
        self.names = ["reward", "task"]
        if config.has_intensity_head:
            self.names.append("intensity")
        if config.disturbance.objective == "fall":
            self.names.append("fall")

    def rewards(self, transition: Transition) -> Array:
        """Stacks what each head sums, [T, E, H]."""
        # A fall costs 1 once; it ends the episode, so the head is the discounted fall probability.
        fall = -(transition.terminated & transition.valid).astype(jnp.float32)
        known = {
            "reward": transition.reward,
            "task": transition.task_reward,
            "intensity": jnp.where(transition.valid, transition.asked_intensity, 0.0),
            "fall": fall,
        }
        return jnp.stack([known[name] for name in self.names], axis=-1)

    def index(self, name: str) -> int:
        """Position of a head."""
        return self.names.index(name)


class NetworkCritic:
    """Value heads on one trunk, fitted by Adam on the (clipped) squared error."""

    def __init__(self, config: HinfConfig, *, input_size: int, num_heads: int) -> None:
        settings = config.critic
        self._clip_value = settings.clip_value
        self._input_size = input_size
        self._network = MLP(hidden=settings.hidden, size=num_heads, activation=settings.activation)
        self._optimizer = Adam(settings.max_grad_norm)

    def init(self, key: Array) -> CriticState:
        """Draws the network and starts the optimiser."""
        params = self._network.init(key, jnp.zeros((1, self._input_size), jnp.float32))
        return CriticState(params, self._optimizer.init(params))

    def values(self, params: PyTree, x: Array) -> Array:
        """Values [..., H] at normalised privileged observations [..., P]."""
        return cast(Array, self._network.apply(params, x))

    def loss(
        self, params: PyTree, x: Array, old_values: Array, returns: Array, valid: Array
    ) -> Array:
        """0.5 mean over samples of the squared errors summed over heads."""
        loss = clipped_value_loss(
            self.values(params, x), old_values, returns, clip_value=self._clip_value
        )
        return masked_mean(loss, valid)

    def apply_gradient(
        self, state: CriticState, gradient: PyTree, learning_rate: Array
    ) -> CriticState:
        """One Adam step on the critic's own clipped gradient."""
        return CriticState(
            *self._optimizer.step(state.params, gradient, state.optimizer, learning_rate)
        )


__all__ = ["Heads", "NetworkCritic"]

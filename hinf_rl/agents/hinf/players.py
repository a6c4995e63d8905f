"""A Gaussian player: parameters, optimiser, densities, and the policy that leaves training."""

from typing import NamedTuple, cast

import jax.numpy as jnp
from flax import struct

from hinf_rl.agents.hinf.config import PlayerConfig
from hinf_rl.agents.hinf.optimizer import Adam
from hinf_rl.networks import MLP
from hinf_rl.ops import distributions
from hinf_rl.ops.hinf import radial_clip
from hinf_rl.ops.normalize import NormalizerState, normalizer_apply
from hinf_rl.types import Array, PyTree

# The first mean actions are small: exploration, not the initial weights, decides.
_FINAL_SCALE = 0.01


class PlayerState(NamedTuple):
    """What training keeps of one player."""

    params: PyTree  # {"mean": network, "log_std": [A]}
    optimizer: PyTree
    learning_rate: Array  # [] current step size


class Player:
    """The pure functions of one player, built from its configuration.

    Args:
      config: network and optimiser.
      input_size: length of its observation.
      size: number A of its actions.
    """

    def __init__(self, config: PlayerConfig, *, input_size: int, size: int) -> None:
        self.config = config
        self.size = size
        self._input_size = input_size
        self._network = MLP(
            hidden=config.hidden,
            size=size,
            activation=config.activation,
            final_scale=_FINAL_SCALE,
        )
        self._optimizer = Adam(config.max_grad_norm)

    def init(self, key: Array, learning_rate: Array) -> PlayerState:
        """Draws the network and starts the optimiser."""
        network = self._network.init(key, jnp.zeros((1, self._input_size), jnp.float32))
        log_std = jnp.full((self.size,), self.config.init_log_std, jnp.float32)
        params = {"mean": network, "log_std": log_std}
        return PlayerState(params, self._optimizer.init(params), learning_rate)

    def distribution(self, params: PyTree, x: Array) -> tuple[Array, Array]:
        """Mean and log standard deviation, both [..., A], at normalised inputs [..., I]."""
        mean = cast(Array, self._network.apply(params["mean"], x))
        log_std = jnp.clip(params["log_std"], *self.config.log_std_range)
        return mean, jnp.broadcast_to(log_std, mean.shape)

    def sample(self, key: Array, params: PyTree, x: Array) -> tuple[Array, Array, Array, Array]:
        """Draws one raw sample per row.

        Returns:
          (raw sample [..., A] before any squashing or clipping, its log-probability [...],
          mean [..., A], log standard deviation [..., A]). The log-probability is that of what
          is executed under `action`.
        """
        mean, log_std = self.distribution(params, x)
        raw = distributions.normal_sample(key, mean, log_std)
        return raw, self._log_prob(raw, mean, log_std), mean, log_std

    def action(self, raw: Array) -> Array:
        """The action that a raw sample (or mean) stands for."""
        return jnp.tanh(raw) if self.config.distribution == "tanh_normal" else raw

    def log_prob(self, params: PyTree, x: Array, raw: Array) -> tuple[Array, Array, Array]:
        """Log-probability [...] of raw samples, and the mean and log-deviation there."""
        mean, log_std = self.distribution(params, x)
        return self._log_prob(raw, mean, log_std), mean, log_std

    def entropy(self, key: Array, mean: Array, log_std: Array) -> Array:
        """Entropy [...]; a one-sample estimate for squashed players."""
        if self.config.distribution == "tanh_normal":
            return distributions.tanh_normal_entropy(key, mean, log_std)
        return distributions.normal_entropy(log_std)

    def apply_gradient(self, state: PlayerState, gradient: PyTree) -> PlayerState:
        """One Adam step on this player's own clipped gradient."""
        params, optimizer = self._optimizer.step(
            state.params, gradient, state.optimizer, state.learning_rate
        )
        low, high = self.config.log_std_range
        params["log_std"] = jnp.clip(params["log_std"], low, high)
        return state._replace(params=params, optimizer=optimizer)

    def _log_prob(self, raw: Array, mean: Array, log_std: Array) -> Array:
        if self.config.distribution == "tanh_normal":
            return distributions.tanh_normal_log_prob(raw, mean, log_std)
        return distributions.normal_log_prob(raw, mean, log_std)


@struct.dataclass
class GaussianPolicy:
    """A trained player with the normaliser that it was trained with.

    Attributes:
      params: of the player.
      normalizer: of its input; None where it takes raw observations.
      bound: [] largest norm of the action (a disturbance's, in its unit); None does not clip.
      player: the player's functions.
      observation_key: which observation it sees.
      limit: [] norm that what it hands out is shortened to, where that is less than its bound.
    """

    params: PyTree
    normalizer: NormalizerState | None
    bound: Array | None
    player: Player = struct.field(pytree_node=False)
    observation_key: str = struct.field(pytree_node=False)
    limit: Array | None = None

    def __call__(self, observation: dict[str, Array], key: Array | None = None) -> Array:
        """Returns actions [..., A]: the mean, or a sample where `key` is given.

        A player with a bound acts in units of it: the sample is clipped to the unit ball, then
        scaled.
        """
        x = observation[self.observation_key]
        if self.normalizer is not None:
            x = normalizer_apply(self.normalizer, x)
        if key is None:
            raw, _ = self.player.distribution(self.params, x)
        else:
            raw, *_ = self.player.sample(key, self.params, x)
        action = self.player.action(raw)
        if self.bound is not None:
            action = self.bound * radial_clip(action, 1.0)
        return action if self.limit is None else radial_clip(action, self.limit)


__all__ = ["GaussianPolicy", "Player", "PlayerState"]

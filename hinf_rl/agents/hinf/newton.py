"""The update of linear Gaussian players: least-squares critic, curvature-scaled gain steps.

Everything else (rollout, heads, advantages, multiplier) is the code that trains networks.
"""

from typing import Any

import jax
import jax.numpy as jnp

from hinf_rl.agents.hinf.advantages import Advantages
from hinf_rl.agents.hinf.config import HinfConfig
from hinf_rl.agents.hinf.critic import Heads
from hinf_rl.agents.hinf.players import PlayerState
from hinf_rl.agents.hinf.rollout import Carry, CriticState, Transition, Turn
from hinf_rl.ops.quadratic import (
    gain_update,
    gaussian_gain_step,
    lstd,
    quadratic_features,
    quadratic_value,
)
from hinf_rl.types import Array, Metrics, PyTree


class QuadraticCritic:
    """Value heads as quadratic functions of the privileged observation, refitted per rollout."""

    def __init__(
        self, config: HinfConfig, heads: Heads, *, input_size: int, disturbed: Array
    ) -> None:
        self._config, self._heads = config, heads
        self._input_size = input_size
        self._disturbed = disturbed

    def init(self, key: Array) -> CriticState:
        """Starts at zero; `key` is not needed, the first fit replaces the weights."""
        del key
        features = jax.eval_shape(
            quadratic_features, jax.ShapeDtypeStruct((self._input_size,), jnp.float32)
        )
        return CriticState(jnp.zeros((*features.shape, len(self._heads.names)), jnp.float32), ())

    def values(self, params: PyTree, x: Array) -> Array:
        """Values [..., H] at observations [..., P]."""
        return quadratic_value(params, x)

    def fit(self, carry: Carry, transition: Transition) -> CriticState:
        """Least-squares temporal difference on the rollout, all heads at once."""
        going_on = 1.0 - transition.terminated.astype(jnp.float32)
        weights = lstd(
            _rows(transition.observation["privileged"]),
            _rows(transition.final_observation),
            _rows(self._heads.rewards(transition)),
            (carry.hyperparameters.gamma * going_on).reshape(-1),
            noise_t=_rows(_noise(self._config, transition)),
            mask_t=_mask(self._config, transition, self._disturbed).reshape(-1),
            ridge=self._config.critic.ridge,
        )
        return CriticState(weights, ())


class NewtonUpdate:
    """One simultaneous step of both gains per iteration.

    Each player regresses its own advantage on its own noise, with the other's as nuisance, and
    moves `newton_step` of the way to the best answer that the fitted curvature promises.
    """

    def __init__(self, config: HinfConfig, disturbed: Array) -> None:
        self._config, self._disturbed = config, disturbed

    def __call__(
        self, carry: Carry, transition: Transition, advantages: Advantages
    ) -> tuple[Carry, Metrics]:
        """Moves the gains; returns the new players and how far they went."""
        mask = _mask(self._config, transition, self._disturbed).reshape(-1)
        actor_step, disturber_step = self._config.newton_step
        x = _rows(transition.observation["policy"])
        actor_noise = _turn_noise(transition.actor)
        disturber_noise = None
        metrics: dict[str, Array] = {}
        if self._config.disturbance.source == "learned":
            disturber_noise = _turn_noise(transition.disturber)
            price = 0.1 * carry.hyperparameters.attenuation
            disturber, moved = _move(
                carry.disturber, x, disturber_noise, _rows(advantages.disturber), mask,
                other_noise=actor_noise, step=disturber_step, min_curvature=price,
                ridge=self._config.critic.ridge,
            )  # fmt: skip
            metrics["disturber/gain_change"] = moved
        else:
            disturber = carry.disturber
        actor, moved = _move(
            carry.actor, x, actor_noise, _rows(advantages.actor), mask,
            other_noise=disturber_noise, step=actor_step, min_curvature=0.0,
            ridge=self._config.critic.ridge,
        )  # fmt: skip
        metrics["actor/gain_change"] = moved
        return carry._replace(actor=actor, disturber=disturber), metrics


def _move(
    player: PlayerState,
    x: Array,
    noise: Array,
    advantage: Array,
    mask: Array,
    *,
    step: float,
    min_curvature: Any,
    other_noise: Array | None,
    ridge: float,
) -> tuple[PlayerState, Array]:
    direction, curvature = gaussian_gain_step(
        x, noise, advantage, mask, other_noise=other_noise, ridge=ridge
    )
    kernel = player.params["mean"]["params"]["gain"]["kernel"]
    moved = gain_update(kernel.T, direction, curvature, step=step, min_curvature=min_curvature).T
    change = jnp.linalg.norm(moved - kernel) / (1.0 + jnp.linalg.norm(kernel))
    mean = {"params": {"gain": {"kernel": moved}}}
    return player._replace(params=player.params | {"mean": mean}), change


def _rows(x: Array) -> Array:
    """Flattens [T, E, ...] to [N, ...]."""
    return x.reshape((-1, *x.shape[2:]))


def _turn_noise(turn: Turn) -> Array:
    return _rows(turn.raw - turn.mean)


def _noise(config: HinfConfig, transition: Transition) -> Array:
    """Noise of all players that act, [T, E, k]."""
    noise = transition.actor.raw - transition.actor.mean
    if config.disturbance.source != "learned":
        return noise
    other = transition.disturber.raw - transition.disturber.mean
    return jnp.concatenate([noise, other], axis=-1)


def _mask(config: HinfConfig, transition: Transition, disturbed: Array) -> Array:
    """Samples of the game that is being solved: where there is a disturber, disturbed ones."""
    if config.disturbance.source != "learned":
        return transition.valid
    return transition.valid & jnp.broadcast_to(disturbed, transition.valid.shape)


__all__ = ["NewtonUpdate", "QuadraticCritic"]

"""The update of network players: epochs of minibatches, each player on its own gradient."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hinf_rl.agents.hinf.advantages import Advantages
from hinf_rl.agents.hinf.config import HinfConfig, PlayerConfig
from hinf_rl.agents.hinf.critic import NetworkCritic
from hinf_rl.agents.hinf.players import Player, PlayerState
from hinf_rl.agents.hinf.rollout import Carry, CriticState, Rollout, Transition, Turn
from hinf_rl.envs.api import Mirror
from hinf_rl.ops.distributions import normal_kl
from hinf_rl.ops.surrogate import clipped_surrogate, kl_step_size, masked_mean
from hinf_rl.partition import split, whole
from hinf_rl.types import Array, Metrics, Numeric, PyTree


class Batch(NamedTuple):
    """Samples of one iteration or minibatch, [N, ...]."""

    policy: Array
    privileged: Array
    actor: Turn
    disturber: Turn
    actor_advantage: Array
    disturber_advantage: Array
    returns: Array
    values: Array
    valid: Array
    is_disturbed: Array
    is_mirrored: Array


class Learners(NamedTuple):
    """What the minibatches change."""

    actor: PlayerState
    disturber: PlayerState
    critic: CriticState


class SurrogateUpdate:
    """Clipped-surrogate ascent of both players and regression of the critic.

    The players share data, never gradients: separate losses, optimisers, clips and step sizes.
    """

    def __init__(
        self,
        config: HinfConfig,
        rollout: Rollout,
        actor: Player,
        disturber: Player,
        critic: NetworkCritic,
        mirror: Mirror | None,
        *,
        train_actor: bool,
    ) -> None:
        self._config, self._rollout = config, rollout
        self._actor, self._disturber, self._critic = actor, disturber, critic
        self._mirror = mirror if config.symmetry == "augment" else None
        self._train_actor = train_actor
        self._train_disturber = config.disturbance.source == "learned"

    def __call__(
        self, carry: Carry, transition: Transition, advantages: Advantages
    ) -> tuple[Carry, Metrics]:
        """Runs all epochs; returns the new players and critic, and mean metrics."""
        # A sample meets others from all environments, so every device needs all samples: they
        # are gathered once. The work on a minibatch is shared.
        batch = whole(_flatten(transition, advantages))
        key_epochs, next_key = jax.random.split(carry.key)
        is_pushing = self._rollout.disturbance_bound(carry) > 0.0

        def epoch(learners: Learners, key: Array) -> tuple[Learners, Metrics]:
            key_order, key_steps = jax.random.split(key)
            order = jax.random.permutation(key_order, self._config.batch_size)
            order = split(order.reshape(self._config.num_minibatches, -1), axis=1)
            keys = jax.random.split(key_steps, self._config.num_minibatches)

            def minibatch(
                learners: Learners, slot: tuple[Array, Array]
            ) -> tuple[Learners, Metrics]:
                rows, key = slot
                part = jax.tree.map(lambda x: jnp.take(x, rows, axis=0), batch)
                return self._minibatch(carry, learners, part, key, is_pushing)

            return jax.lax.scan(minibatch, learners, (order, keys))

        start = Learners(carry.actor, carry.disturber, carry.critic)
        keys = jax.random.split(key_epochs, self._config.num_epochs)
        learners, metrics = jax.lax.scan(epoch, start, keys)
        reduced = {
            name: jnp.sum(value) if name.endswith("nonfinite_updates") else jnp.mean(value)
            for name, value in metrics.items()
        }
        carry = carry._replace(
            actor=learners.actor,
            disturber=learners.disturber,
            critic=learners.critic,
            key=next_key,
        )
        return carry, reduced

    def _minibatch(
        self, carry: Carry, learners: Learners, batch: Batch, key: Array, is_pushing: Array
    ) -> tuple[Learners, Metrics]:
        key_mirror, key_actor, key_disturber = jax.random.split(key, 3)
        if self._mirror is not None:
            batch = _mirror_half(batch, self._mirror, key_mirror)
        numbers = carry.hyperparameters
        policy_x = self._rollout.policy_input(carry, batch.policy)
        privileged_x = self._rollout.privileged_input(carry, batch.privileged)
        critic, critic_loss, skipped = self._fit_critic(
            learners.critic, privileged_x, batch, numbers.critic_learning_rate
        )
        metrics = {"train/value_loss": critic_loss, "train/nonfinite_updates": skipped}
        actor, disturber = learners.actor, learners.disturber
        if self._train_actor:
            actor, found = _improve(
                self._actor, self._actor.config, actor, batch.actor, policy_x,
                batch.actor_advantage, batch.valid, batch.is_mirrored, key_actor,
                numbers.clip_ratio, numbers.actor_entropy_cost,
            )  # fmt: skip
            metrics |= {f"actor/{name}": value for name, value in found.items()}
            metrics["train/nonfinite_updates"] += metrics.pop("actor/skipped")
        if self._train_disturber:
            x = privileged_x if self._config.disturbance.privileged else policy_x

            def learn(state: PlayerState) -> tuple[PlayerState, Metrics]:
                return _improve(
                    self._disturber, self._disturber.config, state, batch.disturber, x,
                    batch.disturber_advantage, batch.is_disturbed, batch.is_mirrored,
                    key_disturber, numbers.clip_ratio, numbers.disturber_entropy_cost,
                )  # fmt: skip

            shapes = jax.eval_shape(learn, disturber)[1]
            nothing = {name: jnp.zeros(x.shape, x.dtype) for name, x in shapes.items()}
            # Without force there is nothing to learn, only noise to follow.
            disturber, found = jax.lax.cond(
                is_pushing, learn, lambda state: (state, nothing), disturber
            )
            metrics |= {f"disturber/{name}": value for name, value in found.items()}
            metrics["train/nonfinite_updates"] += metrics.pop("disturber/skipped")
        return Learners(actor, disturber, critic), metrics

    def _fit_critic(
        self, state: CriticState, x: Array, batch: Batch, learning_rate: Array
    ) -> tuple[CriticState, Array, Array]:
        loss, gradient = jax.value_and_grad(self._critic.loss)(
            state.params, x, batch.values, batch.returns, batch.valid
        )
        stepped = self._critic.apply_gradient(state, gradient, learning_rate)
        is_finite = _all_finite((loss, gradient, stepped.params))
        skipped = 1.0 - is_finite.astype(jnp.float32)
        return _choose(is_finite, stepped, state), jnp.where(is_finite, loss, 0.0), skipped


def _improve(
    player: Player,
    settings: PlayerConfig,
    state: PlayerState,
    turn: Turn,
    x: Array,
    advantage: Array,
    mask: Array,
    is_mirrored: Array,
    key: Array,
    clip_ratio: Numeric,
    entropy_cost: Numeric,
) -> tuple[PlayerState, Metrics]:
    """One gradient step of one player; the other's parameters are nowhere in sight."""

    def objective(params: PyTree) -> tuple[Array, dict[str, Array]]:
        log_prob, mean, log_std = player.log_prob(params, x, turn.raw)
        surrogate = clipped_surrogate(log_prob, turn.log_prob, advantage, clip_ratio=clip_ratio)
        entropy = masked_mean(player.entropy(key, mean, log_std), mask)
        loss = masked_mean(surrogate, mask) - entropy_cost * entropy
        return loss, {"mean": mean, "log_std": log_std, "entropy": entropy}

    (loss, found), gradient = jax.value_and_grad(objective, has_aux=True)(state.params)
    # How far the player has moved in this iteration, on samples that it really drew.
    kl = masked_mean(
        normal_kl(turn.mean, turn.log_std, found["mean"], found["log_std"]), mask & ~is_mirrored
    )
    if settings.desired_kl is not None:
        rate = kl_step_size(
            state.learning_rate,
            kl,
            desired_kl=settings.desired_kl,
            bounds=settings.learning_rate_range,
        )
        rate = jnp.where(jnp.isfinite(kl), rate, state.learning_rate)
        state = state._replace(learning_rate=rate)
    stepped = player.apply_gradient(state, gradient)
    # A finite gradient can still overflow the parameters.
    is_finite = _all_finite((loss, gradient, stepped.params))
    state = _choose(is_finite, stepped, state)
    safe = jnp.where(is_finite, jnp.float32(1), jnp.float32(0))
    metrics = {
        "loss": jnp.where(is_finite, loss, 0.0),
        "entropy": jnp.where(is_finite, found["entropy"], 0.0),
        "kl": jnp.where(jnp.isfinite(kl), kl, 0.0),
        "learning_rate": state.learning_rate,
        "std": jnp.mean(jnp.exp(state.params["log_std"])),
        "skipped": 1.0 - safe,
    }
    return state, metrics


def _flatten(transition: Transition, advantages: Advantages) -> Batch:
    batch = Batch(
        policy=transition.observation["policy"],
        privileged=transition.observation["privileged"],
        actor=transition.actor,
        disturber=transition.disturber,
        actor_advantage=advantages.actor,
        disturber_advantage=advantages.disturber,
        returns=advantages.returns,
        values=advantages.values,
        valid=transition.valid,
        is_disturbed=advantages.is_disturbed,
        is_mirrored=jnp.zeros(transition.valid.shape, bool),
    )
    # The size is written out: -1 cannot be inferred for a disturbance of size 0.
    size = transition.valid.size
    return jax.tree.map(lambda x: x.reshape((size, *x.shape[2:])), batch)


def _mirror_half(batch: Batch, mirror: Mirror, key: Array) -> Batch:
    """Reflects a random half of the samples; their advantages and values stay."""
    flip = jax.random.bernoulli(key, 0.5, batch.valid.shape)

    def reflect(x: Array, signed: tuple[tuple[int, ...], tuple[float, ...]]) -> Array:
        permutation, sign = np.asarray(signed[0], np.int32), np.asarray(signed[1], np.float32)
        return jnp.where(flip[:, None], x[:, permutation] * sign[None], x)

    def reflect_turn(turn: Turn, signed: tuple[tuple[int, ...], tuple[float, ...]]) -> Turn:
        return turn._replace(raw=reflect(turn.raw, signed), mean=reflect(turn.mean, signed))

    return batch._replace(
        policy=reflect(batch.policy, mirror.policy),
        privileged=reflect(batch.privileged, mirror.privileged),
        actor=reflect_turn(batch.actor, mirror.action),
        disturber=reflect_turn(batch.disturber, mirror.disturbance),
        is_mirrored=flip,
    )


def _all_finite(tree: PyTree) -> Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def _choose(condition: Array, first: PyTree, second: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), first, second)


__all__ = ["SurrogateUpdate"]

"""One rollout with both players, and the carry that it advances."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from hinf_rl.agents.hinf.config import HinfConfig, Hyperparameters
from hinf_rl.agents.hinf.players import GaussianPolicy, Player, PlayerState
from hinf_rl.envs.batch import BatchEnv, BatchState
from hinf_rl.ops.distributions import held_force_sample
from hinf_rl.ops.hinf import disturbance_intensity, force_schedule, radial_clip
from hinf_rl.ops.normalize import NormalizerState, normalizer_apply
from hinf_rl.types import Array, PyTree


class CriticState(NamedTuple):
    """Value heads: network parameters with their optimiser, or quadratic weights [F, H]."""

    params: PyTree
    optimizer: PyTree


class HeldForce(NamedTuple):
    """The disturbance of each environment where it outlasts a step: random, or a decision."""

    sample: Array  # [E, D] in units of the bound, before clipping
    remaining: Array  # [E] int32 steps that it is still held


class Carry(NamedTuple):
    """Everything that training carries from one iteration to the next.

    Attributes:
      actor, disturber: the players.
      critic: the value heads.
      policy_normalizer, privileged_normalizer: statistics of the two observations.
      multiplier: [] lambda.
      nominal_cost: [] running mean of the undisturbed environments' cost, relative to the scale.
      env: the environments.
      held: disturbances that outlast a step.
      last_episodes: [3] return, task share and length of the episodes that ended last.
      hyperparameters: the run's numbers.
      iteration: [] int32 iterations done.
      key: PRNG key.
    """

    actor: PlayerState
    disturber: PlayerState
    critic: CriticState
    policy_normalizer: NormalizerState
    privileged_normalizer: NormalizerState
    multiplier: Array
    nominal_cost: Array
    env: BatchState
    held: HeldForce
    last_episodes: Array
    hyperparameters: Hyperparameters
    iteration: Array
    key: Array


class Turn(NamedTuple):
    """One player's part of a transition."""

    raw: Array  # [T, E, A] sample before squashing and clipping
    log_prob: Array  # [T, E] of the raw sample, never of the clipped one
    mean: Array  # [T, E, A]
    log_std: Array  # [T, E, A]


class Transition(NamedTuple):
    """A rollout, time-major.

    `observation` is what both players saw before acting; `final_observation` the true
    observation after the step, before any reset.
    """

    observation: dict[str, Array]  # [T, E, ...]
    final_observation: Array  # [T, E, P] privileged
    actor: Turn
    disturber: Turn
    reward: Array  # [T, E]
    task_reward: Array  # [T, E]
    intensity: Array  # [T, E] of the executed disturbance
    asked_intensity: Array  # [T, E] of what was asked for, before the clip: the disturber's bill
    terminated: Array  # [T, E] bool
    truncated: Array  # [T, E] bool
    valid: Array  # [T, E] bool
    is_decision: Array  # [T, E] bool, the disturber chose a new force; else it holds the last


class Statistics(NamedTuple):
    """What the rollout says about the episodes that ended in it, and about each step."""

    episodes: Array  # [4] sums over ended episodes: return, task share, length, count
    metrics: dict[str, Array]  # [] means over all steps


class Rollout:
    """Collects one iteration's transitions.

    Args:
      config: the algorithm's settings.
      env: the batch of environments.
      actor, disturber: the players' functions.
      frozen_actor: a trained policy that acts (by its mean) instead of the actor: used to
        train an attacker against it.
    """

    def __init__(
        self,
        config: HinfConfig,
        env: BatchEnv,
        actor: Player,
        disturber: Player,
        frozen_actor: GaussianPolicy | None,
    ) -> None:
        self._config, self._env = config, env
        self._actor, self._disturber = actor, disturber
        self._frozen_actor = frozen_actor
        # First those that nobody pushes, so that their cost is the baseline; then those that
        # random forces push; the rest is the disturber's.
        index = jnp.arange(config.num_envs)
        self.undisturbed = index < config.num_undisturbed
        self._is_random = ~self.undisturbed & (index < config.num_undisturbed + config.num_random)
        self.disturbed = ~self.undisturbed
        if config.disturbance.source == "learned":
            self.disturbed &= ~self._is_random
        self._decision_steps = config.disturbance.decision_steps(env.spec.dt_s)

    def init_held(self) -> HeldForce:
        """No force yet; the first step draws one."""
        envs, size = self._config.num_envs, self._env.spec.disturbance.size
        return HeldForce(jnp.zeros((envs, size), jnp.float32), jnp.zeros((envs,), jnp.int32))

    def disturbance_bound(self, carry: Carry) -> Array:
        """[] the bound on the disturbance in this iteration, after warm-up and ramp."""
        settings = self._config.disturbance
        progress = carry.iteration.astype(jnp.float32) / self._config.iterations
        return force_schedule(
            progress,
            warmup=settings.warmup_fraction,
            ramp=settings.ramp_fraction,
            limit=carry.hyperparameters.disturbance_limit,
        )

    def collect(self, carry: Carry) -> tuple[Carry, Transition, Statistics]:
        """Takes `unroll_length` steps in every environment."""
        bound = self.disturbance_bound(carry)
        key_steps, next_key = jax.random.split(carry.key)

        def body(
            state: tuple[BatchState, HeldForce], key: Array
        ) -> tuple[tuple[BatchState, HeldForce], tuple[Transition, Array, dict[str, Array]]]:
            return self._step(carry, bound, state, key)

        keys = jax.random.split(key_steps, self._config.unroll_length)
        (env, held), (transition, episodes, metrics) = jax.lax.scan(
            body, (carry.env, carry.held), keys
        )
        statistics = Statistics(
            jnp.sum(episodes, axis=0), jax.tree.map(lambda x: jnp.mean(x, axis=0), metrics)
        )
        return carry._replace(env=env, held=held, key=next_key), transition, statistics

    def policy_input(self, carry: Carry, observation: Array) -> Array:
        """Normalises what the actor sees."""
        if not self._config.normalize_observations:
            return observation
        return normalizer_apply(carry.policy_normalizer, observation)

    def privileged_input(self, carry: Carry, observation: Array) -> Array:
        """Normalises what the critic sees."""
        if not self._config.normalize_observations:
            return observation
        return normalizer_apply(carry.privileged_normalizer, observation)

    def disturber_input(self, carry: Carry, observation: dict[str, Array]) -> Array:
        """What the disturber sees: the actor's observation, or the critic's."""
        if self._config.disturbance.privileged:
            return self.privileged_input(carry, observation["privileged"])
        return self.policy_input(carry, observation["policy"])

    def _step(
        self, carry: Carry, bound: Array, state: tuple[BatchState, HeldForce], key: Array
    ) -> tuple[tuple[BatchState, HeldForce], tuple[Transition, Array, dict[str, Array]]]:
        env, held = state
        key_actor, key_disturber, key_held = jax.random.split(key, 3)
        observation = env.env.observation
        actor_turn, action = self._act(carry, observation, key_actor)
        disturber_turn, sample = self._disturb(carry, observation, key_disturber)
        is_decision = held.remaining <= 0
        held = self._hold(held, sample, key_held)
        sample = held.sample
        disturbance = self._execute(sample, bound)
        next_env, step = self._env.step(env, action, disturbance)
        reference = carry.hyperparameters.disturbance_limit if self.is_bounded else 1.0
        power = self._config.constraint.intensity_power
        transition = Transition(
            observation=observation,
            final_observation=step.observation["privileged"],
            actor=actor_turn,
            disturber=disturber_turn,
            reward=step.reward,
            task_reward=step.task_reward,
            intensity=disturbance_intensity(disturbance, reference, power),
            asked_intensity=disturbance_intensity(self._ask(sample, bound), reference, power),
            terminated=step.terminated,
            truncated=step.truncated,
            valid=step.valid,
            is_decision=is_decision,
        )
        # Players that were shown NaN answered with it: such a step is invalid, and a mask does
        # not stop NaN.
        transition = jax.tree.map(_finite_or_zero, transition)
        # A new episode begins with a new force.
        held = held._replace(remaining=jnp.where(step.done, jnp.int32(0), held.remaining))
        done = step.done & step.valid
        length = step.episode_length.astype(jnp.float32)
        share = step.episode_task_return / (length * self._env.spec.task_reward_scale)
        ended = jnp.stack([step.episode_return, share, length, jnp.ones_like(length)], axis=-1)
        episodes = jnp.sum(jnp.where(done[:, None], ended, 0.0), axis=0)
        return (next_env, held), (transition, episodes, jax.tree.map(jnp.mean, step.metrics))

    @property
    def is_bounded(self) -> bool:
        """Whether the disturbance has a bound, and so is executed in units of it."""
        limit = self._config.disturbance.limit
        return (self._env.spec.disturbance.limit if limit is None else limit) < float("inf")

    def _act(self, carry: Carry, observation: dict[str, Array], key: Array) -> tuple[Turn, Array]:
        if self._frozen_actor is not None:
            action = self._frozen_actor(observation)
            return _no_turn(action), action
        x = self.policy_input(carry, observation["policy"])
        turn = Turn(*self._actor.sample(key, carry.actor.params, x))
        return turn, self._actor.action(turn.raw)

    def _disturb(
        self, carry: Carry, observation: dict[str, Array], key: Array
    ) -> tuple[Turn, Array]:
        if self._config.disturbance.source != "learned":
            shape = (self._config.num_envs, self._env.spec.disturbance.size)
            nothing = jnp.zeros(shape, jnp.float32)
            return _no_turn(nothing), nothing
        x = self.disturber_input(carry, observation)
        turn = Turn(*self._disturber.sample(key, carry.disturber.params, x))
        return turn, turn.raw

    def _execute(self, sample: Array, bound: Array) -> Array:
        """The executed disturbance: clipped and scaled; the stored sample stays as drawn."""
        return self._ask(radial_clip(sample, 1.0) if self.is_bounded else sample, bound)

    def _ask(self, sample: Array, bound: Array) -> Array:
        """The disturbance that a sample asks for, however long it is."""
        scaled = bound * sample if self.is_bounded else sample
        # The warm-up holds for disturbances without bound, too.
        is_pushed = ~self.undisturbed[:, None] & (bound > 0.0)
        return jnp.where(is_pushed, scaled, 0.0)

    def _hold(self, held: HeldForce, sample: Array, key: Array) -> HeldForce:
        """Takes a new force where the old one's time is over; one step of it is used.

        Args:
          held: the forces so far.
          sample: [E, D] the disturber's.
          key: of the random ones.
        """
        duration = jnp.full(held.remaining.shape, self._decision_steps, jnp.int32)
        if self._config.num_random:
            random, random_duration = self._draw(key)
            sample = jnp.where(self._is_random[:, None], random, sample)
            duration = jnp.where(self._is_random, random_duration, duration)
        is_over = held.remaining <= 0
        return HeldForce(
            sample=jnp.where(is_over[:, None], sample, held.sample),
            remaining=jnp.where(is_over, duration, held.remaining) - jnp.int32(1),
        )

    def _draw(self, key: Array) -> tuple[Array, Array]:
        """Random forces [E, D] in units of the bound, and their steps [E]."""
        dt_s, (low_s, high_s) = self._env.spec.dt_s, self._config.disturbance.hold_s
        return held_force_sample(
            key,
            (self._config.num_envs,),
            self._env.spec.disturbance.size,
            hold_steps=(max(1, round(low_s / dt_s)), max(1, round(high_s / dt_s))),
        )


def _finite_or_zero(x: Array) -> Array:
    return jnp.where(jnp.isfinite(x), x, jnp.zeros_like(x)) if x.dtype == jnp.float32 else x


def _no_turn(action: Array) -> Turn:
    """The turn of a player that does not learn."""
    return Turn(action, jnp.zeros(action.shape[0], jnp.float32), action, jnp.zeros_like(action))


__all__ = [
    "Carry",
    "CriticState",
    "HeldForce",
    "Rollout",
    "Statistics",
    "Transition",
    "Turn",
]

"""Actor, disturber and multiplier as one pure `init`/`step` pair."""

import jax
import jax.numpy as jnp

from hinf_rl.agents.api import Algorithm
from hinf_rl.agents.hinf import advantages
from hinf_rl.agents.hinf.config import HinfConfig, Hyperparameters, hyperparameters
from hinf_rl.agents.hinf.critic import Heads, NetworkCritic
from hinf_rl.agents.hinf.newton import NewtonUpdate, QuadraticCritic
from hinf_rl.agents.hinf.players import GaussianPolicy, Player
from hinf_rl.agents.hinf.rollout import Carry, Rollout, Statistics, Transition
from hinf_rl.agents.hinf.surrogate import SurrogateUpdate
from hinf_rl.envs.api import Env
from hinf_rl.envs.batch import BatchEnv
from hinf_rl.errors import UserError
from hinf_rl.ops.normalize import normalizer_init, normalizer_update
from hinf_rl.ops.surrogate import masked_mean
from hinf_rl.types import Array, Metrics


def make(config: HinfConfig, env: Env, *, frozen_actor: GaussianPolicy | None = None) -> Algorithm:
    """Builds the algorithm for one environment.

    One iteration rolls both players out, estimates two-head advantages, and updates actor,
    then disturber, then multiplier. Source: H-infinity locomotion paper, framework figure;
    update order as reported for its equation 12.

    Args:
      config: the settings; each baseline is one of their values.
      env: an environment of one instance.
      frozen_actor: train only the disturber, against this policy's mean action.

    Raises:
      UserError: the settings ask of the environment what it does not have.
    """
    return _Builder(config, env, frozen_actor).algorithm()


class _Builder:
    def __init__(self, config: HinfConfig, env: Env, frozen_actor: GaussianPolicy | None) -> None:
        spec = env.spec
        _check(config, env)
        self._config, self._spec = config, spec
        self._env = BatchEnv(env, config.num_envs)
        self._heads = Heads(config, is_attack=frozen_actor is not None)
        self._actor = Player(config.actor, input_size=spec.policy_size, size=spec.action_size)
        sees = spec.privileged_size if config.disturbance.privileged else spec.policy_size
        self._disturber = Player(
            config.disturbance.player, input_size=sees, size=max(1, spec.disturbance.size)
        )
        self._rollout = Rollout(config, self._env, self._actor, self._disturber, frozen_actor)
        if config.critic.kind == "quadratic":
            self._critic = QuadraticCritic(
                config,
                self._heads,
                input_size=spec.privileged_size,
                disturbed=self._rollout.disturbed,
            )
            self._update = NewtonUpdate(config, self._rollout.disturbed)
        else:
            self._critic = NetworkCritic(
                config, input_size=spec.privileged_size, num_heads=len(self._heads.names)
            )
            self._update = SurrogateUpdate(
                config,
                self._rollout,
                self._actor,
                self._disturber,
                self._critic,
                spec.mirror,
                train_actor=frozen_actor is None,
            )

    def algorithm(self) -> Algorithm:
        return Algorithm(
            init=self.init,
            step=self.step,
            policy=self.policy,
            disturber=self.disturber,
            config=self._config,
            env_steps_per_iteration=self._config.batch_size,
            environment_fields=("env", "held"),
        )

    def init(self, key: Array, numbers: Hyperparameters | None = None) -> Carry:
        """Starts training from `key`; `numbers` overrides the configuration's."""
        if numbers is None:
            numbers = hyperparameters(self._config, default_limit=self._spec.disturbance.limit)
        key_actor, key_disturber, key_critic, key_env, next_key = jax.random.split(key, 5)
        carry = Carry(
            actor=self._actor.init(key_actor, numbers.actor_learning_rate),
            disturber=self._disturber.init(key_disturber, numbers.disturber_learning_rate),
            critic=self._critic.init(key_critic),
            policy_normalizer=normalizer_init(self._spec.policy_size),
            privileged_normalizer=normalizer_init(self._spec.privileged_size),
            multiplier=numbers.multiplier_init,
            nominal_cost=jnp.zeros((), jnp.float32),
            env=self._env.reset(key_env, stagger=self._config.stagger_episodes),
            held=self._rollout.init_held(),
            last_episodes=jnp.zeros(3, jnp.float32),
            hyperparameters=numbers,
            iteration=jnp.zeros((), jnp.int32),
            key=next_key,
        )
        # Leaves that start equal must not share a buffer: the carry is donated.
        return jax.tree.map(jnp.copy, carry)

    def step(self, carry: Carry) -> tuple[Carry, Metrics]:
        """One iteration: rollout, advantages, both players, multiplier."""
        carry, transition, statistics = self._rollout.collect(carry)
        if isinstance(self._critic, QuadraticCritic):
            carry = carry._replace(critic=self._critic.fit(carry, transition))
        values, final_values = self._values(carry, transition)
        estimated = advantages.estimate(
            self._config, self._spec, self._heads, carry, transition, values, final_values,
            self._rollout.disturbed,
        )  # fmt: skip
        carry, update_metrics = self._update(carry, transition, estimated)
        carry, dual_metrics = advantages.dual_step(
            self._config, self._spec, carry, transition,
            self._rollout.disturbed, self._rollout.undisturbed,
        )  # fmt: skip
        carry = self._observe(carry, transition)
        carry, rollout_metrics = self._report(carry, transition, statistics)
        metrics = rollout_metrics | update_metrics | dual_metrics
        carry = carry._replace(iteration=carry.iteration + jnp.int32(1))
        return carry, {name: jnp.asarray(metrics[name], jnp.float32) for name in sorted(metrics)}

    def policy(self, carry: Carry) -> GaussianPolicy:
        """The actor."""
        normalizer = carry.policy_normalizer if self._config.normalize_observations else None
        return GaussianPolicy(carry.actor.params, normalizer, None, self._actor, "policy")

    def disturber(self, carry: Carry) -> GaussianPolicy:
        """The disturber at its full bound, in the disturbance's unit."""
        privileged = self._config.disturbance.privileged
        normalizer = carry.privileged_normalizer if privileged else carry.policy_normalizer
        return GaussianPolicy(
            params=carry.disturber.params,
            normalizer=normalizer if self._config.normalize_observations else None,
            bound=carry.hyperparameters.disturbance_limit if self._rollout.is_bounded else None,
            player=self._disturber,
            observation_key="privileged" if privileged else "policy",
        )

    def _values(self, carry: Carry, transition: Transition) -> tuple[Array, Array]:
        """Values at each observation and at the true one that followed, [T, E, H] each."""

        def values(observation: Array) -> Array:
            x = self._rollout.privileged_input(carry, observation)
            return self._critic.values(carry.critic.params, x)

        return values(transition.observation["privileged"]), values(transition.final_observation)

    def _observe(self, carry: Carry, transition: Transition) -> Carry:
        """Updates the input statistics, after the players were updated with those they acted on."""
        if not self._config.normalize_observations:
            return carry
        seen, valid = transition.observation, transition.valid
        return carry._replace(
            policy_normalizer=normalizer_update(carry.policy_normalizer, seen["policy"], valid),
            privileged_normalizer=normalizer_update(
                carry.privileged_normalizer, seen["privileged"], valid
            ),
        )

    def _report(
        self, carry: Carry, transition: Transition, statistics: Statistics
    ) -> tuple[Carry, Metrics]:
        count = statistics.episodes[3]
        ended = statistics.episodes[:3] / jnp.maximum(count, 1.0)
        last = jnp.where(count > 0, ended, carry.last_episodes)
        falls = transition.terminated.astype(jnp.float32)
        metrics = {f"env/{name}": value for name, value in statistics.metrics.items()}
        metrics |= {
            "episode/return": last[0],
            "episode/task_share": last[1],
            "episode/length": last[2],
            "env/task_share": jnp.mean(transition.task_reward) / self._spec.task_reward_scale,
            "env/reward": jnp.mean(transition.reward),
            "env/falls_per_1000_steps": 1000.0 * jnp.mean(falls),
            "env/nonfinite_steps": jnp.sum(~transition.valid).astype(jnp.float32),
        }
        if self._rollout.is_bounded:
            clipped = jnp.sum(transition.disturber.raw**2, axis=-1) >= 1.0
            metrics["disturber/saturation"] = masked_mean(
                clipped.astype(jnp.float32), transition.is_decision
            )
            metrics["disturber/bound"] = self._rollout.disturbance_bound(carry)
        return carry._replace(last_episodes=last), metrics


def _check(config: HinfConfig, env: Env) -> None:
    spec = env.spec
    if config.disturbance.source != "none" and spec.disturbance.size == 0:
        raise UserError(
            f"task {spec.name!r} takes no disturbance: use disturbance.source = 'none' or wrap "
            "it in ActionDisturbanceWrapper"
        )
    if config.symmetry == "augment" and spec.mirror is None:
        raise UserError(f"task {spec.name!r} defines no mirror symmetry: use symmetry = 'none'")
    limit = spec.disturbance.limit if config.disturbance.limit is None else config.disturbance.limit
    if config.disturbance.source == "random" and limit == float("inf"):
        raise UserError(
            f"task {spec.name!r} bounds no disturbance: random ones need disturbance.limit"
        )


__all__ = ["make"]

"""PPO on gymnax's cart-pole as one jitted function from a key to a trained policy.

The idea is PureJaxRL's (Lu et al., 2022): no loop outside, rollout and epochs inside one `scan`,
so that training vectorises over seeds. Written anew, with the published settings of its cart-pole
but for the step size, which stays constant. Categorical policy, no bootstrap at time-outs.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from hinf_rl.networks import MLP

ENVIRONMENT = "CartPole-v1"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of one training."""

    num_envs: int = 4
    unroll_length: int = 128
    num_epochs: int = 4
    num_minibatches: int = 4
    hidden: tuple[int, ...] = (64, 64)
    learning_rate: float = 2.5e-4
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip_ratio: float = 0.2
    entropy_cost: float = 0.01
    value_weight: float = 0.5
    max_grad_norm: float = 0.5
    updates: int = 976

    @property
    def steps(self) -> int:
        """Environment steps of one seed."""
        return self.num_envs * self.unroll_length * self.updates


class Transition(NamedTuple):
    """One step of all environments, [E, ...]."""

    observation: jax.Array
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    reward: jax.Array
    done: jax.Array


class Playing(NamedTuple):
    """The environments between two steps."""

    state: Any
    observation: jax.Array  # [E, O]
    running: jax.Array  # [E] return of the episode so far


class Trained(NamedTuple):
    """What training one seed leaves."""

    actor: Any
    returns: jax.Array  # [U] mean return of the episodes that ended in each update, nan for none


def networks(settings: Settings, num_actions: int) -> tuple[MLP, MLP]:
    """Scores of the actions, and the value; nothing is shared."""
    actor = MLP(hidden=settings.hidden, size=num_actions, activation="tanh", final_scale=0.01)
    return actor, MLP(hidden=settings.hidden, size=1, activation="tanh")


def make_train(settings: Settings) -> Callable[[jax.Array], Trained]:
    """Returns the function that trains one seed from a key."""
    # Only here: the mathematics below needs no environment.
    import gymnax

    env, params = gymnax.make(ENVIRONMENT)
    actor, critic = networks(settings, env.num_actions)
    optimizer = optax.chain(
        optax.clip_by_global_norm(settings.max_grad_norm),
        optax.adam(settings.learning_rate, eps=1e-5),
    )

    def evaluate(nets: Any, observation: jax.Array) -> tuple[jax.Array, jax.Array]:
        scores = jax.nn.log_softmax(actor.apply(nets["actor"], observation))
        return scores, critic.apply(nets["critic"], observation)[..., 0]

    def env_step(nets: Any, playing: Playing, key: jax.Array) -> tuple[Playing, Any]:
        key_action, key_env = jax.random.split(key)
        scores, value = evaluate(nets, playing.observation)
        action = jax.random.categorical(key_action, scores)
        observation, state, reward, terminated, truncated, _ = jax.vmap(
            env.step, in_axes=(0, 0, 0, None)
        )(jax.random.split(key_env, settings.num_envs), playing.state, action, params)
        done = terminated | truncated
        running = playing.running + reward
        ended = jnp.stack([jnp.sum(running * done), jnp.sum(done)])
        transition = Transition(
            playing.observation, action, _chosen(scores, action), value, reward, done
        )
        return Playing(state, observation, jnp.where(done, 0.0, running)), (transition, ended)

    def loss(nets: Any, part: tuple[Transition, jax.Array, jax.Array]) -> jax.Array:
        rollout, advantage, target = part
        scores, value = evaluate(nets, rollout.observation)
        gain = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        ratio = jnp.exp(_chosen(scores, rollout.action) - rollout.log_prob)
        clipped = jnp.clip(ratio, 1.0 - settings.clip_ratio, 1.0 + settings.clip_ratio)
        policy_loss = -jnp.minimum(ratio * gain, clipped * gain).mean()
        near = rollout.value + jnp.clip(
            value - rollout.value, -settings.clip_ratio, settings.clip_ratio
        )
        value_loss = 0.5 * jnp.maximum((value - target) ** 2, (near - target) ** 2).mean()
        entropy = -jnp.sum(jnp.exp(scores) * scores, axis=-1).mean()
        return policy_loss + settings.value_weight * value_loss - settings.entropy_cost * entropy

    def minibatch(learner: Any, part: Any) -> tuple[Any, None]:
        nets, moments = learner
        updates, moments = optimizer.update(jax.grad(loss)(nets, part), moments, nets)
        return (optax.apply_updates(nets, updates), moments), None

    def epoch(learner: Any, key: jax.Array, batch: Any) -> tuple[Any, None]:
        order = jax.random.permutation(key, settings.num_envs * settings.unroll_length)
        parts = jax.tree.map(
            lambda x: x[order].reshape(settings.num_minibatches, -1, *x.shape[1:]), batch
        )
        return jax.lax.scan(minibatch, learner, parts)

    def update(carry: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        learner, playing = carry
        key_rollout, key_epochs = jax.random.split(key)
        playing, (rollout, ended) = jax.lax.scan(
            lambda playing, key: env_step(learner[0], playing, key),
            playing,
            jax.random.split(key_rollout, settings.unroll_length),
        )
        last = evaluate(learner[0], playing.observation)[1]
        advantage = _advantages(settings, rollout, last)
        batch = jax.tree.map(
            lambda x: x.reshape(-1, *x.shape[2:]), (rollout, advantage, advantage + rollout.value)
        )
        learner, _ = jax.lax.scan(
            lambda learner, key: epoch(learner, key, batch),
            learner,
            jax.random.split(key_epochs, settings.num_epochs),
        )
        total, count = ended.sum(axis=0)
        return (learner, playing), total / count

    def train(key: jax.Array) -> Trained:
        key_actor, key_critic, key_reset, key_updates = jax.random.split(key, 4)
        observation, state = jax.vmap(env.reset, in_axes=(0, None))(
            jax.random.split(key_reset, settings.num_envs), params
        )
        nets = {
            "actor": actor.init(key_actor, observation),
            "critic": critic.init(key_critic, observation),
        }
        start = Playing(state, observation, jnp.zeros(settings.num_envs))
        (learner, _), returns = jax.lax.scan(
            update,
            ((nets, optimizer.init(nets)), start),
            jax.random.split(key_updates, settings.updates),
        )
        return Trained(learner[0]["actor"], returns)

    return train


def _chosen(scores: jax.Array, action: jax.Array) -> jax.Array:
    return jnp.take_along_axis(scores, action[..., None], axis=-1)[..., 0]


def _advantages(settings: Settings, rollout: Transition, last: jax.Array) -> jax.Array:
    """Generalised advantage estimates [T, E]; every end of an episode counts as a failure."""

    def body(carry: tuple[jax.Array, jax.Array], step: Transition) -> Any:
        advantage, next_value = carry
        goes_on = 1.0 - step.done
        error = step.reward + settings.gamma * next_value * goes_on - step.value
        advantage = error + settings.gamma * settings.gae_lambda * goes_on * advantage
        return (advantage, step.value), advantage

    return jax.lax.scan(body, (jnp.zeros_like(last), last), rollout, reverse=True)[1]

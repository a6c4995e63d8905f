"""Action-chunk diffusion policies on our environments: cloned from a controller, then fine-tuned.

Like `hinf_rl.tasks` this knows environments and diffusion both.
"""

import dataclasses
from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from hinf_rl.diffusion.model import DiffusionModel, Frozen, sample_chain
from hinf_rl.diffusion.pretrain import Apply, PretrainConfig, pretrain
from hinf_rl.diffusion.problem import Decisions, Problem, Trajectories, chain_decisions
from hinf_rl.diffusion.schedule import ScheduleConfig, make_schedule, training_schedule
from hinf_rl.envs.api import Env, State
from hinf_rl.envs.chunks import ChunkWrapper
from hinf_rl.envs.classic import CartPole
from hinf_rl.errors import UserError
from hinf_rl.networks.denoiser import MLPDenoiser
from hinf_rl.ops.hinf import radial_clip
from hinf_rl.ops.riccati import lqr_gain
from hinf_rl.types import Array, PyTree

Controller = Callable[[Array], Array]
"""`controller(observation [O]) -> action [A]`, both of the policy."""

_KEY_WORDS = 2  # of a threefry key


@dataclasses.dataclass(frozen=True, kw_only=True)
class ControlConfig:
    """An action-chunk diffusion policy and its episodes.

    Attributes:
      chunk_length: actions that are planned and executed at a time.
      chunks: chunks of a training episode.
      force: bound of the random forces in training, relative to the environment's; 0 for none.
      hold_chunks: chunks for which a force is held.
      demos: demonstrated episodes.
      demo_noise: deviation of the noise on demonstrated actions.
      hidden: widths of the denoiser.
      schedule, pretrain: see there.
    """

    chunk_length: int = 5
    chunks: int = 20
    force: float = 0.0
    hold_chunks: int = 5
    demos: int = 256
    demo_noise: float = 0.3
    hidden: tuple[int, ...] = (64, 64, 64)
    schedule: ScheduleConfig = dataclasses.field(default_factory=lambda: ScheduleConfig(steps=5))
    pretrain: PretrainConfig = dataclasses.field(
        default_factory=lambda: PretrainConfig(batch=256, learning_rate=1e-3)
    )

    def __post_init__(self) -> None:
        for name in ("chunk_length", "chunks", "hold_chunks", "demos"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("force", "demo_noise"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must not be negative, got {getattr(self, name)}")


def make_control(config: ControlConfig, env: Env, controller: Controller) -> Problem:
    """Builds the problem of cloning `controller` on `env` and earning more task reward.

    A context is the key of an episode: its start, its randomised physics and its forces follow
    from it. So trajectories of one context share everything but the policy's own noise, as
    comparing them demands. The reward is the mean task reward over the episode, 0 after a fall.

    Args:
      config: the settings.
      env: of one instance.
      controller: what demonstrates.

    Raises:
      UserError: forces are asked for and the environment takes none, or bounds none.
    """
    limit = config.force * env.spec.disturbance.limit if config.force else 0.0
    if config.force and not (env.spec.disturbance.size and np.isfinite(limit)):
        raise UserError(
            f"force = {config.force} needs a bounded disturbance, which {env.spec.name!r} lacks"
        )
    chunked = ChunkWrapper(env, config.chunk_length)
    size = chunked.spec.action_size
    network = MLPDenoiser(size=size, hidden=config.hidden)
    apply = cast(Apply, network.apply)
    model = DiffusionModel(apply, make_schedule(config.schedule), size=size)
    reset, step = jax.vmap(chunked.reset), jax.vmap(chunked.step)

    def draw_contexts(key: Array, count: int) -> Array:
        return jax.random.key_data(jax.random.split(key, count))

    def start(context: Array) -> tuple[State, Array]:
        """First states, and [chunks, M, D] forces."""
        keys = jax.vmap(jax.random.split)(jax.random.wrap_key_data(context))
        holds = -(-config.chunks // config.hold_chunks)
        shape = (holds, max(1, env.spec.disturbance.size))
        raw = jax.vmap(lambda key: jax.random.uniform(key, shape, jnp.float32, -1.0, 1.0))(
            keys[:, 1]
        )
        force = jnp.repeat(limit * radial_clip(raw, 1.0), config.hold_chunks, axis=1)
        return reset(keys[:, 0]), jnp.swapaxes(force, 0, 1)[: config.chunks]

    def rollout(
        key: Array, params: PyTree, context: Array, frozen: Frozen | None = None
    ) -> Trajectories:
        state, force = start(context)

        def one_chunk(
            carry: tuple[State, Array], scanned: tuple[Array, Array]
        ) -> tuple[tuple[State, Array], tuple[Decisions, Array, Array]]:
            state, alive = carry
            key, force = scanned
            seen = state.observation["policy"]
            chain = sample_chain(key, model, params, seen, frozen=frozen)
            decisions = chain_decisions(chain.path, seen)
            valid = jnp.broadcast_to(alive[:, None], decisions.step.shape)
            stepped = step(state, chain.sample, force if config.force else None)
            reward = jnp.where(alive, stepped.task_reward, 0.0) / config.chunks
            state = jax.tree.map(
                lambda new, old: jnp.where(_like(alive, new), new, old), stepped, state
            )
            alive = alive & ~stepped.terminated
            return (state, alive), (decisions._replace(valid=valid), reward, alive)

        keys = jax.random.split(key, config.chunks)
        begin = (state, jnp.ones(context.shape[0], bool))
        _, (decisions, reward, alive) = jax.lax.scan(one_chunk, begin, (keys, force))
        outcome = {"rewards": jnp.swapaxes(reward, 0, 1), "alive": jnp.swapaxes(alive, 0, 1)}
        return Trajectories(jax.tree.map(_joined, decisions), outcome)

    def demonstrate(key: Array) -> tuple[Array, Array]:
        """([R, O] observations, [R, size] action chunks) of noisy episodes."""
        key_start, key_noise = jax.random.split(key)
        state = jax.vmap(env.reset)(jax.random.split(key_start, config.demos))

        def one(carry: tuple[State, Array], key: Array) -> tuple[tuple, tuple]:
            state, alive = carry
            seen = state.observation["policy"]
            wanted = jax.vmap(controller)(seen)
            noise = config.demo_noise * jax.random.normal(key, wanted.shape, jnp.float32)
            action = jnp.clip(wanted + noise, -1.0, 1.0)
            stepped = jax.vmap(env.step)(state, action)
            return (stepped, alive & ~stepped.terminated), (seen, action, alive)

        steps = config.chunks * config.chunk_length
        begin = (state, jnp.ones(config.demos, bool))
        _, (seen, action, alive) = jax.lax.scan(one, begin, jax.random.split(key_noise, steps))
        shape = (config.chunks, config.chunk_length, config.demos, -1)
        chunk = jnp.moveaxis(action.reshape(shape), 1, 2).reshape(-1, size)
        # A demonstration that fell goes on as the first one, which did not move yet.
        whole = jnp.repeat(alive[:: config.chunk_length].reshape(-1, 1), size, axis=1)
        first = seen[:: config.chunk_length].reshape(-1, seen.shape[-1])
        return (
            jnp.where(whole[:, :1], first, first[:1]),
            jnp.where(whole, chunk, chunk[:1]),
        )

    def train_reference(key: Array) -> PyTree:
        key_demos, key_init, key_train = jax.random.split(key, 3)
        seen, action = demonstrate(key_demos)
        params = network.init(key_init, action[:1], jnp.zeros(1, jnp.float32), seen[:1])

        def draw(key: Array, count: int) -> tuple[Array, Array]:
            rows = jax.random.randint(key, (count,), 0, seen.shape[0], jnp.int32)
            return action[rows], seen[rows]

        levels = training_schedule(config.schedule)
        return pretrain(key_train, apply, params, draw, levels, config.pretrain).params

    return Problem(
        name=f"{env.spec.name} chunks",
        model=model,
        num_decisions=config.chunks * config.schedule.steps,
        context_size=_KEY_WORDS,
        draw_contexts=draw_contexts,
        rollout=rollout,
        reward=lambda outcome, context: jnp.sum(outcome["rewards"], axis=1),
        measure=lambda outcome, context: {
            "survival": outcome["alive"][:, -1].astype(jnp.float32),
            "task_share": jnp.sum(outcome["rewards"], axis=1) / env.spec.task_reward_scale,
        },
        pretrain=train_reference,
        num_chunks=config.chunks,
        chunk_rewards=lambda outcome: outcome["rewards"],
    )


def cart_pole_controller(env: CartPole) -> Controller:
    """LQR of the cart-pole around upright, from the env's own dynamics; slow on the command.

    Args:
      env: the cart-pole, without randomisation.
    """
    # The state alone matters here, not where the episode would start.
    state = env.reset(jax.random.key(0))
    upright = {name: jnp.zeros((), jnp.float32) for name in state.physics}
    state = dataclasses.replace(state, physics=upright)
    names = ("angle", "velocity", "angle_rate")

    def following(x: Array, action: Array) -> Array:
        physics = {**upright, **dict(zip(names, x, strict=True))}
        stepped = env.step(dataclasses.replace(state, physics=physics), action)
        return jnp.stack([stepped.physics[name] for name in names])

    zeros = (jnp.zeros(3, jnp.float32), jnp.zeros(1, jnp.float32))
    A, B = (np.asarray(m, np.float64) for m in jax.jacfwd(following, (0, 1))(*zeros))
    gain = lqr_gain(A, B, np.diag([1.0, 0.1, 0.1]), np.array([[1.0]]))
    gain = jnp.asarray(gain[0], jnp.float32)

    def controller(observation: Array) -> Array:
        error, sin, _, rate, _ = observation
        return -jnp.dot(gain, jnp.stack([sin, error, rate / 0.3]))[None]

    return controller


def _like(mask: Array, leaf: Array) -> Array:
    return mask.reshape(mask.shape + (1,) * (leaf.ndim - mask.ndim))


def _joined(leaf: Array) -> Array:
    """[J, M, T, ...] to [M, J T, ...]."""
    moved = jnp.swapaxes(leaf, 0, 1)
    return moved.reshape(moved.shape[0], -1, *moved.shape[3:])


__all__ = ["ControlConfig", "Controller", "cart_pole_controller", "make_control"]

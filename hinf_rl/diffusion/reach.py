"""A point robot whose diffusion policy draws chunks of actions: around a disc to a goal."""

import dataclasses
from typing import cast

import jax
import jax.numpy as jnp

from hinf_rl.diffusion.model import DiffusionModel, Frozen, sample_chain
from hinf_rl.diffusion.pretrain import Apply, PretrainConfig, pretrain
from hinf_rl.diffusion.problem import Decisions, Problem, Trajectories, chain_decisions
from hinf_rl.diffusion.schedule import ScheduleConfig, make_schedule, training_schedule
from hinf_rl.errors import UserError
from hinf_rl.networks.denoiser import MLPDenoiser
from hinf_rl.types import Array, PyTree

GOAL = (1.0, 0.0)
"""Where the point robot is to go (m)."""
START_X = -1.0
STEP_LENGTH = 0.15
"""Distance that an action of 1 moves, in each direction."""
SUCCESS_RADIUS = 0.2
_DISTANCE_SCALE = 3.0
_NUM_DEMOS = 4000


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReachConfig:
    """The point robot.

    Attributes:
      chunks: action chunks J of an episode.
      chunk_length: actions of each.
      start_y: starts are (-1, y), y uniform within +- this.
      obstacle_radius: of the disc at the origin.
      waypoint: height at which demonstrations pass the disc, above or below at even odds.
      demo_noise: deviation of the noise on demonstrated actions.
      hidden: widths of the denoiser.
      schedule, pretrain: see there.
    """

    chunks: int = 4
    chunk_length: int = 4
    start_y: float = 0.5
    obstacle_radius: float = 0.35
    waypoint: float = 0.6
    demo_noise: float = 0.3
    hidden: tuple[int, ...] = (64, 64, 64)
    schedule: ScheduleConfig = dataclasses.field(default_factory=ScheduleConfig)
    pretrain: PretrainConfig = dataclasses.field(
        default_factory=lambda: PretrainConfig(batch=256, learning_rate=3e-3)
    )

    def __post_init__(self) -> None:
        for name in ("chunks", "chunk_length"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("start_y", "demo_noise"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 < self.obstacle_radius < 1:
            raise UserError(f"obstacle_radius must lie in (0, 1), got {self.obstacle_radius}")


def make_reach(config: ReachConfig) -> Problem:
    """Builds the problem: p <- p + 0.15 clip(a, -1, 1), deterministic from its start.

    Reward exp(-3 |p_T - goal|) - 1[collision]; the context is the start, and each chunk is
    conditioned on where the robot is. A rollout from one start is repeatable but for the policy's
    noise, as comparing trajectories of one context demands.

    Args:
      config: the settings.
    """
    size = 2 * config.chunk_length
    network = MLPDenoiser(size=size, hidden=config.hidden)
    apply = cast(Apply, network.apply)
    model = DiffusionModel(apply, make_schedule(config.schedule), size=size)

    def draw_contexts(key: Array, count: int) -> Array:
        y = jax.random.uniform(
            key, (count,), jnp.float32, minval=-config.start_y, maxval=config.start_y
        )
        return jnp.stack([jnp.full(count, START_X, jnp.float32), y], axis=-1)

    def rollout(
        key: Array, params: PyTree, context: Array, frozen: Frozen | None = None
    ) -> Trajectories:
        def one_chunk(
            position: Array, key: Array
        ) -> tuple[Array, tuple[Decisions, tuple[Array, Array]]]:
            chain = sample_chain(key, model, params, position, frozen=frozen)
            decisions = chain_decisions(chain.path, position)
            actions = chain.sample.reshape(-1, config.chunk_length, 2)
            path = position[:, None] + jnp.cumsum(
                STEP_LENGTH * jnp.clip(actions, -1.0, 1.0), axis=1
            )
            hits = jnp.any(jnp.linalg.norm(path, axis=-1) < config.obstacle_radius, axis=1)
            return path[:, -1], (decisions, (path, hits))

        keys = jax.random.split(key, config.chunks)
        final, (decisions, (path, hits)) = jax.lax.scan(one_chunk, context, keys)
        outcome = {
            "final": final,
            "path": jnp.concatenate([context[:, None], _joined(path)], axis=1),
            "hits": jnp.swapaxes(hits, 0, 1),
        }
        return Trajectories(jax.tree.map(_joined, decisions), outcome)

    def chunk_rewards(outcome: dict[str, Array]) -> Array:
        # The first collision costs 1, and the place at the end pays.
        before = jnp.cumsum(outcome["hits"].astype(jnp.int32), axis=1)
        first = outcome["hits"] & (before == 1)
        paid = jnp.exp(-_DISTANCE_SCALE * _distance(outcome["final"]))
        return (-first.astype(jnp.float32)).at[:, -1].add(paid)

    def measure(outcome: dict[str, Array], context: Array) -> dict[str, Array]:
        del context
        collided = jnp.any(outcome["hits"], axis=1)
        arrived = _distance(outcome["final"]) < SUCCESS_RADIUS
        return {
            "success": (arrived & ~collided).astype(jnp.float32),
            "collision": collided.astype(jnp.float32),
            "above": (jnp.max(outcome["path"][..., 1], axis=1) > config.obstacle_radius).astype(
                jnp.float32
            ),
        }

    def train_reference(key: Array) -> PyTree:
        key_demos, key_init, key_train = jax.random.split(key, 3)
        state, action = demonstrations(key_demos, config)
        params = network.init(key_init, action[:1], jnp.zeros(1, jnp.float32), state[:1])

        def draw(key: Array, count: int) -> tuple[Array, Array]:
            rows = jax.random.randint(key, (count,), 0, state.shape[0], jnp.int32)
            return action[rows], state[rows]

        levels = training_schedule(config.schedule)
        return pretrain(key_train, apply, params, draw, levels, config.pretrain).params

    return Problem(
        name="reach",
        model=model,
        num_decisions=config.chunks * config.schedule.steps,
        context_size=2,
        draw_contexts=draw_contexts,
        rollout=rollout,
        reward=lambda outcome, context: jnp.sum(chunk_rewards(outcome), axis=1),
        measure=measure,
        pretrain=train_reference,
        num_chunks=config.chunks,
        chunk_rewards=chunk_rewards,
    )


def demonstrations(key: Array, config: ReachConfig) -> tuple[Array, Array]:
    """Noisy demonstrations that pass the disc above or below.

    Args:
      key: consumed.
      config: the settings.

    Returns:
      ([R, 2] positions, [R, 2 chunk_length] action chunks that were taken there).
    """
    key_start, key_side, key_noise = jax.random.split(key, 3)
    y = jax.random.uniform(
        key_start, (_NUM_DEMOS,), jnp.float32, minval=-config.start_y, maxval=config.start_y
    )
    side = jnp.where(jax.random.bernoulli(key_side, 0.5, (_NUM_DEMOS,)), 1.0, -1.0)
    waypoint = jnp.stack([jnp.zeros_like(side), side * config.waypoint], axis=-1)
    goal = jnp.broadcast_to(jnp.asarray(GOAL, jnp.float32), waypoint.shape)

    def step(position: Array, key: Array) -> tuple[Array, tuple[Array, Array]]:
        target = jnp.where((position[:, :1] < -0.05), waypoint, goal)
        wanted = (target - position) / STEP_LENGTH
        # Full speed along the line, no further than the target.
        longest = jnp.maximum(jnp.max(jnp.abs(wanted), axis=-1, keepdims=True), 1.0)
        noise = config.demo_noise * jax.random.normal(key, position.shape, jnp.float32)
        action = jnp.clip(wanted / longest + noise, -1.0, 1.0)
        return position + STEP_LENGTH * action, (position, action)

    start = jnp.stack([jnp.full_like(y, START_X), y], axis=-1)
    keys = jax.random.split(key_noise, config.chunks * config.chunk_length)
    _, (positions, actions) = jax.lax.scan(step, start, keys)
    states = positions[:: config.chunk_length].reshape(-1, 2)
    shape = (config.chunks, config.chunk_length, _NUM_DEMOS, 2)
    chunks = jnp.swapaxes(actions.reshape(shape), 1, 2)
    return states, chunks.reshape(states.shape[0], -1)


def _distance(position: Array) -> Array:
    """[M] distance to the goal."""
    goal = jnp.asarray(GOAL, jnp.float32)
    return jnp.linalg.norm(position - jnp.broadcast_to(goal, position.shape), axis=-1)


def _joined(leaf: Array) -> Array:
    """[J, M, L, ...] to [M, J L, ...]."""
    moved = jnp.swapaxes(leaf, 0, 1)
    return moved.reshape(moved.shape[0], -1, *moved.shape[3:])


__all__ = ["GOAL", "ReachConfig", "demonstrations", "make_reach"]

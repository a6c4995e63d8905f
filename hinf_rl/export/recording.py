"""What the environment showed and JAX answered: what every export is checked on."""

import math
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from hinf_rl.envs.api import Env, State
from hinf_rl.export.layout import Layout
from hinf_rl.types import Array

_NUM_ENVS = 16
_NUM_STEPS = 48
_KEY = 0x4558504F  # apart from training's and the protocol's keys

_Floats = NDArray[np.float32]


class Recording(NamedTuple):
    """Whole beginnings of episodes, T steps of B environments.

    Attributes:
      inputs: by name, [T, B, size] in their units.
      observations: [T, B, O] what the policy saw, history included.
      actions: [T, B, A] its mean actions, clipped as the task does.
      outputs: [T, B, A] joint targets (rad), or the actions where the task has none.
      pushes: [T, B, D] disturbances, in the task's unit.
      start: physics of the first states, leaves [B, ...]: with all of the above, enough to repeat
        the episodes elsewhere.
    """

    inputs: dict[str, _Floats]
    observations: _Floats
    actions: _Floats
    outputs: _Floats
    pushes: _Floats
    start: Any


class Runner(Protocol):
    """An exported policy with its memory, steppable for several robots at once."""

    metadata: dict[str, Any]
    action: Any
    observation: Any

    def reset(self) -> None:
        """Forgets the last action and the history."""
        ...

    def step(self, **inputs: Any) -> np.ndarray:
        """Returns [B, A] outputs for inputs [B, size]."""
        ...


class Deviation(NamedTuple):
    """Largest absolute differences to JAX over a recording."""

    observation: float
    action: float
    output: float


def record(env: Env, policy: Any, layout: Layout) -> Recording:
    """Rolls the policy out under random disturbances and keeps what it saw and did.

    Args:
      env: of one instance, as it was trained in.
      policy: the actor.
      layout: of its observations.
    """
    key_start, key_push = jax.random.split(jax.random.key(_KEY))
    keys = jax.random.split(key_start, _NUM_ENVS)
    size = env.spec.disturbance.size
    limit = env.spec.disturbance.limit
    # A box in the ball of the allowed size.
    width = (limit if math.isfinite(limit) else 1.0) / math.sqrt(max(1, size))
    shape = (_NUM_STEPS, _NUM_ENVS, size)
    pushes = jax.random.uniform(key_push, shape, jnp.float32, -width, width)

    def step(state: State, push: Array) -> tuple[State, tuple[Array, ...]]:
        action, output = act(policy, layout, state.observation)
        seen = state.observation["policy"]
        return jax.vmap(env.step)(state, action, push), (seen, action, output)

    @jax.jit
    def roll(keys: Array, pushes: Array) -> tuple[Any, tuple[Array, ...]]:
        start = jax.vmap(env.reset)(keys)
        return start.physics, jax.lax.scan(step, start, pushes)[1]

    start, found = roll(keys, pushes)
    observations, actions, outputs = (np.array(values) for values in found)
    newest = observations[..., : layout.size]
    inputs = layout.values(newest)
    return Recording(inputs, observations, actions, outputs, np.array(pushes), start)


def act(policy: Any, layout: Layout, observation: dict[str, Any]) -> tuple[Array, Array]:
    """What the task makes of a policy's mean action: the clipped action, and the output."""
    action = policy(observation)
    if layout.action_limit is not None:
        action = jnp.clip(action, -layout.action_limit, layout.action_limit)
    if layout.target is None:
        return action, action
    offset, scale = (
        jnp.broadcast_to(jnp.asarray(values, jnp.float32), action.shape) for values in layout.target
    )
    return action, offset + scale * action


def deviation(runner: Runner, recording: Recording) -> Deviation:
    """Steps an exported policy through a recording, with its own memory, and compares."""
    runner.reset()
    worst = Deviation(0.0, 0.0, 0.0)
    for t in range(len(recording.actions)):
        output = runner.step(**{name: value[t] for name, value in recording.inputs.items()})
        pairs = (
            (runner.observation, recording.observations[t]),
            (runner.action, recording.actions[t]),
            (output, recording.outputs[t]),
        )
        # A comparison with NaN holds never: max() alone would pass over it.
        found = [float(np.max(np.nan_to_num(np.abs(a - b), nan=np.inf))) for a, b in pairs]
        worst = Deviation(*(max(pair) for pair in zip(worst, found, strict=True)))
    runner.reset()
    return worst


__all__ = ["Deviation", "Recording", "Runner", "act", "deviation", "record"]

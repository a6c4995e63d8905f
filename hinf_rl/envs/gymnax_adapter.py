"""Gymnax environments (1.x) as ours. The only file that imports gymnax.

Our agents act in real vectors:

* Box actions with finite bounds: an action in [-1, 1] per component, scaled to the bounds.
* Discrete actions: one score in [-1, 1] per choice; the largest is taken, the first of equals.
  The choice is a fixed function of the scores, so a Gaussian policy over scores is a proper
  stochastic policy over choices, and its policy gradient is exact.

Other action spaces, and observations that are not one array, are refused. The disturbance is
added to the normalised action, or to the scores.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hinf_rl import config as configs
from hinf_rl.envs.api import Env, EnvSpec, State
from hinf_rl.envs.foreign import (
    ACTION_LIMIT,
    ActionChannel,
    AdapterConfig,
    TaskReward,
    foreign_code,
    import_optional,
    task_reward_bound,
)
from hinf_rl.errors import UserError, unknown_name
from hinf_rl.types import Array

gymnax = import_optional("gymnax", install="hinf-rl[gymnax]")
spaces = import_optional("gymnax.environments.spaces", install="hinf-rl[gymnax]")

# Bounds of whole rewards that follow from their definition.
_KNOWN = {
    "Acrobot-v1": TaskReward(0.0, 1.0),  # -1 per step until the goal
    "CartPole-v1": TaskReward(1.0, 1.0),  # 1 per step
    "MountainCar-v0": TaskReward(0.0, 1.0),
    "MountainCarContinuous-v0": TaskReward(100.0, 100.0),  # at the goal
    # Minus (angle^2 + 0.1 rate^2 + 0.001 torque^2), of at most pi, 8 and 2.
    "Pendulum-v1": TaskReward(0.0, math.pi**2 + 0.1 * 8.0**2 + 0.001 * 2.0**2),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class GymnaxConfig(AdapterConfig):
    """Settings of a gymnax environment; only the whole reward can be the task reward."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.task_reward is not None:
            raise UserError("gymnax environments report no parts of the reward: task_reward = none")


def gymnax_names() -> list[str]:
    """Names of the environments that are registered with gymnax."""
    return sorted(gymnax.registered_envs)


def from_gymnax(env: Any, params: Any = None, **settings: Any) -> Env:
    """Returns a gymnax environment as one of ours.

    Args:
      env: name of an environment, or one.
      params: its parameters; None takes its default ones.
      **settings: fields of `GymnaxConfig`.

    Raises:
      UserError: no such environment, spaces that are not supported, settings that do not fit, or
        nobody says how large its reward can be.
    """
    if isinstance(env, str):
        settings = {**settings, "name": env}
    config = configs.from_dict(GymnaxConfig, settings)
    foreign = _make_foreign(config.name) if isinstance(env, str) else env
    return GymnaxAdapter(foreign, params, config)


def make_gymnax(config: GymnaxConfig) -> Env:
    """Builds the environment that `config` names."""
    return GymnaxAdapter(_make_foreign(config.name), None, config)


def _make_foreign(name: str) -> Any:
    if name not in gymnax.registered_envs:
        raise unknown_name("gymnax environment", name, gymnax.registered_envs)
    with foreign_code():
        return gymnax.make(name)[0]


class GymnaxAdapter:
    """A gymnax environment as one of ours; see the module for its actions.

    It is stepped without gymnax's own auto-reset: the batch layer resets. Observations are
    flattened; the critic's ends with the last disturbance over its limit.
    """

    def __init__(self, foreign: Any, params: Any, config: GymnaxConfig) -> None:
        label = f"gymnax:{config.name or getattr(foreign, 'name', type(foreign).__name__)}"
        if not hasattr(foreign, "is_truncated"):
            raise UserError(f"{label} is not an environment of gymnax 1.0 or newer")
        self._foreign = foreign
        params = foreign.default_params if params is None else params
        length = config.episode_length or int(params.max_steps_in_episode)
        self._params = params.replace(max_steps_in_episode=length)
        with foreign_code():
            self._to_action, size, example = _action_map(foreign, self._params, label)
            self._template, observation = self._types(example)
        if not hasattr(observation, "shape"):
            raise UserError(f"the observation of {label} is not one array; that is not supported")
        policy_size = math.prod(observation.shape)
        bound = task_reward_bound(label, config, _KNOWN.get(config.name), is_part=False)
        self._channel = ActionChannel(size, config.disturbance_limit)
        self._spec = EnvSpec(
            name=label,
            policy_size=policy_size,
            privileged_size=policy_size + size,
            action_size=size,
            disturbance=self._channel.spec,
            dt_s=_control_period(self._params, config),
            episode_length=length,
            task_reward_max=bound.maximum,
            task_reward_scale=bound.scale,
        )

    @property
    def spec(self) -> EnvSpec:
        """Sizes, rates and bounds."""
        return self._spec

    @property
    def foreign(self) -> Any:
        """The adapted environment."""
        return self._foreign

    def reset(self, key: Array) -> State:
        """Starts an episode from `key`, which is consumed."""
        key_foreign, key = jax.random.split(key)
        with foreign_code():
            observation, state = self._foreign.reset_env(key_foreign, self._params)
        zero, no = jnp.zeros((), jnp.float32), jnp.zeros((), bool)
        push = jnp.zeros((self._spec.disturbance.size,), jnp.float32)
        return self._state(observation, state, zero, no, no, push, key)

    def step(self, state: State, action: Array, disturbance: Array | None = None) -> State:
        """Advances one control step; `action` [A] and `disturbance` [A], normalised."""
        key_foreign, key = jax.random.split(state.key)
        push = disturbance
        if push is None:
            push = jnp.zeros((self._spec.disturbance.size,), jnp.float32)
        action = jnp.clip(action, -ACTION_LIMIT, ACTION_LIMIT)
        _, action = self._channel.apply(None, action, push)
        with foreign_code():
            observation, after, reward, terminated, _ = self._foreign.step_env(
                key_foreign, state.physics, self._to_action(action), self._params
            )
            is_over = jnp.asarray(self._foreign.is_truncated(after, self._params))
        terminated = jnp.asarray(terminated).astype(bool)
        truncated = is_over.astype(bool) & ~terminated
        return self._state(observation, after, reward, terminated, truncated, push, key)

    def _state(
        self,
        observation: Any,
        foreign: Any,
        reward: Any,
        terminated: Array,
        truncated: Array,
        push: Array,
        key: Array,
    ) -> State:
        reward = jnp.asarray(reward).astype(jnp.float32)
        policy = jnp.ravel(observation).astype(jnp.float32)
        share = push / self._spec.disturbance.limit
        return State(
            physics=jax.tree.map(
                lambda x, like: jnp.asarray(x).astype(like.dtype), foreign, self._template
            ),
            observation={"policy": policy, "privileged": jnp.concatenate([policy, share])},
            reward=reward,
            task_reward=reward,
            terminated=terminated,
            truncated=truncated,
            metrics={},
            parameters={},
            key=key,
        )

    def _types(self, action: Any) -> tuple[Any, Any]:
        """Types that the state of `reset` and of `step` both can have, and the observation's."""
        key = jax.random.key(0)
        reset, step = self._foreign.reset_env, self._foreign.step_env
        observation, fresh = jax.eval_shape(lambda k: reset(k, self._params), key)
        after = jax.eval_shape(lambda k, s, a: step(k, s, a, self._params), key, fresh, action)[1]
        common = jax.tree.map(
            lambda a, b: jax.ShapeDtypeStruct(
                a.shape, a.dtype if a.dtype == b.dtype else jnp.promote_types(a.dtype, b.dtype)
            ),
            fresh,
            after,
        )
        return common, observation


def _action_map(foreign: Any, params: Any, label: str) -> tuple[Any, int, Any]:
    """Returns the map from our actions to its own, the size of ours, and one of its own."""
    space = foreign.action_space(params)
    if isinstance(space, spaces.Discrete):
        choice = jax.ShapeDtypeStruct((), space.dtype)
        return lambda scores: jnp.argmax(scores).astype(space.dtype), int(space.n), choice
    if not isinstance(space, spaces.Box):
        raise UserError(
            f"actions of {label} are a {type(space).__name__}; Box and Discrete are supported"
        )
    low = np.broadcast_to(np.asarray(space.low, np.float32), space.shape)
    high = np.broadcast_to(np.asarray(space.high, np.float32), space.shape)
    if not np.all(np.isfinite(low) & np.isfinite(high) & (low < high)):
        raise UserError(f"actions of {label} have no finite bounds: that is not supported")
    middle = jnp.asarray((low + high) / 2, jnp.float32)
    half = jnp.asarray((high - low) / 2, jnp.float32)

    def scale(action: Array) -> Array:
        return middle + half * action.reshape(space.shape)

    return scale, math.prod(space.shape), jax.ShapeDtypeStruct(space.shape, jnp.float32)


def _control_period(params: Any, config: GymnaxConfig) -> float:
    """Given, else what the environment calls dt or tau, else 1: a step of a game."""
    if config.dt_s is not None:
        return config.dt_s
    return float(getattr(params, "dt", getattr(params, "tau", 1.0)))


__all__ = ["GymnaxAdapter", "GymnaxConfig", "from_gymnax", "gymnax_names", "make_gymnax"]

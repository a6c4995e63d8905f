"""Environments of the kind that Brax and MuJoCo Playground share, as ours.

Both are objects with `reset(rng) -> state` and `step(state, action) -> state`, where the state has
`obs`, `reward`, `done`, `metrics`, `info` and the simulation, under a name of its own. This
file knows neither package.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from hinf_rl.envs.api import EnvSpec, State
from hinf_rl.envs.foreign import (
    ACTION_LIMIT,
    ActionChannel,
    BodyForce,
    SimulationConfig,
    TaskReward,
    TaskRewardOf,
    foreign_code,
    task_reward_bound,
)
from hinf_rl.errors import UserError, unknown_name
from hinf_rl.types import Array, PyTree

_DEFAULT_EPISODE_LENGTH = 1000


@struct.dataclass
class ForeignPhysics:
    """The foreign environment's whole state.

    Attributes:
      state: as its `reset` and `step` return it, in dtypes that do not change.
    """

    state: Any

    @property
    def qpos(self) -> Array:
        """[..., nq] positions; only MJX simulations have them."""
        simulation = getattr(self.state, "data", None)
        return (self.state.pipeline_state if simulation is None else simulation).qpos


class StateAdapter:
    """A foreign environment as one of ours.

    Its `done` is termination; episodes are truncated by our clock. Actions are clipped to
    [-1, 1]. Actor and critic see what the environment shows (dictionaries: by their keys;
    arrays are flattened); the critic's observation ends with the last disturbance over its limit.
    Metrics that are not scalars are left out.

    `reset` and `step` of foreign environments need not agree in detail. Here they do: metrics
    that only one of them reports are 0 in the other; of `info`, what `reset` returns is kept.

    Args:
      foreign: the environment, without any wrapper that resets it or ends its episodes.
      field: where its state keeps the simulation.
      label: name of the task.
      config: settings.
      task_reward: from the state after a step to its task reward; None takes `config`'s.
      known: bound of its whole reward, where that is known.
      model: `mujoco.MjModel` of an MJX simulation, else None.

    Raises:
      UserError: a setting does not fit the environment.
    """

    def __init__(
        self,
        foreign: Any,
        *,
        field: str,
        label: str,
        config: SimulationConfig,
        task_reward: TaskRewardOf | None = None,
        known: TaskReward | None = None,
        model: Any = None,
    ) -> None:
        self._foreign, self._label, self._config = foreign, label, config
        self._model = model
        with foreign_code():
            self._template = _template(foreign, label)
        self._task_reward = task_reward or self._part_of_reward()
        is_part = task_reward is not None or config.task_reward is not None
        bound = task_reward_bound(label, config, known, is_part=is_part)
        self._channel = self._make_channel(field)
        # Compiled as a whole even where our caller is not: foreign code is traced once, not at
        # every use, and simulations are slow operation by operation.
        self._foreign_reset = jax.jit(self._reset_foreign)
        self._foreign_step = jax.jit(self._step_foreign)
        observation = jax.eval_shape(self._observe, self._template.obs)
        self._spec = EnvSpec(
            name=label,
            policy_size=observation["policy"].size,
            privileged_size=observation["privileged"].size + self._channel.spec.size,
            action_size=int(foreign.action_size),
            disturbance=self._channel.spec,
            dt_s=control_period(foreign, label, config.dt_s),
            episode_length=config.episode_length or _DEFAULT_EPISODE_LENGTH,
            task_reward_max=bound.maximum,
            task_reward_scale=bound.scale,
        )
        if isinstance(self._channel, BodyForce) and config.check_force:
            self._check_force(self._channel)

    @property
    def spec(self) -> EnvSpec:
        """Sizes, rates and bounds."""
        return self._spec

    @property
    def foreign(self) -> Any:
        """The adapted environment."""
        return self._foreign

    @property
    def model(self) -> Any:
        """The `mujoco.MjModel` of an MJX simulation, for pictures; else None."""
        return self._model

    def reset(self, key: Array) -> State:
        """Starts an episode from `key`, which is consumed."""
        key_foreign, key = jax.random.split(key)
        # Foreign environments are written for keys that are plain numbers.
        fresh = self._foreign_reset(jax.random.key_data(key_foreign))
        return self._state(fresh, jnp.zeros((self._spec.disturbance.size,), jnp.float32), key)

    def step(self, state: State, action: Array, disturbance: Array | None = None) -> State:
        """Advances one control step; `action` [A], `disturbance` [D]."""
        push = disturbance
        if push is None:
            push = jnp.zeros((self._spec.disturbance.size,), jnp.float32)
        after = self._foreign_step(state.physics.state, action, push)
        return self._state(after, push, state.key)

    def _reset_foreign(self, rng: Array) -> Any:
        with foreign_code():
            state = self._foreign.reset(rng)
            return _conform(state, self._template, state)

    def _step_foreign(self, before: Any, action: Array, push: Array) -> Any:
        action = jnp.clip(action, -ACTION_LIMIT, ACTION_LIMIT)
        with foreign_code():
            # Foreign steps write into their dictionaries: give them copies.
            own = jax.tree.map(lambda x: x, before).replace(done=jnp.zeros((), jnp.float32))
            own, action = self._channel.apply(own, action, push)
            return _conform(self._foreign.step(own, action), self._template, before)

    def _state(self, foreign: Any, push: Array, key: Array) -> State:
        with foreign_code():
            observation = self._observe(foreign.obs)
            task_reward = jnp.asarray(self._task_reward(foreign)).astype(jnp.float32)
        if task_reward.shape != ():
            raise UserError(
                f"task_reward of {self._label} must be a scalar, got shape {task_reward.shape}"
            )
        share = push / self._spec.disturbance.limit
        return State(
            physics=ForeignPhysics(foreign),
            observation={
                "policy": observation["policy"],
                "privileged": jnp.concatenate([observation["privileged"], share]),
            },
            reward=foreign.reward,
            task_reward=task_reward,
            terminated=foreign.done > 0.5,
            truncated=jnp.zeros((), bool),
            metrics={name: x for name, x in foreign.metrics.items() if x.shape == ()},
            parameters={},
            key=key,
        )

    def _observe(self, obs: Any) -> dict[str, Array]:
        if not isinstance(obs, Mapping):
            return {"policy": _flat(obs), "privileged": _flat(obs)}
        policy, privileged = self._config.policy_key, self._config.privileged_key
        if policy not in obs:
            raise unknown_name(f"observation of {self._label}", policy, obs)
        # A critic without an observation of its own sees the actor's.
        return {"policy": _flat(obs[policy]), "privileged": _flat(obs.get(privileged, obs[policy]))}

    def _part_of_reward(self) -> TaskRewardOf:
        name = self._config.task_reward
        if name is None:
            return lambda state: state.reward
        if name not in self._template.metrics:
            raise unknown_name(f"metric of {self._label}", name, self._template.metrics)
        return lambda state: state.metrics[name]

    def _make_channel(self, field: str) -> ActionChannel | BodyForce:
        config = self._config
        if config.disturbance == "action":
            return ActionChannel(int(self._foreign.action_size), config.disturbance_limit)
        if self._model is None:
            raise UserError(
                f"{self._label} has no MJX physics, which alone takes forces on bodies: use "
                "disturbance = 'action', or backend = 'mjx' where there is a choice"
            )
        return BodyForce(field, self._model, config)

    def _check_force(self, channel: BodyForce) -> None:
        """Makes one step with and one without force.

        A force that is still there after the step was there in every substep of it.

        Raises:
          UserError: the environment overwrites the force, or the body cannot move.
        """
        size, limit = channel.spec.size, channel.spec.limit
        action = jnp.zeros((self._spec.action_size,), jnp.float32)

        @jax.jit
        def probe(push: Array) -> tuple[Array, Array]:
            state = self.step(self.reset(jax.random.key(0)), action, push)
            return channel.read(state.physics.state)

        push = jnp.full((size,), limit / size**0.5, jnp.float32)
        held, moved = probe(push)
        _, rested = probe(jnp.zeros_like(push))
        advice = "use disturbance = 'action'"
        if not np.array_equal(held, push):
            raise UserError(
                f"the step of {self._label} overwrites forces on bodies (xfrc_applied), so none "
                f"is held: switch its own pushes off, or {advice}"
            )
        if np.array_equal(moved, rested):
            raise UserError(
                f"a force on body {self._config.body!r} of {self._label} moves nothing: name a "
                f"body that is free to move along {self._config.axes!r}, or {advice}"
            )


def control_period(foreign: Any, label: str, given: float | None) -> float:
    """Returns the control period in seconds: the one given, else the environment's.

    Raises:
      UserError: there is neither.
    """
    if given is not None:
        return given
    try:
        # Six digits: a period that was kept as float32 carries noise behind them.
        return float(f"{float(foreign.dt):.6g}")
    except (AttributeError, TypeError):
        raise UserError(f"{label} has no control period `dt`: set dt_s, in seconds") from None


def _template(foreign: Any, label: str) -> Any:
    """Shapes and dtypes that `reset` and `step` both can have."""
    fresh = jax.eval_shape(foreign.reset, jax.eval_shape(jax.random.PRNGKey, 0))
    action = jax.ShapeDtypeStruct((int(foreign.action_size),), jnp.float32)
    # The step may write into the dictionaries that it is given.
    stepped = jax.eval_shape(foreign.step, jax.tree.map(lambda x: x, fresh), action)
    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    metrics = {**stepped.metrics, **fresh.metrics}
    info = {name: stepped.info.get(name, x) for name, x in fresh.info.items()}
    common = {
        "metrics": {n: jax.ShapeDtypeStruct(x.shape, jnp.float32) for n, x in metrics.items()},
        "reward": scalar,
        "done": scalar,
    }
    fresh = fresh.replace(**common)
    stepped = stepped.replace(**common, info=info)
    if jax.tree.structure(fresh) != jax.tree.structure(stepped):
        raise UserError(
            f"reset and step of {label} return different structures, "
            f"{jax.tree.structure(fresh)} and {jax.tree.structure(stepped)}"
        )
    return jax.tree.map(lambda a, b: _common_type(a, b, label), fresh, stepped)


def _common_type(fresh: Any, stepped: Any, label: str) -> jax.ShapeDtypeStruct:
    if fresh.shape != stepped.shape:
        raise UserError(
            f"reset and step of {label} return different shapes, {fresh.shape} and {stepped.shape}"
        )
    same = fresh.dtype == stepped.dtype
    dtype = fresh.dtype if same else jnp.promote_types(fresh.dtype, stepped.dtype)
    return jax.ShapeDtypeStruct(fresh.shape, dtype)


def _conform(state: Any, template: Any, previous: Any) -> Any:
    """Returns `state` in the structure and the dtypes of `template`."""
    missing = {name: jnp.zeros(x.shape, jnp.float32) for name, x in template.metrics.items()}
    kept = {**previous.info, **state.info}
    state = state.replace(
        metrics={**missing, **state.metrics}, info={name: kept[name] for name in template.info}
    )
    return jax.tree.map(lambda x, like: jnp.asarray(x).astype(like.dtype), state, template)


def _flat(x: PyTree) -> Array:
    return jnp.ravel(jnp.asarray(x)).astype(jnp.float32)


__all__ = ["ForeignPhysics", "StateAdapter", "control_period"]

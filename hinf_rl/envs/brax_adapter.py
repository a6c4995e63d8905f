"""Brax environments as ours, and ours as Brax's. The only file that imports Brax."""

import dataclasses
import warnings
from typing import Any, Literal

import jax
import jax.numpy as jnp

from hinf_rl import config as configs
from hinf_rl.envs.api import Env, State
from hinf_rl.envs.foreign import SimulationConfig, TaskReward, TaskRewardOf, import_optional
from hinf_rl.envs.state_adapter import StateAdapter
from hinf_rl.errors import UserError, unknown_name
from hinf_rl.ops.distributions import held_force_sample
from hinf_rl.ops.hinf import radial_clip
from hinf_rl.types import Array, PyTree

brax_envs = import_optional("brax.envs", install="hinf-rl[brax]")

# Bounds of whole rewards that follow from their definition; where a robot is paid for its speed,
# there is none.
_KNOWN = {
    "inverted_pendulum": TaskReward(1.0, 1.0),  # 1 per step
    "inverted_double_pendulum": TaskReward(10.0, 10.0),  # 10 less penalties
    "pusher": TaskReward(0.0, 1.0),  # penalties only
    "reacher": TaskReward(0.0, 1.0),
}
_TRAINING_WRAPPERS = tuple(
    getattr(brax_envs.training, name)
    for name in (
        "AutoResetWrapper",
        "DomainRandomizationVmapWrapper",
        "EpisodeWrapper",
        "EvalWrapper",
        "VmapWrapper",
    )
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BraxConfig(SimulationConfig):
    """Settings of a Brax environment.

    Attributes:
      backend: its physics; None takes the environment's own default. Forces on bodies need "mjx".
    """

    backend: Literal["generalized", "spring", "positional", "mjx"] | None = None


def brax_names() -> list[str]:
    """Names of the environments that are registered with Brax."""
    return sorted(brax_envs._envs)


def from_brax(env: Any, *, task_reward: str | TaskRewardOf | None = None, **settings: Any) -> Env:
    """Returns a Brax environment as one of ours.

    `done` terminates; episodes are truncated by our clock, and start afresh, not from a cached
    state. On MJX-backed physics the disturbance can be a force on a body, held for the whole
    control step (`disturbance="force", body="torso"`); else it is added to the action.

    Args:
      env: name of an environment, or one without wrappers.
      task_reward: what the robustness cost is measured on: name of a metric, or a function of
        the Brax state after a step; None takes the whole reward.
      **settings: fields of `BraxConfig`.

    Raises:
      UserError: no such environment, settings that do not fit it, or nobody says how large its
        task reward can be.
    """
    if isinstance(env, str):
        settings = {**settings, "name": env}
    elif settings.get("backend") is not None:
        raise UserError("backend is chosen where a Brax environment is made, not where it is given")
    if isinstance(task_reward, str):
        settings = {**settings, "task_reward": task_reward}
    config = configs.from_dict(BraxConfig, settings)
    return _adapt(
        _make_foreign(config) if isinstance(env, str) else env,
        config,
        task_reward if callable(task_reward) else None,
    )


def make_brax(config: BraxConfig) -> Env:
    """Builds the environment that `config` names."""
    return _adapt(_make_foreign(config), config, None)


def _make_foreign(config: BraxConfig) -> Any:
    if config.name not in brax_names():
        raise unknown_name("Brax environment", config.name, brax_names())
    options = {} if config.backend is None else {"backend": config.backend}
    with warnings.catch_warnings():
        # Brax warns at every load that it is no longer maintained.
        warnings.simplefilter("ignore", UserWarning)
        try:
            return brax_envs.get_environment(config.name, **options)
        except ValueError as error:
            raise UserError(f"Brax cannot make {config.name!r}: {error}") from error


def _adapt(foreign: Any, config: BraxConfig, task_reward: TaskRewardOf | None) -> StateAdapter:
    _check_bare(foreign)
    # Not every environment has physics at all.
    is_mjx = getattr(foreign, "backend", None) == "mjx"
    return StateAdapter(
        foreign,
        field="pipeline_state",
        label=f"brax:{config.name or type(foreign).__name__}",
        config=config,
        task_reward=task_reward,
        known=_KNOWN.get(config.name),
        model=foreign.sys.mj_model if is_mjx else None,
    )


def _check_bare(foreign: Any) -> None:
    if not isinstance(foreign, brax_envs.Env):
        raise UserError(
            f"from_brax wants a Brax environment or its name, got {type(foreign).__name__}"
        )
    layer = foreign
    while isinstance(layer, brax_envs.Wrapper):
        if isinstance(layer, _TRAINING_WRAPPERS):
            raise UserError(
                f"{type(layer).__name__} must go: episode ends, resets and batches are ours; give "
                "env.unwrapped"
            )
        layer = layer.env


def to_brax(
    env: Env,
    *,
    disturbance: Literal["none", "random"] = "none",
    limit: float | None = None,
    hold_s: tuple[float, float] = (0.2, 1.0),
    asymmetric: bool = False,
) -> Any:
    """Returns one of our environments as a Brax environment, for Brax's trainers.

    Brax's wrappers restart every episode from the one state that its first episode started from:
    start and randomised parameters stay the same for each instance. Random forces do not.

    Args:
      env: an environment of one instance.
      disturbance: "none", or "random": forces drawn as domain randomisation draws them, uniform
        in direction and size, held for a random time.
      limit: largest norm of a random force, in the environment's unit; None takes its own.
      hold_s: range of the time that a random force is held.
      asymmetric: observations are {"state", "privileged_state"}, for a critic that sees more
        (Brax: `value_obs_key="privileged_state"`); else the policy's alone, an array.

    Raises:
      UserError: a setting does not fit the environment.
    """
    if disturbance not in ("none", "random"):
        raise UserError(f"disturbance must be 'none' or 'random', got {disturbance!r}")
    spec = env.spec.disturbance
    limit = spec.limit if limit is None else limit
    if disturbance == "random" and not (spec.size and 0 < limit < float("inf")):
        raise UserError(
            f"random disturbances of {env.spec.name!r} need a positive, finite limit and a "
            f"disturbance input, got limit {limit} and size {spec.size}"
        )
    if not 0 < hold_s[0] <= hold_s[1]:
        raise UserError(f"hold_s must be (low, high) with 0 < low <= high, got {hold_s}")
    return BraxEnv(env, limit if disturbance == "random" else None, hold_s, asymmetric=asymmetric)


class BraxEnv(brax_envs.Env):
    """One of our environments with Brax's interface; see `to_brax`.

    `pipeline_state` is {"env": our state, "push": [D], "remaining": []}; `info["key"]` is the
    source of random numbers, which an auto-reset does not turn back. `info["time_out"]` is 1
    where the environment itself cut an episode short.
    """

    def __init__(
        self, env: Env, limit: float | None, hold_s: tuple[float, float], *, asymmetric: bool
    ) -> None:
        self._env, self._limit, self._asymmetric = env, limit, asymmetric
        dt_s = env.spec.dt_s
        low, high = (max(1, round(time / dt_s)) for time in hold_s)
        self._hold_steps = (low, high)
        self._types = jax.eval_shape(env.reset, jax.random.key(0))

    @property
    def observation_size(self) -> int | dict[str, tuple[int, ...]]:
        """Length of the observation, or one shape for each of its keys."""
        spec = self._env.spec
        if not self._asymmetric:
            return spec.policy_size
        return {"state": (spec.policy_size,), "privileged_state": (spec.privileged_size,)}

    @property
    def action_size(self) -> int:
        """Length of the action."""
        return self._env.spec.action_size

    @property
    def backend(self) -> str:
        """No backend of Brax's: the environment brings its own physics."""
        return "hinf_rl"

    @property
    def dt(self) -> float:
        """Control period in seconds."""
        return self._env.spec.dt_s

    def reset(self, rng: Array) -> Any:
        """Starts an episode from `rng`, a key of either kind."""
        key_env, next_key = jax.random.split(_typed_key(rng))
        size = self._env.spec.disturbance.size
        push, remaining = jnp.zeros((size,), jnp.float32), jnp.zeros((), jnp.int32)
        return self._state(self._env.reset(key_env), push, remaining, next_key, {}, {})

    def step(self, state: Any, action: Array) -> Any:
        """Advances one control step under the force that is held."""
        keys = jax.random.split(_typed_key(state.info["key"]), 3)
        key_env, key_push, next_key = keys[0], keys[1], keys[2]
        pipeline = state.pipeline_state
        push, remaining = pipeline["push"], pipeline["remaining"]
        if self._limit is not None:
            fresh, duration = held_force_sample(
                key_push, (), push.shape[0], hold_steps=self._hold_steps
            )
            is_over = remaining <= 0
            # Clipped, since a product with the limit may exceed it in the last bit.
            push = jnp.where(is_over, radial_clip(self._limit * fresh, self._limit), push)
            remaining = jnp.where(is_over, duration, remaining) - jnp.int32(1)
        before: State = _typed(pipeline["env"], self._types)
        before = dataclasses.replace(before, key=key_env)
        after = self._env.step(before, action, push)
        return self._state(after, push, remaining, next_key, state.info, state.metrics)

    def _state(
        self,
        state: State,
        push: Array,
        remaining: Array,
        key: Array,
        info: dict[str, Any],
        metrics: dict[str, Array],
    ) -> Any:
        """Brax's state; `info` and `metrics` hold what wrappers have put there."""
        time_out = state.truncated & ~state.terminated
        observation = state.observation["policy"]
        if self._asymmetric:
            observation = {
                "state": observation,
                "privileged_state": state.observation["privileged"],
            }
        return brax_envs.State(
            pipeline_state={"env": _plain(state), "push": push, "remaining": remaining},
            obs=observation,
            reward=state.reward,
            done=(state.terminated | state.truncated).astype(jnp.float32),
            metrics={**metrics, **state.metrics, "task_reward": state.task_reward},
            info={
                **info,
                "key": jax.random.key_data(key),
                "time_out": time_out.astype(jnp.float32),
            },
        )


def _is_key(x: Any) -> bool:
    return bool(jnp.issubdtype(x.dtype, jax.dtypes.prng_key))


def _typed_key(key: Array) -> Array:
    return key if _is_key(key) else jax.random.wrap_key_data(key)


def _plain(tree: PyTree) -> PyTree:
    """Keys as plain numbers: Brax's wrappers take every leaf for an array of numbers."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree)


def _typed(tree: PyTree, types: PyTree) -> PyTree:
    return jax.tree.map(lambda x, like: _typed_key(x) if _is_key(like) else x, tree, types)


__all__ = ["BraxConfig", "BraxEnv", "brax_names", "from_brax", "make_brax", "to_brax"]

"""What the adapters of other packages' environments have in common.

Settings, optional imports, the task reward and its bound, and the two ways in which a
disturbance enters: added to the action, or as a force on a body of an MJX simulation.
"""

import contextlib
import dataclasses
import importlib
import io
import math
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from hinf_rl.envs.api import DisturbanceSpec
from hinf_rl.errors import UserError, unknown_name
from hinf_rl.types import Array

ACTION_LIMIT = 1.0
"""Actions of adapted environments are normalised: clipped to [-1, 1]."""

_AXES = "xyz"


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """Settings of an adapted environment.

    Attributes:
      name: the environment's name in its own package.
      episode_length: control steps after which an episode is truncated; None takes the
        environment's own limit where it has one, else 1000.
      dt_s: control period; None takes the environment's.
      task_reward: name of the metric that the robustness cost is measured on; None takes the
        whole reward.
      task_reward_max: largest attainable task reward of one step; None is only possible where
        it is known.
      task_reward_scale: what the cost is divided by; None takes a positive maximum, else 1.
      disturbance_limit: largest Euclidean norm of the disturbance: in N for forces, else in
        units of the normalised action.
    """

    name: str = ""
    episode_length: int | None = None
    dt_s: float | None = None
    task_reward: str | None = None
    task_reward_max: float | None = None
    task_reward_scale: float | None = None
    disturbance_limit: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.disturbance_limit < math.inf:
            raise UserError(
                f"disturbance_limit must be positive and finite, got {self.disturbance_limit}"
            )
        if self.episode_length is not None and self.episode_length < 1:
            raise UserError(f"episode_length must be at least 1, got {self.episode_length}")
        if self.dt_s is not None and not 0 < self.dt_s < math.inf:
            raise UserError(f"dt_s must be positive and finite, got {self.dt_s}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimulationConfig(AdapterConfig):
    """Settings of an adapted simulation, which may have bodies to push.

    Attributes:
      disturbance: "action" adds it to the action, "force" pushes a body (MJX physics only).
      body: name of the body that a force acts on, at its centre of mass.
      axes: world axes that the force has components along, for example "x" in a planar task.
      check_force: make sure, when the environment is built, that its step holds a force; costs
        one compilation.
      policy_key, privileged_key: what actor and critic see, where observations are dictionaries.
    """

    disturbance: Literal["action", "force"] = "action"
    body: str | None = None
    axes: str = _AXES
    check_force: bool = True
    policy_key: str = "state"
    privileged_key: str = "privileged_state"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.disturbance not in ("action", "force"):
            raise UserError(f"disturbance must be 'action' or 'force', got {self.disturbance!r}")
        if self.axes not in ("x", "y", "z", "xy", "xz", "yz", "xyz"):
            raise UserError(f"axes must be letters of 'xyz' in this order, got {self.axes!r}")


def import_optional(module: str, *, install: str) -> ModuleType:
    """Imports `module`, which is not among our dependencies.

    Args:
      module: its full name.
      install: what pip is to install for it.

    Raises:
      UserError: it is not installed, or it breaks while it is imported.
    """
    package = module.partition(".")[0]
    command = f'pip install "{install}"'
    try:
        # What a package has to say about its own dependencies is no news to our user: MJX prints
        # that warp is absent, Brax warns of an unmaintained one.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        is_absent = (error.name or "").partition(".")[0] == package
        what = "is not installed" if is_absent else f"lacks {error.name!r}"
        raise UserError(f"{package} {what}: {command}") from error
    except Exception as error:
        raise UserError(
            f"{package} is installed but breaks when it is imported ({type(error).__name__}: "
            f"{error}); a version that works: {command}"
        ) from error


@contextlib.contextmanager
def foreign_code() -> Iterator[None]:
    """Traces under JAX's own rules of promotion, which foreign code is written for.

    The caller's may be stricter. What is deprecated in there is for its authors to hear.
    """
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


class TaskReward(NamedTuple):
    """The part of the reward that the robustness cost is measured on.

    Attributes:
      maximum: largest attainable one of a step.
      scale: what the cost is divided by.
    """

    maximum: float
    scale: float


def task_reward_bound(
    label: str, config: AdapterConfig, known: TaskReward | None, *, is_part: bool
) -> TaskReward:
    """Returns maximum and scale of the task reward: what is set, else what is known.

    Args:
      label: the environment's name in messages.
      config: what the user set.
      known: bound of the whole reward, where this package knows it.
      is_part: the task reward is a part of the reward only, so `known` is of no use.

    Raises:
      UserError: nobody says how large the task reward can be, or a number is out of range.
    """
    known = None if is_part else known
    maximum = config.task_reward_max
    if maximum is None and known is None:
        raise UserError(
            f"nobody knows how large the task reward of {label} can be in one step, and the "
            "H-infinity cost is task_reward_max - task reward: set task_reward_max "
            "(env.task_reward_max=NUMBER on the command line)"
        )
    if maximum is None:
        assert known is not None
        maximum, default_scale = known
    else:
        default_scale = maximum if maximum > 0 else 1.0
    scale = default_scale if config.task_reward_scale is None else config.task_reward_scale
    if not math.isfinite(maximum) or not 0 < scale < math.inf:
        raise UserError(
            f"task_reward_max of {label} must be finite and task_reward_scale positive and "
            f"finite, got {maximum} and {scale}"
        )
    return TaskReward(float(maximum), float(scale))


class ActionChannel:
    """The disturbance is added to the normalised action, after that is clipped.

    Where the environment clips its actions itself, it clips the sum.
    """

    def __init__(self, size: int, limit: float) -> None:
        self.spec = DisturbanceSpec(
            size=size,
            limit=limit,
            unit="action",
            meaning="added to the normalised action, which lies in [-1, 1]",
        )

    def apply(self, state: Any, action: Array, push: Array) -> tuple[Any, Array]:
        """Returns the state and the action [A] that the environment is stepped with."""
        return state, action + push


class BodyForce:
    """The disturbance is a force on one body, written to `xfrc_applied` before the step.

    MJX never clears that field, so the force acts in every substep of the control step, unless
    the environment's own step overwrites it.

    Args:
      field: where the state keeps the MJX data, "pipeline_state" or "data".
      model: the `mujoco.MjModel`.
      config: body, axes and limit.

    Raises:
      UserError: there is no such body.
    """

    def __init__(self, field: str, model: Any, config: SimulationConfig) -> None:
        bodies = [model.body(i).name for i in range(1, model.nbody)]
        if config.body is None:
            raise UserError(f"disturbance = 'force' needs a body: one of {', '.join(bodies)}")
        if config.body not in bodies:
            raise unknown_name("body", config.body, bodies)
        self.field = field
        self.body = int(model.body(config.body).id)
        self.columns = tuple(_AXES.index(axis) for axis in config.axes)
        self.spec = DisturbanceSpec(
            size=len(self.columns),
            limit=config.disturbance_limit,
            unit="N",
            meaning=f"force on the centre of mass of body {config.body!r}, along "
            f"{', '.join(config.axes)} of the world",
        )

    def apply(self, state: Any, action: Array, push: Array) -> tuple[Any, Array]:
        """Returns the state with the force [D] written into it, and the action."""
        data = getattr(state, self.field)
        row = jnp.zeros((6,), jnp.float32).at[jnp.array(self.columns, jnp.int32)].set(push)
        data = data.replace(xfrc_applied=data.xfrc_applied.at[self.body].set(row))
        return state.replace(**{self.field: data}), action

    def read(self, state: Any) -> tuple[Array, Array]:
        """Returns the force [D] on the body after a step, and the velocities of all joints."""
        data = getattr(state, self.field)
        return data.xfrc_applied[self.body, jnp.array(self.columns, jnp.int32)], data.qvel


TaskRewardOf = Callable[[Any], Array]
"""From a foreign state after a step to its [] task reward."""

__all__ = [
    "ACTION_LIMIT",
    "ActionChannel",
    "AdapterConfig",
    "BodyForce",
    "SimulationConfig",
    "TaskReward",
    "TaskRewardOf",
    "foreign_code",
    "import_optional",
    "task_reward_bound",
]

"""The environment protocol: one instance, pure, with a disturbance input.

An environment is written for a single instance and vectorised with `vmap`;
`hinf_rl.envs.batch` adds episode ends, fresh resets and the finite guard.
"""

import dataclasses
from typing import Protocol, runtime_checkable

from flax import struct

from hinf_rl.errors import UserError
from hinf_rl.types import Array, PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class DisturbanceSpec:
    """What a disturbance means to an environment.

    Attributes:
      size: number of components D; 0 means that the environment takes none.
      limit: Euclidean norm that a disturbance may not exceed, in `unit`; `inf` if unbounded.
      unit: physical unit, for example "N".
      meaning: what is pushed, where, and in which frame.
    """

    size: int
    limit: float
    unit: str
    meaning: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mirror:
    """Left-right symmetry as signed permutations: mirrored x = sign * x[permutation].

    Each field is a pair (permutation, sign) of tuples as long as the vector it mirrors.
    """

    policy: tuple[tuple[int, ...], tuple[float, ...]]
    privileged: tuple[tuple[int, ...], tuple[float, ...]]
    action: tuple[tuple[int, ...], tuple[float, ...]]
    disturbance: tuple[tuple[int, ...], tuple[float, ...]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnvSpec:
    """Sizes, rates and bounds of an environment.

    Attributes:
      name: task name.
      policy_size: length O of `observation["policy"]`.
      privileged_size: length P of `observation["privileged"]`, what the critic sees.
      action_size: length A of the action.
      disturbance: the disturbance's size, bound and meaning.
      dt_s: control period in seconds.
      episode_length: control steps after which an episode is truncated.
      task_reward_max: largest attainable task reward of one step, the oracle of the cost.
      task_reward_scale: what the cost is divided by to lose its unit; `task_reward_max` for
        rewards in [0, max], 1 where the reward has no lower bound.
      mirror: left-right symmetry of the task, if it has one.
    """

    name: str
    policy_size: int
    privileged_size: int
    action_size: int
    disturbance: DisturbanceSpec
    dt_s: float
    episode_length: int
    task_reward_max: float
    task_reward_scale: float
    mirror: Mirror | None = None

    def __post_init__(self) -> None:
        for field in ("policy_size", "privileged_size", "action_size", "episode_length"):
            if getattr(self, field) < 1:
                raise UserError(f"{field} must be at least 1, got {getattr(self, field)}")
        if self.dt_s <= 0 or self.task_reward_scale <= 0:
            raise UserError(
                f"dt_s and task_reward_scale must be positive, got {self.dt_s} and "
                f"{self.task_reward_scale}"
            )


@struct.dataclass
class State:
    """One instance of an environment after `reset` or `step`.

    Attributes:
      physics: what the simulator needs to go on (PyTree).
      observation: {"policy": [O], "privileged": [P]}, float32.
      reward: [] whole reward of the last step (task + auxiliary).
      task_reward: [] the part that the robustness cost is measured on.
      terminated: [] bool, the task ended (a fall): no value follows.
      truncated: [] bool, cut short: the value of the final observation follows.
      metrics: named [] scalars of the last step.
      parameters: this episode's randomised physics (PyTree).
      key: the instance's own PRNG key.
    """

    physics: PyTree
    observation: dict[str, Array]
    reward: Array
    task_reward: Array
    terminated: Array
    truncated: Array
    metrics: dict[str, Array]
    parameters: PyTree
    key: Array


@runtime_checkable
class Env(Protocol):
    """A pure environment of one instance."""

    @property
    def spec(self) -> EnvSpec:
        """Sizes, rates and bounds."""
        ...

    def reset(self, key: Array) -> State:
        """Starts an episode from `key`, which is consumed."""
        ...

    def step(self, state: State, action: Array, disturbance: Array | None = None) -> State:
        """Advances one control step.

        Args:
          state: the state to advance.
          action: [A] action.
          disturbance: [D] disturbance in the spec's unit, held for the whole step; None or
            zeros is the nominal system.
        """
        ...


def restart(env: Env, key: Array, final: State) -> State:
    """Starts the episode that follows `final`, the last state of the one before.

    An environment that carries something from episode to episode (a level of difficulty) has a
    method `restart(key, final)`; `final` may hold numbers that are not finite, which must not
    reach the new episode. Every other environment is reset.
    """
    method = getattr(env, "restart", None)
    return env.reset(key) if method is None else method(key, final)


__all__ = ["DisturbanceSpec", "Env", "EnvSpec", "Mirror", "State", "restart"]

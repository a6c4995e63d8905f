"""What an algorithm is to the training loop and to the evaluation."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from hinf_rl.types import Array, Metrics, PyTree


class Policy(Protocol):
    """A trained player: a PyTree that maps observations to actions."""

    def __call__(self, observation: dict[str, Array], key: Array | None = None) -> Array:
        """Returns [..., A] actions for observations [..., O]; the mean where `key` is None."""
        ...


class Algorithm(NamedTuple):
    """A training algorithm as pure functions over one carry.

    Attributes:
      init: `init(key, hyperparameters=None) -> carry`; everything that training carries.
      step: `step(carry) -> (carry, metrics)`; one iteration, metrics are [] float32.
      policy: `policy(carry) -> Policy`, the actor.
      disturber: `disturber(carry) -> Policy`, in the disturbance's unit, after clipping.
      config: the frozen configuration that the algorithm was made from.
      env_steps_per_iteration: environment steps that one `step` takes.
      environment_fields: the carry's fields whose leaves are [E, ...], a row per environment;
        several devices share their rows, and hold a copy of everything else.
    """

    init: Callable[..., PyTree]
    step: Callable[[PyTree], tuple[PyTree, Metrics]]
    policy: Callable[[PyTree], Any]
    disturber: Callable[[PyTree], Any]
    config: Any
    env_steps_per_iteration: int
    environment_fields: tuple[str, ...] = ()


__all__ = ["Algorithm", "Policy"]

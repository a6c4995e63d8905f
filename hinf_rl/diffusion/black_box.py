"""Rewards that JAX cannot see into: any Python function of samples and contexts."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hinf_rl.errors import UserError
from hinf_rl.types import Array

HostFunction = Callable[[np.ndarray, np.ndarray], Any]
"""`function(samples [M, D], contexts [M, C]) -> [M]`, or [M, R], on the host."""


def host_reward(
    function: HostFunction, *, name: str, retries: int = 2, num_rewards: int | None = None
) -> Callable[[dict[str, Array], Array], Array]:
    """Makes a host function a reward that training can call inside compiled code.

    Seeds that train side by side arrive as one batch of rows.

    Args:
      function: of NumPy arrays; it must not call JAX.
      name: what error messages call it.
      retries: further calls where it raises or returns something that is not finite, as a remote
        scorer may do once.
      num_rewards: R where it returns [M, R]; None for [M].

    Returns:
      The reward, a function of the outcome {"sample": [M, D]} and the context [M, C]. It raises
      UserError where the function's last try fails; inside compiled code the runtime wraps it.
    """
    tail = () if num_rewards is None else (num_rewards,)

    def on_host(sample: np.ndarray, context: np.ndarray) -> np.ndarray:
        lead = sample.shape[:-1]
        rows = math.prod(lead)
        samples, contexts = (np.asarray(x).reshape(rows, -1) for x in (sample, context))
        value = _call(function, samples, contexts, (rows, *tail), name, retries)
        return value.reshape(*lead, *tail)

    def reward(outcome: dict[str, Array], context: Array) -> Array:
        sample = outcome["sample"]
        shape = jax.ShapeDtypeStruct((sample.shape[0], *tail), jnp.float32)
        return jax.pure_callback(on_host, shape, sample, context, vmap_method="broadcast_all")

    return reward


def _call(
    function: HostFunction,
    samples: np.ndarray,
    contexts: np.ndarray,
    shape: tuple[int, ...],
    name: str,
    retries: int,
) -> np.ndarray:
    """Returns the function's values as float32, checked."""
    problem, cause = "", None
    for _ in range(retries + 1):
        try:
            value = np.asarray(function(samples, contexts), np.float32)
        except Exception as error:
            problem, cause = f"raised {type(error).__name__}: {error}", error
            continue
        if value.shape != shape:
            # Another try gives the same shape.
            raise UserError(
                f"reward {name!r} returned shape {value.shape} for {len(samples)} samples; it "
                f"must return {shape}"
            )
        broken = np.flatnonzero(~np.isfinite(value).reshape(len(samples), -1).all(axis=1))
        if not len(broken):
            return value
        problem, cause = (
            f"returned {value[broken[0]]} for sample {broken[0]}, and {len(broken)} of "
            f"{len(samples)} values that are not finite",
            None,
        )
    raise UserError(
        f"reward {name!r} failed in {retries + 1} tries: the last {problem}; make it return a "
        "finite number for every sample"
    ) from cause


__all__ = ["HostFunction", "host_reward"]

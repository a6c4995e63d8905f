"""Type aliases shared by every layer."""

from typing import Any

import jax

Array = jax.Array
Numeric = float | jax.Array
PyTree = Any
Metrics = dict[str, jax.Array]

__all__ = ["Array", "Metrics", "Numeric", "PyTree"]

"""Type aliases shared by every layer."""

from typing import Any

import jax

Array = jax.Array
"""A JAX array; shapes stand in docstrings."""
Numeric = float | jax.Array
"""A Python number or a [] array."""
PyTree = Any
"""Any nest of containers with arrays as leaves."""
Metrics = dict[str, jax.Array]
"""Named [] numbers."""

__all__ = ["Array", "Metrics", "Numeric", "PyTree"]

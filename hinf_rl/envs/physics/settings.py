"""Settings of MJX that trade accuracy or memory for speed; imports no simulator."""

import dataclasses
from typing import Any, Literal

from hinf_rl.errors import UserError

IMPLEMENTATIONS = ("jax", "warp")
"""Implementations of MJX."""
INTEGRATORS = ("Euler", "implicitfast")
"""Integrators that MJX has."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MjxSettings:
    """How MJX simulates.

    The native engine iterates until the contact forces are found. Under `vmap` MJX iterates until
    the slowest environment has found them, or all have reached the limit: rows that stop early
    are wrong by many rad/s, not by a little. What each limit costs is measured in
    `experiments/parity`.

    Attributes:
      impl: "jax" runs on every device; "warp" (NVIDIA GPUs, or a CPU for checks) has kernels of
        its own, stops each environment's iterations by itself and is not deterministic.
      integrator: "implicitfast" is what native physics uses and holds stiff PD gains at steps
        of 10 ms; "Euler" saves a factorisation, treats the gains explicitly and so differs by
        rad/s at such steps: take it with smaller ones only.
      iterations: limit of the contact solver; the most expensive setting. Of quadrupeds on the
        ground some need more than 6; 1 suits no task here.
      ls_iterations: limit of the solver's line search in each iteration.
      max_contact_points: contacts kept, deepest first; None keeps all (4 of the feet, 4 of the
        trunk). 4 halves the solver's size; a trunk that touches the ground may then sink in,
        which the velocity task ends the episode for. Not for terrain, where one foot alone
        can have 4. "jax" only.
      max_geom_pairs: pairs of each kind of shapes tested, nearest first; None tests all. Worth
        setting with full collisions. "jax" only.
      warp_contacts: contacts of all environments together that "warp" has memory for; those
        beyond are dropped. 8 for each environment are enough for feet and trunk.
      warp_constraints: constraint rows of one environment that "warp" has memory for.
    """

    impl: Literal["jax", "warp"] = "jax"
    integrator: Literal["Euler", "implicitfast"] = "implicitfast"
    iterations: int = 10
    ls_iterations: int = 20
    max_contact_points: int | None = None
    max_geom_pairs: int | None = None
    warp_contacts: int = 65536
    warp_constraints: int = 64

    def __post_init__(self) -> None:
        for name, known in (("impl", IMPLEMENTATIONS), ("integrator", INTEGRATORS)):
            if getattr(self, name) not in known:
                raise UserError(
                    f"{name} must be {known[0]!r} or {known[1]!r}, got {getattr(self, name)!r}"
                )
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int) and value < 1:
                raise UserError(f"{field.name} must be at least 1, got {value}")
            if self.impl == "warp" and field.name.startswith("max_") and value is not None:
                raise UserError(
                    f"{field.name} is a setting of impl 'jax', got {value} with 'warp'; leave it "
                    "at none and set warp_contacts"
                )

    @property
    def solver(self) -> dict[str, Any]:
        """What the model's text says of the solver; `numerics` are the custom numbers of MJX."""
        limits = {name: getattr(self, name) for name in ("max_contact_points", "max_geom_pairs")}
        return {
            "integrator": self.integrator,
            "iterations": self.iterations,
            "ls_iterations": self.ls_iterations,
            "numerics": {name: value for name, value in limits.items() if value is not None},
        }


__all__ = ["IMPLEMENTATIONS", "INTEGRATORS", "MjxSettings"]

"""Left-right symmetry of the velocity task as signed permutations.

Reflection in the sagittal plane swaps left and right legs, and flips lateral positions, hip
angles and the rates about the forward and vertical axes.
"""

import dataclasses

from hinf_rl.envs.api import Mirror

_Signed = tuple[tuple[int, ...], tuple[float, ...]]

_POLAR = ((0, 1, 2), (1.0, -1.0, 1.0))  # positions, velocities, forces, gravity
_AXIAL = ((0, 1, 2), (-1.0, 1.0, -1.0))  # angular velocities
_COMMAND = ((0, 1, 2), (1.0, -1.0, -1.0))  # forward, lateral, yaw rate
_LEGS = ((1, 0, 3, 2), (1.0, 1.0, 1.0, 1.0))
_JOINTS = (
    tuple(3 * leg + joint for leg in (1, 0, 3, 2) for joint in range(3)),
    (-1.0, 1.0, 1.0) * 4,
)
_SCALAR = ((0,), (1.0,))


def _concatenate(*blocks: _Signed) -> _Signed:
    permutation: list[int] = []
    signs: list[float] = []
    for block_permutation, block_signs in blocks:
        start = len(permutation)
        permutation += [start + index for index in block_permutation]
        signs += block_signs
    return tuple(permutation), tuple(signs)


def _height_grid(rows: int, columns: int) -> _Signed:
    """Heights on `rows` lines ahead and abeam, each of `columns` points from right to left."""
    flipped = (row * columns + columns - 1 - i for row in range(rows) for i in range(columns))
    return tuple(flipped), (1.0,) * (rows * columns)


def velocity_mirror(height_grid: tuple[int, int] = (0, 0)) -> Mirror:
    """The reflection of the velocity task's observations, action and force.

    Args:
      height_grid: lines and points per line of the heights that the critic sees last.
    """
    policy = _concatenate(_COMMAND, _AXIAL, _POLAR, _JOINTS, _JOINTS, _JOINTS)
    return Mirror(
        policy=policy,
        privileged=_concatenate(policy, _POLAR, _POLAR, _SCALAR, _LEGS, _height_grid(*height_grid)),
        action=_JOINTS,
        disturbance=_POLAR,
    )


def hind_legs_mirror() -> Mirror:
    """The reflection of the hind-leg task: the same, and the time to rise has no side."""
    mirror = velocity_mirror()
    return dataclasses.replace(mirror, privileged=_concatenate(mirror.privileged, _SCALAR))


__all__ = ["hind_legs_mirror", "velocity_mirror"]

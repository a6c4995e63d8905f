"""Constants that MuJoCo derives from a model's mass distribution, recomputed inside JAX."""

# MuJoCo's compiled module carries no types.
# pyright: reportAttributeAccessIssue=false

from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from hinf_rl.types import Array

INERTIAL = frozenset(
    {
        "body_inertia",
        "body_ipos",
        "body_iquat",
        "body_mass",
        "body_pos",
        "body_quat",
        "dof_armature",
        "jnt_axis",
        "jnt_pos",
        "qpos0",
    }
)
"""Model fields that the inertia matrix at the reference pose depends on."""


def derived_constants(mjx: Any, model: Any, data: Any) -> dict[str, Array]:
    """What the dynamics read of the constants that `mj_setConst` sets.

    With M the inertia matrix at the reference pose, a body's weights are the means of
    diag(J M^-1 J^T) over the three axes, J the Jacobian of its centre of mass's position and of
    its attitude; a degree of freedom's is the mean of diag(M^-1) over those that it belongs
    with: the three translations or rotations of a free joint, or its own alone. Contacts, joint
    limits and dry friction are scaled by them.

    Args:
      mjx: the module `mujoco.mjx`.
      model: of the JAX implementation, with one environment's parameters; no tendons, no
        muscles.
      data: of the JAX implementation.

    Returns:
      Fields of the model by name: `body_invweight0` [nbody, 2], `body_subtreemass` [nbody],
      `dof_invweight0` [nv].
    """
    data = mjx.kinematics(model, data.replace(qpos=model.qpos0))
    data = mjx.crb(model, mjx.com_pos(model, data))
    inverse = jnp.linalg.inv(mjx.full_m(model, data))
    bodies = np.arange(model.nbody)
    jacobians = jnp.stack(jax.vmap(lambda p, b: mjx.jac(model, data, p, b))(data.xipos, bodies))
    return {
        "body_invweight0": jnp.einsum("kbia,ij,kbja->bk", jacobians, inverse, jacobians) / 3.0,
        "body_subtreemass": jnp.dot(_descendants(model), model.body_mass),
        "dof_invweight0": jnp.dot(_averages(model), jnp.diag(inverse)),
    }


def _descendants(model: Any) -> np.ndarray:
    """[nbody, nbody]: 1 where the column's body hangs on the row's, or is it."""
    tree = np.eye(model.nbody, dtype=np.float32)
    for body in range(model.nbody - 1, 0, -1):
        tree[model.body_parentid[body]] += tree[body]
    return tree


def _averages(model: Any) -> np.ndarray:
    """[nv, nv]: rows that average a free or ball joint's three translations or rotations."""
    free = int(mujoco.mjtJoint.mjJNT_FREE)
    joint = np.asarray(model.dof_jntid)
    place = np.arange(model.nv) - np.asarray(model.jnt_dofadr)[joint]
    turns = (np.asarray(model.jnt_type)[joint] == free) & (place >= 3)
    together = (joint[:, None] == joint[None]) & (turns[:, None] == turns[None])
    return (together / together.sum(axis=1, keepdims=True)).astype(np.float32)


__all__ = ["INERTIAL", "derived_constants"]

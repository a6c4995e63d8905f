"""Contacts of a foot-sized ball that has sunk into a slope, in native MuJoCo and in MJX."""

from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco import mjx

from hinf_rl.envs.foreign import foreign_code
from hinf_rl.types import Array

DEPTHS_M = (0.001, 0.002, 0.005, 0.01, 0.02)
"""Below what a robot on its feet sinks in, up to three quarters of the ball's radius."""
CELL_M, SLOPE = 0.05, 0.2
RADIUS_M, MASS_KG = 0.0265, 3.0
_HALF_M, _TOP_M = 0.5, 0.3


def model() -> mujoco.MjModel:
    """A ball over a slope that rises along x; contacts as stiff as the terrain task's."""
    count = round(2 * _HALF_M / CELL_M) + 1
    contact, size = 'solref="0.01 1"', f"{_HALF_M} {_HALF_M} {_TOP_M} 0.1"
    found = mujoco.MjModel.from_xml_string(f"""
      <mujoco>
        <option timestep="0.005"/>
        <asset>
          <hfield name="slope" nrow="{count}" ncol="{count}" size="{size}"/>
        </asset>
        <worldbody>
          <geom type="hfield" hfield="slope" {contact}/>
          <body><freejoint/><geom size="{RADIUS_M}" mass="{MASS_KG}" {contact}/></body>
        </worldbody>
      </mujoco>""")
    height_m = SLOPE * np.linspace(0.0, 2 * _HALF_M, count)
    found.hfield_data[:] = np.tile(height_m / _TOP_M, (count, 1)).ravel()
    return found


def centres(depth_m: float, count: int) -> np.ndarray:
    """Centres [N, 3] of balls that have sunk in by `depth_m` at random places."""
    xy = np.random.default_rng(0).uniform(-0.3, 0.3, (count, 2))
    height = SLOPE * (xy[:, 0] + _HALF_M) + (RADIUS_M - depth_m) * np.sqrt(1.0 + SLOPE**2)
    return np.concatenate([xy, height[:, None]], axis=1)


def contacts(count: int) -> list[dict[str, Any]]:
    """One row for each depth: contacts of each engine, and the ball's acceleration apart."""
    native = model()
    device_model = mjx.put_model(native)

    @jax.jit
    @jax.vmap
    def simulate(centre: Array) -> tuple[Array, Array]:
        data = mjx.make_data(device_model)
        data = data.replace(qpos=data.qpos.at[:3].set(centre))
        with foreign_code():
            data = mjx.forward(device_model, data)
        return jnp.sum(data._impl.contact.dist < 0.0), data.qacc[:3]

    rows = []
    for depth_m in DEPTHS_M:
        places = centres(depth_m, count)
        expected, touching = np.zeros((count, 3)), np.zeros(count, int)
        data = mujoco.MjData(native)
        for index, place in enumerate(places):
            mujoco.mj_resetData(native, data)
            data.qpos[:3] = place
            mujoco.mj_forward(native, data)
            expected[index], touching[index] = data.qacc[:3], data.ncon
        found_touching, found = jax.tree.map(np.asarray, simulate(jnp.asarray(places, jnp.float32)))
        apart = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
        middle, high = np.quantile(apart, [0.5, 0.95])
        rows.append(
            {
                "depth_m": depth_m,
                "same_count": float(np.mean(found_touching == touching)),
                "contacts": {
                    "native": float(np.mean(touching)),
                    "mjx": float(np.mean(found_touching)),
                },
                "acceleration": {
                    "median": float(middle),
                    "p95": float(high),
                    "worst": float(apart.max()),
                },
            }
        )
        print(f"{1000 * depth_m:g} mm deep: {rows[-1]}", flush=True)
    return rows

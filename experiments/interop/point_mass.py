"""A point mass on a rail with MuJoCo Playground's interface: the smallest one that does something.

It shows what `from_playground` wants of an environment, and everything about it is known: from
rest, a force F on the mass m for n substeps of h seconds gives the velocity n h F / m and the
position n (n + 1) / 2 h^2 F / m (semi-implicit Euler), and the best return follows from a Riccati
recursion.
"""

from typing import Any

import jax
import jax.numpy as jnp
import mujoco
from flax import struct

from hinf_rl.envs.foreign import foreign_code, import_optional

mjx = import_optional("mujoco.mjx", install="hinf-rl[mjx]")

MASS_KG = 2.0
ACTUATOR_N = 8.0
SUBSTEP_S = 0.02
POSITION_COST, VELOCITY_COST, ACTION_COST = 1.0, 0.1, 1.2

_MODEL = f"""
<mujoco>
  <option timestep="{SUBSTEP_S}" gravity="0 0 0"/>
  <worldbody>
    <body name="mass">
      <joint name="rail" type="slide" axis="1 0 0"/>
      <geom type="sphere" size="0.1" mass="{MASS_KG}" contype="0" conaffinity="0"/>
    </body>
    <body name="anchor"><geom type="sphere" size="0.1" contype="0" conaffinity="0"/></body>
  </worldbody>
  <actuator><motor joint="rail" gear="{ACTUATOR_N}"/></actuator>
</mujoco>
"""


@struct.dataclass
class PlaygroundState:
    """A state with the fields of Playground's."""

    data: Any
    obs: dict[str, jax.Array]
    reward: jax.Array
    done: jax.Array
    metrics: dict[str, jax.Array]
    info: dict[str, Any]


class PointMass:
    """Bring a mass to the origin and keep it there.

    Reward -(x^2 + 0.1 v^2 + 1.2 a^2) after each step, with the action a in [-1, 1]; starts at
    rest with x uniform in [-1, 1]; done beyond 3 m.
    """

    n_substeps = 3
    action_size = 1

    def __init__(self) -> None:
        self.mj_model = mujoco.MjModel.from_xml_string(_MODEL)
        with foreign_code():
            self.mjx_model = mjx.put_model(self.mj_model)

    @property
    def dt(self) -> float:
        """Control period in seconds."""
        return SUBSTEP_S * self.n_substeps

    @property
    def observation_size(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the observations."""
        return {"state": (2,), "privileged_state": (3,)}

    def reset(self, rng: jax.Array) -> PlaygroundState:
        """Starts an episode."""
        x = jax.random.uniform(rng, (1,), minval=-1.0, maxval=1.0)
        data = mjx.forward(self.mjx_model, mjx.make_data(self.mjx_model).replace(qpos=x))
        zero = jnp.zeros(())
        return PlaygroundState(
            data=data,
            obs=self._observe(data),
            reward=zero,
            done=zero,
            metrics={"reward/position": zero},
            info={"steps": 0},
        )

    def step(self, state: PlaygroundState, action: jax.Array) -> PlaygroundState:
        """Advances one control step."""

        def substep(data: Any, _: None) -> tuple[Any, None]:
            return mjx.step(self.mjx_model, data.replace(ctrl=action)), None

        data, _ = jax.lax.scan(substep, state.data, length=self.n_substeps)
        x, v = data.qpos[0], data.qvel[0]
        position = -POSITION_COST * x**2
        # As Playground's environments do: the dictionaries of the given state are written to.
        state.metrics["reward/position"] = position
        state.info["steps"] += 1
        return state.replace(
            data=data,
            obs=self._observe(data),
            reward=position - VELOCITY_COST * v**2 - ACTION_COST * action[0] ** 2,
            done=(jnp.abs(x) > 3.0).astype(float),
        )

    def _observe(self, data: Any) -> dict[str, jax.Array]:
        state = jnp.concatenate([data.qpos, data.qvel])
        return {"state": state, "privileged_state": jnp.append(state, data.xfrc_applied[1, 0])}


class OwnPushes(PointMass):
    """A point mass that pushes itself, as some of Playground's robots do."""

    def step(self, state: PlaygroundState, action: jax.Array) -> PlaygroundState:
        """Advances one control step, without the forces that it was given."""
        own = jnp.zeros_like(state.data.xfrc_applied)
        return super().step(state.replace(data=state.data.replace(xfrc_applied=own)), action)


__all__ = [
    "ACTION_COST",
    "ACTUATOR_N",
    "MASS_KG",
    "POSITION_COST",
    "SUBSTEP_S",
    "VELOCITY_COST",
    "OwnPushes",
    "PlaygroundState",
    "PointMass",
]

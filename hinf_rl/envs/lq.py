"""Linear-quadratic environments: the tasks whose best policy is known exactly.

x_{t+1} = A x + B u + D w, x_0 ~ N(0, initial_std^2 I), and the cost x'Qx + u'Ru of one step as
negative reward. `hinf_rl.ops.riccati` holds what a policy learned here is compared with.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from hinf_rl.envs.api import DisturbanceSpec, EnvSpec, State
from hinf_rl.errors import UserError
from hinf_rl.ops.linear_system import LinearSystem
from hinf_rl.types import Array

# TF32 on a GPU would round the dynamics to three digits.
_EXACT = jax.lax.Precision.HIGHEST


@dataclasses.dataclass(frozen=True)
class LQEnv:
    """A linear system with a quadratic cost; see `hinf_rl.envs.api.Env`.

    Attributes:
      system: matrices A, B, D, Q, R.
      episode_length: steps after which an episode is truncated; it never terminates.
      split: whether u'Ru is an auxiliary reward, outside the cost of the robustness constraint.
      initial_std: standard deviation of each component of x_0.
    """

    system: LinearSystem
    _: dataclasses.KW_ONLY
    episode_length: int = 50
    split: bool = False
    initial_std: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.initial_std) and self.initial_std >= 0.0):
            raise UserError(f"initial_std must be finite and >= 0, got {self.initial_std}")
        if self.episode_length < 1:
            raise UserError(f"episode_length must be at least 1, got {self.episode_length}")

    @property
    def spec(self) -> EnvSpec:
        """Sizes, rates and bounds."""
        n, m = self.system.B.shape
        return EnvSpec(
            name="lq",
            policy_size=n,
            privileged_size=n,
            action_size=m,
            disturbance=DisturbanceSpec(
                size=self.system.D.shape[1],
                limit=math.inf,
                unit="",
                meaning="input w of x_{t+1} = A x + B u + D w",
            ),
            dt_s=1.0,
            episode_length=self.episode_length,
            task_reward_max=0.0,
            task_reward_scale=1.0,
        )

    def reset(self, key: Array) -> State:
        """Draws x_0 ~ N(0, initial_std^2 I)."""
        key, key_x = jax.random.split(key)
        size = len(self.system.A)
        x = self.initial_std * jax.random.normal(key_x, (size,), jnp.float32)
        zero = jnp.zeros((), jnp.float32)
        return self._state(x, zero, zero, key)

    def step(self, state: State, action: Array, disturbance: Array | None = None) -> State:
        """Advances one step; the reward is of x_t and u_t, before the transition.

        Args:
          state: the state to advance.
          action: [m] u_t.
          disturbance: [d] w_t, or None for 0.
        """
        A, B, D, Q, R = (jnp.asarray(value, jnp.float32) for value in self.system.matrices)
        x = state.physics
        state_cost = _quadratic_form(x, Q)
        action_cost = _quadratic_form(action, R)
        x_next = jnp.matmul(A, x, precision=_EXACT) + jnp.matmul(B, action, precision=_EXACT)
        if disturbance is not None:
            x_next = x_next + jnp.matmul(D, disturbance, precision=_EXACT)
        return self._state(x_next, state_cost, action_cost, state.key)

    def _state(self, x: Array, state_cost: Array, action_cost: Array, key: Array) -> State:
        """Returns the state at x whose last step cost x'Qx = `state_cost`, u'Ru = `action_cost`."""
        is_ended = jnp.zeros((), jnp.bool_)
        reward = -(state_cost + action_cost)
        return State(
            physics=x,
            observation={"policy": x, "privileged": x},
            reward=reward,
            task_reward=-state_cost if self.split else reward,
            terminated=is_ended,
            truncated=is_ended,
            metrics={"state_cost": state_cost, "action_cost": action_cost},
            parameters=(),
            key=key,
        )


def _quadratic_form(x: Array, weight: Array) -> Array:
    """Returns x' weight x, []."""
    return jnp.dot(x, jnp.matmul(weight, x, precision=_EXACT), precision=_EXACT)


__all__ = ["LQEnv"]

"""Environments made from environments: observation history, disturbance on the action."""

import dataclasses

import jax.numpy as jnp

from hinf_rl.envs.api import DisturbanceSpec, Env, EnvSpec, Mirror, State, restart
from hinf_rl.errors import UserError
from hinf_rl.types import Array


class HistoryWrapper:
    """Gives the policy its last `length` observations, newest first, as one [length * O] vector.

    At reset every slot holds the first observation, so a history never spans two episodes. The
    privileged observation is left as it is. The history lives in the observation itself: the
    wrapped environment sees its own observation again as the newest slot.
    """

    def __init__(self, env: Env, length: int) -> None:
        if length < 1:
            raise UserError(f"history length must be at least 1, got {length}")
        self.env = env
        self.length = length

    @property
    def spec(self) -> EnvSpec:
        """The wrapped spec with `length` times the policy observation."""
        inner = self.env.spec
        mirror = inner.mirror
        if mirror is not None:
            mirror = dataclasses.replace(mirror, policy=self._mirror_of_stack(mirror))
        return dataclasses.replace(
            inner, policy_size=self.length * inner.policy_size, mirror=mirror
        )

    def reset(self, key: Array) -> State:
        """Starts an episode whose history is the first observation, repeated."""
        return self._repeated(self.env.reset(key))

    def restart(self, key: Array, final: State) -> State:
        """Starts the episode after `final`; see `hinf_rl.envs.api.restart`."""
        return self._repeated(restart(self.env, key, final))

    def step(self, state: State, action: Array, disturbance: Array | None = None) -> State:
        """Advances one control step and drops the oldest observation."""
        size = self.env.spec.policy_size
        history = state.observation["policy"]
        stepped = self.env.step(_with_policy(state, history[:size]), action, disturbance)
        newest = stepped.observation["policy"]
        return _with_policy(stepped, jnp.concatenate([newest, history[:-size]]))

    def _repeated(self, state: State) -> State:
        return _with_policy(state, jnp.tile(state.observation["policy"], self.length))

    def _mirror_of_stack(self, mirror: Mirror) -> tuple[tuple[int, ...], tuple[float, ...]]:
        permutation, sign = mirror.policy
        size = len(permutation)
        stacked = tuple(slot * size + i for slot in range(self.length) for i in permutation)
        return stacked, sign * self.length


class ActionDisturbanceWrapper:
    """Adds the disturbance to the action, for environments without body forces.

    The wrapped environment runs without a disturbance of its own. Where it clips actions, it
    clips the sum.
    """

    def __init__(self, env: Env, limit: float) -> None:
        if not limit > 0:
            raise UserError(f"limit of the action disturbance must be positive, got {limit}")
        self.env = env
        self.limit = float(limit)

    @property
    def spec(self) -> EnvSpec:
        """The wrapped spec with a disturbance as large as the action."""
        inner = self.env.spec
        mirror = inner.mirror
        if mirror is not None:
            mirror = dataclasses.replace(mirror, disturbance=mirror.action)
        disturbance = DisturbanceSpec(
            size=inner.action_size, limit=self.limit, unit="action", meaning="added to the action"
        )
        return dataclasses.replace(inner, disturbance=disturbance, mirror=mirror)

    def reset(self, key: Array) -> State:
        """Starts an episode from `key`, which is consumed."""
        return self.env.reset(key)

    def restart(self, key: Array, final: State) -> State:
        """Starts the episode after `final`; see `hinf_rl.envs.api.restart`."""
        return restart(self.env, key, final)

    def step(self, state: State, action: Array, disturbance: Array | None = None) -> State:
        """Advances one control step under `action + disturbance`."""
        return self.env.step(state, action if disturbance is None else action + disturbance)


def _with_policy(state: State, policy: Array) -> State:
    return dataclasses.replace(state, observation={**state.observation, "policy": policy})


__all__ = ["ActionDisturbanceWrapper", "HistoryWrapper"]

"""Probe environments: tiny tasks whose values and best actions are known in closed form.

Each isolates one thing that a learner can get wrong; run them in order. If one fails, the
earlier ones say where to look:

| name | isolates | optimal action | optimal value |
|---|---|---|---|
| `constant_reward` | value regression | any | 1 |
| `observed_reward` | the observation reaches the value | any | (1 + o) / 2 |
| `delayed_reward` | discount and bootstrap | any | discount^(1 - o) |
| `action_reward` | policy gradient | 1/2 | 1 |
| `observed_action_reward` | the observation reaches the policy | o / 2 | 1 |
| `saddle` | actor against disturber | 0.4 o | 49/85, with disturbance 0.2 o |

Actions are clipped to [-1, 1]; every reward lies in [0, 1] and is all task reward.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from hinf_rl.envs.api import DisturbanceSpec, EnvSpec, Mirror, State
from hinf_rl.types import Array, Numeric


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probe:
    """An environment of one or two steps with a known solution.

    The observation o is a sign drawn at reset (`observes_sign`) or the number of steps taken.
    An episode always ends by termination.

    Attributes:
      name: task name.
      reward: `reward(o, a, w) -> []`, with w = 0 unless `takes_disturbance`.
      optimal_action: `optimal_action(o) -> []` against the best disturbance; 0 where any is best.
      optimal_value: `optimal_value(o, discount) -> []` under optimal play.
      best_disturbance: `best_disturbance(a, price) -> []`, the w that maximises
        `1 - reward - price * w^2`.
      num_steps: steps per episode.
      observes_sign: see above.
      takes_disturbance: whether there is a disturbance input, |w| <= 1.
      is_symmetric: whether flipping o, a and w leaves the reward unchanged.
    """

    name: str
    reward: Callable[[Array, Array, Array], Array]
    optimal_action: Callable[[Array], Array]
    optimal_value: Callable[[Array, Numeric], Array]
    best_disturbance: Callable[[Array, Numeric], Array] | None = None
    num_steps: int = 1
    observes_sign: bool = False
    takes_disturbance: bool = False
    is_symmetric: bool = False

    @property
    def spec(self) -> EnvSpec:
        """Sizes, rates and bounds."""
        size = int(self.takes_disturbance)
        flip = ((0,), (-1.0,))
        mirror = Mirror(
            policy=flip, privileged=flip, action=flip, disturbance=flip if size else ((), ())
        )
        return EnvSpec(
            name=self.name,
            policy_size=1,
            privileged_size=1,
            action_size=1,
            disturbance=DisturbanceSpec(
                size=size, limit=float(size), unit="1", meaning="enters the reward"
            ),
            dt_s=1.0,
            episode_length=self.num_steps,
            task_reward_max=1.0,
            task_reward_scale=1.0,
            mirror=mirror if self.is_symmetric else None,
        )

    def reset(self, key: Array) -> State:
        """Starts an episode from `key`, which is consumed."""
        key_sign, key = jax.random.split(key)
        sign = jnp.where(jax.random.bernoulli(key_sign), jnp.float32(1), jnp.float32(-1))
        observation = sign if self.observes_sign else jnp.zeros((), jnp.float32)
        zero = jnp.zeros((), jnp.float32)
        return _state(observation, zero, zero, jnp.zeros((), bool), key)

    def step(self, state: State, action: Array, disturbance: Array | None = None) -> State:
        """Advances one step; `action` [1], `disturbance` [1], [0] or None."""
        observation, time = state.physics["observation"], state.physics["time"]
        push = jnp.zeros((), jnp.float32)
        if self.takes_disturbance and disturbance is not None:
            push = disturbance[0]
        reward = self.reward(observation, jnp.clip(action[0], -1.0, 1.0), push)
        time = time + jnp.float32(1)
        next_observation = observation if self.observes_sign else time
        return _state(next_observation, time, reward, time >= self.num_steps, state.key)


def _state(observation: Array, time: Array, reward: Array, terminated: Array, key: Array) -> State:
    return State(
        physics={"observation": observation, "time": time},
        observation={"policy": observation[None], "privileged": observation[None]},
        reward=reward,
        task_reward=reward,
        terminated=terminated,
        truncated=jnp.zeros((), bool),
        metrics={},
        parameters={},
        key=key,
    )


def _parabola(action: Array, target: Array) -> Array:
    """1 - ((a - target) / 2)^2, in [0, 1] for |a|, |target| <= 1."""
    return 1.0 - ((action - target) / 2.0) ** 2


def _saddle_reward(observation: Array, action: Array, push: Array) -> Array:
    """(5/2 + f) / (17/4) with f = -(a - o/2)^2 - a w + w^2, concave in a, convex in w.

    df/da = 0 gives a = o/2 - w/2, df/dw = 0 gives w = a/2: so a = 0.4 o, w = 0.2 o, and there
    f = -0.01 - 0.08 + 0.04 = -1/20. On |a|, |w| <= 1 with o = 1, f is least at a = -1,
    w = -1/2 (-5/2) and largest at a = 1, w = -1 (7/4): the reward lies in [0, 1], and its
    saddle value is (49/20) / (17/4) = 49/85.
    """
    f = -((action - observation / 2.0) ** 2) - action * push + push**2
    return (2.5 + f) / 4.25


def _saddle_best_disturbance(action: Array, price: Numeric) -> Array:
    """Maximises `1 - reward - price w^2`: -df/dw = 17/2 price w, so w = a / (2 + 17/2 price)."""
    return action / (2.0 + 8.5 * price)


def _zero(observation: Array) -> Array:
    return jnp.zeros_like(observation)


def _one(observation: Array, discount: Numeric) -> Array:
    del discount
    return jnp.ones_like(observation)


PROBES: dict[str, Probe] = {
    probe.name: probe
    for probe in (
        Probe(
            name="constant_reward",
            reward=lambda o, a, w: jnp.ones_like(o),
            optimal_action=_zero,
            optimal_value=_one,
        ),
        Probe(
            name="observed_reward",
            reward=lambda o, a, w: (1.0 + o) / 2.0,
            optimal_action=_zero,
            optimal_value=lambda o, discount: (1.0 + o) / 2.0,
            observes_sign=True,
        ),
        Probe(
            name="delayed_reward",
            reward=lambda o, a, w: o,
            optimal_action=_zero,
            optimal_value=lambda o, discount: discount ** (1.0 - o),
            num_steps=2,
        ),
        Probe(
            name="action_reward",
            reward=lambda o, a, w: _parabola(a, jnp.float32(0.5)),
            optimal_action=lambda o: jnp.full_like(o, 0.5),
            optimal_value=_one,
        ),
        Probe(
            name="observed_action_reward",
            reward=lambda o, a, w: _parabola(a, o / 2.0),
            optimal_action=lambda o: o / 2.0,
            optimal_value=_one,
            observes_sign=True,
            is_symmetric=True,
        ),
        Probe(
            name="saddle",
            reward=_saddle_reward,
            optimal_action=lambda o: 0.4 * o,
            optimal_value=lambda o, discount: jnp.full_like(o, 49.0 / 85.0),
            best_disturbance=_saddle_best_disturbance,
            observes_sign=True,
            takes_disturbance=True,
            is_symmetric=True,
        ),
    )
}
"""The probes by name."""

__all__ = ["PROBES", "Probe"]

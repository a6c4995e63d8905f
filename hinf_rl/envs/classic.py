"""Pendulum swing-up and cart-pole with a velocity command, in closed-form dynamics.

Angles are measured from upright. Both integrate with one fourth-order Runge-Kutta step per
control step, with action and disturbance held. Actions are normalised: clipped to [-1, 1],
then scaled by the actuator's limit.
"""

import dataclasses

import jax
import jax.numpy as jnp

from hinf_rl.envs.api import DisturbanceSpec, EnvSpec, Mirror, State
from hinf_rl.envs.classic_dynamics import (
    CartPoleParameters,
    PendulumParameters,
    cart_pole_acceleration,
    pendulum_acceleration,
    runge_kutta,
)
from hinf_rl.errors import UserError
from hinf_rl.types import Array

Range = tuple[float, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PendulumConfig:
    """Pendulum settings; the physics is that of Morimoto & Doya's robust swing-up.

    Where `randomise` is set, each episode draws mass, length and friction uniformly from the
    ranges instead; the defaults reach their hardest test, 3 kg with friction 0.3.
    """

    mass_kg: float = 1.0
    length_m: float = 1.0
    friction_nms: float = 0.01
    torque_limit_nm: float = 5.0  # below m g l = 9.8: it must swing to get up
    disturbance_limit_nm: float = 1.0
    dt_s: float = 0.05
    episode_length: int = 200
    randomise: bool = False
    mass_range_kg: Range = (0.5, 3.0)
    length_range_m: Range = (0.8, 1.2)
    friction_range_nms: Range = (0.0, 0.3)

    def __post_init__(self) -> None:
        _check_positive(
            self, "mass_kg", "length_m", "torque_limit_nm", "disturbance_limit_nm", "dt_s"
        )
        _check_not_negative(self, "friction_nms")
        _check_range(self, "mass_range_kg", "length_range_m", is_positive=True)
        _check_range(self, "friction_range_nms", is_positive=False)


class Pendulum:
    """Swing a pendulum up and hold it; the disturbance is a torque at the pivot.

    m l^2 angle'' = m g l sin(angle) - friction angle' + torque + disturbance

    Task reward (1 + cos(angle)) / 2, in [0, 1]; whole reward minus 0.02 torque^2. Together that
    is 1 + (Q - R torque^2) / 2 with Morimoto & Doya's Q = cos(angle) - 1 and R = 0.04. Nothing
    terminates. Policy observation [cos, sin, angle' / 8]; the privileged one appends the last
    disturbance over its limit. Metric `tracking_error`: |angle| in rad.
    """

    def __init__(self, config: PendulumConfig | None = None) -> None:
        self.config = config or PendulumConfig()

    @property
    def spec(self) -> EnvSpec:
        """Sizes, rates and bounds."""
        disturbance = DisturbanceSpec(
            size=1,
            limit=self.config.disturbance_limit_nm,
            unit="N m",
            meaning="torque on the pivot, positive as the angle",
        )
        return _spec("pendulum", (1.0, -1.0, -1.0), disturbance, self.config)

    def reset(self, key: Array) -> State:
        """Starts at any angle, nearly at rest."""
        config = self.config
        key_angle, key_rate, key_parameters, key = jax.random.split(key, 4)
        physics = {
            "angle": jax.random.uniform(key_angle, (), jnp.float32, -jnp.pi, jnp.pi),
            "angle_rate": jax.random.uniform(key_rate, (), jnp.float32, -0.05, 0.05),
        }
        nominal = (config.mass_kg, config.length_m, config.friction_nms)
        ranges = (config.mass_range_kg, config.length_range_m, config.friction_range_nms)
        values = _draw(key_parameters, nominal, ranges if config.randomise else None)
        zero = jnp.zeros((), jnp.float32)
        return self._state(physics, zero, zero, PendulumParameters(*values), key)

    def step(self, state: State, action: Array, disturbance: Array | None = None) -> State:
        """Advances one control step; `action` [1], `disturbance` [1] in N m."""
        parameters = state.parameters
        torque = self.config.torque_limit_nm * jnp.clip(action[0], -1.0, 1.0)
        push = _scalar(disturbance)

        def velocity(x: Array) -> Array:
            acceleration = pendulum_acceleration(parameters, x[0], x[1], torque + push)
            return jnp.stack([x[1], acceleration])

        x = jnp.stack([state.physics["angle"], state.physics["angle_rate"]])
        x = runge_kutta(velocity, x, self.config.dt_s)
        physics = {"angle": x[0], "angle_rate": x[1]}
        return self._state(physics, torque, push, parameters, state.key)

    def _state(
        self,
        physics: dict[str, Array],
        torque: Array,
        push: Array,
        parameters: PendulumParameters,
        key: Array,
    ) -> State:
        cos, sin = jnp.cos(physics["angle"]), jnp.sin(physics["angle"])
        policy = jnp.stack([cos, sin, physics["angle_rate"] / 8.0])
        task_reward = (1.0 + cos) / 2.0
        return State(
            physics=physics,
            observation=_observation(policy, push, self.config.disturbance_limit_nm),
            reward=task_reward - 0.02 * torque**2,
            task_reward=task_reward,
            terminated=jnp.zeros((), bool),
            truncated=jnp.zeros((), bool),
            metrics={"tracking_error": jnp.abs(jnp.arctan2(sin, cos))},
            parameters=parameters,
            key=key,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CartPoleConfig:
    """Cart-pole settings.

    Where `randomise` is set, each episode draws the pole's mass and half-length and the cart's
    friction uniformly from the ranges instead.
    """

    cart_mass_kg: float = 1.0
    pole_mass_kg: float = 0.2
    half_length_m: float = 0.5
    friction_ns_per_m: float = 0.0
    force_limit_n: float = 10.0
    disturbance_limit_n: float = 0.6
    command_limit_m_s: float = 1.0
    angle_limit_rad: float = 0.8
    speed_limit_m_s: float = 6.0
    dt_s: float = 0.02
    episode_length: int = 250
    randomise: bool = False
    pole_mass_range_kg: Range = (0.1, 0.4)
    half_length_range_m: Range = (0.35, 0.7)
    friction_range_ns_per_m: Range = (0.0, 0.5)

    def __post_init__(self) -> None:
        _check_positive(self, "cart_mass_kg", "pole_mass_kg", "half_length_m", "force_limit_n")
        _check_positive(self, "disturbance_limit_n", "angle_limit_rad", "speed_limit_m_s", "dt_s")
        _check_not_negative(self, "friction_ns_per_m", "command_limit_m_s")
        _check_range(self, "pole_mass_range_kg", "half_length_range_m", is_positive=True)
        _check_range(self, "friction_range_ns_per_m", is_positive=False)


class CartPole:
    """Drive a cart at a commanded velocity and keep its pole up.

    The disturbance is a horizontal force on the pole's centre of mass. The command is drawn
    uniformly within +-`command_limit_m_s` and held for the episode.

    Task reward exp(-(v - command)^2 / 0.25), in [0, 1]; the whole reward adds
    0.3 - 0.02 a^2 - 0.01 angle'^2, where a is the normalised action in [-1, 1] (force
    `force_limit_n` * a). Without the 0.3, an early fall would pay.
    Terminates at |angle| > `angle_limit_rad` or |v| > `speed_limit_m_s`.
    Policy observation [v - command, sin, 1 - cos, 0.3 angle', v]; the privileged one appends the
    last disturbance over its limit. Metric `tracking_error`: |v - command| in m/s.
    """

    def __init__(self, config: CartPoleConfig | None = None) -> None:
        self.config = config or CartPoleConfig()

    @property
    def spec(self) -> EnvSpec:
        """Sizes, rates and bounds."""
        disturbance = DisturbanceSpec(
            size=1,
            limit=self.config.disturbance_limit_n,
            unit="N",
            meaning="horizontal force on the pole's centre of mass, positive as the cart",
        )
        return _spec("cart_pole", (-1.0, -1.0, 1.0, -1.0, -1.0), disturbance, self.config)

    def reset(self, key: Array) -> State:
        """Starts near upright and nearly at rest, with a fresh command."""
        config = self.config
        key_start, key_command, key_parameters, key = jax.random.split(key, 4)
        start = jax.random.uniform(key_start, (3,), jnp.float32, -0.05, 0.05)
        command = jax.random.uniform(key_command, (), jnp.float32, -1.0, 1.0)
        physics = {
            "position": jnp.zeros((), jnp.float32),
            "angle": start[0],
            "velocity": start[1],
            "angle_rate": start[2],
            "command": config.command_limit_m_s * command,
        }
        nominal = (config.pole_mass_kg, config.half_length_m, config.friction_ns_per_m)
        ranges = (
            config.pole_mass_range_kg,
            config.half_length_range_m,
            config.friction_range_ns_per_m,
        )
        values = _draw(key_parameters, nominal, ranges if config.randomise else None)
        cart_mass = jnp.full((), config.cart_mass_kg, jnp.float32)
        zero = jnp.zeros((), jnp.float32)
        return self._state(physics, zero, zero, CartPoleParameters(cart_mass, *values), key)

    def step(self, state: State, action: Array, disturbance: Array | None = None) -> State:
        """Advances one control step; `action` [1], `disturbance` [1] in N."""
        parameters, physics = state.parameters, state.physics
        action = jnp.clip(action[0], -1.0, 1.0)
        push = _scalar(disturbance)
        force = self.config.force_limit_n * action

        def velocity(x: Array) -> Array:
            acceleration = cart_pole_acceleration(parameters, x[1], x[2:], force, push)
            return jnp.concatenate([x[2:], acceleration])

        names = ("position", "angle", "velocity", "angle_rate")
        x = runge_kutta(velocity, jnp.stack([physics[n] for n in names]), self.config.dt_s)
        physics = {**physics, **dict(zip(names, x, strict=True))}
        return self._state(physics, action, push, parameters, state.key)

    def _state(
        self,
        physics: dict[str, Array],
        action: Array,
        push: Array,
        parameters: CartPoleParameters,
        key: Array,
    ) -> State:
        config = self.config
        angle, speed, rate = physics["angle"], physics["velocity"], physics["angle_rate"]
        error = speed - physics["command"]
        policy = jnp.stack([error, jnp.sin(angle), 1.0 - jnp.cos(angle), 0.3 * rate, speed])
        task_reward = jnp.exp(-(error**2) / 0.25)
        has_fallen = jnp.abs(angle) > config.angle_limit_rad
        return State(
            physics=physics,
            observation=_observation(policy, push, config.disturbance_limit_n),
            reward=task_reward + 0.3 - 0.02 * action**2 - 0.01 * rate**2,
            task_reward=task_reward,
            terminated=has_fallen | (jnp.abs(speed) > config.speed_limit_m_s),
            truncated=jnp.zeros((), bool),
            metrics={"tracking_error": jnp.abs(error)},
            parameters=parameters,
            key=key,
        )


def _scalar(disturbance: Array | None) -> Array:
    return jnp.zeros((), jnp.float32) if disturbance is None else disturbance[0]


def _observation(policy: Array, push: Array, limit: float) -> dict[str, Array]:
    return {"policy": policy, "privileged": jnp.append(policy, push / limit)}


def _draw(key: Array, nominal: tuple[float, ...], ranges: tuple[Range, ...] | None) -> list[Array]:
    """One float32 per parameter: nominal, or uniform within its range where ranges are given."""
    if ranges is None:
        return [jnp.full((), value, jnp.float32) for value in nominal]
    keys = jax.random.split(key, len(ranges))
    return [
        jax.random.uniform(k, (), jnp.float32, low, high)
        for k, (low, high) in zip(keys, ranges, strict=True)
    ]


def _spec(
    name: str,
    policy_signs: tuple[float, ...],
    disturbance: DisturbanceSpec,
    config: PendulumConfig | CartPoleConfig,
) -> EnvSpec:
    flip = ((0,), (-1.0,))
    size = len(policy_signs)
    return EnvSpec(
        name=name,
        policy_size=size,
        privileged_size=size + 1,
        action_size=1,
        disturbance=disturbance,
        dt_s=config.dt_s,
        episode_length=config.episode_length,
        task_reward_max=1.0,
        task_reward_scale=1.0,
        mirror=Mirror(
            policy=(tuple(range(size)), policy_signs),
            privileged=(tuple(range(size + 1)), (*policy_signs, -1.0)),
            action=flip,
            disturbance=flip,
        ),
    )


def _check_positive(config: object, *names: str) -> None:
    for name in names:
        if not getattr(config, name) > 0:
            raise UserError(f"{name} must be positive, got {getattr(config, name)}")


def _check_not_negative(config: object, *names: str) -> None:
    for name in names:
        if not getattr(config, name) >= 0:
            raise UserError(f"{name} must not be negative, got {getattr(config, name)}")


def _check_range(config: object, *names: str, is_positive: bool) -> None:
    for name in names:
        low, high = getattr(config, name)
        if not (low <= high and (low > 0 if is_positive else low >= 0)):
            least = "0 < low" if is_positive else "0 <= low"
            raise UserError(f"{name} must satisfy {least} <= high, got ({low}, {high})")


__all__ = ["CartPole", "CartPoleConfig", "Pendulum", "PendulumConfig"]

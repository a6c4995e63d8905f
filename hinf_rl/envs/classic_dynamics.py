"""Equations of motion of the pendulum and the cart-pole, angles measured from upright."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from hinf_rl.types import Array, Numeric

_PENDULUM_GRAVITY = 9.8  # m/s^2, as in Morimoto & Doya
_CART_POLE_GRAVITY = 9.81  # m/s^2


class PendulumParameters(NamedTuple):
    """Physics of one pendulum: a point mass on a rod without mass."""

    mass: Array  # [] kg
    length: Array  # [] m
    friction: Array  # [] N m s, viscous


def pendulum_acceleration(
    parameters: PendulumParameters, angle: Array, angle_rate: Array, torque: Numeric
) -> Array:
    """Angular acceleration [] in rad/s^2 under `torque` (N m, disturbance included)."""
    mass, length, friction = parameters
    gravity = mass * _PENDULUM_GRAVITY * length * jnp.sin(angle)
    return (gravity - friction * angle_rate + torque) / (mass * length**2)


class CartPoleParameters(NamedTuple):
    """Physics of one cart-pole: a uniform rod on a cart."""

    cart_mass: Array  # [] kg
    pole_mass: Array  # [] kg
    half_length: Array  # [] m, pivot to centre of mass
    friction: Array  # [] N s/m, viscous, between cart and track


def cart_pole_acceleration(
    parameters: CartPoleParameters, angle: Array, rates: Array, force: Numeric, push: Numeric
) -> Array:
    """Accelerations of cart and pole, from Lagrange's equations.

    With centre of mass (x + l sin, l cos) and the rod's inertia m l^2 / 3 about it:
      (M + m) x'' + m l cos angle'' = force + push - friction x' + m l sin angle'^2
      m l cos x'' + 4/3 m l^2 angle'' = m g l sin + push l cos

    Args:
      parameters: masses (kg), half-length l (m), friction (N s/m).
      angle: [] rad from upright.
      rates: [2] cart velocity (m/s) and pole rate (rad/s).
      force: [] N on the cart.
      push: [] N on the pole's centre of mass, horizontal.

    Returns:
      [2] x'' in m/s^2 and angle'' in rad/s^2.
    """
    cart_mass, mass, length, friction = parameters
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    m11, m12, m22 = cart_mass + mass, mass * length * cos, 4.0 / 3.0 * mass * length**2
    f1 = force + push - friction * rates[0] + mass * length * sin * rates[1] ** 2
    f2 = mass * _CART_POLE_GRAVITY * length * sin + push * length * cos
    determinant = m11 * m22 - m12**2  # >= m l^2 (4/3 M + m/3) > 0
    return jnp.stack([m22 * f1 - m12 * f2, m11 * f2 - m12 * f1]) / determinant


def runge_kutta(velocity: Callable[[Array], Array], x: Array, dt_s: float) -> Array:
    """One classical fourth-order step of x' = velocity(x)."""
    k1 = velocity(x)
    k2 = velocity(x + 0.5 * dt_s * k1)
    k3 = velocity(x + 0.5 * dt_s * k2)
    k4 = velocity(x + dt_s * k3)
    return x + dt_s / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)


__all__ = [
    "CartPoleParameters",
    "PendulumParameters",
    "cart_pole_acceleration",
    "pendulum_acceleration",
    "runge_kutta",
]

"""Linear players in the open: set their gains, read them, and solve a game of one's own.

The player that plays here is the one that trains robots: rollouts, value heads, advantages and
updates of `make`. It sees states, actions, rewards and intensities, never a matrix.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from hinf_rl.agents.hinf.algorithm import make
from hinf_rl.agents.hinf.config import (
    ConstraintConfig,
    CriticConfig,
    DisturbanceConfig,
    HinfConfig,
    PlayerConfig,
)
from hinf_rl.agents.hinf.players import PlayerState
from hinf_rl.agents.hinf.rollout import Carry
from hinf_rl.envs.lq import LQEnv
from hinf_rl.errors import UserError
from hinf_rl.ops.linear_system import LinearSystem, closed_loop, discounted, spectral_radius
from hinf_rl.types import Array

# Exploration in shares of what a player does at x_0, so that units do not matter.
_NOISE = 0.3


class LQGameResult(NamedTuple):
    """What the players learned, one row per seed, float64.

    Attributes:
      K: [S, m, n] controller gains, u = -K x.
      L: [S, d, n] disturbance gains, w = L x.
      norm: [S] H-infinity norm from w to [Q^(1/2) x; R^(1/2) u] under K, undiscounted; `inf`
        where K does not stabilise the undiscounted system.
      change: [S] relative change of both gains over the last iterations' tenth; what is still
        moving has not converged.
      start_gain: [m, n] the controller gain that all seeds began with.
      least_attenuation: g*, the limit that `attenuation` had to exceed.
    """

    K: np.ndarray
    L: np.ndarray
    norm: np.ndarray
    change: np.ndarray
    start_gain: np.ndarray
    least_attenuation: float


def solve_lq_game(
    system: LinearSystem,
    attenuation: float,
    *,
    gamma: float = 0.99,
    seeds: int = 3,
    seed: int = 0,
    iterations: int = 400,
    num_envs: int = 512,
    episode_length: int = 50,
    start_gain: ArrayLike | None = None,
) -> LQGameResult:
    """Learns the saddle point of a discounted linear-quadratic H-infinity game from samples.

    Minimises over u, maximises over w: E sum_t gamma^t (x'Qx + u'Ru - attenuation^2 w'w). Two
    things come from the model: the gain that the controller starts from (LQR's, by default) and
    the size of the exploration noise. `hinf_rl.ops.riccati` has the exact answer to compare with.

    Args:
      system: matrices A, B, D, Q, R, seen by the environment alone.
      attenuation: level g, bound on |z| / |w|; above the least one of the discounted system.
      gamma: discount per step in (0, 1).
      seeds: independent repetitions, one after the other.
      seed: of the first repetition's key.
      iterations: rollouts, each followed by one step of both gains.
      num_envs: episodes side by side.
      episode_length: steps per episode and rollout; x_0 ~ N(0, I).
      start_gain: [m, n] first K; sqrt(gamma) (A - B K) must be stable. None takes LQR's.

    Raises:
      UserError: a level that no controller attains, a system without a stabilising gain, a
        start that does not stabilise, counts below 1.
    """
    # SciPy loads only where a game is asked for.
    from hinf_rl.ops.hinf_norm import hinf_norm

    _check_counts(seeds=seeds, iterations=iterations)
    scaled = _discounted_system(system, gamma)
    least = _check_level(scaled, attenuation, gamma)
    start = _start(scaled, start_gain, gamma)
    config = lq_config(
        attenuation,
        gamma=gamma,
        iterations=iterations,
        num_envs=num_envs,
        episode_length=episode_length,
    )
    algorithm = make(config, LQEnv(system, episode_length=episode_length))
    noise = _noise(system, start, attenuation)
    # A Python loop over seeds: batched LAPACK calls side by side can wait for each other on a
    # CPU with few cores.
    init, run = jax.jit(algorithm.init), jax.jit(_repeat(algorithm.step))
    tail = max(1, iterations // 10)
    learned, changes = [], []
    for member in range(seeds):
        carry = init(jax.random.fold_in(jax.random.key(seed), member))
        carry = _with_noise(with_gains(carry, actor=start), *noise)
        before = carry = run(carry, jnp.int32(iterations - tail))
        carry = run(carry, jnp.int32(tail))
        learned.append(gains(carry))
        changes.append(_relative_change(gains(before), learned[-1]))
    K, L = (np.stack(side) for side in zip(*learned, strict=True))
    norms = [hinf_norm(*closed_loop(*system.matrices, one)) for one in K]
    return LQGameResult(K, L, np.array(norms), np.array(changes), start, least)


def lq_config(
    attenuation: float,
    *,
    gamma: float = 0.99,
    iterations: int = 400,
    num_envs: int = 512,
    episode_length: int = 50,
) -> HinfConfig:
    """Settings of `make` for linear players in the zero-sum game at level `attenuation`.

    Args:
      attenuation: level g; the configuration holds its square, the price of w'w.
      gamma: discount per step.
      iterations: as in `solve_lq_game`.
      num_envs: the same.
      episode_length: the same.
    """
    # Noise is set per component in the carry; these bounds only let it be.
    player = PlayerConfig(
        hidden=(), init_log_std=math.log(_NOISE), log_std_range=(-40.0, 40.0), desired_kl=None
    )
    return HinfConfig(
        iterations=iterations,
        num_envs=num_envs,
        unroll_length=episode_length,
        num_minibatches=1,
        gamma=gamma,
        # The quadratic critic is exact: one step has all there is to know, and no variance.
        gae_lambda=0.0,
        update="newton",
        # The controller must be the faster one: it has to follow a growing disturbance.
        newton_step=(0.5, 0.05),
        actor_objective="game",
        normalize_observations=False,
        stagger_episodes=False,
        actor=player,
        critic=CriticConfig(kind="quadratic"),
        disturbance=DisturbanceConfig(
            undisturbed_fraction=0.0, warmup_fraction=0.0, ramp_fraction=0.0, player=player
        ),
        constraint=ConstraintConfig(
            multiplier="off",
            attenuation=attenuation**2,
            intensity_power=2.0,
            intensity_horizon="discounted",
            baseline_decay=None,
        ),
    )


def with_gains(
    carry: Carry, *, actor: ArrayLike | None = None, disturber: ArrayLike | None = None
) -> Carry:
    """Returns the carry with other gains; u = -K x and w = L x.

    Args:
      carry: of linear players; may have leading axes (seeds), which a gain without them fills.
      actor: [..., m, n] K, or None to keep it.
      disturber: [..., d, n] L in units of the disturbance's bound, or None to keep it.

    Raises:
      UserError: the players are not linear, or a gain has another shape.
    """
    if actor is not None:
        carry = carry._replace(actor=_set(carry.actor, "actor", -np.asarray(actor)))
    if disturber is not None:
        carry = carry._replace(disturber=_set(carry.disturber, "disturber", np.asarray(disturber)))
    return carry


def gains(carry: Carry) -> tuple[np.ndarray, np.ndarray]:
    """Returns (K [..., m, n], L [..., d, n]) of linear players in float64, u = -K x, w = L x.

    Raises:
      UserError: the players are not linear.
    """
    K, L = (
        np.asarray(_kernel(player, name), np.float64).swapaxes(-1, -2)
        for player, name in ((carry.actor, "actor"), (carry.disturber, "disturber"))
    )
    return -K, L


def _kernel(player: PlayerState, name: str) -> Array:
    """The transposed gain, [..., n, A]."""
    layers = player.params["mean"]["params"]
    if "gain" not in layers:
        raise UserError(f"the {name} has hidden layers and so no gain; set its hidden to ()")
    return layers["gain"]["kernel"]


def _set(player: PlayerState, name: str, gain: np.ndarray) -> PlayerState:
    kernel = _kernel(player, name)
    shape = (*kernel.shape[:-2], kernel.shape[-1], kernel.shape[-2])
    if gain.shape not in (shape, shape[-2:]):
        raise UserError(f"the {name}'s gain must be {shape[-2:]}, got {gain.shape}")
    if not np.isfinite(gain).all():
        raise UserError(f"the {name}'s gain holds NaN or inf; every entry must be finite")
    value = jnp.asarray(np.broadcast_to(gain, shape).swapaxes(-1, -2), kernel.dtype)
    mean: dict[str, Any] = {"params": {"gain": {"kernel": value}}}
    return player._replace(params=player.params | {"mean": mean})


def _with_noise(carry: Carry, actor: np.ndarray, disturber: np.ndarray) -> Carry:
    """Sets the standard deviation of every component of both players' actions."""
    players = []
    for player, std in ((carry.actor, actor), (carry.disturber, disturber)):
        log_std = jnp.asarray(np.log(std), jnp.float32)
        players.append(player._replace(params=player.params | {"log_std": log_std}))
    return carry._replace(actor=players[0], disturber=players[1])


def _noise(system: LinearSystem, K: np.ndarray, attenuation: float) -> tuple[np.ndarray, ...]:
    """Standard deviations of both players' noise, [m] and [d].

    The controller explores with a share of what its gain does at x_0 ~ N(0, I), or where it does
    nothing, of the action whose effort costs as much as x_0; the disturber with a share of the
    disturbance whose price does.
    """
    cost = float(np.trace(system.Q + K.T @ system.R @ K))
    cost = cost if cost > 0.0 else 1.0
    size = np.linalg.norm(K, axis=1)
    affordable = np.sqrt(cost / np.diag(system.R))
    actor = np.where(size > 1e-3 * affordable, size, affordable)
    disturber = np.full(system.D.shape[1], math.sqrt(cost) / attenuation)
    return _NOISE * actor, _NOISE * disturber


def _repeat(step: Any) -> Any:
    def run(carry: Carry, count: Array) -> Carry:
        return jax.lax.fori_loop(jnp.int32(0), count, lambda _, carry: step(carry)[0], carry)

    return run


def _relative_change(
    before: tuple[np.ndarray, np.ndarray], after: tuple[np.ndarray, np.ndarray]
) -> float:
    moved = sum(np.linalg.norm(new - old) for old, new in zip(before, after, strict=True))
    return float(moved / max(sum(np.linalg.norm(new) for new in after), 1e-12))


def _discounted_system(system: LinearSystem, gamma: float) -> LinearSystem:
    """The system whose undiscounted game is the discounted one."""
    A, B, D = discounted(system.A, system.B, system.D, gamma)
    return dataclasses.replace(system, A=A, B=B, D=D)


def _check_level(scaled: LinearSystem, attenuation: float, gamma: float) -> float:
    """Returns the least level; raises where `attenuation` does not exceed it."""
    from hinf_rl.ops.riccati import optimal_attenuation

    if not 0.0 < attenuation < math.inf:
        raise UserError(f"attenuation must be positive and finite, got {attenuation}")
    least = optimal_attenuation(*scaled.matrices)
    if attenuation <= least:
        raise UserError(
            f"attenuation = {attenuation:.6g} cannot be attained: the least level of this system "
            f"at gamma = {gamma} is {least:.6g}; use {1.2 * least:.4g} or more"
        )
    return least


def _start(scaled: LinearSystem, start_gain: ArrayLike | None, gamma: float) -> np.ndarray:
    if start_gain is None:
        from hinf_rl.ops.riccati import lqr_gain

        return lqr_gain(scaled.A, scaled.B, scaled.Q, scaled.R)
    start = np.asarray(start_gain, np.float64)
    if start.shape != scaled.B.T.shape or not np.isfinite(start).all():
        raise UserError(
            f"start_gain must be a finite {scaled.B.T.shape} matrix, got shape {start.shape}"
        )
    radius = spectral_radius(scaled.A - scaled.B @ start)
    if radius >= 1.0:
        raise UserError(
            f"start_gain does not stabilise: sqrt(gamma) (A - B K) has spectral radius "
            f"{radius:.4g} at gamma = {gamma}, it must be below 1; None starts at LQR's gain"
        )
    return start


def _check_counts(**numbers: int) -> None:
    for name, value in numbers.items():
        if value < 1:
            raise UserError(f"{name} must be at least 1, got {value}")


__all__ = ["LQGameResult", "gains", "lq_config", "solve_lq_game", "with_gains"]

"""Learns linear-quadratic games from samples and compares the gains with the exact solution.

Usage: python -m experiments.lq_game.run [--stage linear|networks|all] [--output FILE]

Two stages. "linear": linear players with a quadratic critic. "networks": the same loop with
multilayer perceptrons, a network critic and clipped-surrogate updates. Results are written after
every game; a game that the file already holds is not played again.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hinf_rl.agents.hinf import (
    ConstraintConfig,
    CriticConfig,
    DisturbanceConfig,
    HinfConfig,
    PlayerConfig,
    make,
    solve_lq_game,
)
from hinf_rl.envs.lq import LQEnv
from hinf_rl.ops.riccati import (
    SYSTEMS,
    LinearSystem,
    closed_loop,
    discounted,
    gare_solve,
    hinf_norm,
    lqr_gain,
    optimal_attenuation,
    random_system,
    saddle_gains,
    spectral_radius,
)
from hinf_rl.training.files import read_json, write_json
from hinf_rl.training.loop import seed_keys, train
from hinf_rl.training.provenance import provenance

RESULTS = Path(__file__).parent / "results" / "lq_game.json"
GAMMA = 0.99
SEEDS = 3
FACTORS = (1.5, 1.2)
# Seed, states, inputs, disturbances; fixed before anything was learned on them.
DRAWN = ((11, 2, 1, 1), (12, 3, 2, 2), (13, 4, 2, 1))
# The least squares is exact from any sample that spans its features: few environments are enough.
LINEAR = {"num_envs": 64, "episode_length": 25, "iterations": 400}
NETWORK_SYSTEMS = ("S1", "S2")
NETWORK_FACTOR = 1.5


def systems() -> dict[str, LinearSystem]:
    """The reference systems and those drawn by seed."""
    return SYSTEMS | {f"random {seed}": random_system(seed, *size) for seed, *size in DRAWN}


def oracle(system: LinearSystem, factor: float) -> dict[str, Any]:
    """The discounted saddle point at `factor` times its least level, and LQR's discounted gain.

    Norms are those of the undiscounted closed loop, for the saddle gain as for the learned one.
    """
    A, B, D = discounted(system.A, system.B, system.D, GAMMA)
    least = optimal_attenuation(A, B, D, system.Q, system.R)
    g = factor * least
    P = gare_solve(A, B, D, system.Q, system.R, g).P
    K, L = saddle_gains(A, B, D, system.R, P, g)
    lqr = lqr_gain(A, B, system.Q, system.R)
    return {
        "level": g,
        "least_level": least,
        "K": K,
        "L": L,
        "norm": norm_of(system, K),
        "lqr_norm": norm_of(system, lqr),
    }


def norm_of(system: LinearSystem, K: np.ndarray) -> float:
    """Undiscounted H-infinity norm from w to [Q^(1/2) x; R^(1/2) u] under u = -K x."""
    return hinf_norm(*closed_loop(*system.matrices, K))


def relative_error(value: np.ndarray, exact: np.ndarray) -> float:
    """Frobenius norm of the difference, relative to the exact gain."""
    return float(np.linalg.norm(value - exact) / np.linalg.norm(exact))


def linear_game(name: str, system: LinearSystem, factor: float) -> dict[str, Any]:
    """One game of linear players, all seeds."""
    exact = oracle(system, factor)
    start_s = time.perf_counter()
    result = solve_lq_game(system, exact["level"], gamma=GAMMA, seeds=SEEDS, **LINEAR)
    wall_s = time.perf_counter() - start_s
    return {
        "system": name,
        "sizes": [len(system.A), system.B.shape[1], system.D.shape[1]],
        "spectral_radius": spectral_radius(system.A),
        "factor": factor,
        "level": exact["level"],
        "least_level": exact["least_level"],
        "oracle": {"K": exact["K"].tolist(), "L": exact["L"].tolist(), "norm": exact["norm"]},
        "lqr_norm": exact["lqr_norm"],
        "K": result.K.tolist(),
        "L": result.L.tolist(),
        "K_error": [relative_error(K, exact["K"]) for K in result.K],
        "L_error": [relative_error(L, exact["L"]) for L in result.L],
        "norm": result.norm.tolist(),
        "norm_over_oracle": (result.norm / exact["norm"]).tolist(),
        "norm_over_lqr": (result.norm / exact["lqr_norm"]).tolist(),
        "change": result.change.tolist(),
        "wall_s_per_seed": wall_s / SEEDS,
    }


def network_player(std: float, *, desired_kl: float) -> PlayerConfig:
    """A small network whose noise stays: the cost is quadratic, so noise moves no gain."""
    log_std = float(np.log(std))
    return PlayerConfig(
        hidden=(32, 32),
        activation="tanh",
        init_log_std=log_std,
        log_std_range=(log_std, log_std),
        learning_rate=5e-4,
        desired_kl=desired_kl,
        learning_rate_range=(1e-5, 3e-3),
        entropy_cost=0.0,
    )


def network_config(system: LinearSystem, exact: dict[str, Any]) -> HinfConfig:
    """Settings of the network players; their noise is a share of what LQR does at x_0."""
    lqr = lqr_gain(system.A, system.B, system.Q, system.R)
    cost = float(np.trace(system.Q + lqr.T @ system.R @ lqr))
    # The actor must be the faster one, as among linear players.
    actor = network_player(0.4 * float(np.linalg.norm(lqr)), desired_kl=0.003)
    disturber = network_player(0.3 * np.sqrt(cost) / exact["level"], desired_kl=0.001)
    return HinfConfig(
        iterations=500,
        num_envs=128,
        unroll_length=25,
        num_epochs=4,
        num_minibatches=2,
        gamma=GAMMA,
        gae_lambda=0.95,
        update="surrogate",
        actor_objective="game",
        normalize_observations=False,
        stagger_episodes=False,
        actor=actor,
        critic=CriticConfig(
            hidden=(32, 32), activation="tanh", learning_rate=3e-3, clip_value=None
        ),
        disturbance=DisturbanceConfig(
            undisturbed_fraction=0.0,
            warmup_fraction=0.2,
            ramp_fraction=0.0,
            player=disturber,
        ),
        constraint=ConstraintConfig(
            multiplier="off",
            attenuation=exact["level"] ** 2,
            intensity_power=2.0,
            intensity_horizon="discounted",
            baseline_decay=None,
        ),
    )


def gain_at_zero(act: Callable[..., Any], size: int) -> np.ndarray:
    """Returns K [m, n] of u = -K x, the linearisation of a policy's mean at x = 0."""
    jacobian = jax.jacobian(lambda x: act({"policy": x[None]})[0])(jnp.zeros(size, jnp.float32))
    return -np.asarray(jacobian, np.float64)


def network_game(name: str, system: LinearSystem) -> dict[str, Any]:
    """One game of network players, all seeds, linearised at the origin."""
    exact = oracle(system, NETWORK_FACTOR)
    config = network_config(system, exact)
    algorithm = make(config, LQEnv(system, episode_length=config.unroll_length))
    result = train(
        algorithm,
        iterations=config.iterations,
        keys=seed_keys(0, SEEDS),
        log_every=config.iterations,
    )
    if not result.summary["finished"]:
        raise SystemExit(f"interrupted; run again to play {name} and what follows")
    size = len(system.A)
    actors, disturbers = algorithm.policy(result.carry), algorithm.disturber(result.carry)
    member = [jax.tree.map(lambda leaf, i=i: leaf[i], (actors, disturbers)) for i in range(SEEDS)]
    K = [gain_at_zero(actor, size) for actor, _ in member]
    L = [-gain_at_zero(disturber, size) for _, disturber in member]
    norms = [norm_of(system, one) for one in K]
    return {
        "system": name,
        "factor": NETWORK_FACTOR,
        "level": exact["level"],
        "oracle": {"K": exact["K"].tolist(), "L": exact["L"].tolist(), "norm": exact["norm"]},
        "lqr_norm": exact["lqr_norm"],
        "K": [one.tolist() for one in K],
        "L": [one.tolist() for one in L],
        "K_error": [relative_error(one, exact["K"]) for one in K],
        "L_error": [relative_error(one, exact["L"]) for one in L],
        "norm": norms,
        "norm_over_oracle": [norm / exact["norm"] for norm in norms],
        "norm_over_lqr": [norm / exact["lqr_norm"] for norm in norms],
        "env_steps": result.summary["env_steps"],
        "wall_s_per_seed": result.summary["wall_s"] / SEEDS,
    }


def acceptance(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Each promise beside the worst value over games and seeds."""
    linear, networks = data.get("linear", []), data.get("networks", [])
    on_s2 = [row for row in linear if row["system"] == "S2"]
    lines = [
        ("linear: gain error in K", linear, "K_error", 0.02),
        ("linear: gain error in L", linear, "L_error", 0.02),
        ("linear: norm over oracle", linear, "norm_over_oracle", 1.02),
        ("linear: norm over LQR on S2", on_s2, "norm_over_lqr", 0.9),
        ("networks: norm over oracle", networks, "norm_over_oracle", 1.15),
        ("networks: norm over LQR", networks, "norm_over_lqr", 1.0),
    ]
    return [
        {
            "claim": claim,
            "bound": bound,
            "worst": max(max(row[key]) for row in rows),
            "games": len(rows),
            "passed": all(value <= bound for row in rows for value in row[key]),
        }
        for claim, rows, key, bound in lines
        if rows
    ]


def play(data: dict[str, Any], output: Path, stage: str) -> None:
    """Plays every game of a stage that the results lack, and writes after each."""
    rows = data.setdefault(stage, [])
    done = {(row["system"], row["factor"]) for row in rows}
    known = systems()
    if stage == "linear":
        games = [(name, factor) for name in known for factor in FACTORS]
    else:
        games = [(name, NETWORK_FACTOR) for name in NETWORK_SYSTEMS]
    for name, factor in games:
        if (name, factor) in done:
            continue
        if stage == "linear":
            row = linear_game(name, known[name], factor)
        else:
            row = network_game(name, known[name])
        rows.append(row)
        data["provenance"][stage] = provenance()
        data["acceptance"] = acceptance(data)
        write_json(output, data)
        worst = f"K {max(row['K_error']):.2e}, L {max(row['L_error']):.2e}"
        print(f"{stage} {name} at {factor} g*: {worst}", flush=True)


def main() -> None:
    """Plays the missing games and writes one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", choices=("linear", "networks", "all"), default="all")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    data = read_json(arguments.output) if arguments.output.exists() else {"provenance": {}}
    for stage in ("linear", "networks") if arguments.stage == "all" else (arguments.stage,):
        play(data, arguments.output, stage)
    for line in data["acceptance"]:
        verdict = "met" if line["passed"] else "MISSED"
        print(f"{verdict}: {line['claim']} {line['worst']:.4g}, bound {line['bound']:g}")


if __name__ == "__main__":
    main()

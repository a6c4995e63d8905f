"""Compares the oracle with reference numbers, with itself by other routes, and with differences.

Usage: python -m experiments.riccati.run [--output FILE]
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from hinf_rl.ops.riccati import (
    SYSTEMS,
    LinearSystem,
    closed_loop,
    gare_solve,
    hinf_norm,
    lq_policy_gradient,
    lqr_gain,
    optimal_attenuation,
    random_system,
    saddle_gains,
    spectral_radius,
)
from hinf_rl.training.files import write_json
from hinf_rl.training.provenance import provenance

RESULTS = Path(__file__).parent / "results" / "riccati.json"
METHODS = ("sweep", "pencil", "bisection")
NUM_RANDOM = 40

# Printed to six digits, from a value iteration and a frequency sweep written independently of
# the package; "1.2" is the level relative to g*.
REFERENCE: dict[str, dict[str, Any]] = {
    "S1": {
        "g*": 1.414214,
        "LQR K": [[0.618034]],
        "LQR norm": 1.902113,
        "1.2 K": [[0.834884]],
        "1.2 L": [[0.289890]],
        "1.2 norm": 1.560339,
    },
    "S2": {
        "g*": 0.342722,
        "LQR K": [[2.761715, 2.649102]],
        "LQR norm": 0.523049,
        "1.2 P": [[11.462929, 5.496791], [5.496791, 5.751254]],
        "1.2 K": [[4.450498, 5.101575]],
        "1.2 L": [[2.631255, 3.016189]],
        "1.2 norm": 0.393738,
        "1.05 K": [[6.054692, 7.847205]],
        "1.05 norm": 0.357734,
        "1.5 K": [[3.562674, 3.750757]],
        "1.5 norm": 0.438509,
        "10 K": [[2.774459, 2.665692]],
        "10 norm": 0.521090,
    },
    "S3": {
        "g*": 0.116581,
        "LQR K": [[21.54887, 6.857188]],
        "LQR norm": 0.202372,
        "1.2 K": [[41.027414, 12.986617]],
        "1.2 L": [[20.963121, 6.635563]],
        "1.2 norm": 0.135272,
    },
    "S4": {
        "g*": 1.371657,
        "LQR K": [[0.300341, 0.681245, 0.240479], [0.186645, 0.061471, 1.066982]],
        "LQR norm": 1.885951,
        "1.2 K": [[0.617100, 0.800172, 0.286331], [0.363079, 0.128417, 1.098716]],
        "1.2 L": [[0.657532, 0.218428, 0.095378], [0.058956, 0.063809, 0.061691]],
        "1.2 norm": 1.559575,
    },
}


def saddle(system: LinearSystem, g: float) -> dict[str, Any]:
    """P, both gains and the norm that the controller attains at level g."""
    P = gare_solve(*system.matrices, g).P
    K, L = saddle_gains(system.A, system.B, system.D, system.R, P, g)
    return {"P": P, "K": K, "L": L, "norm": hinf_norm(*closed_loop(*system.matrices, K))}


def quantity(system: LinearSystem, name: str, best: float) -> Any:
    """Our value of a row of `REFERENCE`."""
    if name == "g*":
        return best
    where, what = name.split()
    if where == "LQR":
        K = lqr_gain(system.A, system.B, system.Q, system.R)
        return K if what == "K" else hinf_norm(*closed_loop(*system.matrices, K))
    return saddle(system, float(where) * best)[what]


def reference_rows() -> list[dict[str, Any]]:
    """Every reference number beside ours."""
    rows = []
    for name, table in REFERENCE.items():
        best = optimal_attenuation(*SYSTEMS[name].matrices)
        for what, expected in table.items():
            ours = np.asarray(quantity(SYSTEMS[name], what, best))
            difference = float(np.abs(ours - expected).max() / np.abs(expected).max())
            rows.append(
                {
                    "system": name,
                    "quantity": what,
                    "reference": expected,
                    "ours": ours.tolist(),
                    "relative_difference": difference,
                }
            )
    return rows


def closed_form_rows() -> list[dict[str, Any]]:
    """S1 against P = 1/2 + sqrt(1/4 + 1/a), a = 1 - 1/g^2, and g* = sqrt(2)."""
    rows = []
    for g in (1.5, 2.0, 3.0, 10.0):
        a = 1.0 - g**-2
        P = 0.5 + np.sqrt(0.25 + 1.0 / a)
        K = P / (1.0 + a * P)
        norm = np.sqrt(1.0 + K**2) / (1.0 - abs(1.0 - K))
        exact = {"P": P, "K": K, "L": K / g**2, "norm": norm}
        ours = saddle(SYSTEMS["S1"], g)
        rows += [
            {
                "level": g,
                "quantity": what,
                "exact": float(value),
                "ours": float(np.squeeze(ours[what])),
                "relative_difference": float(abs(np.squeeze(ours[what]) / value - 1.0)),
            }
            for what, value in exact.items()
        ]
    best = optimal_attenuation(*SYSTEMS["S1"].matrices, 1e-12)
    difference = abs(best / np.sqrt(2.0) - 1.0)
    rows.append(
        {
            "level": None,
            "quantity": "g*",
            "exact": float(np.sqrt(2.0)),
            "ours": best,
            "relative_difference": float(difference),
        }
    )
    return rows


def all_systems() -> dict[str, LinearSystem]:
    """The reference systems and random ones of up to four states."""
    drawn = {
        f"random {seed}": random_system(seed, 1 + seed % 4, 1 + seed % 2, 1 + (seed // 2) % 2)
        for seed in range(NUM_RANDOM)
    }
    return {**SYSTEMS, **drawn}


def norm_rows() -> list[dict[str, Any]]:
    """Norm of the LQR gain by every method, and of the controller at 1.2 g* beside its level."""
    rows = []
    for name, system in all_systems().items():
        K = lqr_gain(system.A, system.B, system.Q, system.R)
        loop = closed_loop(*system.matrices, K)
        norms = {method: hinf_norm(*loop, method=method) for method in METHODS}
        level = 1.2 * optimal_attenuation(*system.matrices)
        rows.append(
            {
                "system": name,
                "lqr_norm": norms,
                "relative_spread": (max(norms.values()) - min(norms.values())) / norms["pencil"],
                "level": level,
                "norm_at_level": saddle(system, level)["norm"],
            }
        )
    return rows


def gradient_rows() -> list[dict[str, Any]]:
    """Policy gradients against central differences, away from the saddle point."""
    rows = []
    for name, system in all_systems().items():
        g = 1.5 * optimal_attenuation(*system.matrices)
        point = saddle(system, g)
        K, L, sigma = point["K"], 0.5 * point["L"], np.eye(len(system.A))
        if spectral_radius(system.A - system.B @ K + system.D @ L) > 0.99:
            continue
        grad_k, grad_l, _ = lq_policy_gradient(*system.matrices, K, L, g, sigma)
        flat = np.concatenate([K.ravel(), L.ravel()])
        slopes = [slope(system, flat, index, K.shape, L.shape, g) for index in range(flat.size)]
        exact = np.concatenate([grad_k.ravel(), grad_l.ravel()])
        error = float(np.abs(slopes - exact).max() / np.abs(exact).max())
        rows.append({"system": name, "relative_error": error})
    return rows


def slope(
    system: LinearSystem,
    flat: np.ndarray,
    index: int,
    shape_k: tuple[int, ...],
    shape_l: tuple[int, ...],
    g: float,
) -> float:
    """Central difference of trace(P) in one entry of (K, L)."""
    values, size = [], int(np.prod(shape_k))
    width = 1e-5 * max(1.0, abs(flat[index]))
    for sign in (1.0, -1.0):
        moved = flat.copy()
        moved[index] += sign * width
        K, L = moved[:size].reshape(shape_k), moved[size:].reshape(shape_l)
        P = lq_policy_gradient(*system.matrices, K, L, g, np.eye(len(system.A)))[2]
        values.append(np.trace(P))
    return float((values[0] - values[1]) / (2.0 * width))


def curves() -> dict[str, dict[str, Any]]:
    """What the game controller attains at levels from g* to 8 g*."""
    result = {}
    for name, system in SYSTEMS.items():
        best = optimal_attenuation(*system.matrices)
        K = lqr_gain(system.A, system.B, system.Q, system.R)
        factors = np.geomspace(1.001, 8.0, 40)
        result[name] = {
            "g*": best,
            "lqr_norm": hinf_norm(*closed_loop(*system.matrices, K)),
            "level": (factors * best).tolist(),
            "norm": [saddle(system, factor * best)["norm"] for factor in factors],
        }
    return result


def main() -> None:
    """Runs everything and writes one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULTS)
    output = parser.parse_args().output
    norms, gradients = norm_rows(), gradient_rows()
    reference, closed_form = reference_rows(), closed_form_rows()
    summary = {
        "largest_reference_difference": max(row["relative_difference"] for row in reference),
        "largest_closed_form_difference": max(row["relative_difference"] for row in closed_form),
        "largest_norm_spread": max(row["relative_spread"] for row in norms),
        "levels_not_attained": sum(row["norm_at_level"] >= row["level"] for row in norms),
        "systems": len(norms),
        "largest_gradient_error": max(row["relative_error"] for row in gradients),
        "gradient_systems": len(gradients),
    }
    write_json(
        output,
        {
            "provenance": provenance(),
            "summary": summary,
            "reference": reference,
            "closed_form": closed_form,
            "norms": norms,
            "gradients": gradients,
            "curves": curves(),
        },
    )
    for name, value in summary.items():
        print(f"{name}: {value:.3g}")


if __name__ == "__main__":
    main()

"""What was promised of each task, from the files of results alone."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Results = dict[str, dict[str, Any]]


class Verdict(NamedTuple):
    """A promise, what was measured and whether it holds."""

    claim: str
    measured: str
    passed: bool


def final(data: dict[str, Any], name: str, member: str | None = None) -> NDArray[np.float64]:
    """[seeds] last value of a held-out measurement."""
    return curve(data, name, member)[:, -1]


def curve(data: dict[str, Any], name: str, member: str | None = None) -> NDArray[np.float64]:
    """[seeds, checkpoints] of a held-out measurement."""
    index = 0 if member is None else list(data["members"]).index(member)
    return np.asarray(data["held_out"][name][index])


def beta_of(data: dict[str, Any], member: str | None = None) -> float:
    """Price of KL of an arm's member."""
    changes = {} if member is None else data["members"][member]
    return float(changes.get("beta", data["config"]["beta"]))


def objective(data: dict[str, Any], member: str | None = None) -> NDArray[np.float64]:
    """[seeds] E[<x, u>] - beta KL of a ring arm."""
    reward, kl = final(data, "alignment", member), final(data, "kl", member)
    return reward - beta_of(data, member) * kl


def ring_verdicts(found: Results, oracle: dict[str, Any]) -> Iterator[Verdict]:
    """Task A."""
    if "ring_a1" in found:
        for beta, share in (("0.05", 0.85), ("0.25", 0.6)):
            best = np.asarray(oracle["beta"][beta]["objective"])
            reached = objective(found["ring_a1"], f"beta {beta}")
            yield Verdict(
                f"A1: PRDP reaches {share:.0%} of the largest objective at beta {beta}, each seed",
                f"{_list(reached / best, '.1%')} of {_list(best)}",
                bool(np.all(reached >= share * best)),
            )
        tilted = np.asarray(oracle["beta"]["0.05"]["reward"])
        reward = final(found["ring_a1"], "alignment", "beta 0.05")
        yield Verdict(
            "A1: reward within 6 % of the tilted reference's at beta 0.05, each seed",
            f"{_list(reward)} of {_list(tilted)}",
            bool(np.all(np.abs(reward / tilted - 1.0) <= 0.06)),
        )
    yield from _bound(found, oracle)
    if {"ring_a1", "ring_a1_control"} <= found.keys():
        control = found["ring_a1_control"]
        for beta in ("0.05", "0.25"):
            own = objective(found["ring_a1"], f"beta {beta}").mean()
            arms = [name for name in control["members"] if name.startswith(f"beta {beta}")]
            best_arm = max(arms, key=lambda name: objective(control, name).mean())
            other = objective(control, best_arm).mean()
            yield Verdict(
                f"A1 control: KL-penalised group policy gradient within 0.05 at beta {beta}",
                f"PRDP {own:.3f}, control {other:.3f} ({best_arm})",
                bool(abs(own - other) <= 0.05),
            )
    if "ring_a2" in found:
        clipped = final(found["ring_a2"], "alignment", "clipped")
        free = final(found["ring_a2"], "alignment", "not clipped")
        passed = (
            clipped.mean() - free.mean() >= 0.5 and np.ptp(free) >= 0.5 and np.ptp(clipped) <= 0.1
        )
        yield Verdict(
            "A2: clipped exceeds unclipped by 0.5; seeds range over 0.5 unclipped, 0.1 clipped",
            f"clipped {_list(clipped)}, not clipped {_list(free)}",
            bool(passed),
        )
    if {"ring_a3_prdp", "ring_a3_ddpo_batch"} <= found.keys():
        own = final(found["ring_a3_prdp"], "alignment").mean()
        other = final(found["ring_a3_ddpo_batch"], "alignment").mean()
        yield Verdict(
            "A3: PRDP earns 1.5 times what DDPO with batch statistics does",
            f"{own:.3f} / {other:.3f} = {own / other:.2f}",
            bool(own >= 1.5 * other),
        )
    if {"ring_a3_prdp", "ring_a4_offline"} <= found.keys():
        online = final(found["ring_a3_prdp"], "alignment").mean()
        offline = final(found["ring_a4_offline"], "alignment").mean()
        yield Verdict(
            "A4: online exceeds offline by 0.05",
            f"{online:.3f} - {offline:.3f} = {online - offline:+.3f}",
            bool(online - offline >= 0.05),
        )


def _bound(found: Results, oracle: dict[str, Any]) -> Iterator[Verdict]:
    """No arm may exceed the oracle: that would be a bug in log-probabilities or KL."""
    excess = []
    for name, data in found.items():
        for member in data["members"]:
            best = oracle["beta"].get(f"{beta_of(data, member):g}")
            if name.startswith("ring") and best is not None:
                excess.append(np.max(objective(data, member) - np.asarray(best["objective"])))
    if excess:
        yield Verdict(
            "No arm exceeds the largest objective by more than 0.02",
            f"largest excess {max(excess):+.3f}",
            bool(max(excess) <= 0.02),
        )


def reach_verdicts(found: Results) -> Iterator[Verdict]:
    """Task B."""
    if {"reach_prdp", "reach_ddpo_batch"} <= found.keys():
        success, kl = curve(found["reach_prdp"], "success"), final(found["reach_prdp"], "kl")
        yield Verdict(
            "B: PRDP raises success by 0.15, each seed",
            f"{_list(success[:, 0])} to {_list(success[:, -1])}",
            bool(np.all(success[:, -1] >= success[:, 0] + 0.15)),
        )
        other = final(found["reach_ddpo_batch"], "kl")
        yield Verdict(
            "B: at half of DDPO's KL at most, on the mean",
            f"{kl.mean():.1f} against {other.mean():.1f}",
            bool(kl.mean() <= 0.5 * other.mean()),
        )
    if "reach_clip" in found:
        half = len(found["reach_clip"]["checkpoints"]) // 2
        spread = {
            member: np.ptp(curve(found["reach_clip"], "success", member)[:, half:], axis=1)
            for member in ("clipped", "not clipped")
        }
        yield Verdict(
            "B: success over the second half's checkpoints spreads 0.3 unclipped, 0.1 clipped",
            f"not clipped {_list(spread['not clipped'])}, clipped {_list(spread['clipped'])}",
            bool(spread["not clipped"].mean() >= 0.3 and spread["clipped"].mean() <= 0.1),
        )


def images_verdicts(found: Results) -> Iterator[Verdict]:
    """Task C."""
    if "images_prdp_far" in found:
        data, member = found["images_prdp_far"], "beta 0.003"
        reward, right = (final(data, name, member) for name in ("reward", "class_accuracy"))
        yield Verdict(
            "C: PRDP at beta 0.003 earns 0.9 and keeps 95 % of the classes, each seed",
            f"reward {_list(reward)}, classes {_list(right)}",
            bool(np.all(reward >= 0.9) and np.all(right >= 0.95)),
        )
    if "images_ddpo_group" in found:
        right = final(found["images_ddpo_group"], "class_accuracy")
        yield Verdict(
            "C: DDPO loses a quarter of the classes, each seed",
            _list(right),
            bool(np.all(right <= 0.75)),
        )
    if {"images_prdp_near", "images_prdp_far"} <= found.keys():
        near, far = found["images_prdp_near"], found["images_prdp_far"]
        members = [(near, "beta 0.1"), (near, "beta 0.02"), (far, "beta 0.003"),
                   (far, "beta 0.0003")]  # fmt: skip
        reward, likeness = (
            np.array([final(data, name, member).mean() for data, member in members])
            for name in ("reward", "likeness")
        )
        yield Verdict(
            "C: from beta 0.1 down to 0.0003 reward rises and likeness falls",
            f"reward {_list(reward)}, likeness {_list(likeness)}",
            bool(np.all(np.diff(reward) > 0) and np.all(np.diff(likeness) < 0)),
        )


def _list(values: NDArray[np.float64], form: str = ".3f") -> str:
    return " ".join(f"{value:{form}}" for value in np.atleast_1d(values))


__all__ = [
    "Verdict",
    "beta_of",
    "curve",
    "final",
    "images_verdicts",
    "objective",
    "reach_verdicts",
    "ring_verdicts",
]

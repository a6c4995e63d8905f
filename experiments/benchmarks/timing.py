"""Two or more sides that take turns, so that a busy machine slows all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def alternate(sides: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Runs every side once in each round, in turned-round order every other time.

    Args:
      sides: what to run, by name; each must wait for its own end. One run before warms it up.
      rounds: repetitions.

    Returns:
      Seconds of each run, by side.
    """
    for run in sides.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for index in range(rounds):
        for name in list(sides) if index % 2 == 0 else reversed(list(sides)):
            start_s = time.perf_counter()
            sides[name]()
            seconds[name].append(time.perf_counter() - start_s)
    return seconds


def speed(seconds: list[float], steps: int) -> float:
    """Steps per second at the median time."""
    return steps / statistics.median(seconds)


def ratio(numerator: list[float], denominator: list[float]) -> dict[str, Any]:
    """Median, least and largest of the ratios of two sides, round by round."""
    ratios = [a / b for a, b in zip(numerator, denominator, strict=True)]
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}


def scaled(found: Mapping[str, float], factor: float) -> dict[str, float]:
    """A ratio of times as a ratio of speeds, where the sides take different numbers of steps."""
    return {name: value * factor for name, value in found.items()}

"""The export report shows what the files of results hold."""

from experiments.export.report import render

CELLS = [
    {
        "name": "nominal",
        "magnitude_n": 0.0,
        "exported": [48, 96],
        "trained": None,
        "velocity_error": 0.25,
    },
    {
        "name": "sudden-1",
        "magnitude_n": 100.0,
        "exported": [96, 96],
        "trained": [90, 96],
        "velocity_error": 0.5,
    },
]
SOURCE = {"command": "run", "git": {"commit": "abc"}, "date_utc": "today"}
CHECKED = {
    "observations": 768,
    "largest_action": 2.0,
    "max_abs_difference": {"action": 2e-6, "output": 1e-6},
}


def verified(motor, disagreements):
    policy = {"task": "aliengo", "algorithm": "hinf", "seed_index": 1, "iterations": 245}
    return {
        "provenance": SOURCE,
        "policy": policy,
        "exports": [{"format": "onnx", "bytes": 100_400, "checked": CHECKED}],
        "motor": motor,
        "cells": CELLS,
        "action_difference": 3e-6,
        "disagreements": disagreements,
    }


def test_the_report_shows_both_motors_and_the_latency():
    row = {
        "network": "own",
        "sizes": [45, 128, 12],
        "format": "onnx",
        "median_us": 20.4,
        "p99_us": 31.0,
        "max_us": 99.0,
    }
    latency = {"provenance": SOURCE, "cpu": "a processor", "load": 1.5, "steps": 10, "rows": [row]}
    text = render([verified("servo", []), verified("torque", ["sudden-1: differs"])], latency)
    assert "| onnx | 100 kB | 2.0e-06 | 1.0e-06 |" in text
    # Wilson, 48 of 96: centre 1/2, reach z sqrt(1/(4 n) + z^2/(4 n^2)) / (1 + z^2/n) = 0.098.
    row_nominal = "| nominal | 0 N | 48/96 = 0.50 [0.40, 0.60] | not measured | 0.25 m/s |"
    assert text.count(row_nominal) == 2
    assert "90/96 = 0.94 [0.87, 0.97]" in text
    assert "agrees up to chance" in text
    assert "Verdict: sudden-1: differs." in text
    assert "| own | 45 - 128 - 12 | onnx | 20 us | 31 us | 99 us |" in text

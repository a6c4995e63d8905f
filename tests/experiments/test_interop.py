"""The report of our environment under Brax's PPO."""

import pytest

pytest.importorskip("brax")

from experiments.interop import report


def test_the_report_has_a_line_for_each_evaluation():
    row = {"env_steps": 2048, "wall_s": 61.4, "return": 98.76, "task_return": 97.0, "length": 201.0}
    data = {
        "provenance": {
            "command": "python -m x",
            "git": {"commit": "abc"},
            "date_utc": "2026-01-01",
            "device": {"cpu_count": 2},
        },
        "versions": {"jax": "0.9.2", "brax": "0.14.2"},
        "episode_length": 250,
        "symmetric": [row, row],
        "asymmetric": [row],
    }
    lines = report.markdown(data).splitlines()
    shown = "2,048 | 98.8 | 97.0 | 201 of 250 | 61 s |"
    assert sum(line == f"| what the actor sees | {shown}" for line in lines) == 2
    assert sum(line == f"| the force, too | {shown}" for line in lines) == 1
    assert any("brax 0.14.2" in line for line in lines)

"""The report of our environment under Brax's PPO."""

import pytest

pytest.importorskip("brax")

from experiments.interop import report


def row(length, steps):
    return {
        "env_steps": steps,
        "wall_s": 61.4,
        "return": 1.5 * length,
        "task_return": length,
        "length": length,
    }


def test_the_report_has_a_line_for_each_arm():
    trained = {"asymmetric": False, "entropy_cost": 0.02, "seeds": [[row(30, 0), row(250, 2048)]]}
    data = {
        "provenance": {
            "command": "python -m x",
            "git": {"commit": "abc"},
            "date_utc": "2026-01-01",
            "device": {"cpu_count": 2},
        },
        "versions": {"jax": "0.9.2", "brax": "0.14.2"},
        "episode_length": 250,
        "push_limit_n": 0.6,
        "arms": {
            "undisturbed": {**trained, "is_pushed": False},
            "pushed_seen": {
                "is_pushed": True,
                "asymmetric": True,
                "entropy_cost": 0.001,
                "seeds": [[row(30, 0), row(100, 2048)], [row(40, 0), row(240, 2048)]],
            },
        },
    }
    lines = report.markdown(data).splitlines()
    rows = [line for line in lines if line.startswith("| ")][1:]
    assert rows == [
        "| none | what the actor sees | 0.02 | 30 (30 to 30) | 250 (250 to 250) | 45 (45 to 45) | "
        "375 (375 to 375) | 250 (250 to 250) | 61 (61 to 61) s |",
        "| 0.6 N | the push, too | 0.001 | 35 (30 to 40) | 170 (100 to 240) | 52 (45 to 60) | "
        "255 (150 to 360) | 170 (100 to 240) | 61 (61 to 61) s |",
    ]
    assert "2,048 environment steps" in lines[2]
    assert any("brax 0.14.2" in line for line in lines)

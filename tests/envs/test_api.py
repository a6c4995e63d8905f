"""The environment protocol's own checks, and that importing it stays light."""

import subprocess
import sys

import pytest

import hinf_rl.envs
from hinf_rl.envs.api import DisturbanceSpec, EnvSpec
from hinf_rl.errors import UserError

GOOD = {
    "name": "task",
    "policy_size": 3,
    "privileged_size": 4,
    "action_size": 2,
    "disturbance": DisturbanceSpec(size=0, limit=0.0, unit="N", meaning="none"),
    "dt_s": 0.02,
    "episode_length": 10,
    "task_reward_max": 1.0,
    "task_reward_scale": 1.0,
}


def test_a_sound_spec_is_accepted():
    assert EnvSpec(**GOOD).mirror is None


@pytest.mark.parametrize(
    "field", ["policy_size", "privileged_size", "action_size", "episode_length"]
)
def test_sizes_below_one_are_refused_by_name(field):
    with pytest.raises(UserError, match=f"{field} must be at least 1, got 0"):
        EnvSpec(**{**GOOD, field: 0})


@pytest.mark.parametrize("field", ["dt_s", "task_reward_scale"])
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_rates_and_scales_must_be_positive(field, value):
    with pytest.raises(UserError, match=f"must be positive.*{value}"):
        EnvSpec(**{**GOOD, field: value})


def test_public_names_exist_and_are_sorted():
    for name in hinf_rl.envs.__all__:
        assert hasattr(hinf_rl.envs, name)
    # Constants first, then classes, each in order: what ruff's RUF022 asks for.
    constants = [n for n in hinf_rl.envs.__all__ if n.isupper()]
    classes = [n for n in hinf_rl.envs.__all__ if not n.isupper()]
    assert hinf_rl.envs.__all__ == sorted(constants) + sorted(classes)


def test_importing_environments_loads_no_simulator():
    code = (
        "import sys, hinf_rl.envs; "
        "print([m for m in ('mujoco', 'matplotlib', 'brax') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"

"""Settings: what is refused and in which words, and the numbers that may be swept."""

import dataclasses
import operator
import re

import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.agents.hinf import (
    ConstraintConfig,
    CriticConfig,
    DisturbanceConfig,
    HinfConfig,
    PlayerConfig,
    hyperparameters,
)
from hinf_rl.agents.hinf.config import HYPERPARAMETER_PATHS, Hyperparameters
from hinf_rl.errors import UserError

NAN = float("nan")
REFUSED = [
    (PlayerConfig, {"activation": "gelu"}, "unknown activation 'gelu'"),
    (PlayerConfig, {"learning_rate": 0.0}, "learning_rate must be positive and finite, got 0.0"),
    (PlayerConfig, {"learning_rate": NAN}, "learning_rate must be positive and finite, got nan"),
    (PlayerConfig, {"max_grad_norm": -1.0}, "max_grad_norm must be positive"),
    (PlayerConfig, {"entropy_cost": -0.1}, "entropy_cost must be >= 0"),
    (PlayerConfig, {"hidden": (8, 0)}, "hidden must be positive, got (8, 0)"),
    (PlayerConfig, {"init_log_std": 2.0}, "log_std_range = (-4.0, 1.0), got 2.0"),
    (PlayerConfig, {"desired_kl": 0.0}, "desired_kl must be positive or none"),
    (PlayerConfig, {"distribution": "beta"}, "'normal' or 'tanh_normal', got 'beta'"),
    (CriticConfig, {"kind": "table"}, "'network' or 'quadratic', got 'table'"),
    (CriticConfig, {"learning_rate": -1.0}, "learning_rate must be positive"),
    (CriticConfig, {"ridge": -1.0}, "ridge must be >= 0"),
    (DisturbanceConfig, {"source": "wind"}, "disturbance.source must be one of"),
    (DisturbanceConfig, {"objective": "win"}, "disturbance.objective must be one of"),
    (DisturbanceConfig, {"undisturbed_fraction": 1.5}, "undisturbed_fraction must lie in [0, 1]"),
    (DisturbanceConfig, {"warmup_fraction": NAN}, "warmup_fraction must lie in [0, 1]"),
    (DisturbanceConfig, {"warmup_fraction": 0.7}, "must not exceed 1"),
    (DisturbanceConfig, {"hold_s": (1.0, 0.5)}, "0 < low <= high, got (1.0, 0.5)"),
    (DisturbanceConfig, {"hold_s": (0.0, 0.5)}, "0 < low <= high"),
    (DisturbanceConfig, {"decision_s": -0.1}, "disturbance.decision_s must be >= 0 and finite"),
    (DisturbanceConfig, {"random_fraction": -0.1}, "random_fraction must lie in [0, 1]"),
    (DisturbanceConfig, {"limit": 0.0}, "disturbance.limit must be positive or none"),
    (
        DisturbanceConfig,
        {"player": PlayerConfig(distribution="tanh_normal")},
        "disturbance.player.distribution must be 'normal'",
    ),
    (ConstraintConfig, {"multiplier": "on"}, "'off', 'fixed' or 'dual', got 'on'"),
    (ConstraintConfig, {"intensity_horizon": "week"}, "'step' or 'discounted', got 'week'"),
    (ConstraintConfig, {"attenuation": 0.0}, "constraint.attenuation must be > 0"),
    (ConstraintConfig, {"attenuation": NAN}, "constraint.attenuation must be > 0"),
    (ConstraintConfig, {"intensity_power": 0.0}, "constraint.intensity_power must be > 0"),
    (ConstraintConfig, {"multiplier_init": 11.0}, "multiplier_max = 10.0], got 11.0"),
    (ConstraintConfig, {"multiplier_lr": -0.1}, "constraint.multiplier_lr"),
    (ConstraintConfig, {"baseline_decay": 1.0}, "[0, 1) or be none"),
    (HinfConfig, {"num_envs": 0}, "num_envs must be at least 1, got 0"),
    (HinfConfig, {"gamma": 1.0}, "gamma must lie in (0, 1), got 1.0"),
    (HinfConfig, {"gae_lambda": 1.1}, "gae_lambda must lie in [0, 1]"),
    (HinfConfig, {"clip_ratio": 0.0}, "clip_ratio must be positive"),
    (HinfConfig, {"symmetry": "yes"}, "symmetry must be one of"),
    (HinfConfig, {"actor_objective": "fun"}, "actor_objective must be one of"),
    (HinfConfig, {"update": "magic"}, "update must be one of"),
    (HinfConfig, {"actor_objective": "game"}, "intensity_horizon = 'discounted'"),
    (HinfConfig, {"update": "newton"}, "is for linear players"),
    (HinfConfig, {"critic": CriticConfig(kind="quadratic")}, "go together"),
    (
        HinfConfig,
        {"num_envs": 5, "unroll_length": 3, "num_minibatches": 4},
        "num_envs * unroll_length = 5 * 3 = 15 does not divide into num_minibatches = 4",
    ),
    (
        HinfConfig,
        {"num_envs": 4, "disturbance": DisturbanceConfig(undisturbed_fraction=0.9)},
        "undisturbed_fraction = 0.9 and random_fraction = 0.0 leave none of num_envs = 4",
    ),
]


@pytest.mark.parametrize(("kind", "values", "message"), REFUSED)
def test_a_bad_value_is_refused_by_name(kind, values, message):
    with pytest.raises(UserError, match=re.escape(message)):
        kind(**values)


def test_sizes_follow_by_arithmetic():
    config = HinfConfig(num_envs=12, unroll_length=10, num_minibatches=5)
    assert config.batch_size == 120
    assert config.num_undisturbed == 3  # a quarter of 12
    silent = DisturbanceConfig(source="none")
    assert dataclasses.replace(config, disturbance=silent).num_undisturbed == 12
    assert not config.has_intensity_head


def test_everything_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        HinfConfig().gamma = 0.5


def test_hyperparameters_are_the_configured_numbers_under_their_paths():
    config = HinfConfig(
        gamma=0.5, clip_ratio=0.3, constraint=ConstraintConfig(attenuation=0.7, multiplier_lr=0.9)
    )
    found = hyperparameters(config, default_limit=42.0)
    assert set(HYPERPARAMETER_PATHS.values()) == set(Hyperparameters._fields)
    for path, name in HYPERPARAMETER_PATHS.items():
        value = operator.attrgetter(path)(config)
        leaf = getattr(found, name)
        assert leaf.dtype == jnp.float32 and leaf.shape == () and not leaf.weak_type
        np.testing.assert_allclose(leaf, 42.0 if value is None else value, rtol=1e-6)
    limited = dataclasses.replace(config, disturbance=DisturbanceConfig(limit=7.0))
    assert float(hyperparameters(limited, default_limit=42.0).disturbance_limit) == 7.0

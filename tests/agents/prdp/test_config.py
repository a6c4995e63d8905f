"""Settings that cannot work are named with a fix."""

import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.agents.prdp import FinetuneConfig, hyperparameters
from hinf_rl.errors import UserError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iterations": 0}, "iterations must be at least 1, got 0"),
        ({"num_epochs": 0}, "num_epochs must be at least 1"),
        ({"group_size": 1}, "group_size must be at least 2 to compare"),
        ({"group_size": 1, "objective": "ddpo"}, "advantage = 'batch'"),
        ({"num_contexts": 10, "num_minibatches": 3}, "does not divide into num_minibatches = 3"),
        ({"microbatch": 0}, "microbatch must be at least 1 or none"),
        ({"objective": "ppo"}, "unknown objective 'ppo'"),
        ({"advantage": "groups"}, "did you mean 'group'"),
        ({"beta": 0.0}, "beta must be positive"),
        ({"clip_eps": -0.1}, "clip_eps must be positive or none"),
        ({"clip_eps": None, "objective": "ddpo"}, "clip_eps must be given for ddpo"),
        ({"source": "offline", "objective": "ddpo"}, "source must be 'online' for ddpo"),
        ({"kl_penalty": 0.1}, "kl_penalty must be 0 for prdp"),
        ({"context_min_count": 40}, "no context would ever be known"),
        ({"step_decay": 0.0}, "step_decay must lie in"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"weight_decay": -1.0}, "weight_decay must not be negative"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        FinetuneConfig(**changes)


def test_one_sample_per_context_serves_a_batch_baseline():
    config = FinetuneConfig(group_size=1, objective="ddpo", advantage="batch")
    assert config.batch_size == config.num_contexts


def test_no_clip_is_an_infinite_one():
    numbers = hyperparameters(FinetuneConfig(clip_eps=None))
    assert all(leaf.shape == () and leaf.dtype == jnp.float32 for leaf in numbers)
    assert np.isinf(numbers.clip_eps)

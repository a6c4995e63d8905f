"""A toy task whose every number is known stands in for the real ones."""

import dataclasses
import json
import sys
import types
from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest

from hinf_rl import config as configs
from hinf_rl.agents.api import Algorithm
from hinf_rl.errors import UserError, unknown_name
from hinf_rl.training import run_directory
from hinf_rl.workload import Workload


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnvConfig:
    mass_kg: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgentConfig:
    gamma: float = 0.99
    width: int = 3

    def __post_init__(self):
        if not 0 < self.gamma <= 1:
            raise UserError(f"gamma must lie in (0, 1], got {self.gamma}")


class Numbers(NamedTuple):
    gamma: jax.Array


def make(config, env):
    """x <- gamma x from x = mass, so after n iterations x = mass gamma^n."""

    def init(key, hyperparameters=None):
        gamma = config.gamma if hyperparameters is None else hyperparameters.gamma
        return {"key": key, "gamma": gamma, "x": jnp.full((config.width,), env.mass_kg)}

    def step(carry):
        x = carry["gamma"] * carry["x"]
        return {**carry, "x": x}, {"episode/return": x[0]}

    return Algorithm(init, step, lambda carry: carry, lambda carry: carry, config, 10)


@pytest.fixture(autouse=True)
def registry(monkeypatch, tmp_path):
    """Stands in for tasks, algorithm and evaluation; the commands run in an empty directory."""
    algorithms = {"hinf": "constrained", "nominal": "plain"}

    def make_env(config):
        return types.SimpleNamespace(mass_kg=config.mass_kg)

    def evaluate_run(path, **options):
        (path / "called.json").write_text(json.dumps(options, default=str))
        return path / "report" / "report.md"

    workload = Workload(
        name="toys",
        algorithms=algorithms,
        default_algorithm="hinf",
        apply_algorithm=lambda config, name: config,
        make_algorithm=lambda task, env, agent: make(agent, task.make_env(env)),
        evaluate=evaluate_run,
        batched=("agent.gamma",),
        hyperparameters=lambda task, env, agent: Numbers(jnp.float32(agent.gamma)),
        render=evaluate_run,
    )
    task = types.SimpleNamespace(
        name="toy",
        summary="a toy",
        workload=workload,
        env_config=EnvConfig(),
        agent_config=AgentConfig(),
        make_env=make_env,
    )

    def get_task(name):
        if name != "toy":
            raise unknown_name("task", name, ["toy"])
        return task

    def configure(name, algorithm, overrides):
        found, algorithm = get_task(name), algorithm or "hinf"
        if algorithm not in algorithms:
            raise unknown_name("algorithm", algorithm, algorithms)
        config = run_directory.RunConfig(
            task=name,
            algorithm=algorithm,
            total_steps=30,
            env=found.env_config,
            agent=AgentConfig(),
        )
        return configs.with_overrides(config, overrides)

    def module(name, **content):
        made = types.ModuleType(name)
        for key, value in content.items():
            setattr(made, key, value)
        monkeypatch.setitem(sys.modules, name, made)

    module(
        "hinf_rl.tasks",
        TASKS={"toy": task},
        ALGORITHMS=algorithms,
        get_task=get_task,
        configure=configure,
    )
    monkeypatch.chdir(tmp_path)
    precision = jax.config.jax_default_matmul_precision
    yield
    jax.config.update("jax_default_matmul_precision", precision)

"""Environments of other packages as tasks: `brax:ant`, `gymnax:Pendulum-v1`.

A package is imported only when a task of its is asked for.
"""

from collections.abc import Callable
from typing import Any

from hinf_rl.agents.hinf.config import CriticConfig, DisturbanceConfig, HinfConfig, PlayerConfig
from hinf_rl.control_tasks import ROBUST_CONTROL
from hinf_rl.envs.api import Env
from hinf_rl.errors import UserError, unknown_name
from hinf_rl.workload import Task

PREFIXES = {
    "brax": "a Brax environment, for example brax:inverted_pendulum (extra brax)",
    "gymnax": "a gymnax environment, for example gymnax:Pendulum-v1 (extra gymnax)",
    "playground": "a MuJoCo Playground environment, where the package playground is installed",
}
"""Prefix of a task's name to what it stands for."""

# For tasks of unknown difficulty and unknown scale of rewards.
AGENT = HinfConfig(
    num_envs=256,
    unroll_length=32,
    num_epochs=4,
    num_minibatches=8,
    actor=PlayerConfig(
        hidden=(64, 64),
        activation="tanh",
        init_log_std=-0.5,
        log_std_range=(-2.5, 0.5),
        entropy_cost=0.002,
    ),
    # Returns reach 1 / (1 - gamma) = 100 times the reward, far from where a network starts.
    critic=CriticConfig(hidden=(64, 64), activation="tanh", learning_rate=3e-3, clip_value=None),
    disturbance=DisturbanceConfig(hold_s=(0.2, 1.0), decision_s=0.2),
)
"""Settings that every adapted task starts from."""
_TOTAL_STEPS = 1_000_000


def adapted_task(name: str) -> Task:
    """Returns the task `PREFIX:NAME` of another package.

    Raises:
      UserError: unknown prefix or name, with the nearest one; or the package is missing.
    """
    prefix, _, own_name = name.partition(":")
    if prefix not in PREFIXES:
        raise unknown_name("prefix of a task", prefix, PREFIXES)
    config, names, make = _package(prefix)
    if own_name not in names:
        raise unknown_name("task", name, [f"{prefix}:{known}" for known in names])

    def make_env(settings: Any) -> Env:
        if settings.name != own_name:
            raise UserError(
                f"env.name is {own_name!r} in task {name}, got {settings.name!r}; name another task"
            )
        return make(settings)

    return Task(
        name=name,
        summary=PREFIXES[prefix],
        workload=ROBUST_CONTROL,
        env_config=config(name=own_name),
        make_env=make_env,
        agent_config=AGENT,
        total_steps=_TOTAL_STEPS,
        tags=("adapted",),
    )


def _package(prefix: str) -> tuple[Callable[..., Any], list[str], Callable[[Any], Env]]:
    """Returns the settings' class of a package, its names, and what builds an environment."""
    if prefix == "brax":
        from hinf_rl.envs import brax_adapter as brax

        return brax.BraxConfig, brax.brax_names(), brax.make_brax
    if prefix == "gymnax":
        from hinf_rl.envs import gymnax_adapter as gymnax

        return gymnax.GymnaxConfig, gymnax.gymnax_names(), gymnax.make_gymnax
    from hinf_rl.envs import playground_adapter as playground

    return (
        playground.PlaygroundConfig,
        playground.playground_names(),
        playground.make_playground,
    )


__all__ = ["AGENT", "PREFIXES", "adapted_task"]

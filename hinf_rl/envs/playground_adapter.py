"""Environments with MuJoCo Playground's interface as ours.

Any object will do that has `reset(rng) -> state`, `step(state, action) -> state`, `action_size`,
`dt` and `mj_model`, and whose states have `data` (MJX), `obs`, `reward`, `done`, `metrics` and
`info`. Playground itself is needed only to make environments by their names.

A force on a body is written to `state.data.xfrc_applied` before the step. It is held through all
substeps wherever the step goes on from the data that it is given, as Playground's own `step`
function does. Among Playground's environments the joystick tasks of Go1 and Spot and the
reorientation of LEAP write that field themselves where `pert_config.enable` is set (it is not by
default), and Barkour's joystick always does: there the adapter refuses forces, and the disturbance
goes on the action.
"""

import dataclasses
from typing import Any

from hinf_rl import config as configs
from hinf_rl.envs.api import Env
from hinf_rl.envs.foreign import SimulationConfig, TaskRewardOf, import_optional
from hinf_rl.envs.state_adapter import StateAdapter
from hinf_rl.errors import UserError, unknown_name

_INTERFACE = ("reset", "step", "action_size", "mj_model")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlaygroundConfig(SimulationConfig):
    """Settings of an environment with Playground's interface."""


def playground_names() -> list[str]:
    """Names of Playground's environments.

    Raises:
      UserError: Playground is not installed.
    """
    return sorted(_registry().ALL_ENVS)


def from_playground(
    env: Any, *, task_reward: str | TaskRewardOf | None = None, **settings: Any
) -> Env:
    """Returns an environment with Playground's interface as one of ours.

    `done` terminates; episodes are truncated by our clock. The disturbance is a force on a body
    (`disturbance="force", body="torso"`), or it is added to the action.

    Args:
      env: the environment, without training wrappers; or a name, where Playground is installed.
      task_reward: what the robustness cost is measured on: name of a metric, or a function of
        the environment's state after a step; None takes the whole reward.
      **settings: fields of `PlaygroundConfig`; `task_reward_max` must be among them.

    Raises:
      UserError: the interface or a setting does not fit, or nobody says how large the task
        reward can be.
    """
    if isinstance(env, str):
        settings = {**settings, "name": env}
    if isinstance(task_reward, str):
        settings = {**settings, "task_reward": task_reward}
    config = configs.from_dict(PlaygroundConfig, settings)
    foreign = _load(config.name) if isinstance(env, str) else env
    return _adapt(foreign, config, task_reward if callable(task_reward) else None)


def make_playground(config: PlaygroundConfig) -> Env:
    """Builds the environment that `config` names; Playground must be installed."""
    return _adapt(_load(config.name), config, None)


def _registry() -> Any:
    try:
        return import_optional("mujoco_playground", install="playground").registry
    except UserError as error:
        raise UserError(
            f"{error}; an environment of your own needs no name: from_playground(env, ...)"
        ) from error


def _load(name: str) -> Any:
    registry = _registry()
    if name not in registry.ALL_ENVS:
        raise unknown_name("Playground environment", name, registry.ALL_ENVS)
    return registry.load(name)


def _adapt(
    foreign: Any, config: PlaygroundConfig, task_reward: TaskRewardOf | None
) -> StateAdapter:
    missing = [name for name in _INTERFACE if not hasattr(foreign, name)]
    if missing:
        raise UserError(
            f"{type(foreign).__name__} lacks {', '.join(missing)} of MuJoCo Playground's interface"
        )
    return StateAdapter(
        foreign,
        field="data",
        label=f"playground:{config.name or type(foreign).__name__}",
        config=config,
        task_reward=task_reward,
        model=foreign.mj_model,
    )


__all__ = ["PlaygroundConfig", "from_playground", "make_playground", "playground_names"]

"""Control under disturbances: tasks with recommended settings, algorithms as configurations.

This is the one place that knows environments and their agents both.
"""

import dataclasses
from pathlib import Path
from typing import Any

from hinf_rl.agents.api import Algorithm
from hinf_rl.agents.hinf.config import (
    HYPERPARAMETER_PATHS,
    ConstraintConfig,
    CriticConfig,
    DisturbanceConfig,
    HinfConfig,
    Hyperparameters,
    PlayerConfig,
    hyperparameters,
)
from hinf_rl.envs.api import Env
from hinf_rl.envs.classic import CartPole, CartPoleConfig, Pendulum, PendulumConfig
from hinf_rl.envs.legged.config import RewardConfig, TerrainConfig, VelocityConfig
from hinf_rl.envs.legged.hind_config import HindLegsConfig
from hinf_rl.envs.lq import LQEnv
from hinf_rl.envs.wrappers import HistoryWrapper
from hinf_rl.errors import unknown_name
from hinf_rl.ops.linear_system import SYSTEMS
from hinf_rl.workload import Task, Workload

ALGORITHMS = {
    "domain_randomisation": "PPO under random held forces of the same bound",
    "hinf": "PPO against a learned disturber under the H-infinity constraint",
    "nominal": "PPO without forces",
    "rarl": "zero-sum adversary: the disturber is paid the lost reward, nothing bounds it",
    "unconstrained": "as hinf, without price on force and without multiplier",
}
"""Name to one line of what it changes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LQConfig:
    """A named linear-quadratic system.

    Attributes:
      system: "S1" to "S4".
      episode_length: steps after which an episode is truncated.
      split: count x'Qx alone as the task's cost, u'Ru as auxiliary.
    """

    system: str = "S2"
    episode_length: int = 50
    split: bool = False

    def __post_init__(self) -> None:
        if self.system not in SYSTEMS:
            raise unknown_name("linear system", self.system, SYSTEMS)


def make_lq(config: LQConfig) -> Env:
    """Builds a named linear-quadratic environment."""
    return LQEnv(SYSTEMS[config.system], episode_length=config.episode_length, split=config.split)


def make_velocity(config: VelocityConfig) -> Env:
    """Builds a quadruped velocity task with its observation history."""
    # MuJoCo loads only where a robot is asked for.
    from hinf_rl.envs.legged.velocity import VelocityEnv

    env = VelocityEnv(config)
    return HistoryWrapper(env, config.history) if config.history > 1 else env


def make_hind_legs(config: HindLegsConfig) -> Env:
    """Builds a hind-leg task with its observation history."""
    from hinf_rl.envs.legged.hind_legs import HindLegsEnv

    env = HindLegsEnv(config)
    return HistoryWrapper(env, config.history) if config.history > 1 else env


def apply_algorithm(config: HinfConfig, algorithm: str) -> HinfConfig:
    """Turns recommended H-infinity settings into those of one algorithm.

    Raises:
      UserError: there is no such algorithm.
    """
    if algorithm not in ALGORITHMS:
        raise unknown_name("algorithm", algorithm, ALGORITHMS)
    if algorithm == "hinf":
        return config
    source = {"nominal": "none", "domain_randomisation": "random"}.get(algorithm, "learned")
    objective = "reward" if algorithm == "rarl" else "task"
    random_fraction = 0.0 if algorithm == "rarl" else config.disturbance.random_fraction
    disturbance = dataclasses.replace(
        config.disturbance, source=source, objective=objective, random_fraction=random_fraction
    )
    constraint = dataclasses.replace(config.constraint, multiplier="off")
    return dataclasses.replace(
        config, actor_objective="reward", disturbance=disturbance, constraint=constraint
    )


def _make_algorithm(task: Task, env_config: Any, agent_config: HinfConfig) -> Algorithm:
    from hinf_rl.agents.hinf import make

    return make(agent_config, task.make_env(env_config))


def _hyperparameters(task: Task, env_config: Any, agent_config: HinfConfig) -> Hyperparameters:
    limit = task.make_env(env_config).spec.disturbance.limit
    return hyperparameters(agent_config, default_limit=limit)


def _evaluate_protocol(
    run: Path, *, quick: bool, baseline: Path | None, physics: str | None = None
) -> Path:
    from hinf_rl.evaluation.report import evaluate_run

    evaluate_run(run, quick=quick, baseline=baseline, physics=physics)
    return run / "report" / "report.md"


def _render_films(run: Path, *, beside: Path | None) -> None:
    from hinf_rl.evaluation.report import render_run

    render_run(run, beside=beside)


ROBUST_CONTROL = Workload(
    name="robust control",
    algorithms=ALGORITHMS,
    default_algorithm="hinf",
    apply_algorithm=apply_algorithm,
    make_algorithm=_make_algorithm,
    evaluate=_evaluate_protocol,
    batched=tuple(f"agent.{path}" for path in HYPERPARAMETER_PATHS),
    hyperparameters=_hyperparameters,
    render=_render_films,
)
"""Training against a disturber, and the robustness protocol."""


_SMALL = PlayerConfig(
    hidden=(32, 32),
    activation="tanh",
    init_log_std=-0.5,
    log_std_range=(-2.5, 0.5),
    learning_rate=1e-3,
    desired_kl=None,
    entropy_cost=0.002,
)
_CLASSIC_AGENT = HinfConfig(
    num_envs=64,
    unroll_length=64,
    num_epochs=4,
    num_minibatches=4,
    actor=_SMALL,
    # Values reach 1 / (1 - gamma) = 100 times the reward: with 1e-3 the critic sits on their mean
    # for hundreds of iterations, and the cart learns to sprint and fall.
    critic=CriticConfig(hidden=(32, 32), activation="tanh", learning_rate=1e-2, clip_value=None),
    disturbance=DisturbanceConfig(
        hold_s=(0.5, 0.5),
        player=dataclasses.replace(_SMALL, init_log_std=-1.0, log_std_range=(-2.0, 0.5)),
    ),
    normalize_observations=False,
)
_LQ_AGENT = HinfConfig(
    num_envs=512,
    unroll_length=50,
    gamma=0.99,
    gae_lambda=0.0,
    update="newton",
    actor_objective="game",
    normalize_observations=False,
    actor=PlayerConfig(hidden=(), init_log_std=-1.2, desired_kl=None),
    critic=CriticConfig(kind="quadratic"),
    disturbance=DisturbanceConfig(
        undisturbed_fraction=0.0,
        warmup_fraction=0.0,
        ramp_fraction=0.0,
        player=PlayerConfig(hidden=(), init_log_std=-1.2, desired_kl=None),
    ),
    constraint=ConstraintConfig(
        multiplier="off",
        intensity_power=2.0,
        intensity_horizon="discounted",
        baseline_decay=None,
        attenuation=0.260672,  # (1.5 times the least attenuation of S2 at this discount)^2
    ),
    stagger_episodes=False,
)
# Two steps of 10 ms with an implicit integrator hold the PD loop as well as four of 5 ms and
# simulate nearly twice as fast on a CPU.
_VELOCITY = VelocityConfig(
    physics_dt_s=0.01,
    substeps=2,
    history=1,
    heading_command=False,
    max_lateral_m_s=0.5,
    reward=RewardConfig(feet_air_time=0.5, air_time_target_s=0.25),
)
# The curriculum goes by distance from the start: robots that turn all the time get nowhere, so a
# heading is commanded. Nobody sees the ground but the critic: the policy feels it, by history.
# Steps of 5 ms: feet strike at more than 3.5 m/s, and with 10 ms native physics swallows them.
_TERRAIN = dataclasses.replace(
    _VELOCITY,
    physics_dt_s=0.005,
    substeps=4,
    history=6,
    heading_command=True,
    terrain=TerrainConfig(kind="mixed"),
)
_VELOCITY_AGENT = HinfConfig(
    num_envs=1024,
    unroll_length=24,
    num_epochs=5,
    num_minibatches=4,
    symmetry="augment",
    # A robot that cannot walk yet learns nothing from being pushed over: forces come late.
    # They are held for 0.2 s, or they would average out before 25 kg move.
    disturbance=DisturbanceConfig(
        warmup_fraction=0.5, ramp_fraction=0.2, decision_s=0.2, random_fraction=0.25
    ),
    # A walking robot loses little tracking per newton: at a price of 2 the disturber rests, at
    # 0.4 it pushes too hard for so short a training.
    constraint=ConstraintConfig(attenuation=1.2),
)
# A balance on two points survives no noise of a quarter of a radian, and soft knees make it harder.
# It is found after some 5 M steps by many small updates, and need not be its own mirror image: the
# mirrored action of a policy with so little noise is one that it would never take.
_HIND_LEGS = HindLegsConfig(physics_dt_s=0.01, substeps=2, stiffness=80.0, damping=2.0)
_HIND_LEGS_AGENT = dataclasses.replace(
    _VELOCITY_AGENT,
    num_envs=2048,
    num_minibatches=8,
    symmetry="none",
    actor=PlayerConfig(init_log_std=-1.5, entropy_cost=0.001, desired_kl=0.02),
)

CONTROL_TASKS = (
    Task(
        name="aliengo",
        summary="Unitree Aliengo follows velocity commands, trunk pushed by up to 100 N",
        env_config=_VELOCITY,
        workload=ROBUST_CONTROL,
        make_env=make_velocity,
        agent_config=_VELOCITY_AGENT,
        total_steps=7_600_000,
        log_every=1,
        tags=("robot", "native physics"),
    ),
    Task(
        name="a1",
        summary="Unitree A1 follows velocity commands, trunk pushed by up to 50 N",
        env_config=dataclasses.replace(_VELOCITY, robot="a1"),
        workload=ROBUST_CONTROL,
        make_env=make_velocity,
        agent_config=_VELOCITY_AGENT,
        total_steps=9_200_000,
        log_every=1,
        tags=("robot", "native physics"),
    ),
    Task(
        name="aliengo-terrain",
        summary="Unitree Aliengo follows velocity commands over slopes, stairs and blocks",
        env_config=_TERRAIN,
        workload=ROBUST_CONTROL,
        make_env=make_velocity,
        agent_config=_VELOCITY_AGENT,
        total_steps=50_000_000,
        log_every=1,
        tags=("robot", "native physics", "terrain"),
    ),
    Task(
        name="a1-terrain",
        summary="Unitree A1 follows velocity commands over slopes, stairs and blocks",
        env_config=dataclasses.replace(_TERRAIN, robot="a1"),
        workload=ROBUST_CONTROL,
        make_env=make_velocity,
        agent_config=_VELOCITY_AGENT,
        total_steps=50_000_000,
        log_every=1,
        tags=("robot", "native physics", "terrain"),
    ),
    Task(
        name="a1-hind-legs",
        summary="Unitree A1 follows velocity commands on its hind legs, pushed by up to 25 N",
        env_config=_HIND_LEGS,
        workload=ROBUST_CONTROL,
        make_env=make_hind_legs,
        agent_config=_HIND_LEGS_AGENT,
        total_steps=24_000_000,
        log_every=1,
        tags=("robot", "native physics"),
    ),
    Task(
        name="cartpole",
        summary="cart-pole follows a velocity command, pole pushed by up to 0.6 N",
        env_config=CartPoleConfig(),
        workload=ROBUST_CONTROL,
        make_env=CartPole,
        agent_config=_CLASSIC_AGENT,
        total_steps=800 * 4096,
        tags=("classic", "pure JAX"),
    ),
    Task(
        name="pendulum",
        summary="torque-limited pendulum swings up under a disturbance torque",
        env_config=PendulumConfig(),
        workload=ROBUST_CONTROL,
        make_env=Pendulum,
        agent_config=_CLASSIC_AGENT,
        total_steps=400 * 4096,
        tags=("classic", "pure JAX"),
    ),
    Task(
        name="lq",
        summary="linear-quadratic game with an exact solution (systems S1 to S4)",
        env_config=LQConfig(),
        workload=ROBUST_CONTROL,
        make_env=make_lq,
        agent_config=_LQ_AGENT,
        total_steps=400 * 512 * 50,
        tags=("oracle", "pure JAX"),
    ),
)
"""The tasks under a disturbance."""

__all__ = [
    "ALGORITHMS",
    "CONTROL_TASKS",
    "ROBUST_CONTROL",
    "LQConfig",
    "apply_algorithm",
    "make_hind_legs",
    "make_lq",
    "make_velocity",
]

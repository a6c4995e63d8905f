"""The wrong inputs: what is done, and a part of what must be said about it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from experiments.bad_input import damage, models

Area = Literal["command", "setting", "output", "run directory", "checkpoint", "export", "model"]


@dataclasses.dataclass(frozen=True)
class Case:
    """One wrong input.

    Attributes:
      area: what is wrong.
      text: the command line (without `hinf-rl`), or the expression of the public interface.
      says: a part that the message must have: thing, value, fix or suggestion.
      prepare: makes the folder, which is the working directory; None leaves it empty.
      call: the public interface instead of the command line.
      in_process: False starts the command as a process of its own.
    """

    area: Area
    text: str
    says: str
    prepare: Callable[[Path], None] | None = None
    call: Callable[[], object] | None = None
    in_process: bool = True

    @property
    def name(self) -> str:
        """What to call it in a list; settings that are right only fill a page."""
        text = self.text.replace(damage.TINY, "").strip()
        return f"{text} ({self.prepare.__name__})" if self.prepare else text


def _command(text: str, says: str, *, in_process: bool = True) -> Case:
    return Case("command", text, says, in_process=in_process)


def _setting(text: str, says: str, task: str = "cartpole") -> Case:
    return Case("setting", f"train {task} --set {text}", says)


def _model(text: str, says: str, call: Callable[[], object]) -> Case:
    return Case("model", text, says, call=call)


COMMANDS = (
    _command("trian cartpole", "did you mean 'train'"),
    _command("train", "TASK", in_process=False),
    _command("train cartpol", "did you mean 'cartpole'", in_process=False),
    _command("train cartpole --algorithm hinff", "did you mean 'hinf'"),
    _command("train cartpole --sedes 3", "did you mean --seeds", in_process=False),
    _command("train cartpole --seeds many", "--seeds"),
    _command("train cartpole --seeds 0", "seeds must be at least 1, got 0"),
    _command("train cartpole --seed -1", "seed must lie in [0, 2^32), got -1"),
    _command("train cartpole --steps lots", "total_steps"),
    _command("train cartpole --steps 0", "total_steps must be at least 1, got 0"),
    _command("train cartpole --steps inf", "total_steps"),
    _command("train cartpole --device abacus", "--device"),
    _command("train cartpole --device gpu", "leave --device out", in_process=False),
    _command("train cartpole --set", "--set"),
    _command("train cartpole --set agent.gamma", "key=value"),
    _command("train cartpole --set agent.gamma=0.9 --set agent.gamma=0.8", "given twice"),
    _command("evaluate", "RUN"),
    _command("evaluate nowhere", "does not exist; train one"),
    _command("evaluate .", "config.toml is missing"),
    _command("render nowhere", "does not exist; train one"),
    _command("sweep cartpole", "--set KEY=A,B,C"),
    _command("sweep cartpole --set agent.gamma=0.9,,0.8", "cannot split"),
    _command("sweep cartpole --set agent.gamma=0.9,5", "gamma must lie in (0, 1)"),
    _command("doctor --fast", "--fast"),
)

SETTINGS = (
    _setting("agent.gama=0.9", "did you mean 'agent.gamma'"),
    _setting("agent.gamma=high", "'agent.gamma' must be float"),
    _setting("agent.gamma=1.5", "gamma must lie in (0, 1), got 1.5"),
    _setting("agent.gamma=nan", "gamma must lie in (0, 1), got nan"),
    _setting("agent.gamma.x=1", "single value"),
    _setting("agent=1", "group of settings"),
    _setting("agent.num_envs=0", "num_envs must be at least 1, got 0"),
    _setting("agent.num_envs=1.5", "'agent.num_envs' must be int"),
    _setting("agent.num_envs=10 agent.unroll_length=7", "does not divide into num_minibatches"),
    _setting("agent.actor.hidden=(32,-1)", "hidden must be positive"),
    _setting("agent.actor.hidden=wide", "agent.actor.hidden"),
    _setting("agent.actor.activation=relo", "did you mean 'relu'"),
    _setting("agent.actor.learning_rate=-1e-3", "learning_rate must be positive"),
    _setting("agent.actor.learning_rate=inf", "learning_rate must be positive"),
    _setting("agent.update=newton", "linear players"),
    _setting("agent.critic.kind=quadratic", "go together"),
    _setting("agent.actor_objective=game", "intensity_horizon = 'discounted'"),
    _setting("agent.disturbance.source=wind", "agent.disturbance.source"),
    _setting("agent.disturbance.undisturbed_fraction=1", "for the disturber"),
    _setting("agent.disturbance.limit=-5", "limit must be positive"),
    _setting("agent.disturbance.warmup_fraction=0.8", "must not exceed 1"),
    _setting("agent.disturbance.hold_s=(1.0,0.5)", "0 < low <= high"),
    _setting("agent.constraint.attenuation=0", "attenuation must be > 0"),
    _setting("agent.constraint.multiplier_init=20", "multiplier_max = 10"),
    _setting("env.pole_mass_range_kg=(2,1)", "pole_mass_range_kg"),
    _setting("env.dt_s=0", "dt_s must be positive", task="pendulum"),
    _setting("env.system=S9", "unknown linear system", task="lq"),
    _setting("agent.disturbance.source=random", "disturbance.limit", task="lq"),
    _setting("env.robot=aliengoo", "did you mean 'aliengo'", task="aliengo"),
    _setting("env.physics_dt_s=0.5", "(0, 0.02] s", task="aliengo"),
    _setting("env.randomise=perhaps", "'env.randomise' must be bool", task="aliengo"),
    _setting("env.randomisation.friction=(2,1)", "friction must be (low, high)", task="aliengo"),
    _setting("env.collisions=hands", "env.collisions", task="aliengo"),
    _setting("env.push_limit_n=-1", "push_limit_n must be positive", task="aliengo"),
)

_TRAIN = f"train cartpole --output run {damage.TINY}"
_RESUME = f"train cartpole --output run --resume {damage.TINY}"

OUTPUTS = (
    Case("output", _TRAIN, "go on with --resume or choose another", damage.finished_run),
    Case("output", _TRAIN, "not empty", damage.someone_elses_folder),
    Case("output", _TRAIN, "not empty", damage.a_file),
    Case("output", _TRAIN.replace("run", "run/inside"), "another directory", damage.a_file),
    Case("output", _TRAIN.replace("run", "/sys/hinf"), "another directory"),
    Case("output", _RESUME, "holds no run to resume", damage.someone_elses_folder),
    Case("output", _RESUME, "another process is training", damage.locked_run),
    Case(
        "output",
        "sweep cartpole --output run --set agent.gamma=0.9,0.8",
        "choose another --output",
        damage.someone_elses_folder,
    ),
)

RUN_DIRECTORIES = (
    Case("run directory", _RESUME.replace("cartpole", "pendulum"), "task", damage.finished_run),
    Case("run directory", f"{_RESUME} --seeds 2", "seeds = 1, not 2", damage.finished_run),
    Case("run directory", f"{_RESUME} --seed 7", "seed = 0, not 7", damage.finished_run),
    Case("run directory", f"{_RESUME} agent.gamma=0.5", "agent.gamma", damage.finished_run),
    Case("run directory", f"{_RESUME} --algorithm rarl", "algorithm", damage.finished_run),
    Case("run directory", _RESUME, "config.toml is missing", damage.without_config),
    Case("run directory", _RESUME, "manifest.json is damaged", damage.cut_manifest),
    Case("run directory", _RESUME, "not valid TOML", damage.cut_config),
    Case("run directory", _RESUME, "line 2 is damaged", damage.damaged_log_line),
    Case("run directory", "evaluate run", "not valid TOML", damage.cut_config),
    Case("run directory", "evaluate run", "names no task", damage.empty_config),
    Case("run directory", "evaluate run", "not valid TOML", damage.binary_config),
    Case("run directory", "evaluate run", "did you mean 'agent.gamma'", damage.misspelt_config),
    Case("run directory", "evaluate run", "unknown task 'cartpool'", damage.unknown_task),
    Case("run directory", "evaluate run", "config.toml is missing", damage.an_empty_folder),
    Case("run directory", "evaluate run", "does not exist", damage.a_file),
    Case("run directory", "evaluate run --baseline nowhere", "missing", damage.finished_run),
)

CHECKPOINTS = (
    Case("checkpoint", "evaluate run", "there is none", damage.no_checkpoint),
    Case("checkpoint", "render run", "there is none", damage.no_checkpoint),
    Case("checkpoint", "evaluate run", "there is none", damage.half_written_checkpoint),
    Case("checkpoint", "evaluate run", "checkpoints are damaged", damage.flipped_bit),
    Case("checkpoint", "evaluate run", "checkpoints are damaged", damage.truncated_arrays),
    Case("checkpoint", "evaluate run", "checkpoints are damaged", damage.deleted_arrays),
    Case("checkpoint", "evaluate run", "checkpoints are damaged", damage.cut_checkpoint_manifest),
    Case("checkpoint", "evaluate run", "checkpoints are damaged", damage.no_checkpoint_manifest),
    Case("checkpoint", "evaluate run", "checkpoints are damaged", damage.deleted_leaf),
    Case("checkpoint", _RESUME, "checkpoints are damaged", damage.flipped_bit),
    Case("checkpoint", "evaluate run", "agent.gamma", damage.settings_of_another_run),
    Case("checkpoint", "evaluate run", "agent.actor.hidden", damage.other_network),
    Case("checkpoint", "evaluate run", "this version reads", damage.newer_format),
)

_EXPORT = "export run --format numpy"

EXPORTS = (
    Case("export", "export nowhere", "train one with `hinf-rl train`"),
    Case("export", "export run --format pickle", "'numpy'", damage.finished_run),
    Case("export", f"{_EXPORT} --seed-index 5", "has seed 0 only", damage.finished_run),
    Case("export", f"{_EXPORT} --output run", "for example run.py", damage.finished_run),
    Case("export", f"{_EXPORT} --output /sys/p.py", "another directory", damage.finished_run),
    Case("export", _EXPORT, "there is none", damage.no_checkpoint),
    Case("export", _EXPORT, "checkpoints are damaged", damage.flipped_bit),
    Case("export", "verify nowhere.onnx", "write one with `hinf-rl export`"),
    Case("export", "verify run", ".onnx or .py", damage.finished_run),
    Case("export", "verify policy.onnx", "no ONNX model", damage.no_onnx_model),
    Case("export", "verify policy.py", "is no policy", damage.someone_elses_code),
    Case("export", "verify policy.py", "only quadrupeds", damage.exported_cartpole),
    Case("export", "verify policy.py --task aliengo", "not 'aliengo'", damage.exported_cartpole),
    Case("export", "verify policy.py --episodes 0", "at least 1", damage.exported_cartpole),
)

MODELS = (
    _model("LinearSystem(A=[2, 3] matrix)", "A must be (2, 2), got (2, 3)", models.wide_dynamics),
    _model("LinearSystem(Q=diag(1, -1))", "smallest eigenvalue is -1", models.indefinite_weight),
    _model("LinearSystem(R=0)", "R must be positive definite", models.singular_weight),
    _model("LinearSystem(B=NaN)", "every entry must be finite", models.nan_input),
    _model("LQEnv(S2, initial_std=-1)", "initial_std must be finite", models.negative_spread),
    _model("make() on a task without disturbance", "takes no disturbance", models.no_disturbance),
    _model("make() with symmetry, without a mirror", "no mirror symmetry", models.no_mirror),
    _model("make() with random forces, unbounded", "disturbance.limit", models.no_bound),
    _model("BatchEnv(env, 0)", "num_envs must be at least 1", models.no_instances),
    _model("BatchEnv.step(action of 3)", "expected (2, 1)", models.wide_action),
    _model("HistoryWrapper(env, 0)", "history length must be at least 1", models.no_history),
    _model("NativePhysics(force_body='tail')", "no body named 'tail'", models.unknown_body),
    _model("ModelField('body_mas')", "did you mean 'body_mass'", models.unknown_field),
    _model("ModelField('body_mass', 99)", "must lie in [0, 2)", models.wrong_index),
    _model("NativePhysics(muscle model)", "actuator activations", models.hidden_state),
    _model("build_mjcf(timestep=0)", "timestep must be > 0", models.no_timestep),
)

CASES = (*COMMANDS, *SETTINGS, *OUTPUTS, *RUN_DIRECTORIES, *CHECKPOINTS, *EXPORTS, *MODELS)

"""A run on disk: what was asked for, where it came from, what it measured and learned.

config.toml     every setting, enough to build the run again
manifest.json   command, versions, device, commit, date
metrics.jsonl   one line per logged call
checkpoints/    the whole carry
tensorboard/    the metrics as events
report/         what evaluation writes
"""

import contextlib
import dataclasses
import fcntl
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from hinf_rl import config as configs
from hinf_rl.errors import UserError
from hinf_rl.training import files
from hinf_rl.training.provenance import provenance

# What may change between sessions of one run: none of it reaches the numbers.
_FREE = ("total_steps", "log_every", "checkpoint_every", "keep_checkpoints")
_FIRST = ("task", "algorithm")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that a run is made from.

    Attributes:
      task: name of the task.
      algorithm: name of the algorithm.
      seeds: how many members are trained side by side.
      seed: root of every random number.
      total_steps: environment steps of each member.
      log_every: iterations per compiled call and line of the log.
      checkpoint_every: iterations between checkpoints.
      keep_checkpoints: how many of the newest checkpoints to keep.
      env: the task's environment settings (a frozen dataclass).
      agent: the algorithm's settings (a frozen dataclass).
    """

    task: str
    algorithm: str
    seeds: int = 1
    seed: int = 0
    total_steps: int = 1_000_000
    log_every: int = 1
    checkpoint_every: int = 50
    keep_checkpoints: int = 3
    env: Any
    agent: Any

    def __post_init__(self) -> None:
        positive = ("seeds", *_FREE)
        for name in positive:
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed must lie in [0, 2^32), got {self.seed}")


class RunDirectory:
    """Paths of a run directory, and what its checkpoints belong to.

    Attributes:
      path: the directory.
      identity: what a checkpoint must have been made with (JSON values).
    """

    def __init__(self, path: Path | str, identity: Mapping[str, Any] | None = None) -> None:
        self.path = Path(path)
        self.identity = dict(identity or {})
        self._session: tuple[RunConfig, dict[str, Any]] | None = None

    @property
    def config(self) -> Path:
        """Every setting."""
        return self.path / "config.toml"

    @property
    def manifest(self) -> Path:
        """Provenance."""
        return self.path / "manifest.json"

    @property
    def metrics(self) -> Path:
        """One JSON object per logged call."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        """The folder of event files."""
        return self.path / "tensorboard"

    @property
    def report(self) -> Path:
        """The folder that evaluation writes to."""
        return self.path / "report"

    def plan_session(self, config: RunConfig, manifest: dict[str, Any]) -> None:
        """Keeps what `begin_session` is to write."""
        self._session = config, manifest

    def begin_session(self, *, seed_order: str | None = None) -> None:
        """Writes settings and provenance, once it is sure that training can go on.

        Until then a resume that fails has changed nothing.

        Args:
          seed_order: how several seeds compute, where that is decided.
        """
        if self._session is not None:
            config, manifest = self._session
            files.write_json(self.manifest, manifest)
            files.write_atomic(self.config, configs.dumps_toml(config))
            self._session = None
        if seed_order is not None and seed_order != self.seed_order:
            kept = files.read_json(self.manifest) if self.manifest.exists() else {}
            files.write_json(self.manifest, {**kept, "seed_order": seed_order})

    @property
    def seed_order(self) -> Literal["vmapped", "sequential"]:
        """How several seeds compute; what a resume must do again for the same bits."""
        kept = files.read_json(self.manifest) if self.manifest.exists() else {}
        return kept.get("seed_order", "vmapped")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the directory against a second training process.

        Raises:
          UserError: another process trains in it.
        """
        with (self.path / ".lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UserError(
                    f"another process is training in {self.path}; wait for it or stop it"
                ) from None
            yield


def open_run(path: Path | str, config: RunConfig, *, resume: bool = False) -> RunDirectory:
    """Makes the directory of a new run, or opens it to go on.

    Args:
      path: the directory; a new run needs it absent or empty.
      config: every setting.
      resume: whether an existing run goes on; its settings must be those of `config`, apart
        from the length of training and how it is logged and saved.

    Raises:
      UserError: the directory is taken, or holds a run with other settings. Nothing is
        overwritten then. A resumed run is written to by `begin_session` at the earliest.
    """
    run = RunDirectory(path, identity(config))
    is_taken = run.path.exists() and (not run.path.is_dir() or any(run.path.iterdir()))
    if is_taken and not resume:
        raise UserError(
            f"{run.path} exists and is not empty; go on with --resume or choose another --output"
        )
    if is_taken and run.config.exists():
        _check_resumable(run, config)
    elif is_taken and run.checkpoints.exists():
        raise UserError(f"{run.config} is missing; this run cannot go on, choose another --output")
    elif is_taken and {entry.name for entry in run.path.iterdir()} - {".lock"}:
        raise UserError(f"{run.path} holds no run to resume; choose another --output")
    with files.disk_errors(f"make {run.path}"):
        run.path.mkdir(parents=True, exist_ok=True)
    first = files.read_json(run.manifest) if run.manifest.exists() else None
    manifest = {**provenance(), "resumed": []}
    if first is not None:
        manifest = {**first, "resumed": [*first.get("resumed", []), provenance()]}
    run.plan_session(config, manifest)
    if first is None:
        run.begin_session()
    return run


def read_config(path: Path | str) -> RunConfig:
    """Reads the settings of a run.

    Raises:
      UserError: no run directory, or its settings are damaged.
    """
    from hinf_rl.tasks import get_task

    run = RunDirectory(path)
    if not run.path.is_dir():
        raise UserError(f"run directory {run.path} does not exist; train one with `hinf-rl train`")
    if not run.config.is_file():
        raise UserError(f"{run.config} is missing; is {run.path} a run directory of hinf-rl?")
    data = configs.loads_toml(
        run.config.read_text(encoding="utf-8", errors="replace"), source=str(run.config)
    )
    if not isinstance(data.get("task"), str):
        raise UserError(f"{run.config} names no task; it is damaged or not ours")
    task = get_task(data["task"])
    groups = {
        name: configs.from_dict(type(example), data.get(name, {}), path=name)
        for name, example in (("env", task.env_config), ("agent", task.agent_config))
    }
    return configs.from_dict(RunConfig, {**data, **groups})


def load_run(path: Path | str) -> tuple[RunConfig, Any, Any]:
    """Loads a run for evaluation, rendering or export.

    Returns:
      (settings, algorithm, carry); the carry's leaves have a leading axis [seeds] where there
      is more than one seed, see `select_seed`.

    Raises:
      UserError: something is missing or damaged; the message says what.
    """
    import jax

    from hinf_rl.training.checkpoint import restore_checkpoint
    from hinf_rl.training.loop import make_init, seed_keys

    config = read_config(path)
    algorithm = make_algorithm(config)
    init = make_init(algorithm, seed_keys(config.seed, config.seeds))
    _, carry = restore_checkpoint(
        RunDirectory(path).checkpoints,
        jax.eval_shape(init),
        identity=identity(config),
        warn=lambda line: print(line, file=sys.stderr),
    )
    return config, algorithm, carry


def make_algorithm(config: RunConfig) -> Any:
    """Returns the algorithm that `config` describes, on its environment."""
    from hinf_rl.tasks import get_task

    task = get_task(config.task)
    return task.workload.make_algorithm(task, config.env, config.agent)


def identity(config: RunConfig) -> dict[str, Any]:
    """Returns the settings that reach the numbers, flat: what a checkpoint belongs to."""
    flat = configs.flatten(configs.to_dict(config))
    # JSON has no infinity; the text of a number tells two of them apart as well.
    return {name: repr(value) for name, value in flat.items() if name not in _FREE}


def _check_resumable(run: RunDirectory, config: RunConfig) -> None:
    stored = configs.flatten(configs.loads_toml(run.config.read_text(encoding="utf-8")))
    wanted = configs.flatten(configs.loads_toml(configs.dumps_toml(config)))
    # Another task or algorithm explains the other differences.
    for name in sorted({*stored, *wanted}, key=lambda name: (name not in _FIRST, name)):
        same = repr(stored.get(name)) == repr(wanted.get(name))
        if name not in _FREE and not same:
            raise UserError(
                f"{run.path} was trained with {name} = {stored.get(name, 'absent')}, not "
                f"{wanted.get(name, 'absent')}; resume with the same settings or choose another "
                "--output"
            )


__all__ = [
    "RunConfig",
    "RunDirectory",
    "identity",
    "load_run",
    "make_algorithm",
    "open_run",
    "read_config",
]

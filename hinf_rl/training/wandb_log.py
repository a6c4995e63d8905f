"""Metrics to Weights & Biases, beside the JSON lines and TensorBoard that every run has.

`WANDB_MODE=offline` keeps everything in the run directory; `wandb sync` sends it later.
"""

import importlib.util
import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from hinf_rl import config as configs
from hinf_rl.errors import UserError
from hinf_rl.training import files
from hinf_rl.training.run_directory import RunConfig, RunDirectory


def check_installed() -> None:
    """Raises a `UserError` where wandb is missing, before anything slow has begun."""
    if importlib.util.find_spec("wandb") is None:
        raise UserError(
            "--wandb needs the package wandb: pip install 'hinf-rl[wandb]', or leave the option "
            "out; metrics.jsonl and TensorBoard events are always written"
        )


class WandbLog:
    """A run at Weights & Biases, open inside `with`; `write` takes the records of the log.

    A resumed run goes on with the same id. What it repeats from its checkpoint on is drawn over
    the environment steps again, with the same numbers.
    """

    def __init__(self, project: str, run: RunDirectory, config: RunConfig) -> None:
        """Keeps what is needed; nothing is sent before `with`.

        Args:
          project: name of the project.
          run: the run directory, which gives the name and keeps the id.
          config: every setting, shown beside the curves.
        """
        self._project, self._run, self._config = project, run, config
        self._log: Any = None

    def __enter__(self) -> "WandbLog":
        import wandb  # pyright: ignore[reportMissingImports]  an extra

        self._run.path.mkdir(parents=True, exist_ok=True)
        try:
            self._log = wandb.init(
                project=self._project,
                name=self._run.path.resolve().name,
                id=self._id(),
                resume="allow",
                dir=str(self._run.path),
                config=configs.flatten(configs.to_dict(self._config)),
            )
        except Exception as error:
            # Its own exceptions differ between versions; each means that nothing can be sent.
            raise UserError(
                f"wandb could not start ({error}); log in with `wandb login`, or set "
                "WANDB_MODE=offline and send the run later with `wandb sync`"
            ) from error
        # Curves are drawn over environment steps, like everywhere else.
        self._log.define_metric("env_steps")
        self._log.define_metric("*", step_metric="env_steps")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._log.finish(exit_code=0 if error is None else 1)

    def write(self, record: Mapping[str, Any]) -> None:
        """Sends one record: a metric of several seeds as one curve per seed."""
        values: dict[str, Any] = {}
        for name, value in record.items():
            if not isinstance(value, list):
                values[name] = value
                continue
            for seed, number in enumerate(value):
                if number is not None:
                    values[name if len(value) == 1 else f"{name}/seed_{seed}"] = number
        self._log.log(values)

    def _id(self) -> str:
        path = self._run.path / "wandb_id"
        if path.exists():
            return path.read_text(encoding="utf-8").strip()
        made = uuid.uuid4().hex[:12]
        files.write_atomic(path, made + "\n")
        return made


__all__ = ["WandbLog", "check_installed"]

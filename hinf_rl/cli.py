"""The command line `hinf-rl`.

Parsing is light: JAX and MuJoCo are imported by the command that needs them, so `--help` and a
mistyped word answer at once. What a user can mend exits with 2 and a line that says how; what is
our fault exits with 1; `--debug` shows the traceback of either.
"""

import contextlib
import dataclasses
import difflib
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Protocol, TypeAlias

import tyro

import hinf_rl
from hinf_rl.commands import _help_texts
from hinf_rl.errors import UserError, unknown_name

Device: TypeAlias = Literal["cpu", "gpu", "tpu"]
_Set: TypeAlias = Annotated[
    tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=VALUE")
]


class _Command(Protocol):
    """A parsed command."""

    def run(self) -> int:
        """Does the work; returns the exit code."""
        ...


@dataclasses.dataclass(frozen=True)
class List:
    """List tasks and algorithms."""

    def run(self) -> int:
        """Prints the names, one per line."""
        from hinf_rl.commands.catalogue import list_all

        return list_all()


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a policy on a task."""

    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")]
    """name of the task, see `hinf-rl list`"""
    algorithm: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """name of the algorithm, see `hinf-rl list`; the task's default (hinf on robots) if left out"""
    seeds: int = 1
    """how many seeds to train side by side"""
    seed: int = 0
    """root of all random numbers"""
    steps: Annotated[str | None, tyro.conf.arg(metavar="N")] = None
    """environment steps of each seed, for example 2e7; the task's own number if left out"""
    output: Path | None = None
    """run directory; runs/TASK-ALGORITHM if left out"""
    resume: bool = False
    """go on with the run in the output directory"""
    set: _Set = ()
    """settings to change, for example agent.gamma=0.98"""
    device: Device | None = None
    """where to compute; the best there is if left out"""
    devices: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """how many devices of each process share the environments"""
    coordinator: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT")] = None
    """where several processes meet: an address and free port of the first one's machine"""
    num_processes: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """how many processes train together"""
    process_id: Annotated[int | None, tyro.conf.arg(metavar="I")] = None
    """which of them this is, from 0; the first writes the run directory"""
    seed_order: Literal["vmapped", "sequential", "probe"] | None = None
    """several seeds side by side, in turn, or whichever a short probe finds faster; vmapped if
    left out, or what the run began with"""
    wandb: Annotated[str | None, tyro.conf.arg(metavar="PROJECT")] = None
    """log to this project of Weights & Biases too (needs the extra wandb; WANDB_MODE=offline keeps
    it on this machine)"""

    def run(self) -> int:
        """Trains."""
        from hinf_rl.commands.train import Machine, parse_assignments, train_run

        machine = Machine(
            device=self.device,
            devices=self.devices,
            cluster=(self.coordinator, self.num_processes, self.process_id),
        )
        overrides = {"seeds": str(self.seeds), "seed": str(self.seed)}
        if self.steps is not None:
            overrides["total_steps"] = self.steps
        return train_run(
            self.task,
            self.algorithm,
            {**overrides, **parse_assignments(self.set)},
            output=self.output,
            resume=self.resume,
            machine=machine,
            seed_order=self.seed_order,
            wandb_project=self.wandb,
        )


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Train every combination of some settings."""

    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")]
    """name of the task, see `hinf-rl list`"""
    set: _Set = ()
    """settings and their values, for example agent.gamma=0.98,0.99"""
    algorithm: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """name of the algorithm, see `hinf-rl list`; the task's default (hinf on robots) if left out"""
    seeds: int = 1
    """seeds of each combination"""
    seed: int = 0
    """root of all random numbers"""
    steps: Annotated[str | None, tyro.conf.arg(metavar="N")] = None
    """environment steps of each member; the task's own number if left out"""
    output: Path | None = None
    """directory; runs/sweep-TASK-ALGORITHM if left out"""
    processes: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """how many groups of settings train at once, each in a process of its own"""
    device: Device | None = None
    """where to compute; the best there is if left out"""

    def run(self) -> int:
        """Trains every combination and writes the table."""
        from hinf_rl.commands.sweep import sweep
        from hinf_rl.commands.train import parse_assignments

        fixed = {"seed": str(self.seed)}
        if self.steps is not None:
            fixed["total_steps"] = self.steps
        return sweep(
            self.task,
            self.algorithm,
            parse_assignments(self.set),
            fixed=fixed,
            seeds=self.seeds,
            output=self.output,
            device=self.device,
            processes=self.processes,
        )


@dataclasses.dataclass(frozen=True)
class Compare:
    """Compare evaluated runs of one task."""

    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN")]
    """run directories; the first is what the others are compared with"""
    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Markdown file to write, pictures and JSON beside it; compare-RUNS.md beside the first run
    if left out"""

    def run(self) -> int:
        """Compares."""
        from hinf_rl.commands.compare import compare_runs

        return compare_runs(self.runs, output=self.output)


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Measure a run with the robustness protocol."""

    run_directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """run directory that `hinf-rl train` made"""
    quick: bool = False
    """few episodes and a small grid"""
    baseline: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """another run, evaluated before, to draw beside this one"""
    physics: Literal["native", "mjx"] | None = None
    """test and attack on this engine; that of the training if left out"""
    device: Device | None = None
    """where to compute; the best there is if left out"""

    def run(self) -> int:
        """Evaluates and writes the report."""
        from hinf_rl.commands.inspect_run import evaluate

        return evaluate(
            self.run_directory,
            quick=self.quick,
            baseline=self.baseline,
            physics=self.physics,
            device=self.device,
        )


@dataclasses.dataclass(frozen=True)
class Render:
    """Draw a run's policy under force."""

    run_directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """run directory that `hinf-rl train` made"""
    beside: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """another run of the task, to film beside it under the same pushes"""
    device: Device | None = None
    """where to compute; the best there is if left out"""

    def run(self) -> int:
        """Writes the pictures."""
        from hinf_rl.commands.inspect_run import render

        return render(self.run_directory, beside=self.beside, device=self.device)


@dataclasses.dataclass(frozen=True)
class Export:
    """Write a run's policy to a file."""

    run_directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """run directory that `hinf-rl train` made"""
    format: Literal["onnx", "numpy", "jax"] = "onnx"
    """kind of file"""
    seed_index: Annotated[int, tyro.conf.arg(metavar="I")] = 0
    """which of the run's seeds, from 0"""
    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """file to write; RUN/export/policy with the format's ending if left out"""
    unfinished: bool = False
    """accept a run that has not trained as long as it was meant to"""

    def run(self) -> int:
        """Exports."""
        from hinf_rl.commands.export_run import export

        return export(
            self.run_directory,
            self.format,
            seed_index=self.seed_index,
            output=self.output,
            unfinished=self.unfinished,
        )


@dataclasses.dataclass(frozen=True)
class Verify:
    """Run an exported policy in plain MuJoCo."""

    policy: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """.onnx or .py file that `hinf-rl export` wrote"""
    task: str | None = None
    """task that the policy must be of; what the file says if left out"""
    run_from: Annotated[Path | None, tyro.conf.arg(name="run", metavar="RUN")] = None
    """run directory that it came from, to compare with"""
    episodes: Annotated[int, tyro.conf.arg(metavar="N")] = 96
    """episodes of each condition"""
    motor: Literal["servo", "torque"] = "servo"
    """the servo of training, or a torque motor under a PD loop at 1 kHz"""

    def run(self) -> int:
        """Verifies."""
        from hinf_rl.commands.export_run import verify

        return verify(
            self.policy,
            task=self.task,
            run=self.run_from,
            episodes=self.episodes,
            motor=self.motor,
        )


@dataclasses.dataclass(frozen=True)
class Doctor:
    """Show what this machine can do."""

    device: Device | None = None
    """where to compute; the best there is if left out"""

    def run(self) -> int:
        """Prints the findings."""
        from hinf_rl.commands.doctor import doctor

        return doctor(device=self.device)


@dataclasses.dataclass(frozen=True)
class Completion:
    """Print a completion script."""

    shell: tyro.conf.Positional[Literal["bash", "zsh"]]
    """for which shell"""

    def run(self) -> int:
        """Prints the script."""
        from hinf_rl.commands.completion import print_completion

        kinds = {name: kind for name, (kind, _) in _COMMANDS.items()}
        return print_completion(self.shell, kinds)


_COMMANDS: dict[str, tuple[type, str]] = {
    "list": (List, "List tasks and algorithms."),
    "train": (Train, _help_texts.TRAIN),
    "evaluate": (Evaluate, _help_texts.EVALUATE),
    "compare": (Compare, _help_texts.COMPARE),
    "render": (Render, _help_texts.RENDER),
    "export": (Export, _help_texts.EXPORT),
    "verify": (Verify, _help_texts.VERIFY),
    "sweep": (Sweep, _help_texts.SWEEP),
    "doctor": (Doctor, _help_texts.DOCTOR),
    "completion": (Completion, _help_texts.COMPLETION),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code.

    Args:
      argv: the words after the program's name; None takes those of the process.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    is_debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if not words or words[0] in ("-h", "--help"):
        print(_help_texts.DESCRIPTION)
        return 0
    if words[0] == "--version":
        print(f"hinf-rl {hinf_rl.__version__}")
        return 0
    try:
        return _parse(words).run()
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if is_debug:
            raise
        return _tell(error)


def _tell(error: Exception) -> int:
    is_users = isinstance(error, UserError)
    text = " ".join(str(error).split())
    if is_users:
        print(f"error: {text}", file=sys.stderr)
        return 2
    short = text if len(text) <= 300 else f"{text[:300]} ..."
    print(f"internal error: {type(error).__name__}: {short}", file=sys.stderr)
    print("run the same command with --debug for the traceback", file=sys.stderr)
    return 1


def _parse(words: list[str]) -> _Command:
    name, rest = words[0], words[1:]
    if name not in _COMMANDS:
        raise unknown_name("command", name, _COMMANDS)
    kind, description = _COMMANDS[name]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                kind,
                prog=f"hinf-rl {name}",
                description=description,
                args=_repeat_set(rest),
                config=(tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(_short_parse_error(said.getvalue(), name, rest)) from None


def _repeat_set(words: list[str]) -> list[str]:
    """Lets one --set take several `key=value`: repeats the option before each."""
    repeated: list[str] = []
    in_set = False
    for word in words:
        if in_set and "=" in word and not word.startswith("-"):
            if repeated[-1] != "--set":
                repeated.append("--set")
        else:
            in_set = word == "--set"
        repeated.append(word)
    return repeated


def _short_parse_error(box: str, command: str, words: list[str]) -> str:
    """Takes the statement out of the parser's box, and adds the nearest option and the help."""
    statement = []
    for line in box.splitlines()[1:]:
        text = line.strip("│╭╮╰╯─ ")
        if text.strip("-"):
            statement.append(text)
        elif statement:  # a rule, plain on a terminal without Unicode: hints and help follow
            break
    said = re.sub(r"^Missing from hinf-rl \w+:", "missing:", " ".join(statement))
    unknown = next((word for word in words if word.startswith("--") and word in said), None)
    hint = ""
    if unknown and "nrecognized" in said:
        fields = dataclasses.fields(_COMMANDS[command][0])
        options = [f"--{field.name.replace('_', '-')}" for field in fields]
        near = difflib.get_close_matches(unknown, options, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
    return f"{said or 'wrong arguments'}{hint}; see hinf-rl {command} --help"


__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())

"""From a run directory to a checked file."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from hinf_rl.errors import UserError
from hinf_rl.export.jax_file import jax_bytes, load_policy
from hinf_rl.export.metadata import check_metadata
from hinf_rl.export.numpy_file import load_numpy, numpy_source
from hinf_rl.export.onnx_file import OnnxPolicy, build_onnx, with_metadata
from hinf_rl.export.recording import Deviation, Recording, Runner, act, deviation, record
from hinf_rl.export.source import Source, load_source, with_weights
from hinf_rl.export.weights import Weights, weights_of
from hinf_rl.training.files import disk_errors, write_atomic

Format: TypeAlias = Literal["onnx", "numpy", "jax"]
"""Kind of file."""
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "numpy": ".py", "jax": ".npz"}
"""Format to the ending of its files."""

# float32 networks of a few hundred units differ by rounding only: three decimals above it.
_TOLERANCE = 1e-4


class Prepared(NamedTuple):
    """A policy, and what its export is checked on; enough for a file of any format."""

    run: Path
    source: Source
    weights: Weights
    recording: Recording


class Exported(NamedTuple):
    """What was written.

    Attributes:
      path: the file.
      metadata: what it says about itself, the outcome of the check included.
    """

    path: Path
    metadata: dict[str, Any]


def export_run(
    run: Path | str,
    format: Format = "onnx",
    *,
    seed_index: int = 0,
    output: Path | None = None,
    unfinished: bool = False,
) -> Exported:
    """Writes the policy of a run, after comparing it with JAX on recorded observations.

    Args:
      run: run directory with a checkpoint.
      format: "onnx" (graph of plain operators), "numpy" (one Python file that needs NumPy only)
        or "jax" (parameters for `load_policy`).
      seed_index: which of the run's seeds.
      output: see `write_export`.
      unfinished: accept a run that has not trained as long as it was meant to.

    Raises:
      UserError: the run cannot be exported, or the file cannot be written; nothing is written
        then.
      RuntimeError: the exported policy differs from the trained one.
    """
    output = _checked_output(Path(run), format, output)
    prepared = prepare_export(run, seed_index=seed_index, unfinished=unfinished)
    return write_export(prepared, format, output=output)


def prepare_export(run: Path | str, *, seed_index: int = 0, unfinished: bool = False) -> Prepared:
    """Loads a policy and records episodes of it, for one or several formats; see `export_run`."""
    source = load_source(run, seed_index=seed_index, unfinished=unfinished)
    weights = weights_of(source.policy)
    return Prepared(Path(run), source, weights, record(source.env, source.policy, source.layout))


def write_export(prepared: Prepared, format: Format, *, output: Path | None = None) -> Exported:
    """Writes a prepared policy.

    Args:
      prepared: by `prepare_export`.
      format: see `export_run`.
      output: file to write; RUN/export/policy with the format's ending if left out. An older
        export is replaced.
    """
    output = _checked_output(prepared.run, format, output)
    content, metadata = _content(format, prepared.source, prepared.weights, prepared.recording)
    with disk_errors(f"make {output.parent}"):
        output.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(output, content)
    return Exported(output, metadata)


def load_runner(path: Path | str) -> Runner:
    """Loads an exported `.onnx` or `.py` file to step it.

    Raises:
      UserError: another kind of file, or a missing or damaged one.
    """
    path = Path(path)
    if path.suffix == SUFFIXES["onnx"]:
        runner: Runner = OnnxPolicy(path)
    elif path.suffix == SUFFIXES["numpy"]:
        runner = load_numpy(path)
    else:
        raise UserError(f"{path} must be a .onnx or .py file that `hinf-rl export` wrote")
    check_metadata(runner.metadata, str(path))
    return runner


def _checked_output(run: Path, format: Format, output: Path | None) -> Path:
    suffix = SUFFIXES[format]
    if output is None:
        return run / "export" / f"policy{suffix}"
    if output.suffix != suffix:
        raise UserError(
            f"--output {output}: a file of --format {format} ends in {suffix}, for example "
            f"{output.with_suffix(suffix)}"
        )
    if output.is_dir():
        raise UserError(f"--output {output} is a directory; name a file, {output}/policy{suffix}")
    return output


def _content(
    format: Format, source: Source, weights: Weights, recording: Recording
) -> tuple[str | bytes, dict[str, Any]]:
    """The file with the outcome of its check in it: written, read back, compared, written."""
    unchecked = with_weights(source.metadata, weights, None)

    def finish(difference: Deviation) -> dict[str, Any]:
        return with_weights(source.metadata, weights, _outcome(difference, recording))

    if format == "onnx":
        model = build_onnx(weights, source.layout, unchecked)
        metadata = finish(deviation(OnnxPolicy(model.SerializeToString()), recording))
        return with_metadata(model, metadata).SerializeToString(), metadata
    if format == "numpy":
        with _temporary(numpy_source(weights, source.layout, unchecked, recording)) as path:
            metadata = finish(deviation(load_numpy(path), recording))
        return numpy_source(weights, source.layout, metadata, recording), metadata
    with _temporary(jax_bytes(source.policy, unchecked)) as path:
        metadata = finish(_of_policy(load_policy(path), recording, source))
    return jax_bytes(source.policy, metadata), metadata


def _of_policy(policy: Any, recording: Recording, source: Source) -> Deviation:
    action, output = act(policy, source.layout, {"policy": recording.observations})
    differences = (action - recording.actions, output - recording.outputs)
    return Deviation(0.0, *(float(np.abs(np.asarray(d)).max()) for d in differences))


def _outcome(difference: Deviation, recording: Recording) -> dict[str, Any]:
    scale = max(1.0, float(np.abs(recording.actions).max()))
    if not max(difference) <= _TOLERANCE * scale:
        raise RuntimeError(f"the exported policy differs from the trained one: {difference}")
    return {
        "against": "JAX",
        "observations": int(np.prod(recording.actions.shape[:2])),
        "largest_action": float(np.abs(recording.actions).max()),
        "max_abs_difference": {
            "observation": difference.observation,
            "action": difference.action,
            "output": difference.output,
        },
    }


@contextlib.contextmanager
def _temporary(content: str | bytes) -> Iterator[Path]:
    """A file that holds `content` for as long as the block runs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        yield path


__all__ = [
    "SUFFIXES",
    "Exported",
    "Format",
    "Prepared",
    "export_run",
    "load_runner",
    "prepare_export",
    "write_export",
]

"""Writes a policy as one Python file that needs NumPy only, and loads such a file."""

import base64
import io
import json
import runpy
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hinf_rl.errors import UserError
from hinf_rl.export import numpy_runner
from hinf_rl.export.layout import Layout
from hinf_rl.export.recording import Recording
from hinf_rl.export.weights import Weights

_EXAMPLE_STEPS = 4
_WIDTH = 96


def numpy_source(
    weights: Weights, layout: Layout, metadata: Mapping[str, Any], recording: Recording
) -> str:
    """Returns the text of the file: the runner, then metadata and arrays.

    Args:
      weights: of the actor.
      layout: of its observations.
      metadata: JSON values, see `hinf_rl.export.metadata`.
      recording: its first steps travel along, for the check on the robot's own computer.
    """
    source = Path(numpy_runner.__file__).read_text(encoding="utf-8")
    text = json.dumps(metadata, indent=1)
    if '"""' in text:
        raise ValueError("metadata must not hold three quotes in a row")
    arrays = {**weights.arrays(), **_targets(layout), **_examples(recording)}
    return "\n".join(
        [
            source,
            f'_METADATA = r"""{text}"""',
            f'_ARRAYS = """\n{_encoded(arrays)}\n"""',
            "",
            'if __name__ == "__main__":',
            "    _main()",
            "",
        ]
    )


def load_numpy(path: Path | str) -> Any:
    """Runs an exported file and returns its `Policy`.

    Raises:
      UserError: the file is missing, is no exported policy, or is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist; write one with `hinf-rl export --format numpy`")
    wrong = f"{path} is no policy that `hinf-rl export --format numpy` wrote, or is damaged"
    # It is a program: one that nobody exported must not run before it is found out.
    text = path.read_text(encoding="utf-8", errors="replace")
    if not text.startswith(Path(numpy_runner.__file__).read_text(encoding="utf-8")[:80]):
        raise UserError(wrong)
    try:
        policy = runpy.run_path(str(path))["Policy"]()
        policy.metadata["format_version"]
    except Exception as error:  # whatever a cut text can raise
        raise UserError(f"{wrong} ({type(error).__name__}); export it again") from error
    return policy


def _targets(layout: Layout) -> dict[str, np.ndarray]:
    if layout.target is None:
        return {}
    offset, scale = (np.asarray(values, np.float32) for values in layout.target)
    return {"target_offset": offset, "target_scale": scale}


def _examples(recording: Recording) -> dict[str, np.ndarray]:
    """The first steps of the first robot."""
    taken = {name: value[:_EXAMPLE_STEPS, 0] for name, value in recording.inputs.items()}
    named = {f"example_{name}": value for name, value in taken.items()}
    return {**named, "example_output": recording.outputs[:_EXAMPLE_STEPS, 0]}


def _encoded(arrays: Mapping[str, np.ndarray]) -> str:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # pyright: ignore[reportArgumentType] arrays by name
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    return "\n".join(textwrap.wrap(text, _WIDTH))


__all__ = ["load_numpy", "numpy_source"]

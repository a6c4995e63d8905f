"""What has to be installed for the accelerator, and what is found here."""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hinf_rl.errors import UserError

_CONSTRAINTS = Path(__file__).parents[2] / "constraints"
_PINNED = ("mujoco", "mujoco-core", "mujoco-mjx", "flax", "optax", "chex", "orbax-checkpoint")
_PROBE_TIMEOUT_S = 180
# A probe in a process of its own: whoever asks JAX for its devices holds most of their memory.
_PROBE = """
import importlib.util, json, jax
devices = jax.devices()
print(json.dumps({
    "platform": devices[0].platform, "kind": devices[0].device_kind, "count": len(devices),
    "mjx": importlib.util.find_spec("mujoco.mjx") is not None,
    "warp": importlib.util.find_spec("warp") is not None,
}))
"""


def pins() -> dict[str, str]:
    """Versions that this Python is tested with, by package."""
    path = _CONSTRAINTS / f"py{sys.version_info.major}{sys.version_info.minor}.txt"
    lines = path.read_text(encoding="utf-8").split()
    return dict(line.split("==") for line in lines if "==" in line)


def wheels(cuda: int = 13) -> list[str]:
    """Requirements to install before `pip install --no-deps -e .`, as pip takes them.

    Args:
      cuda: major version of CUDA that the machine's driver serves: 12 or 13.
    """
    versions = pins()
    return [
        f"jax[cuda{cuda}]=={versions['jax']}",
        *(f"{name}=={versions[name]}" for name in _PINNED),
        _warp(),
    ]


def _warp() -> str:
    """What MJX's own extra asks for; without it MJX has no Warp kernels."""
    try:
        asked = importlib.metadata.requires("mujoco-mjx") or []
    except importlib.metadata.PackageNotFoundError:
        asked = []
    found = [line.partition(";")[0].strip() for line in asked if line.startswith("warp-lang")]
    return found[0] if found else "warp-lang"


def described() -> str:
    """The list as text, one requirement a line."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return "\n".join(
        [
            f"Wheels for Python {version} (and what constraints/ lists beside them):",
            *(f"  {line}" for line in wheels(13)),
            f"With a driver for CUDA 12: {wheels(12)[0]}",
        ]
    )


def probe(environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Returns platform, kind and number of JAX's devices, and whether MJX and Warp are there.

    Raises:
      UserError: JAX does not start.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE],
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"JAX found no device within {_PROBE_TIMEOUT_S} s\n{described()}") from None
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise UserError(f"JAX does not start here ({last})\n{described()}")
    return json.loads(done.stdout.splitlines()[-1])


def check(found: dict[str, Any]) -> None:
    """Refuses a machine without accelerator or without MJX.

    Raises:
      UserError: with the list of what to install.
    """
    if found["platform"] == "cpu":
        raise UserError(
            "no accelerator: JAX finds a CPU only. Install JAX for the device, or try every stage "
            f"with tiny sizes: --device cpu --smoke\n{described()}"
        )
    if not found["mjx"]:
        raise UserError(f"mujoco-mjx is not installed, and nothing else runs there\n{described()}")


__all__ = ["check", "described", "pins", "probe", "wheels"]

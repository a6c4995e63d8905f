"""Where a result comes from: command, versions, device, commit and date."""

import datetime
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hinf_rl

_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "mujoco")


def provenance() -> dict[str, Any]:
    """Returns what one needs to make a result again; JSON values, no path of the machine."""
    import jax

    devices = jax.devices()
    return {
        "command": command_line(),
        "versions": library_versions(),
        "device": {
            "platform": devices[0].platform,
            "kind": devices[0].device_kind,
            "count": len(devices),
            "cpu_count": os.cpu_count(),
        },
        "matmul_precision": str(
            getattr(jax.config, "jax_default_matmul_precision", None) or "default"
        ),
        "git": git_state(),
        "date_utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def described_device(device: Mapping[str, Any]) -> str:
    """Returns the "device" of `provenance` in words, for the foot of a table."""
    if device["platform"] == "cpu":
        return f"{device['cpu_count']} shared cores"
    return f"{device['count']} x {device['kind']}"


def library_versions() -> dict[str, str]:
    """Returns the versions of Python, this package and the libraries that compute."""
    versions = {"python": platform.python_version(), "hinf_rl": hinf_rl.__version__}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "absent"
    return versions


def command_line() -> str:
    """Returns the command of this process with absolute paths cut to their last part.

    A module run by `python -m` is named as such, so that the command can be given again.
    """
    start = [Path(sys.argv[0]).name]
    if "-m" in sys.orig_argv:
        start = ["python", "-m", sys.orig_argv[sys.orig_argv.index("-m") + 1]]
    return shlex.join(_relative(word) for word in [*start, *sys.argv[1:]])


def git_state() -> dict[str, Any]:
    """Returns commit and cleanliness of the checkout that the package runs from, if any.

    A copy of the sources without their history (on a cluster, say) may name its commit in the
    environment: HINF_RL_COMMIT.
    """
    root = Path(hinf_rl.__file__).resolve().parent.parent
    # A package installed inside someone else's checkout must not report that checkout.
    if not (root / ".git").exists():
        return {"commit": os.environ.get("HINF_RL_COMMIT"), "dirty": None}
    commit = _git(root, "rev-parse", "HEAD")
    status = _git(root, "status", "--porcelain")
    return {"commit": commit, "dirty": None if status is None else bool(status)}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _relative(word: str) -> str:
    key, equals, value = word.rpartition("=")
    path = Path(value)
    if not path.is_absolute():
        return word
    try:
        shown = str(path.relative_to(Path.cwd()))
    except ValueError:
        shown = path.name
    return f"{key}{equals}{shown}"


__all__ = ["command_line", "described_device", "git_state", "library_versions", "provenance"]

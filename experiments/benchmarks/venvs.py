"""Virtual environments of the peers, whose versions do not fit ours.

Each has a list of exact versions in `peers/`, the same for Python 3.11 and 3.12, and is made when
it is first needed, in `build/peers`, from whatever package index pip is set up with.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from hinf_rl.errors import UserError

VERSIONS = Path(__file__).parent / "peers"
FOLDER = Path(__file__).resolve().parents[2] / "build" / "peers"
_INSTALL_LIMIT_S = 1800


def interpreter(peer: str) -> Path:
    """Python of a peer's environment, which is made if it is not there or has other versions.

    Args:
      peer: name of a file in `peers/`, without its ending.

    Raises:
      UserError: there is no such peer, or pip cannot install what it needs.
    """
    wanted = VERSIONS / f"{peer}.txt"
    if not wanted.exists():
        known = sorted(path.stem for path in VERSIONS.glob("*.txt"))
        raise UserError(f"unknown peer {peer!r} (known: {', '.join(known)})")
    folder = FOLDER / peer
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    text = wanted.read_text(encoding="utf-8")
    if stamp.exists() and stamp.read_text(encoding="utf-8") == text:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    print(
        f"making the environment of {peer} in {folder.relative_to(FOLDER.parents[1])}", flush=True
    )
    _run([sys.executable, "-m", "venv", str(folder)], peer)
    _run([str(python), "-m", "pip", "install", "--quiet", "--requirement", str(wanted)], peer)
    stamp.write_text(text, encoding="utf-8")
    return python


def require(peer: str) -> None:
    """Makes the environment of a peer ahead of time; ends the process where that is impossible."""
    try:
        interpreter(peer)
    except UserError as error:
        sys.exit(f"error: {error}")


def _run(command: list[str], peer: str) -> None:
    try:
        subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=_INSTALL_LIMIT_S
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"installing {peer} took more than {_INSTALL_LIMIT_S} s") from error
    except subprocess.CalledProcessError as error:
        lines = [line for line in (error.stderr or "").splitlines() if line.startswith("ERROR")]
        said = lines[-1].removeprefix("ERROR: ") if lines else f"exit code {error.returncode}"
        raise UserError(
            f"cannot make the environment of {peer}: {said}; it needs a package index that pip "
            f"can reach and that has the versions of experiments/benchmarks/peers/{peer}.txt"
        ) from error


def main() -> None:
    """Makes environments ahead of time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peers", nargs="+")
    for peer in parser.parse_args().peers:
        require(peer)


if __name__ == "__main__":
    main()

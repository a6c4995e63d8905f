"""A newcomer's first hour: a fresh clone, README's commands in their order, and the time of each.

python -m experiments.first_hour.run [--source REPOSITORY]

Clones into a temporary folder, sets up, trains cart-pole and films it: the first moving picture.
Then every command of README's "The command line", as it stands there but for its size. The results
are written after each command; the first one that fails ends the script.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hinf_rl.training.files import write_json
from hinf_rl.training.provenance import provenance

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results" / "steps.json"
PICTURE = (
    "make setup",
    "hinf-rl train cartpole --output runs/cartpole",
    "hinf-rl render runs/cartpole",
)
"""What leads to the first moving picture."""
MADE_BY_MAKE = "hinf-rl train aliengo --output runs/aliengo"
"""What `make train` does first; its whole training is measured as the main job."""
_SMALLER = {"train": "--steps 5e4", "sweep": "--steps 5e4", "evaluate": "--quick"}


def readme_commands(text: str) -> list[str]:
    """The commands of README's "The command line", comments left out."""
    _, _, rest = text.partition("## The command line")
    block = re.search(r"```sh\n(.*?)```", rest, flags=re.DOTALL)
    assert block is not None, "README has no such block"
    lines = (shlex.split(line, comments=True) for line in block[1].splitlines())
    return [shlex.join(words) for words in lines if words]


def smaller(command: str) -> str:
    """The same command over in a minute: few steps, the quick protocol."""
    change = _SMALLER.get(shlex.split(command)[1])
    return command if change is None else f"{command} {change}"


def take(command: str, folder: Path) -> dict[str, Any]:
    """Runs one command in the clone and returns its seconds; ends the script where it fails."""
    path = f"{folder / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"
    begin = time.perf_counter()
    done = subprocess.run(
        shlex.split(command),
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - begin
    print(f"{seconds:6.1f} s  {command}", flush=True)
    if done.returncode:
        said = done.stdout.splitlines()[-20:]
        sys.exit("\n".join([*said, f"exit code {done.returncode}: {command}"]))
    return {"command": command, "seconds": seconds}


def moving_pictures(folder: Path) -> list[str]:
    """Films below the clone's runs."""
    return sorted(str(path.relative_to(folder)) for path in folder.glob("runs/**/*.gif"))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default=str(ROOT), help="repository to clone")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "hinf_rl"
        begin = time.perf_counter()
        subprocess.run(["git", "clone", "--quiet", options.source, str(folder)], check=True)
        data: dict[str, Any] = {
            "provenance": provenance(),
            "picture": [{"command": "git clone", "seconds": time.perf_counter() - begin}],
            "commands": [],
        }

        def keep(part: str, command: str) -> None:
            data[part].append(take(command, folder))
            write_json(options.output, data)

        for command in PICTURE:
            keep("picture", command)
        films = moving_pictures(folder)
        if not films:
            sys.exit("hinf-rl render left no moving picture")
        data["film"] = films[0]
        readme = (folder / "README.md").read_text(encoding="utf-8")
        for command in [MADE_BY_MAKE, *readme_commands(readme)]:
            keep("commands", smaller(command))


if __name__ == "__main__":
    main()

"""Builds the wheel, installs it in an empty environment, and tries it from outside the sources.

python tests/system/installed.py SET [PYTHON ...] [--tour-only]

SET names a file of constraints/ (oldest, newest, py311, ...). The first PYTHON that is there and
supported is used, python3 if none is named. The wheel must hold every file of the package; then
tour.py does what a user does, and the tests marked `smoke` run against the installed package.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SUPPORTED = "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))"


def main(name: str, candidates: list[str], *, is_tour_only: bool) -> None:
    constraints = ROOT / "constraints" / f"{name}.txt"
    if not constraints.exists():
        sys.exit(f"error: there is no {constraints.relative_to(ROOT)}")
    python = first_supported(candidates or ["python3"])
    # The source tree must not be found by accident, nor an environment of the caller's.
    os.environ.pop("PYTHONPATH", None)
    with tempfile.TemporaryDirectory(prefix=f"hinf-rl-{name}-") as folder:
        base = Path(folder)
        say(f"{name}: wheel")
        wheel = build(python, base)
        check_content(wheel)
        say(f"{name}: installing with {python}")
        own = install(python, base / "env", constraints, f"{wheel}[export]")
        (base / "empty").mkdir()
        run(own, str(HERE / "tour.py"), cwd=base / "empty")
        if is_tour_only:
            return
        install(python, base / "env", constraints, f"{wheel}[dev]")
        say(f"{name}: smoke tests")
        # The script, unlike `python -m pytest`, leaves the working directory out of sys.path.
        pytest = str(Path(own).with_name("pytest"))
        options = ("-q", "-n", "0", "-p", "no:cacheprovider", "-m", "smoke")
        run(pytest, *options, *smoke_files(), cwd=ROOT)


def first_supported(candidates: list[str]) -> str:
    for candidate in candidates:
        found = shutil.which(candidate)
        if found and subprocess.run([found, "-c", SUPPORTED], capture_output=True).returncode == 0:
            return found
    sys.exit(f"error: none of {', '.join(candidates)} is Python 3.11 or 3.12")


def build(python: str, base: Path) -> Path:
    """The wheel, of a copy: building leaves folders behind."""
    source = base / "source"
    source.mkdir()
    for file in [*package_files(), "pyproject.toml", "README.md", "LICENSE"]:
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, source / file)
    run(python, "-m", "pip", *QUIET, "wheel", "--no-deps", "-w", str(base), str(source), cwd=base)
    (wheel,) = base.glob("*.whl")
    return wheel


def package_files() -> list[str]:
    """Every file below hinf_rl/ that is not Python's own waste."""
    files = (ROOT / "hinf_rl").rglob("*")
    return [
        str(file.relative_to(ROOT))
        for file in files
        if file.is_file() and "__pycache__" not in file.parts
    ]


def check_content(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    missing = sorted(set(package_files()) - inside)
    assert not missing, f"the wheel lacks {missing}"
    others = {name.partition("/")[0] for name in inside}
    assert len(others) == 2, f"the wheel holds more than the package: {sorted(others)}"


def smoke_files() -> list[str]:
    """Files with such tests: others may need the experiments, which are not in the wheel."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(file) for file in files if "@pytest.mark.smoke" in file.read_text("utf-8")]


QUIET = ("--quiet", "--disable-pip-version-check")


def install(python: str, env: Path, constraints: Path, what: str) -> str:
    """Makes the environment if need be; returns its Python."""
    own = env / "bin" / "python"
    if not own.exists():
        run(python, "-m", "venv", str(env), cwd=env.parent)
    run(str(own), "-m", "pip", *QUIET, "install", "-c", str(constraints), what, cwd=env.parent)
    return str(own)


def run(*words: str, cwd: Path) -> None:
    done = subprocess.run(words, cwd=cwd)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(words[:4])} ended with {done.returncode}")


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set", metavar="SET")
    parser.add_argument("python", metavar="PYTHON", nargs="*")
    parser.add_argument("--tour-only", action="store_true", help="leave the smoke tests out")
    options = parser.parse_args()
    main(options.set, options.python, is_tour_only=options.tour_only)

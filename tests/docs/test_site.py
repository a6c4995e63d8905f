"""The site builds without a warning, offline, and holds every public name."""

import importlib.util
import os
import subprocess
import sys
import zlib

import pytest

from experiments.docs.public import ROOT, public_modules

NEEDED = ("mkdocs", "material", "mkdocstrings")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if MISSING:
        pytest.skip(f"{', '.join(MISSING)} not installed: pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        close_fds=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def test_it_builds_strictly(site):
    for page in ("index", "concepts/constraint", "reference/cli", "results/quadruped"):
        assert (site / f"{page}.html").stat().st_size > 2000


def test_the_inventory_holds_every_public_name(site):
    head, _, packed = (site / "objects.inv").read_bytes().partition(b"zlib.\n")
    assert head.startswith(b"# Sphinx inventory")
    listed = {line.split(" ")[0] for line in zlib.decompress(packed).decode().splitlines()}
    wanted = {name.home for module in public_modules() for name in module.names}
    assert not sorted(wanted - listed)


def test_nothing_is_loaded_from_elsewhere(site):
    text = (site / "index.html").read_text(encoding="utf-8")
    assert 'src="http' not in text
    assert 'rel="stylesheet" href="http' not in text

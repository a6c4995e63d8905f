"""The notebooks run from top to bottom, show what they promise, and are tidy sources."""

import base64
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
COLAB = ROOT / "colab"
NAMES = ("b_coder", "prdp", "quadruped", "quick_start")
# Pictures that each notebook shows, films included.
NUM_PICTURES = {"b_coder": 2, "prdp": 4, "quadruped": 6, "quick_start": 4}
# The short mode of the quadruped trains no attacker, whose directions then have no picture.
NUM_SHORT = {**NUM_PICTURES, "quadruped": 5}
MAX_BYTES = 600_000


def _source(cell):
    return "".join(cell["source"])


def _read(name):
    return json.loads((COLAB / f"{name}.ipynb").read_text(encoding="utf-8"))


def _code(name):
    return [_source(cell) for cell in _read(name)["cells"] if cell["cell_type"] == "code"]


def _pictures(cells):
    """Bytes of all pictures among the outputs."""
    data = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    return [base64.b64decode("".join(one["image/png"])) for one in data if "image/png" in one]


def test_all_notebooks_are_known_here():
    assert sorted(path.stem for path in COLAB.glob("*.ipynb")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_opens_with_title_installation_and_scale(name):
    first = _read(name)["cells"][0]
    title, empty, *paragraph = _source(first).splitlines()
    assert first["cell_type"] == "markdown" and title.startswith("# ") and not empty
    assert len(" ".join(paragraph)) > 200 and "![" not in _source(first)
    install, settings, *_ = _code(name)
    assert install.startswith("REPOSITORY = ") and "%pip install" in install
    assert 'find_spec("hinf_rl") is None' in install  # a local installation is left alone
    assert 'SCALE = os.environ.get("HINF_RL_SCALE", "full")' in settings


@pytest.mark.parametrize("name", NAMES)
def test_teaches_between_the_code_and_says_where_to_go(name):
    cells = _read(name)["cells"]
    kinds = [cell["cell_type"] for cell in cells]
    assert _source(cells[-1]).startswith("## Where to go from here")
    assert kinds.count("markdown") >= kinds.count("code") // 2
    assert any("$$" in _source(cell) for cell in cells), "no equation"
    assert max(len(code.splitlines()) for code in _code(name)) <= 50


@pytest.mark.parametrize("name", NAMES)
def test_holds_no_trace_of_a_machine(name):
    text = (COLAB / f"{name}.ipynb").read_text(encoding="utf-8")
    assert not re.search(r"/(tmp|home|root|work|Users|content)/", text)
    assert "Traceback" not in text and "Warning" not in text
    for cell in _read(name)["cells"]:
        assert not cell["metadata"], "metadata makes differences that nobody wrote"


@pytest.mark.parametrize("name", NAMES)
def test_kept_outputs_are_whole_small_and_of_the_full_run(name):
    cells = [cell for cell in _read(name)["cells"] if cell["cell_type"] == "code"]
    if not any(cell["outputs"] for cell in cells):
        return  # kept without outputs
    assert (COLAB / f"{name}.ipynb").stat().st_size <= MAX_BYTES
    assert all(cell["execution_count"] == i + 1 for i, cell in enumerate(cells))
    printed = "".join("".join(o.get("text", [])) for cell in cells for o in cell["outputs"])
    assert "scale: full" in printed
    assert len(_pictures(cells)) == NUM_PICTURES[name]


def test_every_notebook_that_a_document_links_to_is_there():
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")):
        for target in re.findall(r"\]\(([^)#]+\.ipynb)\)", document.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_code_is_as_tidy_as_the_package(command):
    pytest.importorskip("ruff", reason="ruff is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "colab"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        close_fds=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _shares(values):
    values = np.asarray(values, float)
    return bool(np.all(np.isfinite(values)) and np.all((values >= 0) & (values <= 1)))


def _check_quick_start(get):
    assert get("names") == list(get("results"))
    assert _shares(
        get("[[c['survival'][0] for c in r['cells'].values()] for r in results.values()]")
    )
    # Nobody pushes before a fifth of the training, and never harder than the limit.
    intensity = get("[row['constraint/intensity'][0] for row in trained['hinf'][3]]")
    assert intensity[0] == 0.0 and 0.0 < max(intensity) <= 1.0 + 1e-5
    assert get("max(float(abs(e.force).max()) for e in episodes.values())") <= 1.5 * 0.6 + 1e-5
    assert get("float(abs(episodes['hinf'].force).max())") > 0.0


def _check_quadruped(get):
    assert _shares(get("[c['survival'][0] for c in results['cells'].values()]"))
    assert get("results['cells']['nominal']['num_nonfinite']") == 0
    rows = get("[[r['constraint/slack'][0], r['constraint/multiplier'][0]] for r in log]")
    assert np.all(np.isfinite(rows)) and np.all(np.asarray(rows)[:, 1] >= 0.0)
    assert get("log[-1]['nonfinite_total']") == 0.0
    # The first push comes at 1 s and the force never exceeds the limit.
    assert get("float(abs(episode.force).max())") <= 100.0 + 1e-3


def _check_b_coder(get):
    assert _shares(get("[curve for _, curve, _ in tuned.values()]"))
    assert math.isclose(sum(get("shares")), 1.0, rel_tol=1e-6)  # every program has one verdict
    assert _shares(get("[row['auc'] for row in rankers.values()]"))
    for name in get("sorted(tuned)"):
        loss = get(
            f"[float(x) for x in tuned[{name!r}][2]['bellman/loss'][:agent.value_iterations]]"
        )
        assert np.all(np.isfinite(loss)) and np.mean(loss[-4:]) < np.mean(loss[:4])
    # Stage one leaves the policy alone: the same programs from the same keys.
    before = get("pass_at_1(start, agent.value_iterations)")
    assert get("[curve[0] for _, curve, _ in tuned.values()]") == [before] * len(get("list(tuned)"))


def _check_prdp(get):
    table = get("table")
    assert all(math.isfinite(value) for row in table.values() for value in row.values())
    assert abs(table["reference"]["kl"]) < 1e-3
    best = get("best")
    # A bound for every policy; 256 held-out samples know the reward to about 0.1.
    assert all(row["objective"] <= best + 0.3 for row in table.values())
    assert table["PRDP"]["reward"] > table["reference"]["reward"]


CHECKS = {
    "b_coder": _check_b_coder,
    "prdp": _check_prdp,
    "quadruped": _check_quadruped,
    "quick_start": _check_quick_start,
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the notebook machinery
@pytest.mark.parametrize("name", NAMES)
def test_runs_from_top_to_bottom_in_short_mode(name, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="the extra notebooks is not installed")
    nbformat = pytest.importorskip("nbformat", reason="the extra notebooks is not installed")
    pytest.importorskip("ipykernel", reason="the extra notebooks is not installed")
    monkeypatch.setenv("HINF_RL_SCALE", "short")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    # Figures must be drawn inline, whatever backend the tests were started with.
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.read(COLAB / f"{name}.ipynb", as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3")

    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)  # raises what the cell raised

        pictures = _pictures(notebook.cells)
        assert len(pictures) == NUM_SHORT[name]
        assert all(len(picture) > 2000 for picture in pictures)

        def get(expression):
            probe = nbformat.v4.new_code_cell(f"import json\nprint(json.dumps({expression}))")
            notebook.cells.append(probe)
            client.execute_cell(probe, len(notebook.cells) - 1)
            return json.loads(probe.outputs[0]["text"])

        CHECKS[name](get)

"""The pages of results say what the committed files say."""

import json

import numpy as np

from experiments.docs import picture, results
from experiments.docs.public import ROOT
from hinf_rl.ops.riccati import SYSTEMS, closed_loop, hinf_norm, optimal_attenuation


def test_every_result_file_with_a_command_has_a_row():
    rows = results.made()
    listed = {row.file for row in rows}
    for path in (ROOT / "experiments").glob("*/results/*.json"):
        if '"date_utc"' in path.read_text(encoding="utf-8"):
            assert str(path.relative_to(ROOT)) in listed
    # The second is the first where the package was copied to a machine, not installed.
    starts = ("hinf-rl ", "python -m hinf_rl.cli ", "python -m experiments.")
    assert all(row.command.startswith(starts) for row in rows)


def test_seconds_are_those_of_the_file():
    path = ROOT / "experiments/quadruped/results/main_job.json"
    wall_s = json.loads(path.read_text(encoding="utf-8"))["wall_s"]
    [row, *_] = [row for row in results.made() if row.file.endswith("main_job.json")]
    assert row.wall_s == wall_s


def test_every_experiment_has_a_page_with_its_reports():
    pages = results.pages()
    for name in results.experiments():
        page = pages[f"results/{name}.md"]
        assert page.startswith(f"# {results.title(name)}\n")
        assert page.count("\n# ") == 0  # one title, reports below it


def test_the_picture_shows_what_theory_says():
    system = SYSTEMS[picture.SYSTEM]
    best = optimal_attenuation(*system.matrices)
    lqr, *games = picture.controllers(system)
    norms = [c.norm for c in games]
    costs = [c.cost for c in games]
    # A level is kept, attenuation costs nominal performance, LQR is the nominal optimum.
    assert all(best <= n < level * best for n, level in zip(norms, picture.LEVELS, strict=True))
    assert sorted(norms) == norms and sorted(costs, reverse=True) == costs
    assert lqr.cost < min(costs) and lqr.norm > max(norms)
    angles = np.linspace(1e-3, np.pi, 4001)
    for controller in (lqr, games[0]):
        peak = picture.gain_over_frequency(system, controller.gain, angles).max()
        norm = hinf_norm(*closed_loop(*system.matrices, controller.gain), method="bisection")
        np.testing.assert_allclose(peak, norm, rtol=1e-3)

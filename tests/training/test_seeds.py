"""Seeds side by side and in turn: the same numbers, and a choice that a resume keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.errors import UserError
from hinf_rl.training import loop, seeds
from hinf_rl.training.compiled import Compiled
from hinf_rl.training.progress import SilentProgress
from hinf_rl.training.run_directory import RunDirectory

KEYS = loop.seed_keys(3, 3)


class Notes(SilentProgress):
    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


def make_run(path, name):
    (path / name).mkdir()
    return RunDirectory(path / name, {"task": "rows"})


@pytest.mark.parametrize("order", ["vmapped", "sequential"])
def test_each_seed_learns_what_it_does_alone(rows, order):
    together = loop.train(rows(), iterations=4, keys=KEYS, seed_order=order).carry
    for i in range(3):
        alone = loop.train(rows(), iterations=4, keys=KEYS[i]).carry
        np.testing.assert_allclose(together["weights"][i], alone["weights"], rtol=1e-6, atol=1e-7)
        assert jnp.array_equal(together["key"][i], alone["key"])


def test_a_sequential_run_goes_on_sequentially_and_exactly(rows, bits, tmp_path):
    whole = loop.train(rows(), iterations=6, keys=KEYS, seed_order="sequential")
    run = make_run(tmp_path, "run")
    loop.train(rows(), run, iterations=2, keys=KEYS, seed_order="sequential")
    assert run.seed_order == "sequential"
    # Neither the default nor a probe leaves the way that the run began.
    loop.train(rows(), run, iterations=4, keys=KEYS, resume=True)
    resumed = loop.train(rows(), run, iterations=6, keys=KEYS, resume=True, seed_order="probe")
    assert bits(resumed.carry) == bits(whole.carry)


def test_a_run_is_not_gone_on_with_the_other_way(rows, tmp_path):
    run = make_run(tmp_path, "run")
    loop.train(rows(), run, iterations=2, keys=KEYS)
    with pytest.raises(UserError, match="begun with --seed-order vmapped, not sequential"):
        loop.train(rows(), run, iterations=4, keys=KEYS, resume=True, seed_order="sequential")


def test_a_resume_of_nothing_may_choose(rows, tmp_path):
    run = make_run(tmp_path, "run")
    loop.train(rows(), run, iterations=2, keys=KEYS, resume=True, seed_order="sequential")
    assert run.seed_order == "sequential"


@pytest.mark.parametrize(
    ("quick", "wanted"), [("vmapped", "vmapped"), ("sequential", "sequential")]
)
def test_the_probe_takes_the_faster_and_says_so(monkeypatch, quick, wanted):
    now_s = [0.0]
    monkeypatch.setattr(seeds.time, "perf_counter", lambda: now_s[0])

    def build(order):
        def call(carry, count):
            now_s[0] += 1.0 if order == quick else 2.0
            return carry

        return Compiled(call, order, 10.0)

    lines = []
    chosen = seeds.probe(build, {"x": jnp.zeros(2)}, iterations=1000, note=lines.append)
    assert (chosen.order, chosen.compile_s) == (wanted, 20.0)
    numbers = {
        "vmapped": "1 s vmapped, 2 s sequential",
        "sequential": "2 s vmapped, 1 s sequential",
    }
    assert lines == [f"seeds {wanted}: an iteration takes {numbers[quick]}"]


def test_the_probe_is_spared_where_it_cannot_pay(monkeypatch):
    now_s, built = [0.0], []
    monkeypatch.setattr(seeds.time, "perf_counter", lambda: now_s[0])

    def build(order):
        def call(carry, count):
            now_s[0] += 1.0
            return carry

        built.append(order)
        return Compiled(call, order, 10.0)

    lines = []
    # A run of 99 s is less than ten times the 10 s of a compilation.
    assert seeds.probe(build, {}, iterations=99, note=lines.append).order == "vmapped"
    assert built == ["vmapped"]
    assert "too dear" in lines[0]


def test_a_probe_trains_nothing(rows, bits):
    notes = Notes()
    found = loop.train(rows(), iterations=4, keys=KEYS, seed_order="probe", progress=notes)
    assert any(line.startswith("seeds ") for line in notes.lines)
    plain = loop.train(rows(), iterations=4, keys=KEYS)
    np.testing.assert_allclose(found.carry["weights"], plain.carry["weights"], rtol=1e-6)
    assert found.summary["iterations"] == 4
    assert jnp.array_equal(
        jax.random.key_data(found.carry["key"]), jax.random.key_data(plain.carry["key"])
    )

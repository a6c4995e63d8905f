"""The sets that are tested lie in the window that is promised, and reach its lower end."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SETS = sorted(path.stem for path in (ROOT / "constraints").glob("*.txt"))


def pins(name):
    """Package to version of one set."""
    lines = (ROOT / "constraints" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    found = [re.fullmatch(r"([\w.-]+)==([\w.+]+)", line) for line in lines if line[:1] != "#"]
    assert all(found), lines
    return {canonicalize_name(match[1]): Version(match[2]) for match in found}


def requirements(*extras):
    """Package to requirement, of the package itself and of some extras."""
    lines = [*PROJECT["dependencies"]]
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    parsed = [Requirement(line) for line in lines]
    return {canonicalize_name(found.name): found for found in parsed}


def test_there_is_a_set_for_each_end():
    assert {"oldest", "newest", "py311", "py312"} == set(SETS)


@pytest.mark.parametrize("name", SETS)
def test_every_pin_lies_in_the_window(name):
    window = requirements(*PROJECT["optional-dependencies"])
    outside = {
        package: str(version)
        for package, version in pins(name).items()
        if package in window and version not in window[package].specifier
    }
    assert not outside


def test_the_oldest_set_is_the_lower_end():
    found = pins("oldest")
    for package, requirement in requirements("export", "dev").items():
        (lower,) = (part.version for part in requirement.specifier if part.operator == ">=")
        assert found[package] == Version(lower), package


def test_the_newest_set_pins_nothing():
    assert pins("newest") == {}


@pytest.mark.parametrize("name", ["py311", "py312"])
def test_the_sets_of_make_test_name_every_package(name):
    missing = set(requirements("brax", "dev", "video")) - set(pins(name))
    assert not missing

"""Configurations survive the way to a file and back, and mistakes are named."""

import dataclasses
import math
from typing import Literal

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from hinf_rl import config as configs
from hinf_rl.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Net:
    widths: tuple[int, ...] = (64, 64)
    activation: Literal["elu", "tanh"] = "elu"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agent:
    gamma: float = 0.99
    epochs: int = 5
    clip: float | None = 0.2
    symmetric: bool = False
    note: str = ""
    bounds: tuple[float, float] = (-1.0, 1.0)
    net: Net = Net()

    def __post_init__(self):
        if not self.gamma <= 1.0:
            raise UserError(f"gamma must be at most 1, got {self.gamma}; use 0.99")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    name: str
    agent: Agent = Agent()


finite = st.floats(allow_nan=False, width=64)
agents = st.builds(
    Agent,
    gamma=st.floats(-1e300, 1.0),
    epochs=st.integers(-(2**63), 2**63 - 1),
    clip=st.none() | finite,
    symmetric=st.booleans(),
    note=st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    bounds=st.tuples(finite, finite),
    net=st.builds(
        Net,
        widths=st.lists(st.integers(0, 4096)).map(tuple),
        activation=st.sampled_from(["elu", "tanh"]),
    ),
)


@given(agent=agents, name=st.text(alphabet=st.characters(exclude_categories=["Cs"])))
@settings(deadline=None)
def test_toml_round_trip_is_exact(agent, name):
    run = Run(name=name, agent=agent)
    again = configs.from_dict(Run, configs.loads_toml(configs.dumps_toml(run)))
    assert again == run
    assert configs.differences(run, again) == []


@given(gamma=st.floats(-1e300, 1.0), widths=st.lists(st.integers(0, 9), min_size=1))
@settings(deadline=None)
def test_text_overrides_are_typed_by_the_annotation(gamma, widths):
    texts = {"agent.gamma": repr(gamma), "agent.net.widths": ",".join(map(str, widths))}
    run = configs.with_overrides(Run(name="x"), texts)
    assert run.agent.gamma == gamma
    assert run.agent.net.widths == tuple(widths)
    # What was not named keeps its value.
    assert run.agent.net.activation == "elu"


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("agent.epochs", "1e3", 1000),
        ("agent.epochs", "-7", -7),
        ("agent.epochs", "9007199254740993", 9007199254740993),  # 2^53 + 1: not a float
        ("agent.gamma", "1", 1.0),
        ("agent.clip", "none", None),
        ("agent.clip", "None", None),
        ("agent.clip", "0.3", 0.3),
        ("agent.symmetric", "true", True),
        ("agent.symmetric", "False", False),
        ("agent.note", "none", "none"),
        ("agent.bounds", "(-2, inf)", (-2.0, math.inf)),
        ("agent.bounds", "-2,3", (-2.0, 3.0)),
        ("agent.net.widths", "[]", ()),
        ("agent.net.widths", "128", (128,)),
        ("agent.net.activation", "tanh", "tanh"),
    ],
)
def test_override_text(key, text, expected):
    run = configs.with_overrides(Run(name="x"), {key: text})
    value = configs.flatten({"agent": {f.name: getattr(run.agent, f.name) for f in FIELDS}})
    value["agent.net.widths"] = run.agent.net.widths
    value["agent.net.activation"] = run.agent.net.activation
    assert value[key] == expected
    assert type(value[key]) is type(expected)


FIELDS = dataclasses.fields(Agent)


@pytest.mark.parametrize(
    ("key", "value", "parts"),
    [
        ("agent.gama", "0.9", ["agent.gama", "'agent.gamma'"]),
        ("agnt.gamma", "0.9", ["agnt", "'agent'"]),
        ("agent.epochs", "2.5", ["agent.epochs", "int", "2.5"]),
        ("agent.epochs", "nan", ["agent.epochs", "int"]),
        ("agent.gamma", "high", ["agent.gamma", "float", "high"]),
        ("agent.gamma", "2", ["agent", "at most 1", "use 0.99"]),
        ("agent.symmetric", "maybe", ["agent.symmetric", "bool"]),
        ("agent.bounds", "1,2,3", ["agent.bounds", "float"]),
        ("agent.net.activation", "tanhh", ["agent.net.activation", "'tanh'"]),
        ("agent.net.widths", "64,x", ["agent.net.widths[1]", "int"]),
        ("agent.net", "big", ["agent.net", "agent.net.widths"]),
        ("agent.gamma.x", "1", ["agent.gamma", "single value"]),
        ("agent.epochs", True, ["agent.epochs", "int", "True"]),
    ],
)
def test_override_mistakes_name_key_and_cure(key, value, parts):
    with pytest.raises(UserError) as caught:
        configs.with_overrides(Run(name="x"), {key: value})
    for part in parts:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        ({"name": "x", "agent": {"gama": 1.0}}, ["'agent.gama'", "'agent.gamma'"]),
        ({"name": "x", "agent": {"gamma": "0.9"}}, ["agent.gamma", "float", "'0.9'"]),
        ({"name": "x", "agent": {"epochs": 2.0}}, ["agent.epochs", "int"]),
        ({"name": "x", "agent": {"epochs": True}}, ["agent.epochs", "int"]),
        ({"name": "x", "agent": 3}, ["agent", "table"]),
        ({"agent": {}}, ["missing key 'name'"]),
        ({"name": "x", "agent": {"net": {"widths": 3}}}, ["agent.net.widths"]),
    ],
)
def test_file_mistakes_name_key_and_type(data, parts):
    with pytest.raises(UserError) as caught:
        configs.from_dict(Run, data)
    for part in parts:
        assert part in str(caught.value)


def test_broken_toml_names_source_and_line():
    with pytest.raises(UserError, match=r"config\.toml is not valid TOML.*line 1"):
        configs.loads_toml("name = = 1\n", source="config.toml")


def test_a_key_and_its_parent_cannot_both_be_set():
    with pytest.raises(UserError, match=r"agent\.net"):
        configs.with_overrides(Run(name="x"), {"agent.net": "a", "agent.net.widths": "3"})
    with pytest.raises(UserError, match=r"agent\.net"):
        configs.with_overrides(Run(name="x"), {"agent.net.widths": "3", "agent.net": "a"})


def test_differences_name_each_key():
    left, right = Run(name="x"), Run(name="y", agent=Agent(clip=None))
    assert configs.differences(left, right) == ["agent.clip: 0.2 -> None", "name: x -> y"]

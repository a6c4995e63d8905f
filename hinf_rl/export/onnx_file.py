"""Writes a policy as a stateless ONNX graph of plain operators, and runs such a file.

Inputs are the measured parts of an observation, [batch, size] float32 in their units, and the
policy's memory: `is_first` [batch, 1] bool, `previous_action` where the task observes it, and
`history` where the policy sees more than one observation. Outputs are `joint_target` (or none, for
tasks without joints), `action`, `network_input` (what the network saw) and `next_history`. The
caller hands `action` and `next_history` back at the next step. Where `is_first` is true the
memory is not read: an episode starts with it, whatever the buffers hold.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from hinf_rl.errors import UserError
from hinf_rl.export.layout import PREVIOUS_ACTION, Layout
from hinf_rl.export.weights import Weights

# What runtimes of 2022 and later read.
_OPSET = 17
_IR_VERSION = 8
_INSTALL = "pip install 'hinf-rl[export]', or use --format numpy"


def build_onnx(weights: Weights, layout: Layout, metadata: Mapping[str, Any]) -> Any:
    """Returns the checked `onnx.ModelProto`.

    Args:
      weights: of the actor.
      layout: of its observations.
      metadata: JSON values; each becomes a text in `metadata_props`.

    Raises:
      UserError: the package onnx is missing.
    """
    onnx = _onnx()
    graph = _Graph(onnx)
    observation = _observation(graph, layout)
    seen = _history(graph, layout, observation)
    action = _network(graph, weights, seen)
    if layout.action_limit is not None:
        action = graph.clip(action, layout.action_limit)
    graph.output("action", action, layout.action_size)
    if layout.target is not None:
        offset, scale = layout.target
        scaled = graph.node("Mul", action, graph.constant(scale))
        target = graph.node("Add", scaled, graph.constant(offset))
        graph.output("joint_target", target, layout.action_size)
    model = graph.model(str(metadata["task"]))
    with_metadata(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model


def with_metadata(model: Any, metadata: Mapping[str, Any]) -> Any:
    """Sets the metadata of a model, in place; texts stay, other values become JSON."""
    del model.metadata_props[:]
    for name, value in metadata.items():
        text = value if isinstance(value, str) else json.dumps(value)
        model.metadata_props.add(key=name, value=text)
    return model


class OnnxPolicy:
    """An exported graph under onnxruntime with its memory; steps several robots at once.

    Args:
      source: path of the file, or the bytes of a model.

    Attributes:
      metadata: what the file says about itself.
      action, observation: see `hinf_rl.export.numpy_runner.Policy`.

    Raises:
      UserError: onnxruntime is missing, or the file is missing, damaged or not ours.
    """

    def __init__(self, source: Path | str | bytes) -> None:
        name = "model" if isinstance(source, bytes) else str(source)
        self._session = _session(source, name)
        self.metadata = _metadata(self._session.get_modelmeta().custom_metadata_map, name)
        self._names = {entry.name for entry in self._session.get_inputs()}
        self._outputs = [entry.name for entry in self._session.get_outputs()]
        self._parts = [part["name"] for part in self.metadata["observation"]["parts"]]
        self.reset()

    def reset(self) -> None:
        """Forgets the last action and the history."""
        self.action: Any = None
        self.observation: Any = None
        self._history: Any = None

    def step(self, **inputs: Any) -> np.ndarray:
        """Returns [B, A] joint targets, or actions, for inputs [B, size]."""
        feed = {name: np.asarray(value, np.float32) for name, value in inputs.items()}
        count = len(next(iter(feed.values())))
        is_first = self.action is None
        if "is_first" in self._names:
            feed["is_first"] = np.full((count, 1), is_first)
        if PREVIOUS_ACTION in self._names:
            size = len(self.metadata["joint_names"])
            feed[PREVIOUS_ACTION] = np.zeros((count, size), np.float32) if is_first else self.action
        if "history" in self._names:
            layout = self.metadata["observation"]
            size = layout["size"] * (layout["history"] - 1)
            feed["history"] = np.zeros((count, size), np.float32) if is_first else self._history
        found = dict(zip(self._outputs, self._session.run(None, feed), strict=True))
        self.action, self.observation = found["action"], found["network_input"]
        self._history = found.get("next_history")
        return found.get("joint_target", self.action)


class _Graph:
    """A graph under construction: every method returns the name of a tensor."""

    def __init__(self, onnx: ModuleType) -> None:
        self._onnx = onnx
        self._float = onnx.TensorProto.FLOAT
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def input(self, name: str, size: int, *, is_bool: bool = False) -> str:
        kind = self._onnx.TensorProto.BOOL if is_bool else self._float
        info = self._onnx.helper.make_tensor_value_info(name, kind, ["batch", size])
        self._inputs.append(info)
        return name

    def output(self, name: str, tensor: str, size: int) -> None:
        # A tensor that goes on inside keeps its name: the output is a copy of it.
        self._nodes.append(self._onnx.helper.make_node("Identity", [tensor], [name]))
        info = self._onnx.helper.make_tensor_value_info(name, self._float, ["batch", size])
        self._outputs.append(info)

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"constant_{len(self._constants)}"
        array = np.asarray(value, dtype)
        self._constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{operator.lower()}_{len(self._nodes)}"
        made = self._onnx.helper.make_node(operator, list(inputs), [name], name, **attributes)
        self._nodes.append(made)
        return name

    def clip(self, tensor: str, limit: float) -> str:
        return self.node("Clip", tensor, self.constant(-limit), self.constant(limit))

    def model(self, name: str) -> Any:
        helper = self._onnx.helper
        graph = helper.make_graph(
            self._nodes, name, self._inputs, self._outputs, initializer=self._constants
        )
        return helper.make_model(
            graph,
            producer_name="hinf-rl",
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
        )


def _observation(graph: _Graph, layout: Layout) -> str:
    """The newest observation, scaled and clipped."""
    scaled = []
    for part in layout.parts:
        value = graph.input(part.name, part.size)
        if part.name == PREVIOUS_ACTION:
            is_first = graph.input("is_first", 1, is_bool=True)
            value = graph.node("Where", is_first, graph.constant([0.0] * part.size), value)
        if any(part.offset):
            value = graph.node("Sub", value, graph.constant(part.offset))
        if set(part.scale) != {1.0}:
            value = graph.node("Mul", value, graph.constant(part.scale))
        scaled.append(value)
    observation = graph.node("Concat", *scaled, axis=1) if len(scaled) > 1 else scaled[0]
    limit = layout.observation_limit
    return observation if limit is None else graph.clip(observation, limit)


def _history(graph: _Graph, layout: Layout, observation: str) -> str:
    """What the network sees: the newest observation, then older ones."""
    older = layout.history - 1
    seen = observation
    if older:
        size = older * layout.size
        is_first = "is_first"
        if PREVIOUS_ACTION not in layout.slices():
            graph.input(is_first, 1, is_bool=True)
        history = graph.input("history", size)
        tiled = graph.node("Concat", *[observation] * older, axis=1)
        history = graph.node("Where", is_first, tiled, history)
        seen = graph.node("Concat", observation, history, axis=1)
        bounds = [graph.constant([value], np.int64) for value in (0, size, 1)]
        start, stop, axis = bounds
        graph.output("next_history", graph.node("Slice", seen, start, stop, axis), size)
    graph.output("network_input", seen, layout.history * layout.size)
    return seen


def _network(graph: _Graph, weights: Weights, x: str) -> str:
    if weights.mean is not None:
        x = graph.node("Sub", x, graph.constant(weights.mean))
        x = graph.node("Div", x, graph.constant(weights.std))
        x = graph.clip(x, weights.clip)
    last = len(weights.kernels) - 1
    for i, (kernel, bias) in enumerate(zip(weights.kernels, weights.biases, strict=True)):
        x = graph.node("MatMul", x, graph.constant(kernel))
        if bias is not None:
            x = graph.node("Add", x, graph.constant(bias))
        if i < last:
            x = _activation(graph, weights.activation, x)
    return graph.node("Tanh", x) if weights.is_squashed else x


def _activation(graph: _Graph, name: str, x: str) -> str:
    if name == "swish":
        return graph.node("Mul", x, graph.node("Sigmoid", x))
    return graph.node({"elu": "Elu", "relu": "Relu", "tanh": "Tanh"}[name], x)


def _onnx() -> ModuleType:
    try:
        import onnx
    except ImportError as error:
        raise UserError(f"writing ONNX needs the package onnx: {_INSTALL}") from error
    return onnx


def _session(source: Path | str | bytes, name: str) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"running ONNX needs the package onnxruntime: {_INSTALL}") from error
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise UserError(f"{name} does not exist; write one with `hinf-rl export`")
    options = onnxruntime.SessionOptions()
    # These networks are too small to share, and a robot's other cores have other work.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    content = source if isinstance(source, bytes) else Path(source).read_bytes()
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has an exception class for every kind of damage
        raise UserError(f"{name} is no ONNX model, or is damaged; export it again") from error


def _metadata(props: Mapping[str, str], name: str) -> dict[str, Any]:
    if "format_version" not in props:
        raise UserError(f"{name} is an ONNX model, but not one that `hinf-rl export` wrote")
    return {key: _value(text) for key, text in props.items()}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


__all__ = ["OnnxPolicy", "build_onnx", "with_metadata"]

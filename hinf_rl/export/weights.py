"""The numbers of a trained actor, as NumPy arrays."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hinf_rl.agents.hinf.players import GaussianPolicy
from hinf_rl.errors import UserError
from hinf_rl.ops.normalize import NormalizerState, normalizer_apply

_Floats = NDArray[np.float32]


class Weights(NamedTuple):
    """A normaliser and a multilayer perceptron.

    Attributes:
      mean, std: [I] of the input, None without a normaliser.
      clip: bound on the normalised input.
      kernels: [I, O] of each layer.
      biases: [O] of each layer; None for a linear policy.
      activation: between layers.
      is_squashed: whether tanh follows the last layer.
    """

    mean: _Floats | None
    std: _Floats | None
    clip: float
    kernels: tuple[_Floats, ...]
    biases: tuple[_Floats | None, ...]
    activation: str
    is_squashed: bool

    def arrays(self) -> dict[str, _Floats]:
        """All arrays by name: mean, std, kernel_0, bias_0 and so on; what is None is left out."""
        named = {"mean": self.mean, "std": self.std}
        named |= {f"kernel_{i}": kernel for i, kernel in enumerate(self.kernels)}
        named |= {f"bias_{i}": bias for i, bias in enumerate(self.biases)}
        return {name: array for name, array in named.items() if array is not None}

    def network_json(self) -> dict[str, Any]:
        """JSON values of what is no array."""
        return {
            "sizes": [self.kernels[0].shape[0], *(kernel.shape[1] for kernel in self.kernels)],
            "activation": self.activation if len(self.kernels) > 1 else "none",
            "output": "tanh" if self.is_squashed else "linear",
            "normalizer_clip": None if self.mean is None else self.clip,
        }


def weights_of(policy: Any) -> Weights:
    """Takes the mean action of an actor apart.

    Raises:
      UserError: the policy is of another kind, or has numbers that are not finite.
    """
    if not isinstance(policy, GaussianPolicy) or policy.observation_key != "policy":
        raise UserError(
            f"a policy of type {type(policy).__name__} cannot be exported; only actors with a "
            "Gaussian head can"
        )
    config = policy.player.config
    layers = _layers(policy.params["mean"]["params"])
    mean, std = _moments(policy.normalizer)
    weights = Weights(
        mean=mean,
        std=std,
        clip=_default("clip"),
        kernels=tuple(_array(layer["kernel"]) for layer in layers),
        biases=tuple(_array(layer["bias"]) if "bias" in layer else None for layer in layers),
        activation=config.activation,
        is_squashed=config.distribution == "tanh_normal",
    )
    for name, array in weights.arrays().items():
        if not np.isfinite(array).all():
            raise UserError(
                f"{name} of the policy is not finite: training broke it; export an older run"
            )
    return weights


def _layers(params: Any) -> list[Any]:
    """The layers in the order in which they are applied."""
    if "gain" in params:
        return [params["gain"]]
    return [params[f"Dense_{i}"] for i in range(len(params))]


def _moments(state: NormalizerState | None) -> tuple[_Floats, _Floats] | tuple[None, None]:
    """Mean and deviation that inputs are normalised by, as `normalizer_apply` takes them."""
    if state is None or not float(state.count) > 0.0:
        return None, None
    variance = _array(state.m2) / np.maximum(_array(state.count), np.float32(1.0))
    least = np.float32(_default("min_std") ** 2)
    return _array(state.mean), np.sqrt(np.maximum(variance, least))


def _default(name: str) -> float:
    # The policy is applied with the defaults: these are the numbers, in the one place they have.
    return (normalizer_apply.__kwdefaults__ or {})[name]


def _array(value: Any) -> _Floats:
    return np.asarray(value, np.float32)


__all__ = ["Weights", "weights_of"]

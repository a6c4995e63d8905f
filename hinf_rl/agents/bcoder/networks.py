"""The language model, its frozen value (phi) and its residual value (theta)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hinf_rl.agents.bcoder.data import Programs, Prompts, forced_output
from hinf_rl.networks.transformer import Transformer
from hinf_rl.networks.transformer_heads import ResidualValueHead, ValueHead
from hinf_rl.ops.bellman_tokens import advantage_of, greedy_actions, soft_cap
from hinf_rl.types import Array, Numeric, PyTree


class ValueParams(NamedTuple):
    """Stage one, phi: a transformer of its own and a head.

    Attributes:
      transformer: variables, at first those of the reference.
      head: variables of the value head.
    """

    transformer: PyTree
    head: PyTree


class PolicyParams(NamedTuple):
    """Stage two, theta: what is fine-tuned.

    Attributes:
      transformer: variables of the language model, at first those of the reference.
      residual: trainable head h1 of the residual value h1 - h2.
    """

    transformer: PyTree
    residual: PyTree


class QParts(NamedTuple):
    """Q_theta on sampled programs.

    Attributes:
      logits: [B, T, V] of the language model that learns.
      value: [B, T] V = cap(residual + frozen part).
      taken: [B, T] A of the tokens that were taken.
      greedy: [B, T] A of the reference's own choice a^.
    """

    logits: Array
    value: Array
    taken: Array
    greedy: Array


class Networks:
    """The functions of B-Coder's parameters.

    Reference, phi and theta are transformers of one architecture; they start equal and share
    nothing afterwards. The cap goes around the sum of both value heads, so that Q stays below
    `max_value` and is unchanged while the residual is 0.
    """

    def __init__(self, transformer: Transformer, max_value: float) -> None:
        self.transformer = transformer
        self._max_value = max_value
        # Not 0 at the start: the cap has no gradient there.
        self._value_head = ValueHead(init_scale=1.0)
        self._residual_head = ResidualValueHead()

    def init(self, key: Array, reference: PyTree) -> tuple[ValueParams, PolicyParams, PyTree]:
        """Returns phi, theta, and the frozen head h2, all from the reference."""
        key_value, key_residual = jax.random.split(key)
        hidden = self._example_hidden(reference)
        residual: dict[str, Any] = dict(self._residual_head.init(key_residual, hidden))
        frozen = {"reference": residual.pop("reference")}
        value = ValueParams(reference, self._value_head.init(key_value, hidden))
        return value, PolicyParams(reference, residual), frozen

    def stage_one_value(self, phi: ValueParams, prompts: Prompts, programs: Programs) -> Array:
        """[B, T] value V_phi, capped."""
        return soft_cap(self.raw_value(phi, prompts, programs), self._max_value)

    def raw_value(self, phi: ValueParams, prompts: Prompts, programs: Programs) -> Array:
        """[B, T] output of phi's head, before the cap."""
        hidden = forced_output(self.transformer, phi.transformer, prompts, programs).hidden
        value: Any = self._value_head.apply(phi.head, hidden)
        return value

    def q_parts(
        self,
        theta: PolicyParams,
        twin: PyTree,
        raw_value: Array,
        prompts: Prompts,
        programs: Programs,
        reference_greedy: Array,
        alpha: Numeric,
    ) -> QParts:
        """Q_theta in the states of some programs, eq. 16.

        Args:
          theta: what learns.
          twin: the frozen head h2.
          raw_value: [B, T] of phi, a constant.
          prompts: the problems.
          programs: [B] programs.
          reference_greedy: [B, T] the reference's own choice a^.
          alpha: scalar temperature.
        """
        output = forced_output(self.transformer, theta.transformer, prompts, programs)
        residual: Any = self._residual_head.apply({**theta.residual, **twin}, output.hidden)
        frozen = jax.lax.stop_gradient(raw_value)
        return QParts(
            logits=output.logits,
            value=soft_cap(residual + frozen, self._max_value),
            taken=advantage_of(output.logits, programs.tokens, alpha),
            greedy=advantage_of(output.logits, reference_greedy, alpha),
        )

    def reference_greedy(self, reference: PyTree, prompts: Prompts, programs: Programs) -> Array:
        """[B, T] a^, for programs that were not annotated."""
        return greedy_actions(forced_output(self.transformer, reference, prompts, programs).logits)

    def _example_hidden(self, reference: PyTree) -> Array:
        """[1, 1, D] hidden state whose shape the heads are made for."""
        token = jnp.zeros((1, 1), jnp.int32)
        output: Any = self.transformer.apply(reference, token)
        return output.hidden


__all__ = ["Networks", "PolicyParams", "QParts", "ValueParams"]

"""Token side: tokenizers, sampling with a key-value cache, token losses, checkpoint import."""

from hinf_rl.language.generation import (
    Samples,
    SamplingConfig,
    filter_logits,
    right_align,
    sample,
    teacher_force,
)
from hinf_rl.language.losses import (
    sequence_log_prob,
    sequence_mean,
    token_cross_entropy,
    token_entropy,
    token_log_probs,
)
from hinf_rl.language.tokenizer import SymbolicTokenizer, Tokenizer, left_pad, right_pad

__all__ = [
    "Samples",
    "SamplingConfig",
    "SymbolicTokenizer",
    "Tokenizer",
    "filter_logits",
    "left_pad",
    "right_align",
    "right_pad",
    "sample",
    "sequence_log_prob",
    "sequence_mean",
    "teacher_force",
    "token_cross_entropy",
    "token_entropy",
    "token_log_probs",
]

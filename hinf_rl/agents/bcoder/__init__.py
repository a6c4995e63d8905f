"""B-Coder: a language model of programs as a Q-function, trained from stored programs."""

from hinf_rl.agents.bcoder.algorithm import Carry, Hyperparameters, hyperparameters, make
from hinf_rl.agents.bcoder.config import ALGORITHMS, BCoderConfig, apply_algorithm
from hinf_rl.agents.bcoder.data import (
    Annotated,
    Material,
    Programs,
    Prompts,
    Source,
    annotate,
    draw_programs,
)
from hinf_rl.agents.bcoder.pretrain import Corpus, pretrain
from hinf_rl.agents.bcoder.ranking import (
    mean_auc,
    pass_at_k,
    rank_programs,
    ranking_auc,
    success_at_k,
)
from hinf_rl.agents.bcoder.scores import RANKERS, make_scores

__all__ = [
    "ALGORITHMS",
    "RANKERS",
    "Annotated",
    "BCoderConfig",
    "Carry",
    "Corpus",
    "Hyperparameters",
    "Material",
    "Programs",
    "Prompts",
    "Source",
    "annotate",
    "apply_algorithm",
    "draw_programs",
    "hyperparameters",
    "make",
    "make_scores",
    "mean_auc",
    "pass_at_k",
    "pretrain",
    "rank_programs",
    "ranking_auc",
    "success_at_k",
]

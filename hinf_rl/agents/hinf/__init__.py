"""H-infinity training: an actor against a learned disturber under a gain constraint."""

from hinf_rl.agents.hinf.algorithm import make
from hinf_rl.agents.hinf.config import (
    ConstraintConfig,
    CriticConfig,
    DisturbanceConfig,
    HinfConfig,
    Hyperparameters,
    PlayerConfig,
    hyperparameters,
)
from hinf_rl.agents.hinf.linear import (
    LQGameResult,
    gains,
    lq_config,
    solve_lq_game,
    with_gains,
)
from hinf_rl.agents.hinf.players import GaussianPolicy

__all__ = [
    "ConstraintConfig",
    "CriticConfig",
    "DisturbanceConfig",
    "GaussianPolicy",
    "HinfConfig",
    "Hyperparameters",
    "LQGameResult",
    "PlayerConfig",
    "gains",
    "hyperparameters",
    "lq_config",
    "make",
    "solve_lq_game",
    "with_gains",
]

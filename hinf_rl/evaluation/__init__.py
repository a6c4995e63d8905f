"""How a policy survives what it never saw: protocol, statistics, pictures and report.

Figures and films live in `plots`, `render` and `video`, the report of a run in `report`; they are
imported from there, so that measuring loads neither matplotlib nor a simulator.
"""

from hinf_rl.evaluation.disturbances import (
    Attacker,
    Blocks,
    Continuous,
    Disturbance,
    Quiet,
    Sudden,
    continuous,
    sudden,
)
from hinf_rl.evaluation.protocol import (
    PROTOCOL_NAME,
    ProtocolConfig,
    TrainedAttacker,
    held_out_key,
    run_protocol,
)
from hinf_rl.evaluation.record import EpisodeRecord, Intensity
from hinf_rl.evaluation.rollout import Evaluator, evaluate
from hinf_rl.evaluation.statistics import (
    Interval,
    bootstrap_interval,
    interquartile_mean,
    paired_difference,
    probability_of_improvement,
    stratified_interval,
    wilson_interval,
)
from hinf_rl.evaluation.summary import merge_results

__all__ = [
    "PROTOCOL_NAME",
    "Attacker",
    "Blocks",
    "Continuous",
    "Disturbance",
    "EpisodeRecord",
    "Evaluator",
    "Intensity",
    "Interval",
    "ProtocolConfig",
    "Quiet",
    "Sudden",
    "TrainedAttacker",
    "bootstrap_interval",
    "continuous",
    "evaluate",
    "held_out_key",
    "interquartile_mean",
    "merge_results",
    "paired_difference",
    "probability_of_improvement",
    "run_protocol",
    "stratified_interval",
    "sudden",
    "wilson_interval",
]

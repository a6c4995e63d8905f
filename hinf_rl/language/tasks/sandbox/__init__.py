"""A place to run programs that nobody has read: see `Sandbox` for what it promises."""

from hinf_rl.language.tasks.sandbox.executor import (
    MEASURES,
    Call,
    Capabilities,
    Ending,
    Execution,
    Job,
    Limits,
    Sandbox,
)

__all__ = [
    "MEASURES",
    "Call",
    "Capabilities",
    "Ending",
    "Execution",
    "Job",
    "Limits",
    "Sandbox",
]

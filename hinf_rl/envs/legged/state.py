"""What a quadruped task carries from step to step."""

from typing import NamedTuple

from hinf_rl.envs.legged.curriculum import Visit
from hinf_rl.envs.physics.api import PhysicsState
from hinf_rl.types import Array


class QuadrupedState(NamedTuple):
    """Simulator state and what the task remembers of the last steps.

    Attributes:
      simulation: the physics.
      command: [3] forward and lateral speed (m/s), yaw rate (rad/s).
      heading: [] commanded heading (rad).
      action, previous_action: [12] last action and the one before.
      air_time: [4] s since each foot left the ground.
      in_contact: [4] bool.
      force: [3] N, heading frame, applied during the last step.
      time_s: [] since the episode began.
      visit: the way over the terrain; None on flat ground.
    """

    simulation: PhysicsState
    command: Array
    heading: Array
    action: Array
    previous_action: Array
    air_time: Array
    in_contact: Array
    force: Array
    time_s: Array
    visit: Visit | None = None

    @property
    def qpos(self) -> Array:
        """[19] trunk position (m), attitude, joint angles (rad)."""
        return self.simulation.qpos

    @property
    def qvel(self) -> Array:
        """[18] trunk velocity (world m/s, body rad/s), joint velocities (rad/s)."""
        return self.simulation.qvel


__all__ = ["QuadrupedState"]

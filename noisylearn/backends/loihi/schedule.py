"""Which step of an epoch does what: two passes that follow one another through the network, then learning.

A connection takes one step. The input sends a sample in phases 0 and 1; a population of stage s computes the perturbed
pass in phase s and the reference in phase s + 1 (a spike overwrites its trace, so learning sees the spikes of the pass
that is sent last); in the last phase, depth + 2, the critic sends the third factor and the engine learns.
"""

from dataclasses import dataclass

from noisylearn.backends.loihi.network import FixedNetwork
from noisylearn.ground.errors import UserError

PERTURBED, REFERENCE = 0, 1  # in order of time


@dataclass(frozen=True)
class Schedule:
    """Phases of an epoch.

    Args:
        depth: number of connections between the input and the readout.
    """

    depth: int

    @property
    def t_epoch(self) -> int:
        """Number of steps of an epoch, which is one sample."""
        return self.depth + 3

    @property
    def learning_phase(self) -> int:
        """Phase in which the engine learns."""
        return self.t_epoch - 1

    def phase(self, time_step: int) -> int:
        """Phase of a step; steps are counted from 1."""
        return (time_step - 1) % self.t_epoch

    def pass_at(self, stage: int, phase: int) -> int | None:
        """Which pass a population of this stage computes in a phase, or None."""
        return phase - stage if phase - stage in (PERTURBED, REFERENCE) else None


def scheduled(network: FixedNetwork) -> Schedule:
    """The schedule of a network.

    Raises:
        UserError: its epoch is longer than the engine counts.
    """
    schedule = Schedule(network.depth)
    if schedule.t_epoch > network.cores.t_epoch_max:
        raise UserError(
            f"t_epoch = {schedule.t_epoch}: two passes through {network.depth} connections and learning take depth + 3 "
            f"steps, and the engine counts {network.cores.t_epoch_max}; use a network of at most "
            f"{network.cores.t_epoch_max - 3} layers"
        )
    return schedule

"""Draws of other processes by their seeds: each sends the losses of its passes, and draws the noise of all.

    every process: noise of all K draws,   losses of its own    ->    losses of all    ->    the whole estimate

Rules that learn from the injected noise and the losses alone need nothing else of a pass. A step then moves
4 x draws x samples bytes in place of 4 x weights, and every process draws all the noise.

Source:
    MeZO (Malladi et al., NeurIPS 2023) and evolution strategies (Salimans et al., arXiv:1703.03864, 2017), by seeds of
    weight noise; here by the streams of passes, for noise of nodes as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from noisylearn.chips.interface import AnyChip
from noisylearn.chips.readings import Plan, Readings
from noisylearn.chips.segments import Segment
from noisylearn.chips.simulated import Chip
from noisylearn.distributed import Ranks


@dataclass
class SharedSeeds:
    """Draws that other processes run.

    Args:
        ranks: the processes.
        draws: that run here.
        n_draws: in all.
    """

    ranks: Ranks
    draws: Sequence[int]
    n_draws: int

    def run_here(self, plan: Plan) -> Plan:
        """The passes that run here; a plan without draws runs everywhere.

        Args:
            plan: all passes.
        """
        return plan.only_draws(self.draws, self.n_draws)

    def of_all(self, losses: Float[Tensor, "own rows"], own: Plan, plan: Plan) -> Float[Tensor, "passes rows"]:
        """Losses of all passes, by one all-reduce; that of the baseline is known everywhere.

        Args:
            losses: of the passes that ran here.
            own: those passes.
            plan: all passes.

        Raises:
            LostRankError: another process has ended, or does not answer.
        """
        if plan.n_passes == 1:
            return losses
        assert own.numbers is not None
        known = losses.new_zeros(plan.n_passes, *losses.shape[1:])
        known[list(own.numbers)] = losses
        return torch.cat([losses[:1], *self.ranks.sum([known[1:]])])

    def noise_of_all(
        self, chip: AnyChip, readings: Readings, segment: Segment, own: Plan, plan: Plan, purpose: str
    ) -> Readings:
        """Readings with the noise of all passes.

        Args:
            chip: that ran some of them.
            readings: of these.
            segment: what they ran on.
            own: these passes.
            plan: all passes.
            purpose: names the random streams.
        """
        if plan.n_passes == 1:
            return readings
        assert isinstance(chip, Chip)
        return chip.with_noise_of(readings, segment, own, plan, purpose)

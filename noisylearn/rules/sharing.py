"""What each of several processes computes of an estimate, and the sum of what all of them computed.

The work of a step is a grid: parts of the batch x draws. Both are stated by the user, and every cell has random streams
of its own, so that the numbers do not depend on how many processes share the cells. The baseline of a part is run by
every process that has draws of this part, and is the same there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from noisylearn.chips.interface import Memory
from noisylearn.distributed import Ranks
from noisylearn.ground.errors import UserError
from noisylearn.networks.decorrelation import products_of
from noisylearn.profiles import HardwareProfile, Machine
from noisylearn.rules.estimate import Estimate
from noisylearn.rules.observation import Observation
from noisylearn.rules.seeds import SharedSeeds
from noisylearn.rules.sequences import Sequences

Way = Literal["batch", "draws"]
Send = Literal["gradients", "losses"]


class Divisible(Protocol):
    """What is asked of a rule whose estimates are shared; see `noisylearn.rules.base.Rule`."""

    @property
    def divides(self) -> frozenset[Way]: ...
    @property
    def n_draws(self) -> int: ...
    @property
    def name(self) -> str: ...
    def check_divides(self) -> None: ...
    def needs(self) -> frozenset[str]: ...
    def shows(self, state: Memory, seen: Observation) -> Memory: ...


@dataclass(frozen=True)
class Share:
    """The cells of the grid that one process computes: all pairs of its parts and its draws.

    Args:
        parts: of the batch, that are computed here.
        n_parts: of the batch, in all.
        draws: that are computed here.
        n_draws: in all.
        away: where losses are sent in place of gradients: gives those of the other draws.
    """

    parts: Sequence[int] = (0,)
    n_parts: int = 1
    draws: Sequence[int] = (0,)
    n_draws: int = 1
    away: SharedSeeds | None = None

    @property
    def weight(self) -> float:
        """Share of the draws: the factor on an estimate from them in the sum over all processes."""
        return len(self.draws) / self.n_draws

    @property
    def numbers(self) -> tuple[int, ...] | None:
        """The draws, where the rule has these alone."""
        return None if self.away is not None or len(self.draws) == self.n_draws else tuple(self.draws)

    @property
    def has_all_rows(self) -> bool:
        """Whether all parts of the batch are computed here."""
        return len(self.parts) == self.n_parts

    def of(self, sequences: Sequences) -> list[Sequences]:
        """The parts of a batch that are computed here, each with its streams; their estimates are to be added.

        Args:
            sequences: the whole batch.

        Raises:
            UserError: the batch has fewer rows than parts.
        """
        if self.n_parts == 1:
            return [replace(sequences, draws=self.numbers, away=self.away)]
        batch = sequences.inputs.shape[1]
        if batch < self.n_parts:
            raise UserError(f"a batch of {batch} has no {self.n_parts} parts: give fewer parts, or more samples")
        bounds = [batch * i // self.n_parts for i in range(self.n_parts + 1)]
        return [
            replace(
                sequences.rows(slice(bounds[part], bounds[part + 1])),
                purpose=f"{sequences.purpose} of part {part}",
                draws=self.numbers,
                away=self.away,
            )
            for part in self.parts
        ]


def share_of(rule: Divisible, machine: Machine, ranks: Ranks, n_parts: int = 1, send: Send = "gradients") -> Share:
    """What this process computes of every estimate.

    Args:
        rule: whose estimates are shared.
        machine: on whose simulation it learns.
        ranks: the processes.
        n_parts: parts of the batch.
        send: what the processes send each other: "gradients"; or "losses", from which each makes the whole estimate,
            drawing the noise of all draws by itself, see `noisylearn.rules.seeds`.

    Raises:
        UserError: the rule or the machine does not allow it, or there are more processes than they have work for.
    """
    if n_parts < 1:
        raise UserError(f"{n_parts} parts of a batch; give at least 1")
    if send not in get_args(Send):
        raise UserError(f"send '{send}'; choose {' or '.join(get_args(Send))}")
    if send == "losses":
        return _with_seeds(rule, machine, ranks, n_parts)
    if ranks.count == n_parts == 1:
        return Share(draws=range(rule.n_draws), n_draws=rule.n_draws)
    rule.check_divides()
    if not isinstance(machine, HardwareProfile):
        raise UserError(f"'{machine.name}' is no simulated chip: processes share a chip that each of them simulates")
    stuck = _keeps_draws_together(rule, machine)
    n_draws = 1 if stuck else rule.n_draws
    by_part, by_draw = _grid(ranks.count, n_parts, n_draws) or (0, 0)
    if not by_part:
        together = f", which stay together as {stuck}" if stuck and rule.n_draws > 1 else ""
        raise UserError(
            f"{ranks.count} processes cannot share {n_parts} part{'s' * (n_parts > 1)} of the batch and {rule.n_draws} "
            f"draw{'s' * (rule.n_draws > 1)}{together}: give --batch-parts {ranks.count} (nl.rules.Learner: "
            f"parts={ranks.count}), or start fewer"
        )
    part, draw = divmod(ranks.number, by_draw)
    draws = range(rule.n_draws) if by_draw == 1 else range(draw, rule.n_draws, by_draw)
    return Share(range(part, n_parts, by_part), n_parts, draws, rule.n_draws)


def _with_seeds(rule: Divisible, machine: Machine, ranks: Ranks, n_parts: int) -> Share:
    """The draws of this process, where losses are sent. Raises UserError where they do not make the estimate."""
    rule.check_divides()
    if ranks.count == 1:
        raise UserError("--send losses is for several processes: start them with torchrun, or leave it out")
    if not isinstance(machine, HardwareProfile) or "activity" in rule.needs():
        raise UserError(
            f"rule {rule.name} learns from pre-activations, which the process that ran a pass has alone: leave out "
            "--send losses, or use np, inp or wp"
        )
    if rule.n_draws % ranks.count:
        raise UserError(
            f"--send losses shares draws alone, and equally: {rule.n_draws} are no multiple of {ranks.count} processes"
        )
    if stuck := _keeps_draws_together(rule, machine):
        raise UserError(f"--send losses shares draws, which stay together here as {stuck}: leave it out")
    draws = range(ranks.number, rule.n_draws, ranks.count)
    return Share(range(n_parts), n_parts, draws, rule.n_draws, SharedSeeds(ranks, draws, rule.n_draws))


def _keeps_draws_together(rule: Divisible, machine: HardwareProfile) -> str:
    """Why draws may not be run in different places, in words; empty where they may."""
    if "draws" not in rule.divides:
        return "the rule compares them all"
    after = [effect.kind for effect in machine.effects("node") if effect.follows_passes]
    return f"noise lasts from pass to pass ({', '.join(after)})" if after else ""


def _grid(count: int, n_parts: int, n_draws: int) -> tuple[int, int] | None:
    """Groups of processes by parts and by draws: those with the least work for the busiest, then the most by parts."""
    ways = [(n, count // n) for n in range(1, count + 1) if count % n == 0 and n <= n_parts and count // n <= n_draws]

    def busiest(way: tuple[int, int]) -> tuple[float, int]:
        return math.ceil(n_parts / way[0]) / n_parts * (1 + math.ceil(n_draws / way[1])), -way[0]

    return min(ways, key=busiest, default=None)


def show_each_other(ranks: Ranks, rule: Divisible, states: Sequence[Memory], parts: Sequence[Observation]) -> None:
    """Give every part of a batch the sums over all of them that the rule learns from; by one all-reduce, if any.

    Args:
        ranks: the processes.
        rule: tells which sums.
        states: what the rule remembers, by part.
        parts: segments of the parts that are observed here.

    Raises:
        LostRankError: another process has ended, or does not answer.
    """
    shown = [tree_flatten(rule.shows(state, seen)) for state, seen in zip(states, parts, strict=True)]
    here = [torch.stack(leaves).sum(0) for leaves in zip(*(leaves for leaves, _ in shown), strict=True)]
    total = tree_unflatten(ranks.sum(here) if here else [], shown[0][1])
    for seen in parts:
        seen.shown = total


def summed(
    ranks: Ranks, share: Share, found: Estimate, losses: Float[Tensor, " steps"], model: nn.Module
) -> tuple[Estimate, Float[Tensor, " steps"]]:
    """The estimate and the losses of all processes, by one all-reduce. A loss that is not finite is so on all of them.

    Args:
        ranks: the processes.
        share: what this one computed.
        found: its estimate.
        losses: its part in the mean losses.
        model: the network, for what its decorrelations learn from.

    Raises:
        LostRankError: another process has ended, or does not answer.
    """
    places = [(layer, key) for layer, of_layer in found.gradients.items() for key in of_layer]
    gradients = [found.gradients[layer][key] for layer, key in places]
    products = {} if share.has_all_rows else products_of(model, found.inputs)
    kind = gradients[0] if gradients else losses
    more = [value for product, n in products.values() for value in (product, product.new_full((1,), n))]
    totals = ranks.sum([*gradients, losses.to(kind.dtype), *more], share.weight)
    merged: dict[str, dict[str, Tensor]] = {layer: {} for layer in found.gradients}
    for (layer, key), total in zip(places, totals, strict=False):
        merged[layer][key] = total
    sums = totals[len(places) + 1 :]
    covariances = {name: sums[2 * i] / sums[2 * i + 1] for i, name in enumerate(products)}
    total_losses = totals[len(places)].to(losses.dtype)
    return Estimate(torch.sum(total_losses), merged, found.inputs, covariances or None), total_losses

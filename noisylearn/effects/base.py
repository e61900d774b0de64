"""What an effect is: a frozen record with a site, a lifetime, `apply` and `moments`.

Site says what it acts on: the conductances of the devices ("weight"), what enters a layer ("input"), its
pre-activations ("node"), what leaves the converter ("output") or an update on its way to the devices ("write").

Lifetime says when its randomness is drawn anew: once per device ("device"), at every programming ("write"),
at every read ("read"), once for a whole pass over a batch ("pass"), or along time ("memory").

The life of an effect: `fabricate` once, `start` when what it acts on is set up, `elapse` at every tick of the chip's
clock, `apply` at every read. Devices are set up by every programming, which empties the state of an effect with memory.
Neurons, converters and circuits (sites "input", "node", "output") are not programmed: they are fabricated and started
together, at the first read, and age from then on, through all programmings. What they hold is the `state`; a checkpoint
of the chip holds it too. At the nodes there is a second time, that of one sample: its passes follow one another at the
pass interval, then comes the next step of its sequence (`evolve`). What that leaves behind is the `trail`: it belongs
to the trajectory, is empty where a sequence starts, and goes with it from segment to segment.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from torch import Tensor

from noisylearn.ground.draws import StreamOf
from noisylearn.ground.records import CitedRecord

Site = Literal["weight", "input", "node", "output", "write"]
Lifetime = Literal["device", "write", "read", "pass", "memory"]
State = dict[str, Tensor]
SIMULATED: dict[str, set[str]] = {
    "weight": {"device", "write", "memory", "pass"},
    "input": {"device", "read", "memory"},
    "output": {"device", "read", "memory"},
    "node": {"device", "read", "memory"},
}


class Moments(NamedTuple):
    """Expected mean and variance, elementwise."""

    mean: Tensor
    variance: Tensor


@dataclass(frozen=True)
class Setting:
    """What an effect may know of the chip around it.

    g_max_us, g_min_us: largest and smallest conductance, microsiemens.  since_write_s: seconds since the devices
    were programmed.  t0_s: the moment after programming from which a profile counts drift.  pass_interval_s: time
    between two passes of the same sample.  step_interval_s: time between two steps of a sequence, from first pass to
    first pass; None where the next step follows as the next pass would.  clock_s: how long the chip's clock has run,
    through all programmings.
    """

    g_max_us: float = 1.0
    since_write_s: float = 0.0
    t0_s: float = 1.0
    pass_interval_s: float = 1e-6
    g_min_us: float = 0.0
    step_interval_s: float | None = None
    clock_s: float = 0.0

    @property
    def age_s(self) -> float:
        """t = since_write_s + t0_s, the time that published drift and 1/f formulas use."""
        return self.since_write_s + self.t0_s

    def waits_s(self, n_passes: int, n_steps: int) -> list[float]:
        """Seconds from the read before to every read of a sample: all passes of a step, then those of the next.

        A step begins a pass interval after the last pass at the earliest, however short the step interval.
        """
        left = (self.step_interval_s or 0.0) - (n_passes - 1) * self.pass_interval_s
        of_step = [max(left, self.pass_interval_s), *[self.pass_interval_s] * (n_passes - 1)]
        return of_step * n_steps


@dataclass
class Product:
    """Analog products of tiles on their way to the converter, in units of one full-scale product.

    mean: (tiles, samples, columns).  variance: of the noise that is Gaussian and fresh at every read, same shape or
    one that broadcasts to it; None where there is none.  inputs: what the tiles were driven with, (tiles, samples,
    rows).  weights: (tiles, rows, columns).
    """

    mean: Tensor
    variance: Tensor | None
    inputs: Tensor
    weights: Tensor

    def add_variance(self, variance: Tensor) -> None:
        self.variance = variance if self.variance is None else self.variance + variance


class Effect(CitedRecord):
    """One non-ideality. Subclasses state `kind`, `site` and `lifetime` and override what they need.

    `apply(value, setting, draw, state)` gives the value after the effect, drawing what is random from `draw`.
    `state` is a dict that the chip keeps with the device: an effect with lifetime "memory" finds there what it
    put there since the last programming, one with lifetime "device" what it put there at all.
    `moments(value, setting)` gives the mean and variance of what one read sees, given the true value.
    """

    site: ClassVar[Site]
    lifetime: ClassVar[Lifetime]

    kind: str

    @property
    def can_be_off(self) -> bool:
        """Whether a machine may run a pass without it: so for fresh noise that is added, not for a device's own."""
        return self.lifetime == "pass" or (self.site == "node" and self.lifetime == "read")

    @property
    def is_simulated(self) -> bool:
        """Whether the chip executes effects of this site and lifetime."""
        return self._gives_read_variance or self.lifetime in SIMULATED.get(self.site, set())

    @property
    def differs_between_passes(self) -> bool:
        """Whether two passes of one step see different noise: only that can be learned from."""
        evolves = type(self).evolve is not Effect.evolve
        return self._gives_read_variance or evolves or self.lifetime in ("read", "pass")

    @property
    def _gives_read_variance(self) -> bool:
        return type(self).read_variance is not Effect.read_variance

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        raise TypeError(f"effect '{type(self).__name__}' has no apply")

    def evolve(self, value: Tensor, setting: Setting, draw: StreamOf, state: State, trail: State) -> Tensor:
        """`apply` along a trajectory, for site "node".

        Args:
            value: Pre-activations (passes, steps, batch, ...), the passes of a step and the steps in order of time.
            setting: What is known of the chip; `setting.waits_s` has the times between reads.
            draw: Random numbers, with the passes along the first axis.
            state: What the neurons hold.
            trail: What the steps before left, empty at the start of a sequence; to be put there for the steps to come.

        Returns:
            The value after the effect. Unless an effect overrides this, steps are more of a batch.
        """
        return self.apply(value.flatten(1, 2), setting, draw, state).unflatten(1, value.shape[1:3])

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        raise TypeError(f"effect '{type(self).__name__}' has no moments")

    def read_variance(self, value: Tensor, setting: Setting, state: State) -> Tensor | None:
        """Variance that is Gaussian and independent at every read: the chip lumps it at the output."""
        return None

    def carry(self, product: Product, setting: Setting, draw: StreamOf, state: State) -> None:
        """What a site "output" effect does to the products of the tiles; noise adds to their variance."""
        raise TypeError(f"effect '{type(self).__name__}' does not act on products")

    def fabricate(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        """Put into the empty `state` what is drawn once per device, in a shape that broadcasts with `value`."""

    def start(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        """Put into `state` what is drawn anew at every programming; `value` is what was written.

        Neurons, converters and circuits start once, after they were fabricated; their `value` is zeros.
        """

    def elapse(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        """Carry `state` to the moment of `setting`, at every tick of the clock, whether anybody reads or not.

        Devices count from their programming (`setting.since_write_s`), circuits along the clock (`setting.clock_s`).
        """

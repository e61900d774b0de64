"""What an effect is: a frozen record with a site, a lifetime, `apply` and `moments`.

The site says what an effect acts on: the conductances of the devices ("weight"), what enters a layer ("input"), its
pre-activations ("node"), what leaves the converter ("output") or an update on its way to the devices ("write").

The lifetime says when its random numbers are drawn anew: once per device ("device"), at every programming ("write"),
at every read ("read"), once for a whole pass over a batch ("pass"), or along time ("memory").

The chip calls `fabricate` once, `start` when what the effect acts on is set up, `elapse` at every tick of its clock,
and `apply` at every read. Devices are set up by every programming, which empties the state of an effect with memory.
Neurons, converters and circuits (sites "input", "node", "output") are not programmed: they are fabricated and started
together, at the first read, and age from then on, through all programmings. What they hold is the `state`; a checkpoint
of the chip holds it too. Node effects know a second time scale, that of one sample: its passes follow one another at
the pass interval, then comes the next step of its sequence (`evolve`). What an effect keeps between those is the
`trail`: it belongs to the trajectory, is empty where a sequence starts, and is handed on from segment to segment.
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
    """Expected mean and variance, elementwise.

    Args:
        mean: in units of the value.
        variance: in units of the value squared, of the same shape.
    """

    mean: Tensor
    variance: Tensor


@dataclass(frozen=True)
class Setting:
    """What an effect may know of the chip around it.

    Args:
        g_max_us: largest conductance, in microsiemens.
        since_write_s: time since the devices were programmed, in seconds.
        t0_s: time after programming from which a profile counts drift, in seconds.
        pass_interval_s: time between two passes of a sample, in seconds.
        g_min_us: smallest conductance, in microsiemens.
        step_interval_s: time between two steps of a sequence, from first pass to first pass, in seconds; None where the
            next step follows a pass interval after the last pass.
        clock_s: how long the chip's clock has run, through all programmings, in seconds.
    """

    g_max_us: float = 1.0
    since_write_s: float = 0.0
    t0_s: float = 1.0
    pass_interval_s: float = 1e-6
    g_min_us: float = 0.0
    step_interval_s: float | None = None
    clock_s: float = 0.0

    def check_reference(self, reference_g_max_us: float) -> None:
        """Check that a fit was made on devices of much the same conductance.

        Args:
            reference_g_max_us: g_max of the fit, in microsiemens.

        Raises:
            ValueError: the conductances differ by more than a factor of 100.
        """
        if not 0.01 <= reference_g_max_us / self.g_max_us <= 100:
            raise ValueError(
                f"reference_g_max_us = {reference_g_max_us:g} beside g_max_us = {self.g_max_us:g}: a fit is not scaled "
                "by more than a factor of 100; check the units, both are microsiemens"
            )

    @property
    def age_s(self) -> float:
        """t = since_write_s + t0_s in seconds, the time that published formulas of drift and 1/f noise use."""
        return self.since_write_s + self.t0_s

    def waits_s(self, n_passes: int, n_steps: int) -> list[float]:
        """Time that passed before every read of a sample, since the read before.

        A step begins a pass interval after the last pass at the earliest, however short the step interval.

        Args:
            n_passes: passes of a step.
            n_steps: steps of the segment.

        Returns:
            n_steps * n_passes times in seconds: all passes of a step, then those of the next.
        """
        left = (self.step_interval_s or 0.0) - (n_passes - 1) * self.pass_interval_s
        of_step = [max(left, self.pass_interval_s), *[self.pass_interval_s] * (n_passes - 1)]
        return of_step * n_steps


@dataclass
class Product:
    """Analog products of tiles on their way to the converter, in units of one full-scale product.

    Args:
        mean: products without noise, (tiles, samples, columns).
        variance: of the Gaussian noise that is fresh at every read, in a shape that broadcasts with `mean`; None where
            there is none.
        inputs: what the tiles were driven with, (tiles, samples, rows).
        weights: of the tiles, (tiles, rows, columns).
    """

    mean: Tensor
    variance: Tensor | None
    inputs: Tensor
    weights: Tensor

    def add_variance(self, variance: Tensor) -> None:
        """Add independent Gaussian noise that is fresh at every read.

        Args:
            variance: of that noise, in a shape that broadcasts with `mean`.
        """
        self.variance = variance if self.variance is None else self.variance + variance


class Effect(CitedRecord):
    """One non-ideality. Subclasses state `kind`, `site` and `lifetime` and override what they need.

    Arguments that methods share: `setting` is what is known of the chip; `draw` gives random numbers; `state` is a dict
    that the chip keeps with the device, in which an effect with lifetime "memory" finds what it put there since the
    last programming, and one with lifetime "device" what it ever put there.

    Args:
        kind: names the effect in a profile.
    """

    site: ClassVar[Site]
    lifetime: ClassVar[Lifetime]

    kind: str

    @property
    def can_be_off(self) -> bool:
        """Whether a machine may run a pass without it: true of fresh noise that is added, not of a device's own."""
        return self.lifetime == "pass" or (self.site == "node" and self.lifetime == "read")

    @property
    def is_simulated(self) -> bool:
        """Whether the chip executes effects of this site and lifetime."""
        return self._gives_read_variance or self.lifetime in SIMULATED.get(self.site, set())

    @property
    def differs_between_passes(self) -> bool:
        """Whether two passes of one step see different noise: only that can be learned from."""
        return self._gives_read_variance or self.follows_passes or self.lifetime in ("read", "pass")

    @property
    def follows_passes(self) -> bool:
        """Whether the noise of a pass depends on the passes before it, which must then run in one place."""
        return type(self).evolve is not Effect.evolve

    @property
    def _gives_read_variance(self) -> bool:
        return type(self).read_variance is not Effect.read_variance

    def check(self, setting: Setting) -> None:
        """Check the effect's numbers against those of the machine; called when a profile is read.

        Args:
            setting: of the machine's profile.

        Raises:
            ValueError: they do not fit one another; the message names the number.
        """

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        """The value as one read sees it.

        Args:
            value: conductances in microsiemens, or inputs, pre-activations or products in their own units.
            setting: what is known of the chip.
            draw: random numbers; with passes, along the first axis.
            state: what the devices hold.

        Returns:
            The value after the effect, of the same shape.

        Raises:
            TypeError: the effect has no `apply`.
        """
        raise TypeError(f"effect '{type(self).__name__}' has no apply")

    def evolve(self, value: Tensor, setting: Setting, draw: StreamOf, state: State, trail: State) -> Tensor:
        """`apply` along a trajectory, for site "node".

        Args:
            value: pre-activations (passes, steps, batch, ...), the passes of a step and the steps in order of time.
            setting: what is known of the chip; `setting.waits_s` has the times between reads.
            draw: random numbers, with the passes along the first axis.
            state: what the neurons hold.
            trail: what the steps before left, empty at the start of a sequence; updated in place for the steps to come.

        Returns:
            The value after the effect, of the same shape. Unless an effect overrides this, steps are more of a batch.
        """
        return self.apply(value.flatten(1, 2), setting, draw, state).unflatten(1, value.shape[1:3])

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        """Expected mean and variance of what one read sees.

        Args:
            value: the value before the effect.
            setting: what is known of the chip.

        Returns:
            Mean and variance, of the shape of `value`.

        Raises:
            TypeError: the effect has no `moments`.
        """
        raise TypeError(f"effect '{type(self).__name__}' has no moments")

    def read_variance(self, value: Tensor, setting: Setting, state: State) -> Tensor | None:
        """Variance of noise that is Gaussian and independent at every read: the chip lumps it at the output.

        Args:
            value: conductances now, in microsiemens.
            setting: what is known of the chip.
            state: what the devices hold.

        Returns:
            Variance in microsiemens squared, in a shape that broadcasts with `value`; None where there is no such
            noise.
        """
        return None

    def carry(self, product: Product, setting: Setting, draw: StreamOf, state: State) -> None:
        """Act on the products of the tiles in place, for site "output"; noise adds to their variance.

        Args:
            product: products on their way to the converter, changed in place.
            setting: what is known of the chip.
            draw: random numbers.
            state: what the circuits hold.

        Raises:
            TypeError: the effect does not act on products.
        """
        raise TypeError(f"effect '{type(self).__name__}' does not act on products")

    def fabricate(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        """Put into the empty `state` what is drawn once per device, in a shape that broadcasts with `value`.

        Args:
            value: what the effect will act on.
            setting: what is known of the chip.
            draw: random numbers.
            state: filled in place.
        """

    def start(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        """Put into `state` what is drawn anew at every programming.

        Neurons, converters and circuits start once, after they were fabricated.

        Args:
            value: what was written, conductances in microsiemens; zeros for neurons, converters and circuits.
            setting: what is known of the chip.
            draw: random numbers.
            state: filled in place.
        """

    def elapse(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        """Bring `state` to the time of `setting`; called at every tick of the clock, whether or not there is a read.

        Devices count from their programming (`setting.since_write_s`), circuits along the clock (`setting.clock_s`).

        Args:
            value: what was written, conductances in microsiemens; zeros for neurons, converters and circuits.
            setting: what is known of the chip, at the new time.
            draw: random numbers.
            state: updated in place.
        """

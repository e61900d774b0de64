"""A chip: a model placed on the devices of a profile."""

import math
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from noisylearn.chips.crossbar import Crossbar, Digital, StraightThrough
from noisylearn.chips.execution.cuda_graphs import Capture, cuda_graph
from noisylearn.chips.execution.elsewhere import merged, noise_elsewhere
from noisylearn.chips.execution.executor import StackedExecutor
from noisylearn.chips.execution.one_launch import OneLaunch
from noisylearn.chips.execution.transfer import Transfers
from noisylearn.chips.explain import explained
from noisylearn.chips.interface import Executor, ExecutorFactory, Memory, Placed
from noisylearn.chips.origin import check_origin, origin_of, signed
from noisylearn.chips.readings import Plan, Readings
from noisylearn.chips.segments import START, Segment, as_segment
from noisylearn.chips.shown import chip_tables
from noisylearn.effects import Setting
from noisylearn.ground.draws import Draws, StreamOf
from noisylearn.ground.errors import UserError
from noisylearn.ground.quantities import LONGEST_S
from noisylearn.ground.table import Shown, Table
from noisylearn.kernels.availability import toolkit_for
from noisylearn.kernels.layer import kernel_draws, layer_kernels
from noisylearn.networks.layers import WeightLayer, weight_layers
from noisylearn.networks.neurons import SpreadNeurons, spiking_neurons
from noisylearn.networks.transfer import Transfer
from noisylearn.profiles import HardwareProfile, load_profile

# Of injected noise, for pre-activations of order one in float32: below, differences of losses drown in rounding;
# above, the network's nonlinearity shows ([ANP] appendix H).
NOISE_VARIANCES = (1e-7, 1e-3)
LARGEST_MEAN = 0.01  # of injected noise: its square over the variance
FOLLOWED_STEPS = 100  # whose readings are held at once while a sequence is looked at


class NoiseLevelWarning(UserWarning):
    """Injected noise is so small or so large that estimates of the gradient suffer."""


class CleanBaselineWarning(UserWarning):
    """Injected noise has a mean: a pass without it is no baseline for passes with it."""


class UncalibratedWarning(UserWarning):
    """Converters whose range is to be set from data were used before it was."""


class UnprogrammedWarning(UserWarning):
    """Weights of the model have changed since they were written to the devices."""


class ZeroLayerWarning(UserWarning):
    """A layer has no weight other than zero to map to conductances."""


class Chip(Shown):
    """A model on simulated hardware, programmed with the model's present weights.

    The clock stands still during passes and runs by `advance`; `program` writes every device anew.

    Args:
        model: any nn.Module of Linear and Conv layers with element-wise functions, pooling and flatten; it stays a
            plain module, and its parameters are the digital copy that `program` writes to the devices.
        profile: name, path of a TOML file, or a profile.
        seed: of every random number of the devices.
        draws: random streams to use in place of those of the seed.
        cuda_graphs: on a GPU, capture the steps of sequences and launch them as one, which gives the same numbers in
            less time; what cannot be captured, such as spiking networks and noise of reads, runs as without:
            docs/time.md, "Cost".
        executor: makes the executor that runs the passes, in place of the package's own.
        kernels: read and write layers by kernels where one serves them (docs/gpu.md), in Triton on a GPU, in Numba on a
            CPU; `explain` says which. Random numbers are then made by counter (`CounterDraws`), the same on both, and
            are others than without.

    Raises:
        UserError: a layer cannot be placed, the profile is unknown or malformed, graphs are asked for
            without a GPU, kernels without their toolkit, or with draws that are not by counter.
    """

    def __init__(
        self,
        model: nn.Module,
        profile: str | Path | HardwareProfile = "ideal",
        seed: int = 0,
        draws: Draws | None = None,
        cuda_graphs: bool = False,
        executor: ExecutorFactory | None = None,
        kernels: bool = False,
    ) -> None:
        self.model = model
        self.profile = load_profile(profile)
        self.layers = weight_layers(model)
        self.device = next(model.parameters()).device
        self.draws = draws or (kernel_draws if kernels else Draws)(seed, self.device)
        by_layer = layer_kernels(self.layers, self.profile, self.draws) if kernels else {}
        self._placed = {
            n: Crossbar(n, layer, self.profile, self.draws, by_layer.get(n)) for n, layer in self.layers.items()
        }
        self._programs = 1
        self._digital = {n: Digital(layer) for n, layer in self.layers.items()}
        self.neurons = spiking_neurons(model)
        self._spread = self._spread_neurons()
        self.memories: dict[str, Memory] = {}
        self._digital_executor: Executor = StackedExecutor(model, self.draws)
        self._transfers = Transfers(model)
        self._one_launch = OneLaunch(model) if kernels and toolkit_for(self.device) == "triton" else None
        make = executor or partial(StackedExecutor, capture=self._capture(cuda_graphs), one_launch=self._one_launch)
        self._executor = make(model, self.draws, {self.neurons[name]: one for name, one in self._spread.items()})
        adc = self.profile.specification.adc
        self._calibrates = adc is not None and adc.calibration_quantile is not None
        self._awaits_calibration = self._calibrates
        self._warned_of_calibration = self._warned_of_writing = False
        self._origin = origin_of(self.profile, self.layers)
        _warn_of_injected_noise(self.profile)
        if self.profile.specification.mapping is not None:
            _warn_of_zero_layers(self.layers)

    def __repr__(self) -> str:
        return f"<Chip {self.profile.name}: {', '.join(self.layers)}>"

    def tables(self) -> list[Table]:
        """The machine, its layers with tiles and devices, and its effects."""
        return chip_tables(self.profile, self._placed, self._programs)

    def __call__(self, x: Shaped[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """Output of one read of the chip, with all noise that the devices have of their own.

        Args:
            x: samples (batch, ...).

        Returns:
            (batch, ...).
        """
        return self._read(as_segment(x))[0]

    def follow(self, x: Shaped[Tensor, "time batch ..."] | Segment) -> Float[Tensor, "time batch ..."]:
        """Outputs of one read of the chip along sequences.

        Args:
            x: sequences (time, batch, ...), or a segment.

        Returns:
            (time, batch, ...).

        Raises:
            UserError: `x` does not have the shape of sequences.
        """
        return self._read(x if isinstance(x, Segment) else Segment(x, in_time=True))

    @torch.no_grad()
    def _read(self, x: Segment) -> Tensor:
        self._warn_of_calibration()
        whole = self._taken(x)
        outputs, end = [], START
        for part in whole.inputs.split(FOLLOWED_STEPS):
            readings = self._executor.run(self._placed, Segment(part, x.in_time, end), self._one_pass(), "look")
            outputs.append(readings.output[0].unflatten(0, part.shape[:2]))
            end = readings.end
        return torch.cat(outputs) if len(outputs) > 1 else outputs[0]

    @torch.no_grad()
    def passes(self, x: Shaped[Tensor, "batch ..."] | Segment, plan: Plan, purpose: str = "pass") -> Readings:
        """All passes of a plan, with what the profile shows of them.

        Every pass of a segment is a trajectory of its own: `end` of the readings is where the next segment starts.

        Args:
            x: samples (batch, ...), or a segment.
            plan: which passes have injected noise, and in which layers.
            purpose: names the random streams; passes of another purpose draw other numbers than those of training.

        Returns:
            What was observed of the passes.

        Raises:
            UserError: the model does not take such inputs.
        """
        self._warn_of_calibration()
        if purpose.startswith("pass"):  # of training
            self._warn_of_writing()
        with self.draws.numbered(plan.numbers):
            return self._shown(self._executor.run(self._placed, self._taken(x), self._perturbed(plan), purpose))

    @torch.no_grad()
    def with_noise_of(self, readings: Readings, x: Segment, own: Plan, plan: Plan, purpose: str = "pass") -> Readings:
        """Readings of some passes of a plan, with the injected noise of the others, which ran elsewhere, drawn here.

        Args:
            readings: of the passes that ran here.
            x: the segment.
            own: those passes, with their numbers in the plan.
            plan: all passes.
            purpose: names the random streams, as for `passes`.

        Returns:
            Readings in which the noise is that of all passes; activities and outputs of every pass are those of the
            first, since the others' are not known.
        """
        assert own.numbers is not None
        away = [p for p in range(plan.n_passes) if p not in own.numbers]
        there = self._perturbed(Plan(tuple(plan.perturbed[p] for p in away)))
        layers = {}
        with self.draws.numbered(away):
            for i, (name, placed) in enumerate(self._placed.items()):
                drawn = noise_elsewhere(placed, name, readings.layers[name], x, there, i, (self.draws, purpose))
                layers[name] = merged(readings.layers[name], drawn, own.numbers, away)
        output = readings.output[:1].expand(plan.n_passes, *readings.output.shape[1:])
        return self._shown(replace(readings, output=output, layers=layers))

    def _perturbed(self, plan: Plan) -> Plan:
        """The plan, with noise in every pass where it cannot be switched off."""
        if "clean_pass" in self.profile.observable:
            return plan
        return replace(plan, perturbed=((True,) * len(self.layers),) * plan.n_passes)

    def _shown(self, readings: Readings) -> Readings:
        """Readings without what the profile does not show."""
        for reading in readings.layers.values():
            if "injected_noise" not in self.profile.observable:
                reading.noise = None
            if "injected_weight_noise" not in self.profile.observable:
                reading.weight_noise = []
        return readings

    def digital_pass(
        self, x: Shaped[Tensor, "batch ..."] | Segment, on_devices: bool = False, through: Placed | None = None
    ) -> Readings:
        """One differentiable pass.

        Args:
            x: samples (batch, ...), or a segment.
            on_devices: whether the forward values are those read from the devices, with the gradient of the digital
                parameters as if programming and reading were the identity.
            through: what runs in place of the layers; None for their digital parameters.

        Returns:
            Readings from which autograd leads to the digital parameters, or through what runs in place of the layers.
        """
        segment = self._taken(x)
        if through is not None:
            return self._digital_executor.run(through, segment, self._one_pass(), "digital")
        if not on_devices:
            return self._digital_executor.run(self._digital, segment, self._one_pass(), "digital")
        placed: Placed = {name: StraightThrough(crossbar) for name, crossbar in self._placed.items()}
        return self._executor.run(placed, segment, self._one_pass(), "digital")

    def transfers(self, x: Shaped[Tensor, "batch ..."] | Segment) -> dict[str, Transfer]:
        """The function x = f(a) of the neurons after every layer; the identity where nothing element-wise follows.

        Args:
            x: samples (batch, ...), or a segment, that the model takes.
        """
        return self._transfers.of(self._taken(x))

    def program(self) -> None:
        """Write the model's present weights to the devices, with their programming noise."""
        self._programs += 1
        for crossbar in self._placed.values():
            crossbar.program()

    def advance(self, seconds: float) -> None:
        """Let time pass: drift, and slow noise that changes.

        Args:
            seconds: by how much.

        Raises:
            UserError: the time is no number, negative or beyond any machine's life.
        """
        seconds = _as_seconds(seconds)
        for crossbar in self._placed.values():
            crossbar.elapse(seconds)

    @torch.no_grad()
    def compensate_drift(self) -> dict[str, float]:
        """Global drift compensation: scale what is read of every layer by what its devices have lost since the write.

            gain_l = sum_ij G_l,ij(at the write) / sum_ij G_l,ij(now)

        A chip measures both sums by driving all rows at once; here they are without the noise of such a read. The gain
        is applied digitally, behind the converters, and holds until the next write. It mends the mean of drift, not its
        spread from device to device.

        Returns:
            Layer name -> gain, 1 where nothing has changed.

        Source:
            Joshi et al., Nature Communications 11, 2473 (2020).
        """
        return {name: crossbar.compensate_drift() for name, crossbar in self._placed.items()}

    @torch.no_grad()
    def calibrate(self, x: Shaped[Tensor, "_ ..."] | Segment, in_time: bool = False) -> None:
        """Set the range of every converter that is calibrated on data.

        Args:
            x: typical samples (batch, ...), or a segment.
            in_time: whether x are sequences, (time, batch, ...). The input of a recurrent layer depends on its own
                converter: the calibration runs twice.

        Raises:
            UserError: the samples are all zero or not finite.
        """
        if not self._calibrates:
            return
        segment = self._taken(Segment(x, in_time=True) if in_time and isinstance(x, Tensor) else x)
        if not bool(torch.isfinite(segment.inputs).all()) or not bool(segment.inputs.any()):
            raise UserError("chip.calibrate: samples that are all zero or not finite set no range; give typical inputs")
        self._awaits_calibration = False
        for name, crossbar in list(self._placed.items()) * (2 if segment.in_time else 1):
            # a deep layer needs the layers before it calibrated
            readings = self._executor.run(self._placed, segment, self._one_pass(), "calibrate")
            crossbar.calibrate(readings.layers[name].input[0])

    def sent(self) -> dict[str, Float[Tensor, "_ ..."]]:
        """Layer name -> sum of all changes of the weight that were sent to the devices; see `AnyChip.sent`."""
        return {name: crossbar.sent() for name, crossbar in self._placed.items()}

    def weights(self) -> dict[str, Float[Tensor, "_ ..."]]:
        """Layer name -> effective weight on the devices now."""
        return {name: crossbar.weight().clone() for name, crossbar in self._placed.items()}

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Devices and random streams, for a checkpoint, and of what chip; `load_state` continues bit for bit."""
        layers = {f"layer/{name}": crossbar.state() for name, crossbar in self._placed.items()}
        neurons = {f"neurons/{name}": dict(one.factors) for name, one in self._spread.items()}
        return signed({"draws": self.draws.state()} | layers | neurons, self._origin)

    def load_state(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Take over devices and random streams of a checkpoint, and with them its seed.

        Args:
            state: as `state` gave it, on a chip of the same profile and network.

        Raises:
            UserError: the state is of another profile, network or format, or not whole; nothing has changed then.
        """
        check_origin(state, self._origin, self.profile.name)
        self.draws.load_state(state["draws"])
        for name, crossbar in self._placed.items():
            crossbar.load_state(state[f"layer/{name}"])
        for name, one in self._spread.items():
            one.factors = {key: value.to(self.device) for key, value in state.get(f"neurons/{name}", {}).items()}
        self._awaits_calibration = self._calibrates and not all(c.is_calibrated for c in self._placed.values())

    def explain(self) -> str:
        """Which effects act on every layer, and what carries out its writes and reads, as text."""
        return explained(self.profile, self._placed, self.draws, self._one_launch)

    def _capture(self, cuda_graphs: bool) -> Capture | None:
        if cuda_graphs and self.device.type != "cuda":
            raise UserError(
                f"cuda_graphs: the model is on {self.device.type}; move it to a GPU, or leave the option out"
            )
        return cuda_graph(self.device) if cuda_graphs and not self.neurons else None

    def _spread_neurons(self) -> dict[str, SpreadNeurons]:
        spread = self.profile.specification.neurons
        if spread is None:
            return {}
        return {
            name: SpreadNeurons(module, spread, StreamOf(self.draws, name, "neurons"))
            for name, module in self.neurons.items()
        }

    def _warn_of_calibration(self) -> None:
        """Once, where converters were to be calibrated and were not."""
        if not self._awaits_calibration or self._warned_of_calibration:
            return
        self._warned_of_calibration = True
        warnings.warn(
            f"profile {self.profile.name} sets the range of its converters from data: call chip.calibrate(x) with "
            "typical inputs first, or much of the signal falls below a step of the converter",
            UncalibratedWarning,
            stacklevel=4,
        )

    def _warn_of_writing(self) -> None:
        """Once, where a rule learns with weights that are not those of the model."""
        if self._warned_of_writing or not any(crossbar.is_behind for crossbar in self._placed.values()):
            return
        self._warned_of_writing = True
        warnings.warn(
            "weights of the model have changed since they were written to the devices, whose passes do not see that: "
            "call chip.program() after every optimizer step",
            UnprogrammedWarning,
            stacklevel=5,
        )

    def _one_pass(self) -> Plan:
        """A pass without noise that can be switched off."""
        return Plan((("clean_pass" not in self.profile.observable,) * len(self.layers),))

    def _taken(self, x: Tensor | Segment) -> Segment:
        """What enters the network, checked and on the model's device."""
        segment = as_segment(x)
        inputs, dtype = segment.inputs, next(iter(self.layers.values())).weight.dtype
        if inputs.is_floating_point() and inputs.dtype != dtype:
            raise UserError(
                f"input of {inputs.dtype} for a model of {dtype}: give x.to({dtype}), or a model of {inputs.dtype}"
            )
        here = inputs.to(self.device)
        return segment if here is inputs else segment.with_inputs(here)


def _as_seconds(given: Any) -> float:
    """A time by which a clock can be moved."""
    try:
        seconds = math.nan if isinstance(given, str | bytes) else float(given)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds <= LONGEST_S:
        shown = " ".join(f"{given!r:.80}".split())
        raise UserError(f"chip.advance({shown}): time runs forward; give a number of seconds from 0 to {LONGEST_S:g}")
    return seconds


def _warn_of_zero_layers(layers: dict[str, WeightLayer]) -> None:
    for name, layer in layers.items():
        if not layer.weight.any():
            warnings.warn(
                f"layer '{name}' has no weight other than zero: nothing of it is on the devices, it has no noise, and "
                "no perturbation rule can learn there; initialise it at random",
                ZeroLayerWarning,
                stacklevel=3,
            )


def _warn_of_injected_noise(profile: HardwareProfile) -> None:
    low, high = NOISE_VARIANCES
    for effect in (effect for effect in profile.all_effects() if effect.can_be_off):
        mean, variance = (float(moment) for moment in effect.moments(torch.zeros(()), Setting()))
        if not low <= variance <= high:
            what = "rounding of float32 losses" if variance < low else "the nonlinearity of the network"
            warnings.warn(
                f"profile {profile.name}: {effect.kind} has variance {variance:.1e}, outside {low:.0e} to {high:.0e}; "
                f"{what} will spoil gradient estimates where pre-activations are of order one",
                NoiseLevelWarning,
                stacklevel=3,
            )
        if "clean_pass" in profile.observable and mean**2 > LARGEST_MEAN * variance:
            warnings.warn(
                f"profile {profile.name}: {effect.kind} has a mean of {mean:.2g}, which a clean pass lacks: a clean "
                "baseline biases every estimate by it; use baseline='noisy' or 'mean'",
                CleanBaselineWarning,
                stacklevel=3,
            )

"""One layer's weights on devices: programmed as conductances, read back as effective weights."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from noisylearn.chips.tiles import Devices, Periphery, Tiling
from noisylearn.effects import Effect, Setting, State, circuits
from noisylearn.effects.circuits import PLACE
from noisylearn.ground.draws import Draws, Name, StreamOf
from noisylearn.kernels.layer import LayerKernels
from noisylearn.networks.layers import WeightLayer, apply_weights
from noisylearn.profiles import HardwareProfile
from noisylearn.profiles.write import DeviceArray, InPlace, PulsedDevice

ON_CPU = ("since_write_s", "clock_s", "seen_s", PLACE)  # keys of what the CPU computes with


class Digital:
    """A layer whose weights are exact numbers: its own parameters, differentiable.

    Args:
        layer: the layer.
    """

    setting = Setting()
    node_effects: tuple[Effect, ...] = ()
    node_memory: Sequence[State] = ()
    pass_effects: tuple[Effect, ...] = ()
    node_variance = 0.0
    weight_variance = 0.0

    def __init__(self, layer: WeightLayer) -> None:
        self.layer = layer

    def read(self, x: Float[Tensor, "_ batch ..."], n_passes: int, purpose: str) -> Float[Tensor, "_ batch ..."]:
        """Pre-activations of inputs.

        Args:
            x: inputs of the layer, (passes, batch, ...).
            n_passes: unused; the passes are those of `x`.
            purpose: unused.

        Returns:
            (passes, batch, ...).
        """
        return _each_pass(self.layer, self.layer.weight, self.layer.bias, x)

    def exact(self) -> tuple[Float[Tensor, "n_out ..."], Float[Tensor, " n_out"] | None] | None:
        """Weight and bias of the layer."""
        return self.layer.weight, self.layer.bias


class Crossbar:
    """A layer on the devices of a profile.

        w = (G+ - G-) scale gain,   scale = max|w| / (g_max - g_min) per column, tile or layer

    with a gain of 1 until drift is compensated. Weights are mapped to pairs of conductances; the bias stays digital.
    `program` writes them with every effect of lifetime "write"; `weight` is the effective weight at this time of the
    clock; `read_variance` the variance of the weight that is independent at every read; `read` gives pre-activations.
    Without a mapping in the profile the weights are held exactly.

    Args:
        name: of the layer, for random streams.
        layer: the layer whose weights are written.
        profile: of the machine.
        draws: random streams.
        kernels: of the layer; None for plain torch.
    """

    def __init__(
        self,
        name: str,
        layer: WeightLayer,
        profile: HardwareProfile,
        draws: Draws,
        kernels: LayerKernels | None = None,
    ) -> None:
        self.name = name
        self.layer = layer
        self.kernels = kernels
        self.mapping = profile.specification.mapping
        self.setting = profile.setting
        self.node_effects = tuple(profile.effects("node"))
        self.node_memory: list[State] = [{} for _ in self.node_effects]
        self.pass_effects = tuple(e for e in profile.effects("weight") if e.lifetime == "pass")
        self.node_variance, self.weight_variance = _variance(self.node_effects), _variance(self.pass_effects)
        self._effects = [e for e in profile.effects("weight") if e.lifetime != "pass"]
        self._draws = draws
        self._memory: list[State] = [{} for _ in self._effects]
        self._tiling = Tiling.of(layer, profile)
        has_periphery = profile.specification.inputs is not None
        self.periphery = Periphery(name, layer, profile, draws) if has_periphery else None
        self._in_place = profile.in_place
        self._write_memory: State = {}
        self._arrays: dict[str, DeviceArray] = {}
        if self._in_place is not None:
            pulse = PulsedDevice.pulse if kernels is None else kernels.pulse
            self._arrays = self._in_place.arrays(layer.weight.flatten(1).shape, draws, name, pulse)
        self._cache: dict[str, Tensor | None] = {}
        self._devices: Devices | None = None
        self._versions: list[tuple[int, int]] | None = None
        self._scale = torch.ones((), device=layer.weight.device)
        self._gain = 1.0
        self.program()

    def program(self) -> None:
        """Write the layer's present weights and bias; every device is written anew."""
        self._write()
        self._versions = self._present_versions()

    @property
    def is_behind(self) -> bool:
        """Whether weight or bias of the layer have changed since they were written; False where that is not known."""
        return self._versions is not None and self._versions != self._present_versions()

    def _present_versions(self) -> list[tuple[int, int]]:
        """Which tensors weight and bias are, and how often torch has changed them."""
        tensors = self.layer._parameters.values()
        return [(id(t), t._version) for t in tensors if t is not None and not t.is_inference()]

    def _write(self) -> None:
        self._forget_reads()
        self._gain = 1.0
        for effect, state in self._with_memory():
            if effect.lifetime != "device":
                state.clear()
        if self.setting.since_write_s:
            self.setting = replace(self.setting, since_write_s=0.0)
        weight = self.layer.weight.detach()
        self._bias = None if self.layer.bias is None else self.layer.bias.detach().clone()
        if self._in_place is not None:
            self._pulse(self._in_place, weight)
            return
        if self.mapping is None:
            self._written = weight.clone()
            return
        flat = weight.flatten(1)
        span = self.mapping.g_max_us - self.mapping.g_min_us
        self._scale = self._tiling.largest(flat, self.mapping.scale) / span
        scale = self._tiling.spread(torch.where(self._scale > 0, self._scale, 1.0))
        if self.kernels is not None and not self.kernels.not_written:
            self._written = self.kernels.write(flat, scale, self._with_memory(), self.setting)
            return
        written = flat.new_empty(2, *flat.shape)
        torch.neg(torch.div(flat, scale, out=written[0]), out=written[1])
        written.clamp_(min=0)
        if self.mapping.g_min_us:
            written.add_(self.mapping.g_min_us)
        for effect, state in self._with_memory():
            if effect.lifetime in ("device", "write"):
                if not state:
                    effect.fabricate(written, self.setting, self._draw(effect), state)
                written = effect.apply(written, self.setting, self._draw(effect), state)
        self._written = written
        for effect, state in self._with_memory():
            effect.start(written, self.setting, self._draw(effect), state)

    @torch.no_grad()
    def _pulse(self, mode: InPlace, weight: Tensor) -> None:
        """Send the change of the layer's weight to the devices; the layer's weight is then set to theirs."""
        full_scale = mode.weight_at_full_scale
        weight = weight.flatten(1)
        if self._write_memory:
            delta = (weight - self._written * full_scale) / full_scale
            mode.write(delta, self._arrays, self._write_memory, StreamOf(self._draws, self.name, "write"))
        else:
            mode.deploy(weight / full_scale, self._arrays, self._write_memory)
        self._written = self._arrays["core"].visible()
        self._scale = self._written.new_full((len(weight), self._tiling.n_tiles), full_scale)
        self.layer.weight.copy_((self._written * full_scale).reshape(self.layer.weight.shape))

    @torch.no_grad()
    def sent(self) -> Float[Tensor, "n_out ..."]:
        """Sum of all changes of the weight that were sent to the devices; only its differences mean anything.

        Returns:
            In the shape of the layer's weight. It shares the memory of what changes later.
        """
        if self._in_place is None:
            return self.layer.weight.detach()
        return (self._arrays["core"].sent() * self._in_place.weight_at_full_scale).reshape(self.layer.weight.shape)

    def elapse(self, seconds: float) -> None:
        """Let the chip's clock run: drift, and slow noise of devices, neurons and circuits.

        Args:
            seconds: by how much.
        """
        self._forget_reads()
        before = self.setting
        self.setting = replace(before, since_write_s=before.since_write_s + seconds, clock_s=before.clock_s + seconds)
        for effect, state in self._with_memory():
            effect.elapse(self._written, self.setting, self._draw(effect), state)
        for effect, state in zip(self.node_effects, self.node_memory, strict=True):
            circuits.elapse(effect, self.layer.weight.detach(), self.setting, self._draw(effect), state)
        if self.periphery is not None:
            self.periphery.elapse(self.setting)

    def compensate_drift(self) -> float:
        """Scale what is read of the layer by what all its devices have lost in the mean since they were written.

            gain = sum G(at the write) / sum G(now)

        Returns:
            The gain, 1 where nothing has changed. It holds until the next write or compensation.
        """
        total = self._total(self.setting)
        before = self._total(replace(self.setting, since_write_s=0.0)) if self.setting.since_write_s else total
        self._gain = before / total if before > 0 < total else 1.0
        self._forget_reads()
        return self._gain

    def _total(self, setting: Setting) -> float:
        """Sum of |G| over all devices at a time, without the noise of a read, which averages out."""
        return float(self._conductances(setting)[0].abs().sum(dtype=torch.float64))

    def weight(self) -> Float[Tensor, "n_out ..."]:
        """Effective weight now, with programming errors, drift and slow noise.

        Returns:
            Weight in the shape of the layer's own.
        """
        self._read_devices()
        weight = self._cache["weight"]
        assert weight is not None
        return weight

    @property
    def n_tiles(self) -> int:
        """Tiles that hold the weights; 0 where they are held exactly."""
        return self._tiling.count if self.n_devices else 0

    @property
    def n_devices(self) -> int:
        """Devices that hold the weights; 0 where they are held exactly."""
        if self._in_place is not None:
            return sum(array.state["w"].numel() for array in self._arrays.values())
        return 0 if self.mapping is None else 2 * self.layer.weight.numel()

    @property
    def bias(self) -> Float[Tensor, " n_out"] | None:
        """Bias as it was programmed; None where the layer has none."""
        return self._bias

    def read(self, x: Float[Tensor, "_ batch ..."], n_passes: int, purpose: str) -> Float[Tensor, "_ batch ..."]:
        """Pre-activations of inputs with all noise of devices and converters; injected noise is added elsewhere.

        Args:
            x: inputs of the layer, (1 or n_passes, batch, ...); 1 where every pass sees the same.
            n_passes: passes of the plan.
            purpose: names the random streams.

        Returns:
            (n_passes, batch, ...), or (1, batch, ...) where every pass gives the same.
        """
        if self.periphery is None:
            variance, stream = self.read_variance(), (self.name, "read", purpose)
            if self.kernels is not None and not self.kernels.not_read and variance is not None:
                return self.kernels.read(x, self.weight(), self._bias, variance, stream, n_passes)
            y = _each_pass(self.layer, self.weight(), self._bias, x)
            return y if variance is None else self._with_read_noise(x, y, variance, stream, n_passes)
        y = self.periphery.read(x, self._as_devices(), n_passes, self.setting, purpose)
        if self._bias is None:
            return y
        return y + (self._bias if self._is_linear else self._bias.reshape(-1, *[1] * (y.dim() - 3)))

    def exact(self) -> tuple[Float[Tensor, "n_out ..."], Float[Tensor, " n_out"] | None] | None:
        """Effective weight and bias now.

        Returns:
            Both, where `read` is their product and nothing else; None otherwise.
        """
        if self.periphery is not None or self.read_variance() is not None:
            return None
        return self.weight(), self._bias

    @torch.no_grad()
    def calibrate(self, x: Float[Tensor, "batch ..."]) -> None:
        """Set the ranges of converters that are calibrated on data.

        Args:
            x: inputs of this layer, (batch, ...).
        """
        if self.periphery is not None:
            self.periphery.calibrate(x, self._as_devices(), self.setting)

    def _with_read_noise(self, x: Tensor, activity: Tensor, each: Tensor, stream: Name, n_passes: int) -> Tensor:
        """Independent Gaussian weight noise, lumped: variance sum_j var(w_ij) x_j^2 at every output, exactly."""
        variance = self._read_variance_of(x.square(), each)
        z = self._draws.normal(stream, (n_passes, *activity.shape[1:]), range(n_passes))
        return torch.addcmul(activity, variance.clamp_(min=0).sqrt_(), z)

    def _read_variance_of(self, squares: Tensor, each: Tensor) -> Tensor:
        """Variance of the pre-activations of one read, from the squares of the inputs and the variance of each weight.

        Where all devices have the same variance, and all weights of a column the same scale, a sum takes the place
        of the product: the layer's own sum over its inputs, for one output.
        """
        shared = self._cache.get("pair_variance")
        one_column = self._tiling.n_tiles == 1 and getattr(self.layer, "groups", 1) == 1
        if shared is None or not _is_constant(shared) or not one_column:
            return _each_pass(self.layer, each, None, squares)
        sums = _each_pass(self.layer, torch.ones_like(self.layer.weight[:1]), None, squares)
        column = ((self._gain * self._scale.squeeze(1)) ** 2 * shared).reshape(
            -1, *[1] * (0 if self._is_linear else squares.dim() - 3)
        )
        return sums * column

    @property
    def _is_linear(self) -> bool:
        return isinstance(self.layer, nn.Linear)

    def _as_devices(self) -> Devices:
        """The devices as the tiles see them; computed once per programming and tick of the clock."""
        if self._devices is None:
            self._read_devices()
            pair, variance = self._cache["pair"], self._cache["pair_variance"]
            assert pair is not None
            span = self.mapping.g_max_us - self.mapping.g_min_us if self.mapping is not None else 1.0
            scale = self._tiling.scales(self._scale * (span * self._gain))
            if variance is not None and not _is_constant(variance):
                variance = self._tiling.weights(variance)
            variance = None if variance is None else variance.reshape(*variance.shape, *[1] * (3 - variance.dim()))
            self._devices = Devices(
                self._tiling.weights(pair / span), None if variance is None else variance / span**2, scale
            )
        return self._devices

    def _forget_reads(self) -> None:
        self._cache.clear()
        self._devices = None

    def read_variance(self) -> Float[Tensor, "n_out ..."] | None:
        """Variance of the effective weight, Gaussian and independent at every read.

        Returns:
            Variance in the shape of the layer's weight; None where there is none.
        """
        self._read_devices()
        return self._cache["variance"]

    def state(self) -> dict[str, Tensor]:
        """Everything the devices hold, by name, for a checkpoint."""
        state = {"written": self._written, "scale": self._scale}
        if self._bias is not None:
            state["bias"] = self._bias
        for key in ("since_write_s", "clock_s"):
            state[key] = torch.tensor(getattr(self.setting, key), dtype=torch.float64)
        if self._gain != 1:
            state["gain"] = torch.tensor(self._gain, dtype=torch.float64)
        for name, memory in self._memories():
            state |= {f"{name}.{key}": value for key, value in memory.items()}
        return state

    @property
    def is_calibrated(self) -> bool:
        """Whether the converters have the ranges that are set from data."""
        return self.periphery is None or self.periphery.is_calibrated

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what the devices held.

        Args:
            state: as `state` gave it.
        """
        self._forget_reads()
        self._versions = None  # the weights of the model are loaded apart from these
        device = self.layer.weight.device
        state = {key: value if key.endswith(ON_CPU) else value.to(device) for key, value in state.items()}
        self._written, self._scale, self._bias = state["written"], state["scale"], state.get("bias")
        self._gain = float(state.get("gain", 1.0))
        self.setting = replace(
            self.setting, since_write_s=float(state["since_write_s"]), clock_s=float(state["clock_s"])
        )
        for name, memory in self._memories():
            prefix = f"{name}."
            memory.clear()
            memory.update({key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)})

    def _memories(self) -> Iterator[tuple[str, State]]:
        """Name and state of everything that may have one."""
        effects = [*self._effects, *self.node_effects, *(self.periphery.effects if self.periphery else ())]
        memories = [*self._memory, *self.node_memory, *(self.periphery.memory if self.periphery else ())]
        yield from zip((effect.kind for effect in effects), memories, strict=True)
        yield "write", self._write_memory
        yield from ((f"write-{name}", array.state) for name, array in self._arrays.items())

    def _read_devices(self) -> None:
        """Apply to the written conductances every effect since; once per programming and tick of the clock."""
        if self._cache:
            return
        if self.kernels is not None and not self.kernels.not_looked_up:
            found = self.kernels.looked_up(self._written, self._spread_scale(), self._with_memory(), self.setting)
            if found is not None:
                shape = self.layer.weight.shape
                self._cache = {"weight": found[0].reshape(shape), "variance": found[1].reshape(shape)}
                return
        g, variance = self._conductances(self.setting)
        if self.mapping is None and self._in_place is None:
            self._cache = {"weight": g, "variance": variance}
            return
        pair = g[0] - g[1] if self.mapping is not None else g
        both = None if variance is None else 2 * variance if _is_constant(variance) else variance[0] + variance[1]
        scale, shape = self._spread_scale(), self.layer.weight.shape
        self._cache = {
            "pair": pair,
            "pair_variance": both,
            "weight": (pair * scale).reshape(shape),
            "variance": None if both is None else (both * scale**2).expand_as(pair).reshape(shape),
        }

    def _spread_scale(self) -> Tensor:
        """Weight per microsiemens of every device, with the gain."""
        scale = self._tiling.spread(self._scale)
        return scale if self._gain == 1 else scale * self._gain

    def _conductances(self, setting: Setting) -> tuple[Tensor, Tensor | None]:
        """Conductances at a time, and their variance at every read."""
        g, variance = self._written, None
        for effect, state in self._with_memory():
            fresh = effect.read_variance(g, setting, state)
            if fresh is not None:
                variance = fresh if variance is None else variance + fresh
            if effect.lifetime == "memory":
                g = effect.apply(g, setting, self._draw(effect), state)
        return g, variance

    def _with_memory(self) -> Iterator[tuple[Effect, State]]:
        """Effects on the devices, and what they hold."""
        return zip(self._effects, self._memory, strict=True)

    def _draw(self, effect: Effect) -> StreamOf:
        return StreamOf(self._draws, self.name, effect.kind)


class StraightThrough:
    """A crossbar that is differentiable, as if its devices held the layer's own parameters exactly.

    Args:
        crossbar: the layer on its devices.
    """

    def __init__(self, crossbar: Crossbar) -> None:
        self.layer, self.setting = crossbar.layer, crossbar.setting
        self.node_effects, self.pass_effects = crossbar.node_effects, crossbar.pass_effects
        self.node_memory = crossbar.node_memory
        self.node_variance, self.weight_variance = crossbar.node_variance, crossbar.weight_variance
        self._crossbar = crossbar

    def read(self, x: Float[Tensor, "_ batch ..."], n_passes: int, purpose: str) -> Float[Tensor, "_ batch ..."]:
        """Pre-activations: forward those of the devices, backward the product with the weights that they hold now.

        Args:
            x: inputs of the layer, (passes, batch, ...).
            n_passes: passes of the plan.
            purpose: names the random streams.

        Returns:
            (n_passes, batch, ...).
        """
        linear = _each_pass(self.layer, _through(self.layer.weight, self._crossbar.weight()), self.layer.bias, x)
        return linear + (self._crossbar.read(x.detach(), n_passes, purpose) - linear).detach()

    def exact(self) -> tuple[Float[Tensor, "n_out ..."], Float[Tensor, " n_out"] | None] | None:
        """None: the values come from reads of the devices."""
        return None


def _through(parameter: Tensor, value: Tensor) -> Tensor:
    """The value, with the gradient of the parameter."""
    return value + (parameter - parameter.detach())


def _each_pass(layer: WeightLayer, weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """The layer's product for inputs (passes, batch, ...)."""
    if isinstance(layer, nn.Linear):
        return nn.functional.linear(x, weight, bias)
    y = apply_weights(layer, weight, bias, x.flatten(0, 1))
    return y.reshape(*x.shape[:2], *y.shape[1:])


def _is_constant(variance: Tensor) -> bool:
    """Whether one number stands for all devices."""
    return variance.numel() == 1


def _variance(effects: tuple[Effect, ...]) -> float:
    """Variance that additive effects have together."""
    zero = torch.zeros((), dtype=torch.float64)
    return sum(float(effect.moments(zero, Setting()).variance) for effect in effects)

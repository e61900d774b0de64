"""Which reads and writes of a layer kernels carry out, and why plain torch has the others."""

import math
from collections.abc import Iterable, Mapping
from importlib import import_module
from types import ModuleType

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from noisylearn.effects import Effect, Setting, State
from noisylearn.effects.one_over_f import KEY, SLOW, OneOverFReadNoise
from noisylearn.effects.power_law_drift import PowerLawDrift
from noisylearn.effects.programming_noise import WRITE, ProgrammingNoise
from noisylearn.ground.counter_draws import CounterDraws, Made
from noisylearn.ground.draws import Draws, Name, StreamOf
from noisylearn.ground.errors import UserError
from noisylearn.kernels.availability import Toolkit, toolkit_for
from noisylearn.kernels.curves import CurveNumbers, Noise, curve_numbers
from noisylearn.profiles import HardwareProfile
from noisylearn.profiles.write import PulsedDevice
from noisylearn.profiles.write.array import Pulse

Memories = Iterable[tuple[Effect, State]]  # of the devices, in the order in which the effects act


class LayerKernels:
    """Kernels of one layer on the devices of a profile.

    Args:
        name: of the layer, for random streams.
        layer: the layer.
        profile: of the machine.
        draws: random streams by counter.
        toolkit: what the kernels are written in.
    """

    def __init__(
        self, name: str, layer: nn.Module, profile: HardwareProfile, draws: CounterDraws, toolkit: Toolkit
    ) -> None:
        self._name, self._draws, self._toolkit = name, draws, toolkit
        self.not_read = _why_not_read(layer, profile)
        self.not_written = _why_not_written(layer, profile, toolkit)
        self.not_looked_up = _why_not_looked_up(profile) or self.not_written
        mapping = profile.specification.mapping
        self._g_min_us = 0.0 if mapping is None else mapping.g_min_us
        self._curves = {} if self.not_written else _curves(profile, draws.device)

    def read(
        self,
        x: Float32[Tensor, "_ batch ..."],
        weight: Float32[Tensor, "n_out n_in"],
        bias: Float32[Tensor, " n_out"] | None,
        variance: Float32[Tensor, "n_out n_in"],
        stream: Name,
        n_passes: int,
    ) -> Float[Tensor, "passes batch ..."]:
        """Pre-activations of all passes, with noise of every weight at every read; see `noisy_product`."""
        keys = self._draws.keys(stream, range(n_passes))
        y = self._kernels("noisy_product").noisy_product(x.flatten(1, -2), weight, bias, variance, keys)
        return y.unflatten(1, x.shape[1:-1])

    def write(
        self,
        weight: Float32[Tensor, "n_out n_in"],
        scale: Float32[Tensor, "n_out _"],
        memories: Memories,
        setting: Setting,
    ) -> Float32[Tensor, "2 n_out n_in"]:
        """Conductances as they are written; see `program`.

        Args:
            weight: to be written.
            scale: weight per microsiemens.
            memories: effects on the devices, and what they hold; what starts with a write is put there.
            setting: what is known of the chip.
        """
        held = {type(effect): (effect, state) for effect, state in memories}
        effect, _ = held[ProgrammingNoise]
        noise = Noise(self._curves[effect.kind], self._draws.keys((self._name, effect.kind, WRITE)))
        written: Tensor = self._kernels("programming").program(weight, scale, self._g_min_us, noise)
        for effect, state in held.values():
            if isinstance(effect, OneOverFReadNoise) and not self.not_looked_up:
                effect.start_by_key(self._draws.keys((self._name, effect.kind, SLOW)), state)
            else:
                effect.start(written, setting, StreamOf(self._draws, self._name, effect.kind), state)
        return written

    def looked_up(
        self,
        written: Float32[Tensor, "2 n_out n_in"],
        scale: Float32[Tensor, "n_out _"],
        memories: Memories,
        setting: Setting,
    ) -> tuple[Float32[Tensor, "n_out n_in"], Float32[Tensor, "n_out n_in"]] | None:
        """Weights, and the variance that they have at every read, right after a write by `write`; None else.

        Args:
            written: conductances.
            scale: weight per microsiemens.
            memories: effects on the devices, and what they hold.
            setting: what is known of the chip.
        """
        effect, state = next((e, s) for e, s in memories if isinstance(e, OneOverFReadNoise))
        if KEY not in state or setting.since_write_s:
            return None
        shared = effect.covariance(setting.pass_interval_s, setting)
        noise, in_us = Noise(self._curves[effect.kind], state[KEY]), effect.amplitude_us is not None
        fresh = effect.log_bandwidth(setting) - shared
        weight, variance = self._kernels("programming").as_read(written, scale, noise, in_us, math.sqrt(shared), fresh)
        return weight, variance

    @property
    def pulse(self) -> Pulse:
        """Carries out pulses to an array of devices."""
        return self._kernels("pulses").pulse if self._toolkit == "numba" else PulsedDevice.pulse

    def _kernels(self, name: str) -> ModuleType:
        """A module of the toolkit, which takes long to import."""
        return import_module(f"noisylearn.kernels.{'on_gpu' if self._toolkit == 'triton' else 'on_cpu'}.{name}")


def kernel_draws(seed: int, device: torch.device) -> CounterDraws:
    """Random streams for a chip with kernels.

    Args:
        seed: of the run.
        device: of the model.

    Raises:
        UserError: kernels cannot run here.
    """
    if toolkit_for(device) == "triton":
        return CounterDraws(seed, device)
    from noisylearn.kernels.on_cpu.normals import normals, uniforms  # with Numba, which few installations have

    return CounterDraws(seed, device, made=Made(normals, uniforms))


def layer_kernels(layers: Mapping[str, nn.Module], profile: HardwareProfile, draws: Draws) -> dict[str, LayerKernels]:
    """Kernels of all layers of a network.

    Args:
        layers: name -> layer.
        profile: of the machine.
        draws: random streams.

    Raises:
        UserError: kernels cannot run here, or the streams are not by counter.
    """
    toolkit = toolkit_for(draws.device)
    if not isinstance(draws, CounterDraws):
        raise UserError("kernels: the draws that were given are not by counter; give CounterDraws, or a seed alone")
    return {name: LayerKernels(name, layer, profile, draws, toolkit) for name, layer in layers.items()}


def _curves(profile: HardwareProfile, device: torch.device) -> dict[str, CurveNumbers]:
    """Kind of an effect -> size of its noise."""
    found: dict[str, CurveNumbers] = {}
    g_max_us = profile.setting.g_max_us
    for effect in profile.effects("weight"):
        if isinstance(effect, ProgrammingNoise):
            reference = effect.reference_g_max_us
            found[effect.kind] = curve_numbers(effect.sigma_us, g_max_us, reference, g_max_us / reference, device)
        elif isinstance(effect, OneOverFReadNoise):
            amplitude = effect.relative_amplitude or effect.amplitude_us
            assert amplitude is not None
            found[effect.kind] = curve_numbers(amplitude, g_max_us, g_max_us, 1.0, device)
    return found


def _why_not_written(layer: nn.Module, profile: HardwareProfile, toolkit: Toolkit) -> str:
    """Empty where the kernel serves every write."""
    if profile.in_place is not None:
        return _why_not_float32(layer) if toolkit == "numba" else "weights change by pulses, in place"
    if profile.specification.mapping is None:
        return "weights are held exactly"
    effects = [effect for effect in profile.effects("weight") if effect.lifetime != "pass"]
    served = [effect for effect in effects if isinstance(effect, ProgrammingNoise | OneOverFReadNoise)]
    for effect in effects:
        draws_at_write = effect.lifetime in ("device", "write") or type(effect).start is not Effect.start
        if draws_at_write and effect not in served:
            return f"{effect.kind} is in no kernel"
    if not any(isinstance(effect, ProgrammingNoise) for effect in served):
        return "no noise is drawn at a write"
    if len({effect.kind for effect in served}) < len(served):
        return "an effect stands twice in the profile"
    return _why_not_float32(layer)


def _why_not_read(layer: nn.Module, profile: HardwareProfile) -> str:
    """Empty where the kernel serves every read."""
    if profile.specification.inputs is not None:
        return "inputs and outputs pass converters"
    if all(type(effect).read_variance is Effect.read_variance for effect in profile.effects("weight")):
        return "nothing is drawn at a read"
    if not isinstance(layer, nn.Linear):
        return f"a {type(layer).__name__} is in no kernel, a Linear is"
    return _why_not_float32(layer)


def _why_not_looked_up(profile: HardwareProfile) -> str:
    """Empty where the kernel gives the weights right after a write, if it serves the write."""
    if profile.specification.inputs is not None:
        return "inputs and outputs pass converters"
    along = [effect for effect in profile.effects("weight") if effect.lifetime in ("memory", "read")]
    slow = [effect for effect in along if isinstance(effect, OneOverFReadNoise)]
    others = [effect for effect in along if not isinstance(effect, OneOverFReadNoise | PowerLawDrift)]
    return "" if len(slow) == 1 and not others else "it is for 1/f noise and drift alone"


def _why_not_float32(layer: nn.Module) -> str:
    dtype = next(layer.parameters()).dtype
    return "" if dtype == torch.float32 else f"weights are {dtype}, those of kernels torch.float32"

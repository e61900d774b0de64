"""Which reads and writes of a layer kernels carry out, and why plain torch has the others."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from noisylearn.effects import Effect, State
from noisylearn.effects.one_over_f import OneOverFReadNoise
from noisylearn.effects.programming_noise import ProgrammingNoise
from noisylearn.ground.counter_draws import CounterDraws
from noisylearn.ground.draws import Draws, Name
from noisylearn.ground.errors import UserError
from noisylearn.kernels.availability import check_available
from noisylearn.profiles import HardwareProfile

if TYPE_CHECKING:
    from noisylearn.kernels.curves import CurveNumbers

WRITE, SLOW = "write", "slow"  # what is drawn, as the effects name it
Memories = Iterable[tuple[Effect, State]]  # of the devices, in the order in which the effects act


class LayerKernels:
    """Kernels of one layer on the devices of a profile.

    Args:
        name: of the layer, for random streams.
        layer: the layer.
        profile: of the machine.
        draws: random streams by counter.
    """

    def __init__(self, name: str, layer: nn.Module, profile: HardwareProfile, draws: CounterDraws) -> None:
        self._name, self._draws = name, draws
        self.not_read = _why_not_read(layer, profile)
        self.not_written = _why_not_written(layer, profile)
        mapping = profile.specification.mapping
        self._g_min_us = 0.0 if mapping is None else mapping.g_min_us
        self._drawn = {} if self.not_written else _drawn(profile, draws.device)

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
        from noisylearn.kernels.noisy_product import noisy_product  # with Triton, which few installations have

        keys = self._draws.keys(stream, range(n_passes))
        y = noisy_product(x.flatten(1, -2), weight, bias, variance, keys)
        return y.unflatten(1, x.shape[1:-1])

    def write(
        self, weight: Float32[Tensor, "n_out n_in"], scale: Float32[Tensor, "n_out _"], memories: Memories
    ) -> Float32[Tensor, "2 n_out n_in"]:
        """Conductances as they are written; see `program`.

        Args:
            weight: to be written.
            scale: weight per microsiemens.
            memories: effects on the devices, and what they hold; what starts with a write is put there.
        """
        from noisylearn.kernels.programming import Noise, program

        noise, held, in_us = {}, {}, False
        for effect, state in memories:
            if effect.kind in self._drawn:
                purpose, curve = self._drawn[effect.kind]
                noise[purpose] = Noise(curve, self._draws.keys((self._name, effect.kind, purpose)))
            if isinstance(effect, OneOverFReadNoise):
                held, in_us = state, effect.amplitude_us is not None
        found = program(weight, scale, self._g_min_us, noise.get(WRITE), noise.get(SLOW), in_us)
        if found.relative is not None and found.slow is not None:
            held.update(relative=found.relative, slow=found.slow, seen_s=torch.zeros(1, dtype=torch.float64))
        return found.conductance_us


def layer_kernels(layers: Mapping[str, nn.Module], profile: HardwareProfile, draws: Draws) -> dict[str, LayerKernels]:
    """Kernels of all layers of a network.

    Args:
        layers: name -> layer.
        profile: of the machine.
        draws: random streams.

    Raises:
        UserError: kernels cannot run here, or the streams are not by counter.
    """
    check_available(draws.device)
    if not isinstance(draws, CounterDraws):
        raise UserError("kernels: the draws that were given are not by counter; give CounterDraws, or a seed alone")
    return {name: LayerKernels(name, layer, profile, draws) for name, layer in layers.items()}


def _drawn(profile: HardwareProfile, device: torch.device) -> "dict[str, tuple[str, CurveNumbers]]":
    """Kind of an effect -> what its numbers are drawn for, and their size."""
    from noisylearn.kernels.curves import curve_numbers

    found: dict[str, tuple[str, CurveNumbers]] = {}
    g_max_us = profile.setting.g_max_us
    for effect in profile.effects("weight"):
        if isinstance(effect, ProgrammingNoise):
            reference = effect.reference_g_max_us
            curve = curve_numbers(effect.sigma_us, g_max_us, reference, g_max_us / reference, device)
            found[effect.kind] = WRITE, curve
        elif isinstance(effect, OneOverFReadNoise):
            amplitude = effect.relative_amplitude or effect.amplitude_us
            assert amplitude is not None
            found[effect.kind] = SLOW, curve_numbers(amplitude, g_max_us, g_max_us, 1.0, device)
    return found


def _why_not_written(layer: nn.Module, profile: HardwareProfile) -> str:
    """Empty where the kernel serves every write."""
    if profile.in_place is not None:
        return "weights change by pulses, in place"
    if profile.specification.mapping is None:
        return "weights are held exactly"
    effects = [effect for effect in profile.effects("weight") if effect.lifetime != "pass"]
    served = [effect for effect in effects if isinstance(effect, ProgrammingNoise | OneOverFReadNoise)]
    for effect in effects:
        draws_at_write = effect.lifetime in ("device", "write") or type(effect).start is not Effect.start
        if draws_at_write and effect not in served:
            return f"{effect.kind} is in no kernel"
    if not served:
        return "nothing is drawn at a write"
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


def _why_not_float32(layer: nn.Module) -> str:
    dtype = next(layer.parameters()).dtype
    return "" if dtype == torch.float32 else f"weights are {dtype}, those of kernels torch.float32"

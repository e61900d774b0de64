"""What a chip does with every layer, in words."""

from collections.abc import Iterable, Mapping

from noisylearn.chips.crossbar import Crossbar
from noisylearn.chips.execution.one_launch import OneLaunch
from noisylearn.effects import Effect
from noisylearn.ground.counter_draws import CounterDraws
from noisylearn.ground.draws import Draws
from noisylearn.networks.layers import WeightLayer
from noisylearn.profiles import HardwareProfile

KERNEL, PLAIN, NOT_ASKED = "kernel", "plain torch", "kernels=True was not given"


def explained(
    profile: HardwareProfile, placed: Mapping[str, Crossbar], draws: Draws, one_launch: OneLaunch | None
) -> str:
    """Text of a line or more for every layer, and one for the steps of sequences.

    Args:
        profile: of the chip.
        placed: name -> layer on its devices.
        draws: its random streams.
        one_launch: what runs the steps of sequences by a kernel; None where none was asked for.
    """
    numbers = "by counter" if isinstance(draws, CounterDraws) else "of torch's generator"
    lines = [f"{profile.name} on {draws.device.type}, random numbers {numbers}"]
    for name, crossbar in placed.items():
        lines.append(f"{name or 'the network'} ({_size(crossbar.layer)})")
        lines += [f"  {line}" for line in _of_layer(crossbar, profile)]
    return "\n".join([*lines, f"steps of sequences: {_way(_why_one_by_one(placed, one_launch))}"])


def _why_one_by_one(placed: Mapping[str, Crossbar], one_launch: OneLaunch | None) -> str:
    if one_launch is None:
        return NOT_ASKED if all(crossbar.kernels is None for crossbar in placed.values()) else "the kernel is for GPUs"
    noisy = [name for name, crossbar in placed.items() if crossbar.pass_effects or crossbar.exact() is None]
    return one_launch.not_served() or (f"what layer '{noisy[0]}' gives is not known before it is read" if noisy else "")


def _of_layer(crossbar: Crossbar, profile: HardwareProfile) -> list[str]:
    devices, kernels = profile.effects("weight"), crossbar.kernels
    not_served = [NOT_ASKED] * 3
    if kernels is not None:
        not_served = [kernels.not_written, kernels.not_looked_up, kernels.not_read]
    write, weights, read = map(_way, not_served)
    lumped = [effect for effect in devices if type(effect).read_variance is not Effect.read_variance]
    return [
        f"write: {write}; effects: {_kinds(e for e in devices if e.lifetime in ('device', 'write'))}",
        f"weights right after: {weights}",
        f"read: {read}; lumped at the output: {_kinds(lumped)}",
        f"along time: {_kinds(e for e in devices if e.lifetime == 'memory')}",
        f"injected: {_kinds((*crossbar.node_effects, *crossbar.pass_effects))}",
    ]


def _way(not_served: str) -> str:
    return f"{PLAIN} ({not_served})" if not_served else KERNEL


def _kinds(effects: Iterable[Effect]) -> str:
    return ", ".join(effect.kind for effect in effects) or "none"


def _size(layer: WeightLayer) -> str:
    return f"{type(layer).__name__} {' x '.join(map(str, layer.weight.shape))}"

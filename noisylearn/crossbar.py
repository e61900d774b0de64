"""One layer's weights on devices: programmed as conductances, read back as effective weights."""

from dataclasses import replace

import torch
from torch import Tensor

from noisylearn.draws import Draws, StreamOf
from noisylearn.effects import Effect, Setting, State
from noisylearn.layers import WeightLayer
from noisylearn.profiles import HardwareProfile


class Digital:
    """A layer whose weights are exact numbers: its own parameters, differentiable."""

    node_effects: tuple[Effect, ...] = ()
    pass_effects: tuple[Effect, ...] = ()
    node_variance = 0.0
    weight_variance = 0.0

    def __init__(self, layer: WeightLayer) -> None:
        self.layer = layer

    def weight(self) -> Tensor:
        return self.layer.weight

    def bias(self) -> Tensor | None:
        return self.layer.bias

    def read_variance(self) -> Tensor | None:
        return None


class Crossbar:
    """A layer on the devices of a profile.

    Weights become pairs of conductances, w = (G+ - G-) scale with scale = max|w| / g_max per column or layer; the
    bias stays digital. `program` writes them with every effect of lifetime "write"; `weight` is the effective
    weight at this moment of the clock; `read_variance` the variance of the weight that is independent at every
    read. Without a mapping in the profile the weights are held exactly.
    """

    def __init__(self, name: str, layer: WeightLayer, profile: HardwareProfile, draws: Draws) -> None:
        self.name = name
        self.layer = layer
        self.mapping = profile.specification.mapping
        self.setting = _setting(profile)
        self.node_effects = tuple(profile.effects("node"))
        self.pass_effects = tuple(e for e in profile.effects("weight") if e.lifetime == "pass")
        self.node_variance, self.weight_variance = _variance(self.node_effects), _variance(self.pass_effects)
        self._effects = [e for e in profile.effects("weight") if e.lifetime != "pass"]
        self._draws = draws
        self._memory: list[State] = [{} for _ in self._effects]
        self._cache: dict[str, Tensor | None] = {}
        self.program()

    def program(self) -> None:
        """Write the layer's present weights and bias; every device is written anew."""
        self._cache.clear()
        for effect, state in zip(self._effects, self._memory, strict=True):
            if effect.lifetime != "device":
                state.clear()
        self.setting = replace(self.setting, since_write_s=0.0)
        weight = self.layer.weight.detach()
        self._bias = None if self.layer.bias is None else self.layer.bias.detach().clone()
        if self.mapping is None:
            self._written, self._scale = weight.clone(), torch.ones((), device=weight.device)
            return
        flat = weight.abs().flatten(1)
        largest = flat.amax(1) if self.mapping.scale == "column" else flat.amax().expand(flat.shape[0])
        self._scale = (largest / self.mapping.g_max_us).reshape(-1, *[1] * (weight.dim() - 1))
        target = weight / torch.where(self._scale > 0, self._scale, 1.0)
        written = torch.stack([target, -target]).clamp_(min=0)
        for effect, state in zip(self._effects, self._memory, strict=True):
            if effect.lifetime in ("device", "write"):
                written = effect.apply(written, self.setting, self._draw(effect), state)
        self._written = written
        for effect, state in zip(self._effects, self._memory, strict=True):
            effect.start(written, self.setting, self._draw(effect), state)

    def elapse(self, seconds: float) -> None:
        """Let the chip's clock run: drift, and 1/f noise that forgets."""
        self._cache.clear()
        self.setting = replace(self.setting, since_write_s=self.setting.since_write_s + seconds)
        for effect, state in zip(self._effects, self._memory, strict=True):
            effect.elapse(self._written, self.setting, self._draw(effect), state)

    def weight(self) -> Tensor:
        """Effective weight now, with programming errors, drift and slow noise."""
        self._read_devices()
        weight = self._cache["weight"]
        assert weight is not None
        return weight

    def bias(self) -> Tensor | None:
        return self._bias

    def read_variance(self) -> Tensor | None:
        """Variance of the effective weight, Gaussian and independent at every read; None where there is none."""
        self._read_devices()
        return self._cache["variance"]

    def state(self) -> dict[str, Tensor]:
        """Everything the devices hold, for a checkpoint."""
        state = {"written": self._written, "scale": self._scale}
        if self._bias is not None:
            state["bias"] = self._bias
        state["since_write_s"] = torch.tensor(self.setting.since_write_s, dtype=torch.float64)
        for effect, memory in zip(self._effects, self._memory, strict=True):
            state |= {f"{effect.kind}.{key}": value for key, value in memory.items()}
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._cache.clear()
        device = self.layer.weight.device
        state = {key: value if key.endswith("_s") else value.to(device) for key, value in state.items()}
        self._written, self._scale, self._bias = state["written"], state["scale"], state.get("bias")
        self.setting = replace(self.setting, since_write_s=float(state["since_write_s"]))
        self._memory = [
            {key.removeprefix(f"{e.kind}."): v for key, v in state.items() if key.startswith(f"{e.kind}.")}
            for e in self._effects
        ]

    def _read_devices(self) -> None:
        """Carry the written conductances through every effect since; once per programming and tick of the clock."""
        if self._cache:
            return
        g, variance = self._written, None
        for effect, state in zip(self._effects, self._memory, strict=True):
            fresh = effect.read_variance(g, self.setting, state)
            if fresh is not None:
                variance = fresh if variance is None else variance + fresh
            if effect.lifetime == "memory":
                g = effect.apply(g, self.setting, self._draw(effect), state)
        if self.mapping is not None:
            g = (g[0] - g[1]) * self._scale
            variance = None if variance is None else (variance[0] + variance[1]) * self._scale**2
        self._cache = {"weight": g, "variance": variance}

    def _draw(self, effect: Effect) -> StreamOf:
        return StreamOf(self._draws, self.name, effect.kind)


class StraightThrough:
    """A crossbar's present weights, differentiable as if they were the layer's own parameters."""

    def __init__(self, crossbar: Crossbar) -> None:
        self.layer = crossbar.layer
        self.node_effects, self.pass_effects = crossbar.node_effects, crossbar.pass_effects
        self.node_variance, self.weight_variance = crossbar.node_variance, crossbar.weight_variance
        self._crossbar = crossbar

    def weight(self) -> Tensor:
        return _through(self.layer.weight, self._crossbar.weight())

    def bias(self) -> Tensor | None:
        bias = self._crossbar.bias()
        return None if bias is None or self.layer.bias is None else _through(self.layer.bias, bias)

    def read_variance(self) -> Tensor | None:
        return self._crossbar.read_variance()


def _through(parameter: Tensor, value: Tensor) -> Tensor:
    """The value, with the gradient of the parameter."""
    return value + (parameter - parameter.detach())


def _variance(effects: tuple[Effect, ...]) -> float:
    """Variance that additive effects have together."""
    zero = torch.zeros((), dtype=torch.float64)
    return sum(float(effect.moments(zero, Setting()).variance) for effect in effects)


def _setting(profile: HardwareProfile) -> Setting:
    mapping, timing = profile.specification.mapping, profile.specification.timing
    if mapping is None or timing is None:
        return Setting()
    return Setting(mapping.g_max_us, 0.0, timing.t0_s, timing.pass_interval_us * 1e-6)

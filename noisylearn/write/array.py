"""An array of pulsed devices: as many as a layer has weights, or pairs of them."""

import torch
from torch import Tensor

from noisylearn.draws import StreamOf
from noisylearn.effects import State
from noisylearn.write.device import PulsedDevice

SPARSE = 0.5  # below this share of pulsed devices only those are computed


class DeviceArray:
    """States of devices (1 or 2 per weight, *shape), in units of full scale, and what is drawn once for each."""

    def __init__(self, device: PulsedDevice, shape: tuple[int, ...], draw: StreamOf) -> None:
        self.device = device
        self._draw = draw
        self.shape = (2 if device.one_sided else 1, *shape)
        self.state: State = {**device.fabricate(self.shape, draw)}
        self.state["w"] = torch.zeros(self.shape, device=self.state["dw"].device)
        self.state["visible"] = self._seen(self.state["w"], self.state)

    def set(self, target: Tensor) -> None:
        """Put the weights to their targets as far as the devices' bounds allow, as write-and-verify would."""
        both = torch.stack([target, -target]) if self.device.one_sided else target.unsqueeze(0)
        w = torch.minimum(torch.maximum(both, self.state["w_min"]), self.state["w_max"])
        self.state["w"] = w
        self.state["visible"] = self._seen(w, self.state)

    def visible(self) -> Tensor:
        """Weights as they are seen, in units of full scale."""
        seen = self.state["visible"]
        return seen[0] - seen[1] if self.device.one_sided else seen[0]

    def pulse(self, pulses: Tensor) -> None:
        """Send a signed number of pulses to every weight; a pair takes both signs as up pulses, one device each."""
        if self.device.one_sided:
            pulses = torch.stack([pulses.clamp(min=0), (-pulses).clamp(min=0)])
        pulses = pulses.reshape(self.shape)
        if self.device.lifetime_updates is not None:
            left = 1 - 1 / self.device.lifetime_updates
            self.state["visible"] = self.state["visible"] - self.state["w"] * (1 - left)
            self.state["w"] = self.state["w"] * left
        n_hit = float(pulses.abs().clamp_(max=1).sum())  # of whole pulses; several times faster than count_nonzero
        if not n_hit:
            return
        if n_hit >= SPARSE * pulses.numel():
            w = self.device.pulse(self.state["w"], pulses, self.state, self._draw)
            seen = self._seen(w, self.state)
            if self.device.write_noise:
                seen = torch.where(pulses != 0, seen, self.state["visible"])
            self.state["w"], self.state["visible"] = w, seen
            return
        hit = pulses.flatten().nonzero().squeeze(1)
        own = {key: value.flatten()[hit] for key, value in self.state.items()}
        w = self.device.pulse(own["w"], pulses.flatten()[hit], own, self._draw)
        for key, value in (("w", w), ("visible", self._seen(w, own))):
            changed = self.state[key].flatten().index_copy(0, hit, value)
            self.state[key] = changed.reshape(self.shape)

    def symmetry_point(self) -> Tensor:
        """State at which an up and a down pulse of a device move it equally far on average, by bisection."""
        low, high = self.state["w_min"], self.state["w_max"]
        up = torch.ones_like(low)
        for _ in range(40):
            middle = (low + high) / 2
            rises = self.device.mean_step(middle, up, self.state) > self.device.mean_step(middle, -up, self.state)
            low, high = torch.where(rises, middle, low), torch.where(rises, high, middle)
        return low[0]

    def refresh(self, above: float) -> None:
        """Reset pairs of which one device stands above that share of its bound, and pulse the difference anew."""
        full = (self.state["w"] > above * self.state["w_max"]).any(0)
        if not full.any():
            return
        pulses = (self.visible() / self.device.dw_min).round_().mul_(full)
        for key in ("w", "visible"):
            self.state[key] = self.state[key] * ~full
        self.pulse(pulses)

    def _seen(self, w: Tensor, devices: State) -> Tensor:
        seen = w - devices["reference"]
        if not self.device.write_noise:
            return seen
        z = self._draw.normal("write", tuple(w.shape))
        return seen.add_(z, alpha=self.device.write_noise * self.device.dw_min)

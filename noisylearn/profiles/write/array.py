"""An array of pulsed devices, one or a pair of them for every weight of a layer."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from noisylearn.effects import State
from noisylearn.ground.draws import StreamOf
from noisylearn.profiles.write.device import PulsedDevice

SPARSE = 0.3  # below this share of pulsed devices only those are computed
CACHED = 65536  # devices that are computed together, so that what they need fits the cache of a CPU core
Pulse = Callable[[PulsedDevice, Tensor, Tensor, State, StreamOf, Tensor], Tensor]


class DeviceArray:
    """An array of pulsed devices: their states, in units of full scale, and what is drawn once for each device.

    Args:
        device: what one pulse does.
        shape: of the weights; the states have the shape (1 or 2 per weight, *shape).
        draw: random streams of the array.
        pulse: carries out the pulses, as `PulsedDevice.pulse` does.
    """

    def __init__(
        self, device: PulsedDevice, shape: tuple[int, ...], draw: StreamOf, pulse: Pulse = PulsedDevice.pulse
    ) -> None:
        self.device, self._pulse = device, pulse
        self._draw = draw
        self.shape = (2 if device.one_sided else 1, *shape)
        self.state: State = {**device.fabricate(self.shape, draw)}
        self.state["w"] = torch.zeros(self.shape, device=self.state["dw"].device)
        self.state["visible"] = self._seen(self.state["w"], self.state)
        self.state["sent"] = torch.zeros_like(self.state["w"])

    def set(self, target: Tensor) -> None:
        """Set the weights to their targets, as far as the devices' bounds allow, as write-and-verify would.

        Args:
            target: weights in units of full scale.
        """
        both = torch.stack([target, -target]) if self.device.one_sided else target.unsqueeze(0)
        w = torch.minimum(torch.maximum(both + self.state["reference"], self.state["w_min"]), self.state["w_max"])
        self.state["w"] = w
        self.state["visible"] = self._seen(w, self.state)

    def visible(self) -> Tensor:
        """Weights as a read sees them, in units of full scale."""
        seen = self.state["visible"]
        return seen[0] - seen[1] if self.device.one_sided else seen[0]

    def sent(self) -> Tensor:
        """Sum of all pulses sent so far, each counted as `PulsedDevice.per_pulse`, in units of full scale."""
        sent = self.state["sent"]
        return sent[0] - sent[1] if self.device.one_sided else sent[0]

    def pulse(self, pulses: Tensor) -> None:
        """Update the devices once: a leak, and a signed number of pulses for every weight.

        In a pair both devices are pulsed up only, one for each sign.

        Args:
            pulses: whole numbers, in the shape of the weights.
        """
        if self.device.one_sided:
            pulses = torch.stack([pulses.clamp(min=0), (-pulses).clamp(min=0)])
        pulses = pulses.reshape(self.shape)
        self.state["sent"] = torch.add(self.state["sent"], pulses, alpha=self.device.per_pulse)
        if self.device.lifetime_updates is not None:
            left = 1 - 1 / self.device.lifetime_updates
            self.state["visible"] = self.state["visible"] - self.state["w"] * (1 - left)
            self.state["w"] = self.state["w"] * left
        pulses = pulses.flatten()
        is_hit = pulses.bool()
        n_hit = int(is_hit.count_nonzero())
        if not n_hit:
            return
        devices = {key: value.flatten() for key, value in self.state.items() if key != "sent"}
        if n_hit >= SPARSE * pulses.numel():
            changed = self._after(pulses, devices)
        else:
            hit = _where(is_hit)
            own = {key: value.index_select(0, hit) for key, value in devices.items() if key != "visible"}
            new = self._moved(pulses.index_select(0, hit), own)
            changed = {key: devices[key].scatter(0, hit, value) for key, value in new.items()}
        self.state.update({key: value.reshape(self.shape) for key, value in changed.items()})

    def _after(self, pulses: Tensor, devices: State) -> State:
        """States, and states as a read sees them, of devices of which some are pulsed."""
        new = self._moved(pulses, devices)
        if self.device.write_noise:  # drawn anew for those alone
            new["visible"] = torch.lerp(devices["visible"], new["visible"], pulses.abs().clamp_(max=1))
        return new

    def _moved(self, pulses: Tensor, devices: State) -> State:
        """States after these pulses, and as a read sees them once written; some thousands of devices at a time."""
        together = CACHED if pulses.device.type == "cpu" else pulses.numel()
        w, visible = torch.empty_like(pulses), torch.empty_like(pulses)
        for first in range(0, pulses.numel(), together):
            part = slice(first, first + together)
            own = {key: value[part] for key, value in devices.items() if key != "visible"}
            moved = self._pulse(self.device, own["w"], pulses[part], own, self._draw, w[part])
            self._seen(moved, own, out=visible[part])
        return {"w": w, "visible": visible}

    def symmetry_point(self) -> Tensor:
        """State, as a read without write noise sees it, at which up and down pulses are equally long on average.

        Found by bisection.

        Returns:
            In the shape of the weights, in units of full scale; 0 where steps do not depend on the state.
        """
        if self.device.step == "constant":
            return torch.zeros_like(self.state["w"][0])
        low, high = self.state["w_min"], self.state["w_max"]
        up = torch.ones_like(low)
        for _ in range(40):
            middle = (low + high) / 2
            rises = self.device.mean_step(middle, up, self.state) > self.device.mean_step(middle, -up, self.state)
            low, high = torch.where(rises, middle, low), torch.where(rises, high, middle)
        return low[0] - self.state["reference"][0]

    def refresh(self, above: float, other_above: float) -> None:
        """Reset worn pairs and write their weights again, pulse by pulse with a read after each pulse.

        A pair is worn when one device is above a share of its bound and the other one above another share. Every pulse
        goes to the device that brings the weight closer, until no more than half its mean step is missing.

        Args:
            above: share of its bound that one device exceeds.
            other_above: share of its bound that the other device exceeds.
        """
        share = self.state["w"] / self.state["w_max"].clamp(min=1e-9)  # a dead device has no range
        worn = (share.amax(0) > above) & (share.amin(0) > other_above)
        if not worn.any():
            return
        target = self.visible()[worn]
        pair = {key: value[:, worn].flatten() for key, value in self.state.items()}
        pair["w"] = torch.zeros_like(pair["w"])
        pair["visible"] = self._seen(pair["w"], pair)
        up = torch.ones_like(pair["w"])
        for _ in range(int(self.device.w_max / self.device.dw_min)):
            seen = pair["visible"].view(2, -1)
            missing = target - (seen[0] - seen[1])
            pulses = torch.cat([missing, -missing]) > self.device.mean_step(pair["w"], up, pair) / 2
            if not pulses.any():
                break
            pair |= self._after(pulses.to(up.dtype), pair)
        for key in ("w", "visible"):
            self.state[key] = self.state[key].clone()
            self.state[key][:, worn] = pair[key].view(2, -1)

    def _seen(self, w: Tensor, devices: State, out: Tensor | None = None) -> Tensor:
        """States as a read sees them: less the reference, with write noise."""
        seen = torch.sub(w, devices["reference"], out=out)
        if not self.device.write_noise:
            return seen
        z = self._draw.normal("write", tuple(w.shape))
        return seen.add_(z, alpha=self.device.write_noise * self.device.dw_min)


def _where(true: Tensor) -> Tensor:
    """Indices of true elements of a vector; on a CPU, numpy finds them several times faster."""
    if true.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(true.numpy()))
    return true.nonzero().squeeze(1)

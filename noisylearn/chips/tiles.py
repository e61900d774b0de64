"""The analog path of one layer: inputs are driven into tiles of devices, products are read out through converters."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from noisylearn.effects import Adc, Effect, Product, Setting, State, circuits
from noisylearn.ground.draws import Draws, StreamOf
from noisylearn.ground.errors import UserError
from noisylearn.networks.layers import WeightLayer
from noisylearn.profiles import HardwareProfile


@dataclass(frozen=True)
class Tiling:
    """A weight matrix, cut into equal tiles of at most the machine's rows and columns.

    The groups of a convolution are matrices of their own, on tiles of their own: no device stands where a group does
    not see another's channels.

    Args:
        n_inputs: of a group.
        n_outputs: of a group.
        n_tiles: tiles along the inputs of a group.
        columns: outputs of one tile.
        groups: of the layer.
    """

    n_inputs: int
    n_outputs: int
    n_tiles: int
    columns: int
    groups: int = 1

    @classmethod
    def of(cls, layer: WeightLayer, profile: HardwareProfile) -> "Tiling":
        """The tiles that a layer takes on a machine.

        Args:
            layer: the layer.
            profile: of the machine; without a tile size, a layer is one tile.
        """
        every_output, n_inputs = layer.weight.flatten(1).shape
        groups = getattr(layer, "groups", 1)
        n_outputs, tile = every_output // groups, profile.specification.tile
        if tile is None:
            return cls(n_inputs, n_outputs, 1, n_outputs, groups)
        return cls(n_inputs, n_outputs, math.ceil(n_inputs / tile.rows), min(tile.columns, n_outputs), groups)

    @property
    def rows(self) -> int:
        """Inputs of one tile; the last tile may have some that are unused."""
        return math.ceil(self.n_inputs / self.n_tiles)

    @property
    def spare(self) -> int:
        """Unused rows of the last tile."""
        return self.n_tiles * self.rows - self.n_inputs

    @property
    def count(self) -> int:
        """Tiles of the whole layer."""
        return self.n_tiles * math.ceil(self.n_outputs / self.columns) * self.groups

    def inputs(self, x: Float[Tensor, "samples n_in"]) -> Float[Tensor, "tiles samples rows"]:
        """Inputs by tile.

        Args:
            x: (samples, inputs), those of a group after each other.

        Returns:
            (tiles, samples, rows), the tiles of a group after each other.
        """
        if self.n_tiles * self.groups == 1:
            return x.unsqueeze(0)
        by_group = self._padded(x.unflatten(1, (self.groups, -1)))
        return by_group.reshape(len(x), self.groups * self.n_tiles, self.rows).transpose(0, 1)

    def weights(self, w: Float[Tensor, "n_out n_in"]) -> Float[Tensor, "tiles rows n_out"]:
        """Weights by tile.

        Args:
            w: (outputs, inputs of a group).

        Returns:
            (tiles, rows, outputs of a group).
        """
        by_group = self._padded(w).reshape(self.groups, self.n_outputs, self.n_tiles, self.rows)
        return by_group.permute(0, 2, 3, 1).flatten(0, 1).contiguous()

    def scales(self, scale: Float[Tensor, "n_out tiles"]) -> Float[Tensor, "tiles 1 n_out"]:
        """A number per column, by tile.

        Args:
            scale: (outputs, tiles of a group).

        Returns:
            (tiles, 1, outputs of a group).
        """
        return scale.unflatten(0, (self.groups, -1)).transpose(1, 2).flatten(0, 1).unsqueeze(1)

    def outputs(self, y: Float[Tensor, "passes tiles samples n_out"]) -> Float[Tensor, "passes samples n_out"]:
        """Sum over the tiles of every group, digitally.

        Args:
            y: products of the tiles, (passes, tiles, samples, outputs of a group).

        Returns:
            (passes, samples, outputs), those of a group after each other.
        """
        if self.n_tiles * self.groups == 1:
            return y[:, 0]
        if self.groups == 1:
            return y.sum(1)
        return y.unflatten(1, (self.groups, -1)).sum(2).transpose(1, 2).flatten(2)

    def without_spare(self, x: Float[Tensor, "tiles samples rows"]) -> None:
        """Set what would enter unused rows to zero, in place: no driver, no noise.

        Args:
            x: inputs by tile.
        """
        if self.spare:
            x[self.n_tiles - 1 :: self.n_tiles, :, -self.spare :] = 0

    def largest(self, weight: Float[Tensor, "n_out n_in"], scale: str) -> Float[Tensor, "n_out tiles"]:
        """Largest |weight| of those that share a scale.

        Args:
            weight: (outputs, inputs).
            scale: "column" of one tile, "tile" (all its columns), or "layer".

        Returns:
            (outputs, tiles).
        """
        largest = self._padded(weight.abs()).reshape(len(weight), self.n_tiles, self.rows).amax(2)
        if scale == "layer":
            return largest.amax().expand_as(largest)
        if scale == "tile":
            by_group = largest.unflatten(0, (self.groups, -1)).split(self.columns, 1)
            return torch.cat([block.amax(1, keepdim=True).expand_as(block) for block in by_group], 1).flatten(0, 1)
        return largest

    def spread(self, scale: Float[Tensor, "n_out tiles"]) -> Float[Tensor, "n_out _"]:
        """A number per column and tile, by weight.

        Args:
            scale: (outputs, tiles).

        Returns:
            (outputs, inputs), or (outputs, 1) where there is one tile.
        """
        if self.n_tiles == 1:
            return scale
        return scale.repeat_interleave(self.rows, dim=1)[:, : self.n_inputs]

    def _padded(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, self.spare)) if self.spare else x


@dataclass
class Devices:
    """The devices of a layer as its tiles see them, in units of full scale.

    Args:
        weights: (tiles, rows, outputs).
        variance: of a weight, fresh at every read, same shape, or one number for all (1, 1, 1); None where there is
            none.
        scale: weight at full scale, (tiles, 1, outputs).
    """

    weights: Float[Tensor, "tiles rows n_out"]
    variance: Float[Tensor, "_ _ _"] | None
    scale: Float[Tensor, "tiles 1 n_out"]


class Periphery:
    """Drivers, circuits and converters between the digital numbers and the devices of one layer.

        y = scale_w scale_x converter(noise + tile(dac(x / scale_x))), summed over the tiles of a column digitally

    The rows of a convolution are its patches, one for every position of the kernel.

    Args:
        name: of the layer.
        layer: the layer.
        profile: of the machine.
        draws: random streams.

    Raises:
        UserError: the layer is a convolution in three dimensions.
    """

    def __init__(self, name: str, layer: WeightLayer, profile: HardwareProfile, draws: Draws) -> None:
        if isinstance(layer, nn.Conv3d):
            raise UserError(
                f"layer '{name}' (Conv3d): tiles with converters take Linear, Conv1d and Conv2d layers; choose a "
                "profile without converters for this network"
            )
        self.name, self.layer = name, layer
        self.tiling = Tiling.of(layer, profile)
        self.effects = [*profile.effects("input"), *profile.effects("output")]
        self.memory: list[State] = [{} for _ in self.effects]
        self._scaling = profile.specification.inputs
        self._draws = draws

    def read(
        self, x: Float[Tensor, "_ batch ..."], devices: Devices, n_passes: int, setting: Setting, purpose: str
    ) -> Float[Tensor, "_ batch ..."]:
        """Pre-activations without bias.

        Args:
            x: inputs of the layer, (1 or n_passes, batch, ...).
            devices: of the layer, now.
            n_passes: passes of the plan.
            setting: what is known of the chip.
            purpose: names the random streams.

        Returns:
            (n_passes, batch, ...).
        """
        rows, geometry = _as_rows(self.layer, x.flatten(0, 1))
        rows = rows.reshape(x.shape[0], -1, rows.shape[-1])
        if x.shape[0] == 1 and any(e.site == "input" and e.lifetime == "read" for e in self.effects):
            rows = rows.expand(n_passes, -1, -1)
        y = self._product(rows, devices, n_passes, setting, purpose)
        return _from_rows(self.layer, y.flatten(0, 1), geometry, n_passes)

    @property
    def is_calibrated(self) -> bool:
        """Whether the converters have the ranges that are set from data."""
        return all("range" in state for effect, state in self._stages("output") if isinstance(effect, Adc))

    def calibrate(self, x: Float[Tensor, "batch ..."], devices: Devices, setting: Setting) -> None:
        """Set the ranges of converters that are calibrated on data.

        Args:
            x: inputs of the layer, (batch, ...).
            devices: of the layer, now.
            setting: what is known of the chip.
        """
        rows, _ = _as_rows(self.layer, x)
        driven, _ = self._drive(rows.unsqueeze(0), (0,), 0, setting, "calibrate")
        (y,) = self._with_noise(self._analog(driven, devices, setting, "calibrate"), 1, (0,), "calibrate")
        for effect, state in self._stages("output"):
            if isinstance(effect, Adc):
                effect.calibrate(y, state)

    def _product(self, rows: Tensor, devices: Devices, n_passes: int, setting: Setting, purpose: str) -> Tensor:
        """Products (n_passes, samples, outputs) of inputs (1 or n_passes, samples, inputs)."""
        y, saturated = self._tiles(rows, devices, range(n_passes), 0, setting, purpose)
        most_halvings = max((e.max_halvings for e in self.effects if isinstance(e, Adc)), default=0)
        for p in range(n_passes if most_halvings else 0):
            for halvings in range(1, most_halvings + 1):
                again = saturated[p].nonzero().squeeze(1)
                if not len(again):
                    break
                some = rows[p if len(rows) > 1 else 0, again].unsqueeze(0)
                read, still = self._tiles(some, devices, (p,), halvings, setting, purpose)
                y[p, again], saturated[p, again] = read[0], still[0]
        return y

    def _tiles(
        self, rows: Tensor, devices: Devices, passes: Sequence[int], halvings: int, setting: Setting, purpose: str
    ) -> tuple[Tensor, Tensor]:
        """(passes, samples, outputs) of inputs (1 or passes, samples, inputs), and which rows saturate a converter."""
        driven, scale_x = self._drive(rows, passes, halvings, setting, purpose)
        y = self._with_noise(self._analog(driven, devices, setting, purpose), len(rows), passes, purpose)
        saturated = torch.zeros(0)
        for effect, state in self._stages("output"):
            if isinstance(effect, Adc):
                self._begin(effect, y[0, :, :1], setting, state)
                if effect.saturation == "halve-inputs":
                    saturated = (y.abs() >= effect.limit(state)).any(3).any(1)
                y = effect.apply(y, setting, self._stream(effect, purpose), state)
        if scale_x is not None:
            y = y.mul_(_by_pass(scale_x, len(rows)))
        return self.tiling.outputs(y.mul_(devices.scale)), saturated

    def _analog(self, driven: Tensor, devices: Devices, setting: Setting, purpose: str) -> Product:
        """The products of the tiles as they reach the converter, their noise not drawn yet."""
        product = Product(torch.bmm(driven, devices.weights), _variance(driven, devices), driven, devices.weights)
        for effect, state in self._stages("output"):
            if isinstance(effect, Adc):
                continue
            self._begin(effect, product.mean[:, :1], setting, state)
            effect.carry(product, setting, self._stream(effect, purpose), state)
        return product

    def _drive(
        self, rows: Tensor, passes: Sequence[int], halvings: int, setting: Setting, purpose: str
    ) -> tuple[Tensor, Tensor | None]:
        """Inputs (1 or passes, samples, inputs) as the tiles get them, and what one unit of them stands for.

        (tiles, passes x samples, rows), in units of full range.
        """
        seen = len(rows)
        x = self.tiling.inputs(rows.flatten(0, 1))
        scale: Tensor | None = None
        if self._scaling is not None:
            if self._scaling.scaling == "absolute-maximum":
                scale = x.abs().amax(2, keepdim=True)
            else:
                assert self._scaling.range is not None
                scale = x.new_full((1, 1, 1), self._scaling.range).expand(1, x.shape[1], 1)
            scale = scale * 2**halvings if halvings else scale
            x = x / torch.where(scale > 0, scale, 1.0)  # a tile without input gives nothing, not even noise
        stages = self._stages("input")
        if stages:
            x = _by_pass(x, seen)
            for effect, state in stages:
                self._begin(effect, x[0, :, :1], setting, state)
                x = effect.apply(x, setting, self._stream(effect, purpose, passes[:seen]), state)
            x = x.transpose(0, 1).flatten(1, 2)
            self.tiling.without_spare(x)
        return x, scale

    def _with_noise(self, product: Product, seen: int, passes: Sequence[int], purpose: str) -> Tensor:
        """The products with one draw of all Gaussian noise together, (passes, tiles, samples, columns).

        Args:
            product: products of the tiles.
            seen: passes that the product has of its own, 1 where all share it.
            passes: indices of the passes in the plan.
            purpose: names the random streams.
        """
        mean, variance = _by_pass(product.mean, seen), product.variance
        if variance is None:
            return mean if seen == len(passes) else mean.repeat(len(passes), 1, 1, 1)
        z = self._draws.normal((self.name, "read", purpose), (len(passes), *mean.shape[1:]), passes).to(mean.dtype)
        deviation = variance.clamp(min=0).sqrt_()
        return torch.addcmul(mean, deviation if deviation.shape[1] == 1 else _by_pass(deviation, seen), z)

    def elapse(self, setting: Setting) -> None:
        """Let converters and circuits age.

        Args:
            setting: what is known of the chip, at the new time.
        """
        for effect, state in zip(self.effects, self.memory, strict=True):
            draw = StreamOf(self._draws, self.name, effect.kind)
            circuits.elapse(effect, self.layer.weight.detach(), setting, draw, state)

    def _begin(self, effect: Effect, value: Tensor, setting: Setting, state: State) -> None:
        circuits.begin(effect, value, setting, StreamOf(self._draws, self.name, effect.kind), state)

    def _stages(self, site: str) -> list[tuple[Effect, State]]:
        return [(e, s) for e, s in zip(self.effects, self.memory, strict=True) if e.site == site]

    def _stream(self, effect: Effect, purpose: str, passes: Sequence[int] | None = None) -> StreamOf:
        return StreamOf(self._draws, self.name, effect.kind, purpose, passes=passes)


def _by_pass(x: Tensor, n_passes: int) -> Tensor:
    """(tiles, passes x samples, ...) -> (passes, tiles, samples, ...)."""
    return x.unflatten(1, (n_passes, -1)).transpose(0, 1)


def _variance(driven: Tensor, devices: Devices) -> Tensor | None:
    """Variance of the noise of all devices of a column together: sum_j var(w_j) x_j^2."""
    if devices.variance is None:
        return None
    squares = driven.square()
    if devices.variance.numel() == 1:
        return squares.sum(2, keepdim=True).mul_(devices.variance)
    return torch.bmm(squares, devices.variance)


Geometry = tuple[int, ...]


def _as_rows(layer: WeightLayer, x: Tensor) -> tuple[Tensor, Geometry]:
    """Inputs (samples, ...) of a layer as the rows of a matrix product, and what is needed to undo it."""
    if isinstance(layer, nn.Linear):
        return x.reshape(-1, x.shape[-1]), tuple(x.shape[1:-1])
    assert isinstance(layer, nn.Conv1d | nn.Conv2d)
    padding: tuple[int, ...] = (0,) * len(layer.kernel_size)
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        x = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    else:
        padding = layer.padding
    lines = layer.weight.dim() == 3
    images = x.unsqueeze(2) if lines else x
    lead, one = ((0,), (1,)) if lines else ((), ())
    kernel, padding = (*one, *layer.kernel_size), (*lead, *padding)
    dilation, stride = (*one, *layer.dilation), (*one, *layer.stride)
    patches = F.unfold(images, kernel, dilation, padding, stride)
    sizes = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, p, d, s in zip(images.shape[2:], kernel, padding, dilation, stride, strict=True)
    ]
    return patches.transpose(1, 2).flatten(0, 1), tuple(sizes[1:] if lines else sizes)


def _from_rows(layer: WeightLayer, y: Tensor, geometry: Geometry, n_passes: int) -> Tensor:
    """(passes x samples x positions, outputs) -> (passes, samples, ...) as the layer gives it."""
    positions = math.prod(geometry)
    y = y.reshape(n_passes, -1, positions, y.shape[-1])
    if isinstance(layer, nn.Linear):
        return y.reshape(n_passes, -1, *geometry, y.shape[-1])
    return y.transpose(2, 3).reshape(n_passes, y.shape[1], -1, *geometry)

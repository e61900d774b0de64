"""A chip for people to read: its layers, and what the devices hold of them."""

from collections.abc import Mapping

from noisylearn.chips.crossbar import Crossbar
from noisylearn.ground.table import Table
from noisylearn.networks.layers import WeightLayer
from noisylearn.profiles import HardwareProfile
from noisylearn.profiles.shown import effects_table


def chip_tables(profile: HardwareProfile, crossbars: Mapping[str, Crossbar], programs: int) -> list[Table]:
    """The machine in a few words, the layers on it, and its effects.

    Args:
        profile: of the machine.
        crossbars: name of a layer -> what holds its weights.
        programs: how often all weights were written.
    """
    facts = [
        ["observable", ", ".join(profile.shown)],
        ["devices", f"{sum(one.n_devices for one in crossbars.values()):,}"],
        ["tiles", f"{sum(one.n_tiles for one in crossbars.values()):,}"],
        ["times programmed", f"{programs:,}"],
    ]
    rows = [[*layer_cells(name, one.layer), f"{one.n_tiles}", f"{one.n_devices}"] for name, one in crossbars.items()]
    return [
        Table(f"chip with profile {profile.name}: {profile.title}", ["", ""], facts),
        Table("layers", [*LAYER_COLUMNS, "tiles", "devices"], rows, numbers=2),
        effects_table(profile),
    ]


LAYER_COLUMNS = ("layer", "kind", "weights")


def layer_cells(name: str, layer: WeightLayer) -> list[str]:
    """Name, kind and shape of the weights of a layer, outputs first.

    Args:
        name: of the layer.
        layer: the layer.
    """
    return [name, type(layer).__name__, " x ".join(map(str, layer.weight.shape))]

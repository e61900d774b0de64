"""Groups of the options of commands that have many, in which --help shows them."""

from typing import Any

PLACE = "Where runs are carried out"
RULES = "Options of rules"
PANELS = {
    "Task and network": (
        "seq_len", "held_out", "flips", "data_dir",
        "network", "hidden", "activation", "initialisation", "neuron", "threshold", "reset",
    ),
    "Devices of the chip": ("only", "without", "write"),
    "Optimisation": (
        "optimizer", "lr", "tune_lr", "tune_epochs", "schedule", "epochs", "patience", "batch", "batch_parts",
        "decorrelation_rate", "weight_normalisation",
    ),
    RULES: ("readout",),  # and all that rules state
    PLACE: ("device", "kernels", "send"),  # and the engines
    "Output": ("out", "resume", "log", "json"),
}  # fmt: skip


def in_panels(command: Any) -> Any:
    """The command with its options in groups; what runs are named by, and what is in no group, comes first.

    Args:
        command: of typer, with options for the settings of a training.
    """
    order, of = ["", *PANELS], {name: panel for panel, names in PANELS.items() for name in names}
    for option in command.params:
        option.rich_help_panel = option.rich_help_panel or of.get(option.name)

    def place(option: Any) -> tuple[int, int]:
        panel = option.rich_help_panel or ""
        names = PANELS.get(panel, ())
        return order.index(panel), names.index(option.name) if option.name in names else len(names)

    command.params.sort(key=place)
    return command

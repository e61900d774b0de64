"""Options that several commands share."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from noisylearn.experiments.config import TrainConfig
from noisylearn.ground.errors import UserError
from noisylearn.profiles import HardwareProfile, load_profile

PLACE = ("task", "rule", "profile")  # what every command names by itself

TASK_HELP = "Task to learn; see 'noisylearn tasks list'."
RECIPE = "Default: from the recipe of task, rule and profile."

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on standard output.")]
Task = Annotated[str, typer.Option(help=TASK_HELP)]
DataDir = Annotated[
    str | None,
    typer.Option(help="Folder with the data files; else $NOISYLEARN_DATA, else ~/.cache/noisylearn."),
]
Out = Annotated[Path, typer.Option(help="Folder for run files and plots.")]
Baseline = Annotated[
    str | None,
    typer.Option(help="What a pass is compared with: clean, noisy, or mean (of all noisy passes)."),
]
Draws = Annotated[int | None, typer.Option(help=f"Noise draws per sample and step. {RECIPE}")]
Scale = Annotated[str | None, typer.Option(help="ANP's norm: network, layer or rnn-paper.")]
Forward = Annotated[str | None, typer.Option(help="BP's forward pass: digital, or chip (hardware-aware).")]
Readout = Annotated[str | None, typer.Option(help="same (as the rule), or delta: the exact delta rule at the readout.")]
HiddenNoise = Annotated[
    bool | None, typer.Option("--hidden-noise", help="Of REINFORCE: noisy passes have noise in every layer.")
]
Credit = Annotated[
    str | None,
    typer.Option(help="In time, losses a perturbation is held against: local, sequence, reward-to-go or trace."),
]
Decay = Annotated[float | None, typer.Option(help="Of --credit trace, per step.")]
Update = Annotated[
    str | None, typer.Option(help=f"In time, when weights change: online (every step) or sequence. {RECIPE}")
]
SeqLen = Annotated[int | None, typer.Option(help="Steps of a sequence (copying: symbols). Default: as the task says.")]
Network = Annotated[str | None, typer.Option(help="mlp, convnet or convnet-64; for sequences rnn or spiking.")]
Neuron = Annotated[str | None, typer.Option(help="Of --network spiking: leaky, rleaky or synaptic.")]
Threshold = Annotated[float | None, typer.Option(help="Of --network spiking: membrane potential at which one fires.")]
Reset = Annotated[str | None, typer.Option(help="Of --network spiking, at a spike: subtract, or zero (as on Loihi).")]
Hidden = Annotated[str | None, typer.Option(help=f"Units of the hidden layers, e.g. 300 or 300,100. {RECIPE}")]
Activation = Annotated[str | None, typer.Option(help="Of the mlp or rnn: leaky-relu, relu, tanh or identity.")]
Initialisation = Annotated[
    str | None,
    typer.Option(help="Of the mlp or convnet: torch (its defaults), or glorot (as Keras)."),
]
Optimizer = Annotated[str | None, typer.Option(help="Any optimizer of torch.optim, in lower case, with its defaults.")]
Lr = Annotated[float | None, typer.Option(help=f"Learning rate. {RECIPE}")]
Schedule = Annotated[str | None, typer.Option(help="Of learning and decorrelation: constant or cosine (to zero).")]
Epochs = Annotated[int | None, typer.Option(help=RECIPE)]
Batch = Annotated[int | None, typer.Option(help=f"Samples per step. {RECIPE}")]
DecorrelationRate = Annotated[float | None, typer.Option(help=f"Of the d... rules. {RECIPE}")]
WeightNormalisation = Annotated[
    bool | None,
    typer.Option("--weight-normalisation", help="Hold the norm of every neuron's incoming weights."),
]
HeldOut = Annotated[str | None, typer.Option(help="Part to measure on: test, or validation (for tuning).")]
Only = Annotated[
    str | None, typer.Option(help="Effects of the profile that stay on, all others off; separated by commas, or none.")
]
Without = Annotated[str | None, typer.Option(help="Effects of the profile to switch off, separated by commas.")]
Write = Annotated[
    str | None,
    typer.Option(
        help="How updates reach pulsed devices: pulsed, accumulate or auxiliary, with numbers of [write] "
        "where they differ, as in accumulate,threshold=0.05"
    ),
]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda.")]


def hidden_units(text: str | None) -> tuple[int, ...] | None:
    """Sizes of the hidden layers; "" or "0" for none. Raises UserError for anything but positive numbers."""
    if text is None:
        return None
    if text.strip() in ("", "0"):
        return ()
    try:
        sizes = tuple(int(item) for item in text.split(","))
    except ValueError:
        sizes = (0,)
    if min(sizes) < 1:
        raise UserError(f"--hidden '{text}': give numbers of units separated by commas, for example 300,100")
    return sizes


def chosen_profile(
    name: str | HardwareProfile, only: str | None, without: str | None, write: str | None = None
) -> HardwareProfile:
    """The profile with the effects that the command line leaves on, and its way of writing."""
    profile = load_profile(name)
    if write is not None and write != (profile.in_place.mode if profile.in_place else "shadow"):
        mode, *numbers = write.split(",")
        profile = profile.written_by(mode, **dict(_number(text) for text in numbers))
    if only is not None:
        profile = profile.only(*_kinds(only))
    return profile if without is None else profile.without(*_kinds(without))


def _number(text: str) -> tuple[str, float]:
    """("threshold", 0.05) of "threshold=0.05"."""
    key, _, value = text.partition("=")
    try:
        return key.strip(), float(value)
    except ValueError:
        raise UserError(f"--write ... {text}: give key=number, for example accumulate,threshold=0.05") from None


def _kinds(text: str) -> list[str]:
    return [kind.strip() for kind in text.split(",") if kind.strip() not in ("", "none")]


def stated(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a training configuration among a command's arguments, those that were given."""
    settings = {key: arguments[key] for key in TrainConfig.model_fields if key in arguments and key not in PLACE}
    settings["hidden"] = hidden_units(arguments["hidden"])
    return {key: value for key, value in settings.items() if value is not None}

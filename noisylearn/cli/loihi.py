"""`noisylearn loihi`: run exported networks in integers, under the constraints of Loihi's cores."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from noisylearn.backends.lava.integers import IntegerOptions, IntegerResult, emulate
from noisylearn.backends.lava.launch import TIMEOUT_S, run_net_in_integers
from noisylearn.backends.lava.netfile import Array, read_net
from noisylearn.backends.loihi.microcode import Microcode
from noisylearn.cli import options as o
from noisylearn.cli.output import loss_tenths, print_json, print_table, print_text, progress, waiting, warn_of_growth
from noisylearn.ground.errors import UserError
from noisylearn.ground.table import Table

app = typer.Typer(no_args_is_help=True, help="Run exported networks in integers, as Loihi's cores would compute.")


@app.command("run")
def run_command(
    net: Annotated[Path, typer.Argument(help="Network file, as `noisylearn export --to lava` leaves it.")],
    steps: Annotated[
        int | None,
        typer.Option(
            help="Samples to run; the data starts again at its end. Default: those of the file, or a sequence."
        ),
    ] = None,
    learn: Annotated[bool, typer.Option("--learn", help="Let the weights change, by the rule of the file.")] = False,
    lava: Annotated[
        bool, typer.Option("--lava", help="Execute in Lava's learning engine as well, and compare.")
    ] = False,
    lr: Annotated[float | None, typer.Option(help="Learning rate. Default: that of the file.")] = None,
    profile: Annotated[
        str | None, typer.Option(help="Profile of the cores. Default: the file's, or loihi2-lava-0.10.")
    ] = None,
    headroom: Annotated[
        float, typer.Option(help="Range of the weights, in units of their largest absolute value at the start.")
    ] = 2.0,
    timeout: Annotated[
        float | None,
        typer.Option(help=f"Of --lava: seconds without any step after which to give up. [default: {TIMEOUT_S:g}]"),
    ] = None,
    json: o.Json = False,
) -> None:
    """Emulate a network file in the integers of neuromorphic cores: quantised weights, graded spikes, traces.

    Prints the rule in the notation of the learning engine, the effective learning rates, and everything that is
    rounded or clipped. This is an emulation; no chip is involved.

    Example: noisylearn loihi run net.h5 --steps 20000 --learn
    """
    if lr is not None and not learn:
        raise UserError("--lr goes with --learn: without it the weights stay as they are")
    if timeout is not None and not lava:
        raise UserError("--timeout goes with --lava: nothing else is waited for")
    content = read_net(net)
    steps = (content.period or content.steps) if steps is None else steps
    options = IntegerOptions(steps, learn, lr, profile, headroom)
    with waiting(f"{content.rule.name} in integers"):
        microcode, result = emulate(content, options)
    counted = result.losses[content.counting(len(result.losses)), 1]  # of the reference pass
    document = _document(result, counted)
    if learn:
        warn_of_growth(counted, content.lr if lr is None else lr, "--lr")
    if lava:
        with progress("nothing was kept, and no Lava process is left") as bar:
            on_step = bar.run(f"{content.rule.name} in Lava, fixed point")
            executed = run_net_in_integers(net, options, TIMEOUT_S if timeout is None else timeout, on_step)
        document |= {"lava_steps_per_s": executed.steps / max(executed.seconds, 1e-9)}
        document |= {"numbers_that_differ_from_lava": _differences(result, executed)}
    if json:
        print_json(
            document | {"saturation": result.saturation, "strings": microcode.strings, "report": microcode.report()}
        )
        return
    rows = [[key.replace("_", " "), f"{value:.5g}"] for key, value in document.items()]
    print_table(Table(f"{net.name}: {content.rule.name} in integers", ["measured", "value"], rows, numbers=1))
    _explain(microcode, result)


def _explain(microcode: Microcode, result: IntegerResult) -> None:
    print_text(microcode.report())
    print_text(result.saturation)


def _document(result: IntegerResult, counted: Array) -> dict[str, Any]:
    return {
        "samples": len(result.losses),
        **loss_tenths(counted),
        "steps_per_s": result.steps / max(result.seconds, 1e-9),
    }


def _differences(one: IntegerResult, other: IntegerResult) -> int:
    """Number of losses and weights that differ between two results."""
    different = int(np.count_nonzero(one.losses != other.losses))
    return different + sum(int(np.count_nonzero(w != other.weights[name])) for name, w in one.weights.items())

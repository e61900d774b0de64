"""`noisylearn lava`: install Lava, and run exported networks as Lava processes."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from noisylearn.backends.lava import install
from noisylearn.backends.lava.compat import VERSION, is_installed
from noisylearn.backends.lava.launch import TIMEOUT_S, LavaResult, ResultFile, run_net, write_result
from noisylearn.backends.lava.netfile import Array, LavaNet, read_net
from noisylearn.cli import options as o
from noisylearn.cli.output import loss_tenths, print_json, print_table, print_text, progress, waiting, warn_of_growth
from noisylearn.ground.errors import UserError
from noisylearn.ground.table import Table

app = typer.Typer(no_args_is_help=True, help="Install Lava, and run exported networks as its processes.")


@app.command("install")
def install_command(
    yes: Annotated[bool, typer.Option("--yes", help="Carry the commands out; else they are printed alone.")] = False,
    json: o.Json = False,
) -> None:
    """Print the commands that install Lava for this Python; with --yes, carry them out and load Lava once.

    Example: noisylearn lava install --yes
    """
    if yes:
        with waiting("installing Lava"):
            install.install()
    lines = [shlex.join(command) for command in install.commands()]
    if json:
        print_json({"version": VERSION, "installed": is_installed(), "commands": lines})
    elif is_installed():
        print_text(f"Lava {VERSION} is installed" + (" and loads" if yes else ""))
    else:
        print_text("\n".join([*lines, "or let this command do it: noisylearn lava install --yes"]))


@app.command("run")
def run_command(
    net: Annotated[Path, typer.Argument(help="Network file, as `noisylearn export --to lava` leaves it.")],
    steps: Annotated[
        int | None, typer.Option(help="Steps to run; the data starts again at its end. Default: those of the file.")
    ] = None,
    learn: Annotated[bool, typer.Option("--learn", help="Let the weights change, by the rule of the file.")] = False,
    replay: Annotated[bool, typer.Option("--replay", help="Use torch's draws; the result then is torch's.")] = False,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="HDF5 file for losses and learned weights.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds without any step after which to give up.")] = TIMEOUT_S,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Execute a network file as Lava processes on the CPU; every neuron generates its own noise.

    Without --learn the weights stay as they are. With --learn and --replay the result is compared with what torch
    learned from the same draws.

    Example: noisylearn lava run net.h5 --learn --replay
    """
    if out is not None and out.resolve() == net.resolve():
        raise UserError(f"-o {out} is the network file itself: give another name")
    content = read_net(net)
    steps = content.steps if steps is None else steps
    if out is not None:
        ResultFile(out).check_free(force)
    with progress("nothing was kept, and no Lava process is left") as bar:
        result = run_net(net, steps, learn, replay, timeout, bar.run(f"{content.rule.name} in Lava"))
    if out is not None:
        write_result(out, content, result, force)
    counted = result.losses[content.counting(len(result.losses))]
    document = _document(content, result, counted, compares=learn and replay and steps == content.steps)
    if learn:
        warn_of_growth(counted, content.lr, "export with --lr")
    not_compared = ""
    if replay and steps != content.steps:
        not_compared = f"not compared with torch, which learned for {content.steps} steps: say --steps {content.steps}"
    if json:
        print_json(document | ({"largest_difference_from_torch": None, "note": not_compared} if not_compared else {}))
    else:
        rows = [[key.replace("_", " "), f"{value:.5g}"] for key, value in document.items()]
        print_table(
            Table(f"{net.name}: {content.rule.name} on {content.profile.name}", ["measured", "value"], rows, numbers=1)
        )
        if not_compared:
            print_text(not_compared)
        if out is not None:
            print_text(f"result: {out}")


def _document(net: LavaNet, result: LavaResult, counted: Array, compares: bool) -> dict[str, Any]:
    """What was measured, by name, with the losses that count; with `compares` also the difference from torch."""
    document = {
        "steps": len(result.losses),
        **loss_tenths(counted),
        "steps_per_s": result.steps_per_s,
        "processes": result.n_processes,
    }
    if compares:
        document["largest_difference_from_torch"] = float(np.max(list(result.difference(net).values())))
    return document

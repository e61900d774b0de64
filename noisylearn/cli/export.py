"""`noisylearn export`: write a trained run as a file for Lava or as a NIR file."""

from pathlib import Path
from typing import Annotated

import typer

from noisylearn.backends.lava.export import export_run
from noisylearn.backends.lava.netfile import LavaNet, NetFile, write_net
from noisylearn.backends.nir import export_nir
from noisylearn.cli import options as o
from noisylearn.cli.output import print_json, print_table, print_text, waiting
from noisylearn.experiments.run_file import RunFile
from noisylearn.ground.errors import UserError, unknown_name
from noisylearn.ground.table import Table
from noisylearn.profiles import HardwareProfile, profile_from_text

FORMS = ("lava", "nir")
STEPS = 500


def export_command(
    run: Annotated[Path, typer.Argument(help="Run file, as `noisylearn train` leaves it.")],
    to: Annotated[str, typer.Option("--to", help=f"Form: {', '.join(FORMS)}.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write.")],
    steps: Annotated[
        int | None, typer.Option(help=f"Steps of data and of draws to replay, in whole sequences. Default: {STEPS}.")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Samples (or sequences) in one step. Default: 1.")] = None,
    lr: Annotated[
        float | None,
        typer.Option(help="Learning rate of plain gradient steps. Default: that of the run, if it used them."),
    ] = None,
    initial: Annotated[bool, typer.Option("--initial", help="Export the weights that the run began with.")] = False,
    profile: Annotated[str | None, typer.Option(help="Profile to export with. Default: that of the run.")] = None,
    only: o.Only = None,
    without: o.Without = None,
    data_dir: o.DataDir = None,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Write a run's network, rule and profile to a file for Lava, or to a NIR file.

    A file for Lava also holds training data, the random draws, and what torch learns from them in float64, so that
    `noisylearn lava run --replay` can be compared with it.

    Example: noisylearn export runs/RUN.h5 --to lava -o net.h5
    """
    if to not in FORMS:
        raise unknown_name("form", to, FORMS)
    if out.resolve() == run.resolve():
        raise UserError(f"-o {out} is the run itself: give another name")
    if to == "nir":
        if initial or (steps, batch, lr, profile, only, without, data_dir) != (None,) * 7:
            raise UserError(
                "--steps, --batch, --lr, --initial, --profile, --only, --without, --data-dir go with --to lava; NIR "
                "gets the run as it is"
            )
        _to_nir(run, out, force, json)
        return
    NetFile(out).check_free(force)
    chosen = _profile(run, profile, only, without)
    steps = STEPS if steps is None else steps
    with waiting(f"torch learns {steps} steps along"):
        net = export_run(run, steps, 1 if batch is None else batch, lr, initial, chosen, data_dir)
        write_net(out, net, force)
    if json:
        print_json(_document(net, out))
    else:
        rows = [[key, str(value)] for key, value in _document(net, out).items() if key != "layers"]
        print_table(Table(f"{run.name} for Lava", ["what", "value"], rows))
        print_text(f"run it with: noisylearn {_run_words(net, out, initial)}")


def _to_nir(run: Path, out: Path, force: bool, json: bool) -> None:
    export_nir(run, out, force=force)
    if json:
        print_json({"file": str(out)})
    else:
        print_text(f"NIR file: {out}")


def _profile(run: Path, name: str | None, only: str | None, without: str | None) -> HardwareProfile | None:
    """The profile to export with; None for that of the run."""
    if name is None and only is None and without is None:
        return None
    given = name if name is not None else profile_from_text(RunFile(run).read()["profile"], str(run))
    return o.chosen_profile(given, only, without)


def _run_words(net: LavaNet, out: Path, initial: bool) -> str:
    """The command that runs a file: in integers where its profile has cores, which learn from the initial weights."""
    if net.profile.specification.cores is None:
        return f"lava run {out} --learn --replay"
    return f"loihi run {out}" + " --learn" * initial


def _document(net: LavaNet, out: Path) -> dict[str, object]:
    return {
        "file": str(out),
        "rule": net.rule.describe(),
        "profile": net.profile.name,
        "lr": net.lr,
        "loss": net.loss,
        "steps": net.steps,
        "batch": net.batch,
        "populations": ", ".join(f"{p.name} {p.size}" for p in net.netlist.populations),
    }

"""`noisylearn operations`: operations of a trained network, counted, and an estimate of their energy."""

from pathlib import Path
from typing import Annotated

import typer

from noisylearn import tasks
from noisylearn.backends.netlist.operations import (
    COLUMNS,
    LOIHI_1,
    LayerOperations,
    count_netlist,
    count_spiking,
    measured_rates,
    table,
)
from noisylearn.backends.netlist.rate import from_model
from noisylearn.backends.netlist.spiking import from_spiking
from noisylearn.cli.options import DataDir, Json
from noisylearn.cli.output import print_json, print_table, print_text
from noisylearn.experiments.run_model import TrainedRun, trained_run
from noisylearn.ground.table import Table
from noisylearn.networks import Spiking

SAMPLES = 100  # of the held-out part, to measure spike rates on


def operations_command(
    run_file: Annotated[Path, typer.Argument(help="Run file of a finished run.")],
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Count the operations per inference and per learning step of a finished run, and estimate their energy.

    Spike rates of spiking networks are measured on held-out samples. The energy is the counts times the published
    energies per operation of Loihi 1: an estimate, as the network never ran on that chip.
    """
    run = trained_run(run_file)
    task = tasks.load(run.config.task, data_dir, run.config.held_out, run.config.seed, run.config.seq_len)
    n_steps, layers = _counted(run, task)
    rows = table(layers, run.config.build_rule(), n_steps, run.config.batch, run.updates_per_batch)
    energy = f"energy: that of Loihi 1, estimated from {LOIHI_1.obtained}: {LOIHI_1.source}"
    if run.profile.specification.cores is None:
        energy += f"; it says nothing of the energy of {run.profile.name}, on which the network was trained"
    if json:
        print_json({"run": str(run_file), "time_steps": n_steps, "energy": energy, "operations": rows})
        return
    shown = [[_number(row[key]) for key in COLUMNS] for row in rows]
    print_table(
        Table(f"operations of {run_file.name}, {n_steps} step{'s' * (n_steps != 1)}", list(COLUMNS.values()), shown, 5)
    )
    print_text(energy)


def _counted(run: TrainedRun, task: tasks.Task) -> tuple[int, list[LayerOperations]]:
    """Count the operations of a run: number of time steps, and the operations of every layer."""
    inputs = task.steps(task.test_inputs[:SAMPLES], task.test_targets[:SAMPLES]).inputs
    if isinstance(run.model, Spiking):
        return len(inputs), count_spiking(from_spiking(run.model), measured_rates(run.model, inputs))
    return len(inputs), count_netlist(from_model(run.model))


def _number(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"

"""`noisylearn tasks`: list and show tasks."""

from typing import Annotated

import typer

from noisylearn import tasks
from noisylearn.cli.options import DataDir, Json
from noisylearn.cli.output import print_json, print_table, print_text, waiting
from noisylearn.ground.table import Table

app = typer.Typer(no_args_is_help=True, help="Tasks: data, split, metric, trivial baselines.")


@app.command("list")
def list_command(json: Json = False) -> None:
    """List all tasks."""
    found = [tasks.describe(name) for name in tasks.names()]
    if json:
        print_json([{"name": d.name, "title": d.title, "files": [file.path for file in d.files]} for d in found])
    else:
        rows = [[d.name, d.title, ", ".join(file.path for file in d.files) or "none"] for d in found]
        print_table(Table("tasks", ["name", "what it is", "data files needed"], rows))


@app.command("show")
def show_command(
    name: Annotated[str, typer.Argument(help="Name of the task.")],
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Show one task: notes, sizes, and trivial baselines measured on its data."""
    with waiting(f"reading {name} and fitting its trivial baselines"):
        task = tasks.load(name, data_dir)
        baselines = task.baselines
    sizes = {"training samples": len(task.train_inputs), "held-out samples": len(task.test_inputs)}
    if json:
        print_json(
            {
                "name": name, "title": task.title, "notes": task.notes, "metric": task.metric_name, **sizes,
                "input_shape": list(task.input_shape), "outputs": task.n_outputs, "baselines": baselines,
            }
        )  # fmt: skip
        return
    print_text(str(tasks.describe(name)))
    rows = [[key, str(value)] for key, value in sizes.items()]
    rows += [["input shape", str(tuple(task.input_shape))], ["outputs", str(task.n_outputs)]]
    rows += [[f"trivial baseline: {key}", f"{value:.4g} {task.metric_name}"] for key, value in baselines.items()]
    print_table(Table(task.title, ["", "value"], rows, numbers=1))

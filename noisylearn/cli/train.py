"""`noisylearn train`: train one network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from noisylearn.callbacks import Callback, Run, log_named
from noisylearn.cli import options as o
from noisylearn.cli.output import print_json, print_table, print_text, progress
from noisylearn.distributed import joined
from noisylearn.experiments.config import TrainConfig, resolve
from noisylearn.experiments.run_file import RunFile
from noisylearn.experiments.train import train
from noisylearn.ground.interrupt import term_raised
from noisylearn.ground.table import Table
from noisylearn.ground.tree_file import Tree
from noisylearn.rules.sharing import Send

FINISHED_BEFORE = "(read from file: the run was finished before)"


@dataclass(frozen=True)
class _Begins(Callback):
    """Says something when the run begins: the log of one that is killed has it too."""

    say: Callable[[], None]

    def start(self, run: Run) -> None:
        self.say()


def train_command(
    task: o.Task,
    rule: Annotated[
        str,
        typer.Option(help=o.rules_help()),
    ],
    profile: Annotated[
        str, typer.Option(help="Hardware profile: a name, or a TOML file of your own.")
    ] = "gaussian-node",
    *,
    settings: Mapping[str, Any],
    seed: Annotated[int, typer.Option(help="Seed of all random numbers of the run.")] = 0,
    only: o.Only = None,
    without: o.Without = None,
    write: o.Write = None,
    data_dir: o.DataDir = None,
    out: o.Out = Path("runs"),
    resume: Annotated[bool, typer.Option("--resume", help="Continue an unfinished run bit for bit.")] = False,
    log: Annotated[
        list[str] | None,
        typer.Option(help="Log of the run: csv or tensorboard beside its file, or mlflow; may be given several times."),
    ] = None,
    send: Annotated[str, typer.Option(help="What processes send each other: gradients or losses.")] = "gradients",
    json: o.Json = False,
) -> None:
    """Train a network on a chip and write one HDF5 file.

    Settings that are not given come from the recipe of task, rule and profile, which the output names. A finished run
    is not run again. Several processes share a run where torchrun starts them: docs/distributed.md.

    Example: noisylearn train --task mnist-sample --rule danp --profile pcm-nandakumar-2019
    """
    before: list[str] = []
    logs = [log_named(name) for name in dict.fromkeys(log or [])]
    with joined() as ranks:
        chosen = o.chosen_profile(profile, only, without, write)
        config, recipes = resolve(task, rule, chosen, {**settings, "seed": seed})

        def begins() -> None:
            if not json:
                _print_settings(config, recipes)

        def finished_before() -> None:
            begins()
            before.append(FINISHED_BEFORE)

        with progress() as bar, term_raised():
            file = train(
                config,
                chosen,
                out,
                data_dir,
                resume,
                bar.run(f"{config.label} on {chosen.name}", config.epochs),
                ranks=ranks,
                send=cast(Send, send),
                on_read=finished_before,
                callbacks=[_Begins(begins), *logs],
            )
    if not ranks.is_first:
        return
    run = file.read()
    if json:
        print_json(_document(config, recipes, file, run))
    else:
        _print(config, file, run, *before)


def _document(config: TrainConfig, recipes: list[str], file: RunFile, run: Tree) -> dict[str, Any]:
    epochs = {key: values.tolist() for key, values in run["metrics"]["epoch"].items()}
    return {
        "id": run["id"],
        "file": str(file.path),
        "config": config.uniform(),
        "recipes": recipes,
        "final": run["final"],
        "baselines": run["baselines"],
        "stopped_early": run.get("stopped_early"),
        "epochs": epochs,
        "wall_s": run["wall_s"],
    }


def _print_settings(config: TrainConfig, recipes: list[str]) -> None:
    print_text(f"recipes: {', '.join(recipes)}")
    stated = config.model_dump(exclude={"task", "rule", "profile"})
    print_text("settings: " + ", ".join(f"{key}={value}" for key, value in stated.items()))


def _print(config: TrainConfig, file: RunFile, run: Tree, *remarks: str) -> None:
    rows = [[key.replace("_", " "), f"{value:.4g}"] for key, value in run["final"].items()]
    rows += [[f"trivial baseline: {name}", f"{value:.4g}"] for name, value in run["baselines"].items()]
    rows.append(["wall time (s)", f"{run['wall_s']:.1f}"])
    print_table(
        Table(f"{config.label} on {config.profile}, task {config.task}", ["measured", "value"], rows, numbers=1)
    )
    if "stopped_early" in run:
        print_text(f"ended early, after {run['step']} steps: {run['stopped_early']}")
    print_text(" ".join([f"run file: {file.path}", *remarks]))

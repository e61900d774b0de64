"""`noisylearn profiles`: list and show hardware profiles, list their keys, check a file, fit one to measurements."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from noisylearn.cli.options import Force, Json, Only, Without, chosen_profile
from noisylearn.cli.output import print_json, print_table, print_text, split_list, waiting
from noisylearn.ground.errors import UserError, unknown_name
from noisylearn.ground.replace import FORCE, replace_file
from noisylearn.ground.table import Table
from noisylearn.profiles import HardwareProfile, load_profile, profile_files
from noisylearn.profiles import keys as profile_keys
from noisylearn.profiles.shown import numbers_table
from noisylearn.rules import rules_for

if TYPE_CHECKING:
    from noisylearn.fitting import FittedProfile

app = typer.Typer(no_args_is_help=True, help="Hardware profiles: what a machine does and what can be seen of it.")


@app.command("list")
def list_command(json: Json = False) -> None:
    """List the profiles that come with the package."""
    found = [load_profile(name) for name in profile_files()]
    if json:
        print_json([{"name": p.name, "title": p.title, "observable": p.observable, "shown": p.shown} for p in found])
    else:
        rows = [[p.name, p.title, ", ".join(_rules(p))] for p in found]
        print_table(Table("hardware profiles", ["name", "what it is", "rules that can learn on it"], rows))


@app.command("show")
def show_command(
    name: Annotated[str, typer.Argument(help="A name, or a TOML file.")],
    plot: Annotated[
        Path | None, typer.Option(help="Also draw its noise, drift and update curve into this file.")
    ] = None,
    only: Only = None,
    without: Without = None,
    json: Json = False,
) -> None:
    """Show one profile: every number with its status and source."""
    profile = chosen_profile(name, only, without)
    if plot is not None:
        from noisylearn.report.device import device_picture

        device_picture(profile, plot)
    if json:
        more: dict[str, Any] = {"shown": profile.shown, "rules": _rules(profile)}
        print_json(profile.model_dump(mode="json") | more | ({} if plot is None else {"plot": str(plot)}))
        return
    print_text(f"{profile.name}: {profile.title}\n{profile.description.strip()}")
    print_text(f"observable: {', '.join(profile.shown)}\nrules that can learn on it: {', '.join(_rules(profile))}")
    print_table(numbers_table(profile))
    for key, source in profile.sources.items():
        print_text(f"[{key}] {source.citation} {source.url}".rstrip())
    if plot is not None:
        print_text(f"plot: {plot}")


@app.command("keys")
def keys_command(
    table: Annotated[str | None, typer.Argument(help="An effect, or another table, for example mapping.")] = None,
    json: Json = False,
) -> None:
    """List what a profile may state: all tables, or the keys of one table with their values and equations.

    Example: noisylearn profiles keys programming-noise
    """
    known = profile_keys.tables()
    if table is not None and table not in known:
        raise unknown_name("table of a profile", table, known)
    if json:
        print_json([_keys_document(one) for one in known.values()] if table is None else _keys_document(known[table]))
    elif table is None:
        _print_tables(known.values())
    else:
        _print_keys(known[table])


def _print_tables(known: Iterable[profile_keys.Table]) -> None:
    rows = [[one.name, one.heading, ", ".join(key.name for key in profile_keys.keys(one))] for one in known]
    print_table(Table("tables of a profile", ["name", "heading in the file", "keys"], rows))
    print_text(
        "Besides: schema_version, name, title, description and observable at the top; [sources.KEY] with citation "
        "and url; date in [specification] and [calibration]; status and source in every table above."
    )


def _print_keys(table: profile_keys.Table) -> None:
    print_text(f"{table.heading}\n\n{table.meaning}\n")
    rows = [[key.name, key.takes, key.default, key.meaning] for key in profile_keys.keys(table)]
    n_columns = 4 if any(row[-1] for row in rows) else 3
    columns = ["key", "takes", "default", "what"]
    print_table(Table("keys, beside status and source", columns[:n_columns], [row[:n_columns] for row in rows]))


def _keys_document(table: profile_keys.Table) -> dict[str, Any]:
    own = [key._asdict() for key in profile_keys.keys(table)]
    return {"name": table.name, "heading": table.heading, "meaning": table.meaning, "keys": own}


@app.command("check")
def check_command(
    file: Annotated[Path, typer.Argument(help="TOML file to check.")],
    json: Json = False,
) -> None:
    """Check a profile of your own; where it is wrong, one line says what to correct and the exit status is 1."""
    profile = _load_file(file)
    if json:
        print_json({"file": str(file), "name": profile.name, "valid": True, "rules": _rules(profile)})
    else:
        print_text(f"{file}: valid; rules that can learn on it: {', '.join(_rules(profile))}")


@app.command("fit")
def fit_command(
    data: Annotated[Path, typer.Argument(help="Measurements, a CSV file.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Profile to write, a TOML file.")],
    name: Annotated[str | None, typer.Option(help="Name of the profile. Default: that of its file.")] = None,
    experiments: Annotated[
        str | None,
        typer.Option(help="Which to use, separated by commas: programming,read,drift,pulse. Default: all."),
    ] = None,
    g_max_us: Annotated[
        float | None,
        typer.Option("--g-max-us", help="Largest conductance in microsiemens. Default: the largest target."),
    ] = None,
    t_read_ns: Annotated[
        float | None, typer.Option("--t-read-ns", help="Duration of a read in nanoseconds. Default: fitted.")
    ] = None,
    zero_us: Annotated[
        float | None, typer.Option("--zero-us", help="Conductance of a pulsed device at w = 0. Default: the middle.")
    ] = None,
    full_scale_us: Annotated[
        float | None, typer.Option("--full-scale-us", help="What w = 1 adds to it. Default: half the range.")
    ] = None,
    output_noise: Annotated[
        float | None,
        typer.Option(
            help="Noise of the read-out, assumed, in units of full scale: 0.06 is that of the packaged pulsed devices. "
            "Default: none."
        ),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw data, fits and residuals into this file.")] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Fit a hardware profile to measurements of devices, with intervals, goodness of fit and plots.

    Example: noisylearn profiles fit measurements.csv -o my-device.toml --plot my-device.png
    """
    from noisylearn.fitting import fit_profile
    from noisylearn.fitting.files import check_new
    from noisylearn.fitting.measurements import EXPERIMENTS

    if out.suffix != ".toml":
        raise UserError(f"-o {out}: a profile's file ends in .toml")
    if out.resolve() == data.resolve():
        raise UserError(f"-o {out} is the file of measurements itself: give another name")
    check_new(out, "profile", force)
    chosen = tuple(split_list(experiments, "--experiments")) if experiments is not None else tuple(EXPERIMENTS)
    with waiting(f"fitting {data}"):
        found = fit_profile(
            data,
            name=name or out.stem,
            g_max_us=g_max_us,
            t_read_ns=t_read_ns,
            zero_us=zero_us,
            full_scale_us=full_scale_us,
            output_noise=output_noise,
            experiments=chosen,
        )
        if plot is not None:
            found.plot(plot)
        replace_file(out, found.text.encode(), "profile", FORCE, force=True)
    if json:
        print_json(_fit_document(found, out, plot))
        return
    print_table(found.parameters())
    print_table(found.checks())
    for line in found.warnings:
        print_text(f"note: {line}")
    print_text(f"profile: {out}" + (f"\nplot: {plot}" if plot is not None else ""))


def _fit_document(found: "FittedProfile", out: Path, plot: Path | None) -> dict[str, Any]:
    effects = {
        fit.name: {
            "numbers": fit.numbers,
            "parameters": [parameter._asdict() for parameter in fit.parameters],
            "checks": [check._asdict() for check in fit.checks],
            "warnings": fit.warnings,
            "refused": fit.refused,
        }
        for fit in found.effects
    }
    return {"file": str(out), "name": found.profile.name, "effects": effects, "notes": found.warnings} | (
        {"plot": str(plot)} if plot else {}
    )


@app.command("measure")
def measure_command(
    name: Annotated[str, typer.Argument(help="A name, or a TOML file.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Measurements to write, a CSV file.")],
    devices: Annotated[int | None, typer.Option(help="Devices at each target, or pulsed ones in all.", min=1)] = None,
    levels: Annotated[int | None, typer.Option(help="Targets, evenly spaced over the conductances.", min=1)] = None,
    reads: Annotated[int | None, typer.Option(help="Reads of a device in the experiment read.", min=2)] = None,
    seed: Annotated[int, typer.Option(help="Of the devices and their noise.")] = 0,
    force: Force = False,
    json: Json = False,
) -> None:
    """Simulate measurements of a profile's devices: a file as `profiles fit` takes it.

    Example: noisylearn profiles measure pcm-nandakumar-2019 -o measurements.csv
    """
    from noisylearn.fitting import Plan, measure
    from noisylearn.fitting.files import check_new, write_measurements
    from noisylearn.fitting.simulate import FULL_SCALE_US, ZERO_US

    profile = load_profile(name)
    check_new(out, "measurements", force)
    stated = {"devices": devices, "levels": levels, "reads": reads}
    plan = Plan(**{key: value for key, value in stated.items() if value is not None})
    made = measure(profile, plan, seed)
    comments = [f"simulated: devices of the profile {profile.name}, seed {seed}"]
    if profile.in_place is not None:
        comments.append(f"w = 0 at {ZERO_US:g} uS, w = 1 adds {FULL_SCALE_US:g} uS")
    write_measurements(out, made, comments, force)
    if json:
        print_json({"file": str(out), "profile": profile.name, "experiments": made.experiments, "rows": len(made)})
    else:
        print_text(f"{out}: {len(made)} simulated reads of {profile.name}: {', '.join(made.experiments)}")


def _rules(profile: HardwareProfile) -> list[str]:
    """Names of the rules that can learn on a profile, as --rule takes them; a noisy baseline comes by itself."""
    return [rule.name for rule in rules_for(profile)]


def _load_file(file: Path) -> HardwareProfile:
    if file.suffix != ".toml":
        raise UserError(f"{file}: give a file that ends in .toml")
    return load_profile(file)

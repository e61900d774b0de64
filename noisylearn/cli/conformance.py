"""`noisylearn conformance`: what every rule does on every backend."""

from pathlib import Path
from typing import Annotated

import typer

from noisylearn.backends.conformance import BACKENDS, Claim, claims, page, verify
from noisylearn.cli import options as o
from noisylearn.cli.output import print_json, print_text, progress
from noisylearn.ground.errors import UserError
from noisylearn.ground.replace import replace_file


def conformance_command(
    check: Annotated[bool, typer.Option("--verify", help="Run every claim (minutes; needs Lava).")] = False,
    backend: Annotated[str | None, typer.Option(help=f"One of: {'; '.join(BACKENDS)}.")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Write the page to this file.")] = None,
    json: o.Json = False,
) -> None:
    """Say which rule runs on which backend, and why not where it does not; with --verify, run it.

    Example: noisylearn conformance --verify --backend "Lava, float64"
    """
    if backend is not None and backend not in BACKENDS:
        raise UserError(f"unknown backend '{backend}'; known: {'; '.join(BACKENDS)}")
    if backend is not None and not (check or json):
        raise UserError("--backend chooses claims to run or to list: add --verify or --json")
    chosen = [claim for claim in claims() if backend in (None, claim.backend)]
    failures = _failures(chosen) if check else {}
    if out is not None:
        replace_file(out, page().encode(), "page")
    if json:
        print_json([_document(claim, failures.get(i, "")) for i, claim in enumerate(chosen)])
    elif out is None and not check:
        print_text(page())
    if check and not failures and not json:
        print_text(f"{sum(not claim.excluded for claim in chosen)} claims hold")
    for i, found in failures.items():
        claim = chosen[i]
        raise UserError(f"{claim.case.name}, {claim.case.network}, on {claim.backend}: {found}, not {claim.holds}")


def _failures(chosen: list[Claim]) -> dict[int, str]:
    """What was found in place of a claim, by its number."""
    failures = {}
    with progress("no result was kept") as bar:
        on_step = bar.run("conformance")
        for i, claim in enumerate(chosen):
            if found := verify(claim):
                failures[i] = found
            on_step(i + 1, len(chosen), float("nan"))
    return failures


def _document(claim: Claim, failure: str) -> dict[str, str]:
    case = claim.case
    facts = {"rule": case.name, "network": case.network, "backend": claim.backend}
    return facts | {"holds": claim.holds, "excluded": claim.excluded, "failure": failure}

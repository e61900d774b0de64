"""`noisylearn conformance`: which rule runs on which backend, and checks of every claim."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

from noisylearn.backends.conformance.backends import BACKENDS
from noisylearn.backends.conformance.cases import NETWORKS
from noisylearn.backends.conformance.claims import Claim, claims, of_defaults, page
from noisylearn.cli import options as o
from noisylearn.cli.output import print_json, print_text, progress
from noisylearn.ground.errors import UserError
from noisylearn.ground.replace import FORCE, replace_file

NAMES = [backend.name for backend in BACKENDS]


def conformance_command(
    check: Annotated[bool, typer.Option("--verify", help="Run every claim (minutes; needs Lava).")] = False,
    backend: Annotated[str | None, typer.Option(help=f"One of: {'; '.join(NAMES)}.")] = None,
    network: Annotated[str | None, typer.Option(help=f"One of: {'; '.join(NETWORKS)}.")] = None,
    defaults: Annotated[bool, typer.Option("--defaults", help="Of the claims of a rule the first that holds.")] = False,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Write the page to this file.")] = None,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Print which rule runs on which backend, with the reason where it does not; with --verify, check every claim.

    Example: noisylearn conformance --verify --backend "Lava, float64" --network recurrent
    """
    _check_known("backend", backend, NAMES)
    _check_known("network", network, NETWORKS)
    if (backend is not None or network is not None or defaults) and not (check or json):
        raise UserError("--backend, --network and --defaults choose claims to run or to list: add --verify or --json")
    chosen = [c for c in claims() if backend in (None, c.backend.name) and network in (None, c.case.network)]
    chosen = of_defaults(chosen) if defaults else chosen
    failures = _failures(chosen) if check else {}
    if out is not None:
        replace_file(out, page().encode(), "page", FORCE, force)
    if json:
        print_json([_document(claim, failures.get(i, "")) for i, claim in enumerate(chosen)])
    elif out is None and not check:
        print_text(page())
    if check and not failures and not json:
        print_text(f"{sum(not claim.excluded for claim in chosen)} claims hold")
    for i, found in failures.items():
        claim = chosen[i]
        raise UserError(f"{claim.case.name}, {claim.case.network}, on {claim.backend.name}: {found}; not {claim.holds}")


def _check_known(what: str, name: str | None, known: Collection[str]) -> None:
    if name is not None and name not in known:
        raise UserError(f"unknown {what} '{name}'; known: {'; '.join(known)}")


def _failures(chosen: list[Claim]) -> dict[int, str]:
    """Check the claims: by the index of each claim that does not hold, what was found instead."""
    failures = {}
    with progress("no result was kept") as bar:
        on_step = bar.run("conformance", unit="claim")
        for i, claim in enumerate(chosen):
            if found := claim.verify():
                failures[i] = found
            on_step(i + 1, len(chosen), float("nan"))
    return failures


def _document(claim: Claim, failure: str) -> dict[str, str]:
    case = claim.case
    facts = {"rule": case.name, "network": case.network, "backend": claim.backend.name}
    return facts | {"holds": claim.holds, "excluded": claim.excluded, "failure": failure}

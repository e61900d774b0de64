"""NIR files: written beside and renamed; on reading, everything that a file from elsewhere may contain is checked."""

import io
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from noisylearn.backends.nir.graph import DT_S, to_graph
from noisylearn.backends.nir.library import nir_library
from noisylearn.backends.nir.model import to_model
from noisylearn.backends.nir.nodes import graph_of
from noisylearn.experiments.run_model import trained_run
from noisylearn.ground.errors import UserError, shortened
from noisylearn.ground.hdf5 import opened
from noisylearn.ground.regular import read_regular
from noisylearn.ground.replace import FORCE, check_replaceable, replace_file
from noisylearn.ground.tree_file import SIGNATURE
from noisylearn.profiles import HardwareProfile, profile_from_text
from noisylearn.rules import Delta, PerLayer, Rule, rule_class
from noisylearn.rules.options import typed
from noisylearn.version import __version__

DAMAGED = "damaged, or not a NIR file"
KEYS = ("noisylearn_version", "dt_s", "rule", "rule_options", "profile", "config")


@dataclass(frozen=True, eq=False)
class NirNetwork:
    """What a NIR file contains.

    Args:
        model: the network.
        dt_s: time step of its time constants, s.
        rule: that the network was trained with, where noisylearn wrote the file; else None.
        profile: likewise.
        config: JSON of the run's configuration, or None.
    """

    model: nn.Module
    dt_s: float
    rule: Rule | None = None
    profile: HardwareProfile | None = None
    config: str | None = None


def write_nir(
    path: str | Path,
    model: nn.Module,
    rule: Rule | None = None,
    profile: HardwareProfile | None = None,
    config: str | None = None,
    dt_s: float = DT_S,
    force: bool = False,
) -> Path:
    """Write a network as a NIR file; the rule, its options and the profile's full text are stored as metadata.

    Args:
        path: the file to write.
        model: nl.networks.Spiking, an nn.Sequential of Linear layers, or an nl.networks.RNN without activation.
        rule: that it was trained with.
        profile: that it was trained with.
        config: JSON of the run's configuration.
        dt_s: time step of the time constants, s; snntorch assumes 1e-4 s.
        force: whether to replace whatever is there.

    Returns:
        The path.

    Raises:
        UserError: NIR cannot express the network, the rule has options that are no plain values, the file cannot be
            written, or something else than a NIR file is there. An ExchangeWarning says where other programs will
            interpret the network differently.
    """
    if not 0 < dt_s < float("inf"):
        raise UserError(f"dt_s = {dt_s}: give a positive number of seconds, for example 1e-4")
    metadata: dict[str, Any] = {"noisylearn_version": __version__, "dt_s": dt_s}
    if rule is not None:
        metadata |= {"rule": rule.name, "rule_options": _options(rule)}
    metadata |= {} if profile is None else {"profile": profile.full_text}
    metadata |= {} if config is None else {"config": config}
    path = Path(path)
    _check_free(path, force)
    content = io.BytesIO()
    nir_library().write(content, to_graph(model, metadata, dt_s))
    replace_file(path, content.getbuffer(), "NIR file", FORCE, force)
    return path


def read_nir(path: str | Path, dt_s: float | None = None) -> NirNetwork:
    """Read a network from a NIR file, of this package or of another program.

    The network is an nl.networks.Spiking, an nn.Sequential or an nl.networks.RNN where it is one of them; else a chain
    of torch modules that runs step by step, noisylearn.networks.chain.Chain. An ExchangeWarning says where the step is
    far below all time constants.

    Args:
        path: the file.
        dt_s: time step of its time constants, s; None for what the file states, or 1e-4 s.

    Raises:
        UserError: the file is damaged or no NIR file, or a node cannot be executed or does not fit what it is given;
            the message names it.
    """
    path = Path(path)
    graph = _graph(path)
    stored = {key: graph.metadata[key] for key in KEYS if key in graph.metadata}
    try:
        step = _step(stored.get("dt_s", DT_S) if dt_s is None else dt_s)
        rule = _rule(stored["rule"], stored.get("rule_options", "{}")) if "rule" in stored else None
        text = _text(stored["profile"], "profile") if "profile" in stored else None
        profile = None if text is None else profile_from_text(text, "in its metadata")
        config = _text(stored["config"], "config") if "config" in stored else None
        return NirNetwork(to_model(graph, step), step, rule, profile, config)
    except UserError as error:
        raise UserError(f"NIR file {path}: {error}") from None


def export_nir(run_file: str | Path, out: str | Path, dt_s: float = DT_S, force: bool = False) -> Path:
    """Write the network of a finished run, with its rule, profile and configuration, as a NIR file.

    Args:
        run_file: the run.
        out: the file to write.
        dt_s: time step of the time constants, s.
        force: whether to replace whatever is there.

    Returns:
        The path of the NIR file.

    Raises:
        UserError: as `write_nir`, and where the run is not finished.
    """
    run = trained_run(Path(run_file))
    config = run.config.model_dump_json()
    return write_nir(out, run.model, run.config.build_rule(), run.profile, config, dt_s, force)


def _check_free(path: Path, force: bool) -> None:
    """Raises UserError where something else than a NIR file is, unless it is to be replaced."""
    check_replaceable(path, SIGNATURE, "NIR file", FORCE, force)
    if not force and path.exists() and path.stat().st_size:
        try:
            _graph(path)
        except UserError as error:
            raise UserError(f"{error}; {FORCE}") from None


def _graph(path: Path) -> Any:
    """The graph of a file, if nothing in it is damaged or lies elsewhere."""
    nir = nir_library()
    content = read_regular(path, f"NIR file {path}")
    with opened(content, f"NIR file {path}", DAMAGED) as file:
        stored = nir.serialization.hdf2dict(file["node"])
    try:
        graph = graph_of(stored)
    except UserError as error:
        raise UserError(f"NIR file {path}: {error}") from None
    except Exception as error:  # whatever nir makes of what it does not know
        reason = shortened(f"{type(error).__name__}: {error}", 200)
        raise UserError(f"NIR file {path}: {DAMAGED} ({reason})") from None
    if not isinstance(graph, nir.NIRGraph):
        raise UserError(f"NIR file {path}: contains one {type(graph).__name__} node and no graph")
    if any(isinstance(node, nir.NIRGraph) for node in graph.nodes.values()):
        graph = _flat(path, graph)
    return graph


def _flat(path: Path, graph: Any) -> Any:
    """A graph with the nodes of its sub-graphs (of snntorch's recurrent layers, for example) in their place."""
    nir = nir_library()
    nodes, edges = {}, []
    ends: dict[str, tuple[str, str]] = {}
    for name, node in graph.nodes.items():
        if not isinstance(node, nir.NIRGraph):
            nodes[name], ends[name] = node, (name, name)
            continue
        inner = {key: f"{name}.{key}" for key in node.nodes}
        starts = [b for a, b in node.edges if isinstance(node.nodes[a], nir.Input)]
        stops = [a for a, b in node.edges if isinstance(node.nodes[b], nir.Output)]
        if len(starts) != 1 or len(stops) != 1 or any(isinstance(n, nir.NIRGraph) for n in node.nodes.values()):
            raise UserError(f"NIR file {path}: sub-graph '{name}' is no chain with one input and one output")
        ends[name] = inner[starts[0]], inner[stops[0]]
        kept = {key for key, n in node.nodes.items() if not isinstance(n, nir.Input | nir.Output)}
        nodes |= {inner[key]: node.nodes[key] for key in kept}
        edges += [(inner[a], inner[b]) for a, b in node.edges if a in kept and b in kept]
    edges += [(ends[a][1], ends[b][0]) for a, b in graph.edges]
    return nir.NIRGraph(nodes, edges, metadata=graph.metadata, type_check=False)


def _options(rule: Rule) -> str:
    """JSON of a rule's options; those of a PerLayer are rules themselves."""
    options = {f.name: getattr(rule, f.name) for f in fields(rule)}
    if isinstance(rule, PerLayer):
        options = {layers: {"rule": of.name, "rule_options": _options(of)} for layers, of in rule.rules.items()}
    try:
        return json.dumps(options)
    except TypeError:
        raise UserError(f"rule {rule.describe()} has options that JSON cannot express; use plain values") from None


def _rule(name: Any, options: Any) -> Rule:
    """The rule of this name with options from JSON."""
    kinds: dict[str, type[Rule]] = {kind.name: kind for kind in (Delta, PerLayer)}
    name = _text(name, "rule")
    kind = kinds[name] if name in kinds else rule_class(name)
    try:
        given = json.loads(_text(options, "rule_options"))
        if kind is PerLayer:
            given = {"rules": {layers: _rule(of["rule"], of["rule_options"]) for layers, of in given.items()}}
        return kind(**(given if kind is PerLayer else typed(kind, given)))
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise UserError(f"rule_options of rule {name}: {' '.join(str(error).split())}") from None


def _step(value: Any) -> float:
    """The time step, if it is a positive number."""
    number = float(value) if isinstance(value, int | float | np.number) else float("nan")
    if not 0 < number < float("inf"):
        raise UserError(f"dt_s = {value!r}: the step must be a positive number of seconds")
    return number


def _text(value: Any, key: str) -> str:
    """The value, if it is text."""
    if not isinstance(value, str):
        raise UserError(f"metadata '{key}' is no text")
    return value

"""The way through a NIR graph: one chain from its input to its output, and feedback paths that leave and rejoin it."""

from dataclasses import dataclass
from typing import Any

from noisylearn.backends.nir.library import nir_library
from noisylearn.backends.nir.numbers import WHAT_IS_READ
from noisylearn.ground.errors import UserError


@dataclass(frozen=True)
class Feedback:
    """A path against the chain.

    Args:
        source: node of the chain that it leaves from.
        path: names of the nodes on it, in order.
    """

    source: str
    path: list[str]


@dataclass(frozen=True)
class Walk:
    """Names of the nodes of a graph in the order in which they are executed.

    Args:
        start: its Input.
        chain: the nodes between its ends.
        end: its Output.
        feedback: node of the chain -> the path that ends there.
    """

    start: str
    chain: list[str]
    end: str
    feedback: dict[str, Feedback]


def walk_through(graph: Any) -> Walk:
    """The chain and the feedback paths of a graph.

    Args:
        graph: a nir.NIRGraph.

    Raises:
        UserError: the graph is no chain with feedback paths; the message names the node.
    """
    start, end = _ends(graph)
    targets: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for source, target in graph.edges:
        targets[source].append(target)
    chain, feedback, here = [start], dict[str, Feedback](), start
    while here != end:
        onward = []
        for target in targets[here]:
            path = _feedback_path(target, targets, chain)
            if path is None:
                onward.append(target)
            elif path[-1] in feedback:
                raise UserError(f"node '{path[-1]}' has two feedback paths; {WHAT_IS_READ}")
            else:
                feedback[path[-1]] = Feedback(here, path[:-1])
        if len(onward) != 1:
            raise UserError(f"node '{here}' leads to {', '.join(onward) or 'nothing'}; {WHAT_IS_READ}")
        (here,) = onward
        chain.append(here)
    unused = set(graph.nodes) - set(chain) - {name for of in feedback.values() for name in of.path}
    if unused:
        raise UserError(f"node '{sorted(unused)[0]}' is on no path from the input to the output; {WHAT_IS_READ}")
    return Walk(start, chain[1:-1], end, feedback)


def _ends(graph: Any) -> tuple[str, str]:
    """Names of the Input and the Output."""
    nir = nir_library()
    starts, ends = (
        [name for name, node in graph.nodes.items() if isinstance(node, kind)] for kind in (nir.Input, nir.Output)
    )
    if len(starts) != 1 or len(ends) != 1:
        raise UserError(f"the graph has {len(starts)} inputs and {len(ends)} outputs; give one of each")
    return starts[0], ends[0]


def _feedback_path(first: str, targets: dict[str, list[str]], chain: list[str]) -> list[str] | None:
    """Names from `first` to a node that the chain has passed, that node last; None if the path leads elsewhere."""
    path = [first]
    while path[-1] not in chain:
        onward = targets[path[-1]]
        if len(onward) != 1 or onward[0] in path:
            return None
        path.append(onward[0])
    return path

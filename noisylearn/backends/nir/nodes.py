"""A NIR file node by node, so that what does not fit is said of its node."""

from typing import Any

import numpy as np

from noisylearn.backends.nir.library import nir_library
from noisylearn.backends.nir.numbers import PARAMETERS, WHAT_IS_READ
from noisylearn.ground.errors import UserError, shortened

STATED = {"Conv1d": "input_shape", "Conv2d": "input_shape", "Flatten": "input_type"}


def graph_of(stored: dict[str, Any]) -> Any:
    """The node of a file, mostly a graph, without a check of how its nodes fit together.

    Args:
        stored: its content, as nir reads it.

    Raises:
        UserError: the parameters of a node have different shapes, its metadata is no group, or nir does not know its
            kind.
        Exception: of any kind that nir raises on what it does not know.
    """
    return _node("node", stored)


def _node(name: str, content: dict[str, Any]) -> Any:
    """A node, or a graph with its nodes."""
    nir = nir_library()
    if not isinstance(content.get("metadata", {}), dict):
        raise UserError(f"node '{name}': its metadata is no group")
    if content["type"] != "NIRGraph":
        return _single_node(name, content)
    nodes = {key: _node(key, of) for key, of in content["nodes"].items()}
    edges = [tuple(end.decode() if isinstance(end, bytes) else end for end in edge) for edge in content["edges"]]
    graph = nir.NIRGraph(nodes, edges, content.get("metadata", {}), type_check=False)
    graph.validate_structure()
    return graph


def _single_node(name: str, content: dict[str, Any]) -> Any:
    """A node that is no graph."""
    nir, kind = nir_library(), content["type"]
    if kind not in nir.ir.__all__:
        what = f"is '{shortened(str(kind))}', which the installed package nir does not know"
        raise UserError(f"node '{name}' {what}; {WHAT_IS_READ}")
    _check_parameters(name, content)
    try:
        return _without_inference(nir, content)
    except Exception as error:
        raise ValueError(f"node '{name}' ({kind}): {error}") from None


def _without_inference(nir: Any, content: dict[str, Any]) -> Any:
    """A node; the shape that it states is put in afterwards, since nir infers from it, for square kernels alone."""
    key = STATED.get(content["type"])
    if key is None:
        return nir.dict2NIRNode(content)
    node = nir.dict2NIRNode(content | {key: None})
    stated = content.get(key)
    setattr(node, key, {"input": stated} if key == "input_type" else stated)
    return node


def _check_parameters(name: str, content: dict[str, Any]) -> None:
    """Check that all parameters of neurons have one shape, as NIR asks for; w_in may be one number."""
    keys = [key for key in PARAMETERS.get(content["type"], ()) if key in content]
    shapes = {key: np.shape(content[key]) for key in keys if key != "w_in" or np.shape(content[key])}
    if len(set(shapes.values())) > 1:
        found = ", ".join(f"{key} {shape}" for key, shape in shapes.items())
        raise UserError(f"node '{name}' ({content['type']}): its parameters have different shapes: {found}; give one")

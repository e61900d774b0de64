"""What griffe, which reads the code for the API reference, does not know of it: shapes in annotations, and records.

mkdocs.yml names this file among the extensions of mkdocstrings.
"""

import ast
from collections.abc import Iterator
from typing import Any

import griffe

RECORDS = {"pydantic.BaseModel", "typing.NamedTuple"}


class Shapes(griffe.Extension):
    """Puts the shape of `Float[Tensor, "batch n_in"]` in quotes, as the code has it: griffe reads it as a name."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Of parameters and results."""
        for parameter in func.parameters:
            quote_shapes(parameter.annotation)
        quote_shapes(func.returns)

    def on_attribute(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Of attributes."""
        quote_shapes(attr.annotation)


def quote_shapes(annotation: str | griffe.Expr | None) -> None:
    """Quote the shape in every `Kind[Array, shape]` of jaxtyping within an annotation."""
    if isinstance(annotation, griffe.ExprSubscript) and annotation.canonical_path.startswith("jaxtyping."):
        array, shape = annotation.slice.elements
        text = str(shape)
        written = ast.literal_eval(text) if text.startswith(("'", '"')) else text
        annotation.slice.elements = [array, f'" {written}"' if written.isidentifier() else f'"{written}"']
    elif isinstance(annotation, griffe.Expr) and not isinstance(annotation, griffe.ExprName):
        for part in annotation.iterate(flat=False):
            quote_shapes(part)


class Records(griffe.Extension):
    """Gives pydantic models and named tuples the `__init__` of their fields, as griffe does for dataclasses."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Of all classes of the package, when their base classes are known."""
        found = [one for one in classes_in(pkg) if "__init__" not in one.all_members and RECORDS & bases_of(one)]
        for record in found:
            record.set_member("__init__", griffe.Function("__init__", parent=record, parameters=fields_of(record)))


def classes_in(scope: griffe.Module | griffe.Class) -> Iterator[griffe.Class]:
    """Classes that a module or class defines, at any depth."""
    for member in scope.members.values():
        if not member.is_alias and (member.is_module or member.is_class):
            if member.is_class:
                yield member
            yield from classes_in(member)


def bases_of(record: griffe.Class) -> set[str]:
    """Dotted names of all base classes."""
    return {str(getattr(base, "canonical_path", base)) for one in (record, *record.mro()) for base in one.bases}


def fields_of(record: griffe.Class) -> griffe.Parameters:
    """The fields of a record and of its base classes as parameters, `self` before them."""
    kind = griffe.ParameterKind.keyword_only
    fields = {"self": griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)}
    for one in reversed((record, *record.mro())):
        for name, member in one.attributes.items():
            of_class = "ClassVar" in str(member.annotation) or name.startswith("_") or name == "model_config"
            if member.annotation is not None and not of_class and "property" not in member.labels:
                fields[name] = griffe.Parameter(name, annotation=member.annotation, kind=kind, default=member.value)
    return griffe.Parameters(*fields.values())

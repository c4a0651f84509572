"""Names, signatures, fields and attributes of what ``import fastlung`` offers."""

import dataclasses
import enum
import inspect
import re
from typing import Any

from pydantic import BaseModel

import fastlung

#: Types of other packages that annotations may name.
OTHERS = {"Any", "Callable", "Iterator", "Literal", "Mapping", "NDArray", "None", "PathLike",
          "Sequence"}  # fmt: skip


def _annotation(text: Any) -> str:
    """An annotation without modules, and without the names of types that are not public."""
    said = text if isinstance(text, str) else inspect.formatannotation(text)
    said = re.sub(r"\b(?:[a-z]\w*\.)+", "", said)
    known = OTHERS | set(fastlung.__all__)
    return re.sub(r"\b[A-Z]\w*", lambda m: m[0] if m[0] in known else "inner", said)


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty or value is dataclasses.MISSING:
        return "required"
    return value.__name__ if inspect.isclass(value) else repr(value)


def signature_of(function: Any) -> dict[str, Any]:
    """Parameters by name: how each is given, its default and what it takes."""
    signature = inspect.signature(function)
    kinds = inspect.Parameter
    found = {}
    for place, parameter in enumerate(signature.parameters.values()):
        by_place = parameter.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
        found[parameter.name] = {
            "given": f"{parameter.kind.description}{f' {place}' if by_place else ''}",
            "default": _default(parameter.default),
            "takes": _annotation(parameter.annotation),
        }
    return {"parameters": found, "returns": _annotation(signature.return_annotation)}


def _fields_of(kind: type) -> dict[str, str]:
    if issubclass(kind, BaseModel):
        schema = kind.model_json_schema(mode="serialization")["properties"]
        return {
            name: f"{field.get_default(call_default_factory=True)!r} of {schema[name].get('enum')}"
            for name, field in kind.model_fields.items()
        }
    if dataclasses.is_dataclass(kind):
        return {field.name: _annotation(field.type) for field in dataclasses.fields(kind)}
    return {}


def class_of(kind: type) -> dict[str, Any]:
    """Fields and public attributes of a class, and what its methods take."""
    common = set(dir(BaseModel)) if issubclass(kind, BaseModel) else set(dir(Exception))
    attributes = {}
    for name in dir(kind):
        if name.startswith("_") or name in common:
            continue
        value = inspect.getattr_static(kind, name)
        method = inspect.isfunction(value) or isinstance(value, (classmethod, staticmethod))
        attributes[name] = signature_of(getattr(kind, name)) if method else "attribute"
    found: dict[str, Any] = {"fields": _fields_of(kind), "attributes": attributes}
    if dataclasses.is_dataclass(kind):
        found["made by"] = signature_of(kind)["parameters"]
    if issubclass(kind, enum.Enum):
        found["members"] = {member.name: member.value for member in kind}
    return found


def _errors() -> dict[str, Any]:
    kinds = {
        name: kind
        for name, kind in vars(fastlung.errors).items()
        if inspect.isclass(kind) and issubclass(kind, Exception)
        and kind.__module__ == fastlung.errors.__name__
    }  # fmt: skip
    return {
        name: {"bases": {base.__name__: "base" for base in kind.__mro__[1:-1]}, **class_of(kind)}
        for name, kind in kinds.items()
    }


def public_api() -> dict[str, Any]:
    """Everything in `fastlung.__all__`."""
    found: dict[str, Any] = {}
    for name in fastlung.__all__:
        value = getattr(fastlung, name)
        if name == "errors":
            found[name] = _errors()
        elif name == "__version__":
            found[name] = type(value).__name__
        elif inspect.isclass(value):
            found[name] = class_of(value)
        else:
            found[name] = signature_of(value)
    return found

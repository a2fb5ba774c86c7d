"""Options declared once, as pydantic dataclasses: flags of a command made of them, and values checked against them."""

import textwrap
from collections.abc import Mapping
from dataclasses import field, make_dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticUndefined

from utils.errors import UserError
from utils.flag_values import LIMITS

Options = TypeVar("Options")


def option_fields(options: type, omit: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields of an options class by name: pydantic's FieldInfo, with annotation, default, limits and text."""
    return {name: info for name, info in options.__pydantic_fields__.items() if name not in omit}


def flags_of(options: type, omit: tuple[str, ...] = ()) -> type:
    """A dataclass of flags for utils/arguments.py: names, types, defaults and texts of an options class."""
    return make_dataclass(
        f"{options.__name__}Flags",
        [(name, info.annotation, _flag(info)) for name, info in option_fields(options, omit).items()],
        namespace={"__doc__": options.__doc__},
    )


def build_options(options: type[Options], values: Mapping[str, Any], prefix: str = "--") -> Options:
    """An instance from values by name; nested options may be mappings.

    Raises UserError that names the first value outside its limits, as `prefix` and its name.
    """
    try:
        return TypeAdapter(options).validate_python(dict(values))
    except ValidationError as error:
        raise UserError(explain(error, prefix)) from None


def explain(error: ValidationError, prefix: str = "--") -> str:
    """The first complaint of a ValidationError in one line: name, value and limit."""
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "unexpected_keyword_argument":
        return f"{prefix}{name}: no such option"
    limits = first.get("ctx", {})
    words = {"greater_than_equal": "ge", "greater_than": "gt", "less_than_equal": "le", "less_than": "lt"}
    name_of_limit = words.get(first["type"])
    complaint = LIMITS[name_of_limit].format(limits[name_of_limit]) if name_of_limit else first["msg"]
    given = textwrap.shorten(str(first["input"]), 80, placeholder=" ...")
    return f"{prefix}{name} {given}: {complaint}"


def _flag(info: Any) -> Any:
    limits = {name: getattr(limit, name) for limit in info.metadata for name in LIMITS if hasattr(limit, name)}
    metadata = {"help": info.description, **limits}
    if info.default is PydanticUndefined:
        return field(default_factory=info.default_factory, metadata=metadata)
    return field(default=info.default, metadata=metadata)

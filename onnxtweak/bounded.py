"""Which values may a number among settings have? Its `Range` stands beside its type."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import cache
from numbers import Integral
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from onnxtweak.errors import UsageError
from onnxtweak.quantities import Range


class Bounded:
    """Settings whose numbers have ranges."""

    def __post_init__(self) -> None:
        """Raise UsageError for the first number that is out of its range."""
        kind: type = type(self)
        for name in ranges_of(kind):
            require_in_range(kind, name, getattr(self, name))


@cache
def ranges_of(kind: Hashable) -> Mapping[str, Range]:
    """The ranges that a class declares beside the types of its fields, by field."""
    found = {}
    for name, declared in get_type_hints(kind, include_extras=True).items():
        inner = [part for part in get_args(declared) if get_origin(part) is Annotated]
        for part in (declared, *inner):
            if get_origin(part) is Annotated:
                found[name] = next(each for each in part.__metadata__ if isinstance(each, Range))
    return found


def require_in_range(kind: type, name: str, value: Any, where: str = "") -> None:
    """Raise UsageError for a value of field `name` that is out of its range, if that has one.

    where : how it was given.
    """
    limits = ranges_of(kind).get(name)
    if limits is None:
        return
    where = where or f"--{limits.option or name.replace('_', '-')}"
    if isinstance(value, tuple) and not value:
        raise UsageError("the list is empty", where=where, hint="give at least one number")
    for one in value if isinstance(value, tuple) else () if value is None else (value,):
        try:
            limits.require(one)
        except ValueError as error:
            raise UsageError(str(error), where=where, hint=f"give a number {limits}") from None


def require_number(value: Any, limits: Range, where: str, *, whole: bool = False) -> None:
    """Raise UsageError for an argument beside the settings that is no number, or out of its range.

    where : the option. whole : whether it has to be an integer.
    """
    try:
        limits.require(value)
        if whole and not isinstance(value, Integral):
            raise ValueError(f"{value!r} is not a whole number")
    except ValueError as error:
        raise UsageError(str(error), where=where, hint=f"give a number {limits}") from None

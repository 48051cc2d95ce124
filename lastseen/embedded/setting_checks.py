"""Checks of settings: every setting has one check, in a table beside its definition, wherever its value comes from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from lastseen.engine.errors import InvalidInput, InvalidSetting, shown

Check = Callable[[str, Any], object]
"""Takes the name and the value of a setting. Raises `InvalidInput`, which names both and says what to give."""


def check_settings(checks: Mapping[str, Check], values: Mapping[str, object]) -> None:
    """Check every value. Raises `InvalidSetting` for unknown names; what the check raises for one wrong value; and one
    `InvalidSetting` that lists all of them for several."""
    unknown = sorted(set(values) - set(checks))
    if unknown:
        raise InvalidSetting(f"unknown setting {', '.join(unknown)}: the settings are {', '.join(sorted(checks))}")
    faults = []
    for name, value in values.items():
        try:
            checks[name](name, value)
        except InvalidInput as error:
            faults.append(error)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise InvalidSetting(listed(map(str, faults)))


def listed(faults: Iterable[str]) -> str:
    """One message for all that is wrong, each on a line of its own."""
    found = list(faults)
    return found[0] if len(found) == 1 else "\n  ".join([f"{len(found)} settings are wrong:", *found])


def nearest(name: str, known: Sequence[str]) -> str:
    """`; did you mean …?`, if one of the known names is similar to `name`; else nothing."""
    found = get_close_matches(name, known, 1, 0.6)
    return f"; did you mean {found[0]}?" if found else ""


def optional(check: Check) -> Check:
    """`check`, for a setting that may also be `None`."""
    return lambda name, value: None if value is None else check(name, value)


def whole(least: int, most: int) -> Check:
    """A whole number within bounds."""

    def check(name: str, value: object) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise InvalidSetting(f"{name} = {shown(value)}: give a whole number from {least} to {most}")

    return check


def one_of(*choices: str) -> Check:
    """One of these texts."""

    def check(name: str, value: object) -> None:
        if value not in choices:
            hint = nearest(value, choices) if isinstance(value, str) else ""
            raise InvalidSetting(f"{name} = {shown(value)}: give {', '.join(choices[:-1])} or {choices[-1]}{hint}")

    return check


def matching(form: re.Pattern[str], says: str) -> Check:
    """A text of this form."""

    def check(name: str, value: object) -> None:
        if not isinstance(value, str) or not form.fullmatch(value):
            raise InvalidSetting(f"{name} = {shown(value)}: give {says}")

    return check


def each_matching(form: re.Pattern[str], says: str) -> Check:
    """A list of texts of this form."""

    def check(name: str, value: Any) -> None:
        is_list = isinstance(value, tuple | list)
        if not is_list or not all(isinstance(each, str) and form.fullmatch(each) for each in value):
            raise InvalidSetting(f"{name} = {shown(value)}: give {says}")

    return check


def path(says: str = "the path of a file") -> Check:
    """The path of a file."""
    return matching(re.compile(r"(?s:.+)"), says)


def check_bool(name: str, value: object) -> None:
    """Raise `InvalidSetting` for what is neither `True` nor `False`."""
    if not isinstance(value, bool):
        raise InvalidSetting(f"{name} = {shown(value)}: give True or False")

"""Where settings are said: the environment, a TOML file, and the flags of a command. Text becomes values here."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lastseen.embedded.setting_checks import nearest
from lastseen.engine.errors import shown

PREFIX = "LASTSEEN_"
_other_variables = re.compile(r"CONFIG|TOKEN|URL|(KAFKA|TEST|CRASH|CHAT)_\w+")
"""Variables that are no settings: where the file is, the clients' own, secrets of a log, and the tests'."""
NONE = "none"
"""Text for no limit, or no value, where a setting allows that."""
_from_kubernetes = re.compile(r"([A-Z0-9_]+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
"""What Kubernetes puts into every container of a namespace in which a service is called `lastseen` or `lastseen-…`."""
_port_of_link = re.compile(r"([A-Z0-9_]+_)?PORT")
_service_link = re.compile(r"(tcp|udp|sctp)://")
_is_whole = re.compile(r"-?\d{1,19}").fullmatch


class SourcedValue(NamedTuple):
    """A value, and who said it."""

    value: Any
    origin: str
    """`--port`, `LASTSEEN_PORT`, `lastseen.toml:3`, `profile production` or `default`."""


Source = Mapping[str, SourcedValue]
"""What one place says, by the settings' names."""


def value_from_text(kind: str, text: str) -> object:
    """The value that text stands for, where a setting of this kind takes it; else the text, which is then refused."""
    if text.lower() == NONE and "None" in kind:
        return None
    if kind.startswith("tuple"):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if kind == "bool":
        return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(text.lower(), text)
    return int(text) if "int" in kind and _is_whole(text) else text


def flag_source(
    kinds: Mapping[str, str], flags: Mapping[str, str | None], assignments: Iterable[str], faults: list[str]
) -> Source:
    """What the flags of a command say: those named after a setting, and `--set NAME=VALUE`."""
    found = {}
    for name, text in flags.items():
        if text is not None:
            found[name] = SourcedValue(value_from_text(kinds[name], text), f"--{name.replace('_', '-')}")
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = name.strip().replace("-", "_")
        # What stands behind the equals sign is not shown: it may be a secret.
        if name not in kinds:
            hint = nearest(name, list(kinds)) or "; `lastseen config show` lists all"
            faults.append(f"--set: there is no setting {shown(name)}{hint}")
        elif not equals:
            faults.append(f"--set {name}: give a value: --set {name}=VALUE")
        else:
            found[name] = SourcedValue(value_from_text(kinds[name], text.strip()), f"--set {name}")
    return found


def environment_source(environment: Mapping[str, str], kinds: Mapping[str, str], faults: list[str]) -> Source:
    """What `LASTSEEN_…` variables say; those that are no settings are faults."""
    found = {}
    for variable, text in sorted(environment.items()):
        if not variable.startswith(PREFIX):
            continue
        rest = variable.removeprefix(PREFIX)
        name = rest.lower()
        is_link = bool(_port_of_link.fullmatch(rest) and _service_link.match(text))
        if name in kinds and rest.isupper():
            if not is_link:
                found[name] = SourcedValue(value_from_text(kinds[name], text), variable)
        elif not is_link and not _other_variables.fullmatch(rest) and not _from_kubernetes.fullmatch(rest):
            hint = nearest(rest, [each.upper() for each in kinds]).replace("mean ", f"mean {PREFIX}")
            faults.append(f"{variable}: unknown setting {name}{hint}")
    return found


def file_source(path: Path | None, kinds: Mapping[str, str], faults: list[str]) -> Source:
    """What a TOML file says: settings at its top, by their names. What it says of others is a fault."""
    if path is None:
        return {}
    try:
        text = path.read_text("utf-8")
        content = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'it is not UTF-8'})")
        return {}
    except tomllib.TOMLDecodeError as error:
        faults.append(f"{path}: not valid TOML: {error}")
        return {}
    found = {}
    for name, value in content.items():
        origin = f"{path}:{_line(text, name)}"
        if name not in kinds:
            table = "; put settings at the top of the file, outside any table" if isinstance(value, dict) else ""
            faults.append(f"{origin}: unknown setting {shown(name)[1:-1]}{nearest(name, list(kinds)) or table}")
        elif isinstance(value, str) and (value.lower() == NONE or kinds[name].startswith("tuple")):
            found[name] = SourcedValue(value_from_text(kinds[name], value), origin)
        else:
            found[name] = SourcedValue(tuple(value) if isinstance(value, list) else value, origin)
    return found


def _line(text: str, name: str) -> int:
    """The line on which a key, or a table of that name, begins."""
    key = re.escape(name)
    found = re.search(rf"""^[ \t]*(?:\[+[ \t]*)?["']?{key}["']?[ \t]*[=.\]]""", text, re.MULTILINE)
    return text.count("\n", 0, found.start()) + 1 if found else 1

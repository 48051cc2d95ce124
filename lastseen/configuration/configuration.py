"""Configuration: every setting of a service, from where it was said last.

What is said nearer to the call wins: flags, then the environment (`LASTSEEN_…`), then a TOML file, then the profile,
then the default. The settings are defined in two places and nowhere else: the engine's in
`lastseen.embedded.settings.Settings`, the service's in `lastseen.configuration.service_settings.ServiceSettings`.
Everything that is wrong is named at once, each with its place.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from lastseen.configuration.profiles import DEFAULT_PROFILE, PROFILES
from lastseen.configuration.service_settings import ServiceSettings
from lastseen.configuration.sources import Source, SourcedValue, environment_source, file_source, flag_source
from lastseen.embedded.setting_checks import listed, nearest
from lastseen.embedded.settings import IN_MEMORY_NAMES, Settings
from lastseen.engine.errors import InvalidInput, InvalidSetting, shown

IN_MEMORY = ":memory:"
BY_ROLE = ("background", "prune", "facts")
"""Settings of the engine that follow from the service's roles."""
Definition = type[Settings] | type[ServiceSettings]


class Setting(NamedTuple):
    """One setting that may be configured."""

    name: str
    kind: str
    """Its type, as it is written where it is defined."""
    default: object
    definition: Definition


def _defined_settings() -> Iterator[Setting]:
    for definition in (ServiceSettings, Settings):
        for field in fields(definition):
            if field.name not in BY_ROLE:
                yield Setting(field.name, str(field.type), field.default, definition)


SETTINGS: Mapping[str, Setting] = {setting.name: setting for setting in _defined_settings()}
"""Every setting that may be configured, by its name, in the order in which they are shown."""
KINDS: Mapping[str, str] = {"profile": "str"} | {setting.name: setting.kind for setting in SETTINGS.values()}
"""The type of each, the choice of a profile among them."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """Settings, checked, and where each comes from."""

    profile: SourcedValue
    values: Mapping[str, SourcedValue]
    """Every setting of `SETTINGS`."""
    service: ServiceSettings
    engine: Mapping[str, Any]
    """What `open_engine` is given beside the log."""

    def value(self, name: str) -> Any:
        """The value of a setting."""
        return self.values[name].value


def configure(
    flags: Mapping[str, str | None] | None = None,
    assignments: Iterable[str] = (),
    *,
    config: str | None = None,
    environment: Mapping[str, str] | None = None,
    defaults: Source | None = None,
    fixed: Source | None = None,
) -> Configuration:
    """Gather and check the settings.

    `flags` are the texts of a command's flags by the settings that they name, `assignments` are `NAME=VALUE`.
    `config` names the TOML file; without it `LASTSEEN_CONFIG` does, else `lastseen.toml` is read if it is there.
    `defaults` and `fixed` are what a command itself says, below and above all else. Raises `InvalidSetting`, which
    names everything that is wrong.
    """
    environment = os.environ if environment is None else environment
    faults: list[str] = []
    from_file = file_source(_file(config, environment, faults), KINDS, faults)
    from_environment = environment_source(environment, KINDS, faults)
    from_flags = flag_source(KINDS, flags or {}, assignments, faults)
    layers = [defaults or {}, {}, from_file, from_environment, from_flags, fixed or {}]
    profile = _winning_value("profile", layers, SourcedValue(DEFAULT_PROFILE, "default"))
    if profile.value not in PROFILES:
        hint = nearest(str(profile.value), list(PROFILES))
        faults.append(f"{profile.origin}: profile = {shown(profile.value)}: give one of {', '.join(PROFILES)}{hint}")
    else:
        layers[1] = {
            name: SourcedValue(value, f"profile {profile.value}") for name, value in PROFILES[profile.value].items()
        }
    values = {
        name: _winning_value(name, layers, SourcedValue(each.default, "default")) for name, each in SETTINGS.items()
    }
    faults += _invalid_values(values)
    if faults:
        raise InvalidSetting(listed(faults))
    service = ServiceSettings.of(**_values_of(ServiceSettings, values))
    return Configuration(profile, values, service, _engine_settings(values, service.roles))


def shown_value(name: str, value: Any) -> Any:
    """A value as it may be shown: of a log's URL, nothing that could be a password."""
    if name == "log" and "@" in value:
        scheme, _, rest = value.partition("://")
        return f"{scheme}://***@{rest.rpartition('@')[2]}"
    return list(value) if isinstance(value, tuple) else value


def _file(config: str | None, environment: Mapping[str, str], faults: list[str]) -> Path | None:
    for name, named_by in ((config, "--config"), (environment.get("LASTSEEN_CONFIG") or None, "LASTSEEN_CONFIG")):
        if name is not None:
            if Path(name).is_file():
                return Path(name)
            faults.append(f"{named_by}: there is no file {shown(name)}: give the path of a TOML file")
            return None
    return Path("lastseen.toml") if Path("lastseen.toml").is_file() else None


def _winning_value(name: str, layers: list[Source], default: SourcedValue) -> SourcedValue:
    return next((layer[name] for layer in reversed(layers) if name in layer), default)


def _values_of(definition: Definition, values: Mapping[str, SourcedValue]) -> dict[str, Any]:
    return {name: values[name].value for name, setting in SETTINGS.items() if setting.definition is definition}


def _invalid_values(values: Mapping[str, SourcedValue]) -> list[str]:
    """What is wrong with the values, each by itself, and then with how they go together."""
    faults = []
    for name, setting in SETTINGS.items():
        value, origin = values[name]
        try:
            setting.definition.of(**{name: value})
        except InvalidInput as error:
            faults.append(f"{origin}: {error}")
    if faults:
        return faults
    origin = values["roles"].origin
    roles = ServiceSettings.of(roles=values["roles"].value).roles
    if "view" not in roles:
        faults.append(
            f"{origin}: roles = {','.join(roles)}: every other role needs view, which holds the live sessions"
        )
    snapshot = values["snapshot"]
    if "snapshot" not in roles and snapshot.value not in (None, *IN_MEMORY_NAMES):
        faults.append(f"{snapshot.origin}: snapshot names a file, and the roles ({origin}) leave snapshot out")
    if "api" not in roles and str(values["log"].value).startswith("memory:"):
        faults.append(
            f"{origin}: roles: without api no event can reach memory://; give a log that other processes share"
        )
    return faults


def _engine_settings(values: Mapping[str, SourcedValue], roles: tuple[str, ...]) -> dict[str, Any]:
    settings = _values_of(Settings, values) | {"prune": "pruner" in roles, "facts": "facts" in roles}
    return settings if "snapshot" in roles else settings | {"snapshot": IN_MEMORY}

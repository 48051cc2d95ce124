"""`lastseen config`: which value a setting takes, from where, and what is said of those that are wrong."""

from __future__ import annotations

import json
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lastseen.cli.program import app
from lastseen.configuration.configuration import IN_MEMORY, SETTINGS, Configuration, configure, shown_value
from lastseen.configuration.profiles import PROFILES
from lastseen.configuration.service_settings import ServiceSettings
from lastseen.configuration.sources import SourcedValue
from lastseen.docs.configuration_page import configuration_page, explanations
from lastseen.embedded.settings import Settings
from lastseen.engine.errors import InvalidInput, InvalidSetting

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("LASTSEEN_LOG", "LASTSEEN_CONFIG", "LASTSEEN_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def run(*arguments: str, **environment: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, arguments, env=environment)


def origin_of(name: str, *arguments: str, **environment: str) -> tuple[object, str]:
    """A setting's value, and where it comes from, as the command shows them."""
    result = run("config", "show", "--origin", "-o", "json", *arguments, **environment)
    assert result.exit_code == 0, result.stderr
    shown = json.loads(result.stdout)[name]
    return shown["value"], shown["origin"]


def faults_of(config: str | None = None, flags: dict[str, str | None] | None = None, **environment: str) -> list[str]:
    """What is said to be wrong."""
    with pytest.raises(InvalidSetting) as raised:
        configure(flags, config=config, environment=environment)
    lines = str(raised.value).split("\n  ")
    if len(lines) > 1:
        assert lines.pop(0) == f"{len(lines)} settings are wrong:"
    return lines


def of(**environment: str) -> Configuration:
    """The configuration in this environment, and nothing else said."""
    return configure(environment={f"LASTSEEN_{name.upper()}": text for name, text in environment.items()})


# ── who wins ──


def test_what_is_said_nearer_to_the_call_wins(folder: Path) -> None:
    name = "idle_ttl"
    assert origin_of(name) == ("30m", "profile production")
    assert origin_of(name, "--profile", "long_running") == ("2h", "profile long_running")
    (folder / "lastseen.toml").write_text('port = 9000\nidle_ttl = "7m"\n')
    assert origin_of(name, "--profile", "long_running") == ("7m", "lastseen.toml:2")
    assert origin_of(name, LASTSEEN_IDLE_TTL="8m") == ("8m", "LASTSEEN_IDLE_TTL")
    assert origin_of(name, "--set", "idle_ttl=9m", LASTSEEN_IDLE_TTL="8m") == ("9m", "--set idle_ttl")
    assert origin_of("max_sessions") == (None, "default")


def test_the_file_is_the_one_that_is_named(folder: Path) -> None:
    for name, port in (("lastseen", 1001), ("second", 1002), ("third", 1003)):
        (folder / f"{name}.toml").write_text(f"# a port\nport = {port}\n")
    assert origin_of("port") == (1001, "lastseen.toml:2")
    assert origin_of("port", LASTSEEN_CONFIG="second.toml") == (1002, "second.toml:2")
    assert origin_of("port", "--config", "third.toml", LASTSEEN_CONFIG="second.toml") == (1003, "third.toml:2")


def test_a_profile_is_chosen_like_any_setting(folder: Path) -> None:
    (folder / "lastseen.toml").write_text('profile = "development"\n')
    assert origin_of("profile") == ("development", "lastseen.toml:1")
    assert origin_of("idle_ttl") == ("5m", "profile development")
    assert origin_of("idle_ttl", LASTSEEN_PROFILE="high_traffic") == ("15m", "profile high_traffic")
    assert origin_of("idle_ttl", "--profile", "long_running", LASTSEEN_PROFILE="high_traffic")[0] == "2h"


def test_what_a_command_says_itself_is_below_the_profile_and_above_all_else() -> None:
    configured = configure(
        {"port": "1"},
        environment={"LASTSEEN_LOG": "kafka://production:9092/sessions"},
        defaults={"idle_ttl": SourcedValue("1s", "lastseen dev"), "max_age": SourcedValue("1s", "lastseen dev")},
        fixed={"log": SourcedValue("memory://", "lastseen dev")},
    )
    assert configured.values["idle_ttl"].origin == "profile production"
    assert configured.values["max_age"] == ("1s", "lastseen dev")
    assert configured.service.log == "memory://"
    assert configured.service.port == 1


def test_the_profiles_have_the_predecessors_figures() -> None:
    assert {name: settings["idle_ttl"] for name, settings in PROFILES.items()} == {
        "development": "5m", "production": "30m", "high_traffic": "15m", "long_running": "2h",
    }  # fmt: skip
    for name in PROFILES:
        assert of(profile=name).engine["idle_ttl"] == PROFILES[name]["idle_ttl"]


# ── from text ──


def test_text_becomes_values() -> None:
    configured = of(
        port="0", max_sessions="none", max_messages="5", evict_on_pressure="yes", roles="api, view", idle_ttl="none",
        snapshot_interval="250", allowed_hosts="a.example,b.example", group="none", statistics_interval="None",
    )  # fmt: skip
    assert (configured.service.port, configured.service.roles) == (0, ("api", "view"))
    assert configured.service.allowed_hosts == ("a.example", "b.example")
    assert configured.service.statistics_interval is None
    engine = configured.engine
    assert (engine["max_sessions"], engine["max_messages"], engine["evict_on_pressure"]) == (None, 5, True)
    assert (engine["idle_ttl"], engine["snapshot_interval"], engine["group"]) == (None, 250, None)


def test_a_file_says_lists_and_none(folder: Path) -> None:
    (folder / "lastseen.toml").write_text('roles = ["api", "view"]\nallowed_hosts = "a,b"\nmax_messages = "none"\n')
    configured = configure(environment={})
    assert configured.service.roles == ("api", "view")
    assert configured.service.allowed_hosts == ("a", "b")
    assert configured.engine["max_messages"] is None


def test_what_kubernetes_says_of_a_service_of_that_name_is_passed_over() -> None:
    configured = of(
        port="tcp://10.0.0.1:8321", service_host="10.0.0.1", service_port="8321", service_port_http="8321",
        port_8321_tcp="tcp://10.0.0.1:8321", port_8321_tcp_addr="10.0.0.1", kafka_password="secret", config="",
    )  # fmt: skip
    assert configured.values["port"] == (8321, "default")


@pytest.mark.parametrize("service", ["headless", "log", "kafka", "port", "engine_2", "service"])
def test_what_kubernetes_says_of_a_service_whose_name_begins_so_is_passed_over(service: str) -> None:
    link = {
        "port": "tcp://10.0.0.1:8321", "service_host": "10.0.0.1", "service_port": "8321", "service_port_http": "8321",
        "port_8321_tcp": "tcp://10.0.0.1:8321", "port_8321_tcp_addr": "10.0.0.1", "port_8321_tcp_proto": "tcp",
    }  # fmt: skip
    configured = of(**{f"{service}_{name}": text for name, text in link.items()})
    assert [name for name, (_, origin) in configured.values.items() if origin.startswith("LASTSEEN_")] == []


def test_a_port_that_is_no_link_is_still_a_mistake() -> None:
    (fault,) = faults_of(LASTSEEN_HTTP_PORT="8400")
    assert fault.startswith("LASTSEEN_HTTP_PORT: unknown setting http_port")


# ── what is wrong ──


def test_all_that_is_wrong_is_named_at_once(folder: Path) -> None:
    (folder / "service.toml").write_text('# ours\nport = 99999\nmax_age = "soon"\n\n[server]\nburst = 3\n')
    faults = faults_of(
        "service.toml",
        {"roles": "api,veiw"},
        LASTSEEN_MAX_SESSIONS="many", LASTSEEN_IDEL_TTL="5m", LASTSEEN_PROFILE="produktion",
    )  # fmt: skip
    assert faults == [
        "service.toml:5: unknown setting server; put settings at the top of the file, outside any table",
        "LASTSEEN_IDEL_TTL: unknown setting idel_ttl; did you mean LASTSEEN_IDLE_TTL?",
        "LASTSEEN_PROFILE: profile = 'produktion': give one of development, production, high_traffic, long_running;"
        " did you mean production?",
        "service.toml:2: port = 99999: give a whole number from 0 to 65535",
        "--roles: roles: 'veiw' is not a role: give some of api, view, snapshot, pruner, facts; did you mean view?",
        "service.toml:3: max_age = 'soon': give milliseconds, or a duration such as 90s, 30m, 4h or 90d",
        "LASTSEEN_MAX_SESSIONS: max_sessions = 'many': give a whole number from 1 to 9007199254740991",
    ]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("log", "mysql://root:hunter2@db/x", "give memory://, sqlite:///path/to/file.db or kafka://host:9092/topic"),
        ("log", "kafka://ana:hunter2@host/topic", "the URL must not contain a user or password"),
        ("log", "sqlite:", "give memory://"),
        ("host", "not a host", "give an address such as 127.0.0.1"),
        ("allowed_hosts", "a b", "give names of hosts"),
        ("port", "-1", "0 to 65535"),
        ("roles", "api,view,api", "give each role once"),
        ("roles", " , ", "give one or more of api, view"),
        ("token_file", "ls_hunter2", "this is a token, not a file"),
        ("allowed_origins", "console.example.org", "give origins, such as https://console.example.org"),
        ("max_requests", "0", "1 to 100000"),
        ("requests_per_s", "0.5", "1 to 1000000"),
        ("access_log", "perhaps", "give True or False"),
        ("shutdown_timeout", "0s", "give more than zero"),
        ("statistics_interval", "often", "give milliseconds, or a duration"),
        ("log_level", "warn", "give debug, info, warning or error; did you mean warning?"),
        ("log_format", "yaml", "give json or lines"),
        ("view", "some", "give all or owned"),
        ("evict_on_pressure", "perhaps", "give True or False"),
        ("max_messages", "0", "max_messages"),
    ],
)
def test_a_wrong_value_is_named_with_its_place_and_bound(name: str, text: str, says: str) -> None:
    variable = f"LASTSEEN_{name.upper()}"
    (fault,) = faults_of(**{variable: text})
    assert fault.startswith(f"{variable}: {name}" if name != "log" else f"{variable}: log")
    assert says in fault
    assert "hunter2" not in fault


def test_an_unknown_name_is_reported_without_its_value(folder: Path) -> None:
    (folder / "a.toml").write_text('kafka_password = "hunter2"\n')
    with pytest.raises(InvalidSetting) as raised:
        configure(
            {}, ["kafka-passwort=hunter2", "prt=1"], config="a.toml", environment={"LASTSEEN_PASSWORD": "hunter2"}
        )
    assert "hunter2" not in str(raised.value)
    for place in ("a.toml:1", "LASTSEEN_PASSWORD", "--set: there is no setting 'kafka_passwort'", "did you mean port?"):
        assert place in str(raised.value)


def test_a_file_that_is_none(folder: Path) -> None:
    assert faults_of("nowhere.toml") == ["--config: there is no file 'nowhere.toml': give the path of a TOML file"]
    assert faults_of(LASTSEEN_CONFIG="gone.toml")[0].startswith("LASTSEEN_CONFIG: there is no file")
    (folder / "broken.toml").write_text("port = = 3\n")
    assert faults_of("broken.toml")[0].startswith("broken.toml: not valid TOML: ")
    (folder / "latin.toml").write_bytes(b'source = "\xff"\n')
    assert faults_of("latin.toml") == ["latin.toml: cannot be read (it is not UTF-8)"]


# ── roles ──


def test_roles_become_duties_of_the_engine() -> None:
    everything = of()
    assert (everything.engine["prune"], everything.engine["facts"], everything.engine["snapshot"]) == (True, True, None)
    little = of(roles="api,view", log="sqlite:///a.db")
    assert (little.engine["prune"], little.engine["facts"], little.engine["snapshot"]) == (False, False, IN_MEMORY)
    assert of(roles="view,snapshot", snapshot="a.snapshot").engine["snapshot"] == "a.snapshot"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"roles": "api,snapshot"}, "LASTSEEN_ROLES: roles = api,snapshot: every other role needs view"),
        ({"roles": "api,view", "snapshot": "a.db"}, "LASTSEEN_SNAPSHOT: snapshot names a file, and the roles"),
        ({"roles": "view,pruner", "log": "memory://"}, "without api no event can reach memory://"),
    ],
)
def test_roles_that_make_no_sense_are_refused(given: dict[str, str], says: str) -> None:
    with pytest.raises(InvalidSetting, match=says):
        of(**given)


# ── the command ──


def test_show_prints_every_setting_and_no_secret() -> None:
    table = run("config", "show", "--origin", "--set", "max_sessions=50")
    assert table.exit_code == 0
    assert "--set max_sessions" in next(line for line in table.stdout.splitlines() if " max_sessions " in line)
    plain = json.loads(run("config", "show", "--output", "json").stdout)
    assert list(plain) == ["profile", *SETTINGS]
    assert plain["roles"] == ["api", "view", "snapshot", "pruner", "facts"]
    assert shown_value("log", "postgresql://ana:hunter2@db:5432/x") == "postgresql://***@db:5432/x"


def test_validate_says_it_by_its_exit_code(folder: Path) -> None:
    right = run("config", "validate", "--profile", "high_traffic", "--set", "port=1")
    assert (right.exit_code, right.stdout) == (0, "")
    (folder / "x.toml").write_text('port = "8321"\n')
    wrong = run("config", "validate", "--config", "x.toml", "--set", "burst=0")
    assert wrong.exit_code == 2
    assert "2 settings are wrong" in wrong.stderr
    assert "x.toml:1: port = '8321'" in wrong.stderr
    assert "--set burst: burst = 0" in wrong.stderr


# ── the page ──


def test_the_page_is_not_stale() -> None:
    assert (ROOT / "docs" / "reference" / "configuration.md").read_text("utf-8") == configuration_page(), (
        "run `make docs`"
    )


def test_every_setting_is_explained_where_it_is_defined() -> None:
    for setting in SETTINGS.values():
        assert explanations(setting.definition)[setting.name]


def test_a_file_may_say_every_setting(folder: Path) -> None:
    shown = json.loads(run("config", "show", "-o", "json", "--set", "snapshot=a").stdout)
    lines = [f"{name} = {json.dumps('none' if value is None else value)}\n" for name, value in shown.items()]
    (folder / "all.toml").write_text("".join(lines))
    assert set(tomllib.loads("".join(lines))) == {"profile", *SETTINGS}
    again = configure(config="all.toml", environment={})
    assert all(given.origin.startswith("all.toml:") for given in again.values.values())


def test_an_engine_names_all_that_is_wrong_at_once() -> None:
    with pytest.raises(InvalidSetting) as raised:
        Settings.of(idle_ttl="soon", max_sessions=0, view="some")
    assert str(raised.value).splitlines() == [
        "3 settings are wrong:",
        "  idle_ttl = 'soon': give milliseconds, or a duration such as 90s, 30m, 4h or 90d",
        "  max_sessions = 0: give a whole number from 1 to 9007199254740991",
        "  view = 'some': give all or owned",
    ]


@pytest.mark.parametrize("definition", [Settings, ServiceSettings])
def test_every_setting_has_one_check_and_its_default_passes(definition: type[Settings] | type[ServiceSettings]) -> None:
    defaults = {field.name: field.default for field in fields(definition)}
    assert definition.of(**defaults) == definition()
    for name in defaults:
        with pytest.raises(InvalidInput, match=name):
            definition.of(**{name: object()})

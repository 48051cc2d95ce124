"""The Kubernetes manifests: right by Kubernetes' own schemas, right with each other, and right with the service."""

from __future__ import annotations

import asyncio
import copy
import re
import tomllib
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

import lastseen
from lastseen.cli.program import app
from lastseen.configuration.configuration import configure
from lastseen.embedded.settings import duration_ms
from lastseen.http.application import build
from lastseen.http.routes import health, metrics

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "infra" / "kubernetes"
OBJECTS: list[dict[str, Any]] = [
    each for path in sorted(FOLDER.glob("*.yaml")) for each in yaml.safe_load_all(path.read_text(encoding="utf-8"))
]
SCHEMAS = ("1.30", kubernetes_validate.latest_version())
"""The oldest and the newest Kubernetes that they are held against."""


def the(kind: str, name: str = "lastseen") -> dict[str, Any]:
    """The object of a kind and name."""
    (found,) = [each for each in OBJECTS if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


PODS = [the("StatefulSet")["spec"]["template"], the("Job", "lastseen-topics")["spec"]["template"]]
(ENGINE,) = PODS[0]["spec"]["containers"]
CONTAINERS = [(pod["spec"], container) for pod in PODS for container in pod["spec"]["containers"]]
SETTINGS = tomllib.loads(the("ConfigMap")["data"]["lastseen.toml"])


def environment_of(container: dict[str, Any], pod: str = "lastseen-0") -> dict[str, str]:
    """What the container's process finds, in the first pod."""
    plain = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    return {name: value.replace("$(POD_NAME)", pod) for name, value in plain.items()}


@pytest.mark.parametrize("version", SCHEMAS)
@pytest.mark.parametrize("manifest", OBJECTS, ids=[f"{each['kind']} {each['metadata']['name']}" for each in OBJECTS])
def test_kubernetes_takes_it(manifest: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_a_field_that_is_misspelt_would_be_found() -> None:
    wrong = copy.deepcopy(the("StatefulSet"))
    wrong["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, SCHEMAS[-1], strict=True)


def test_what_is_to_be_there_is_there() -> None:
    assert sorted((each["kind"], each["metadata"]["name"]) for each in OBJECTS) == [
        ("ConfigMap", "lastseen"), ("Job", "lastseen-topics"), ("NetworkPolicy", "lastseen"),
        ("PodDisruptionBudget", "lastseen"), ("Service", "lastseen"), ("Service", "lastseen-members"),
        ("ServiceAccount", "lastseen"), ("StatefulSet", "lastseen"),
    ]  # fmt: skip
    assert {each["metadata"]["labels"]["app.kubernetes.io/name"] for each in OBJECTS} == {"lastseen"}


def test_selectors_find_the_engines_and_nothing_else() -> None:
    labels, job = PODS[0]["metadata"]["labels"], PODS[1]["metadata"]["labels"]
    for selector in (
        the("StatefulSet")["spec"]["selector"]["matchLabels"],
        the("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        the("Service")["spec"]["selector"],
        the("Service", "lastseen-members")["spec"]["selector"],
        *(each["labelSelector"]["matchLabels"] for each in PODS[0]["spec"]["topologySpreadConstraints"]),
    ):
        assert selector.items() <= labels.items()
        assert not selector.items() <= job.items(), "no caller may be sent to the job that makes topics"
    everywhere = the("NetworkPolicy")["spec"]["podSelector"]["matchLabels"]
    assert everywhere.items() <= labels.items()
    assert everywhere.items() <= job.items()


@pytest.mark.parametrize(("pod", "container"), CONTAINERS, ids=[container["name"] for _, container in CONTAINERS])
def test_a_container_may_do_nothing_that_it_need_not(pod: dict[str, Any], container: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] == the("ServiceAccount")["metadata"]["name"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    user = re.findall(r"^USER (\d+)$", (ROOT / "infra/docker/Dockerfile").read_text("utf-8"), re.MULTILINE)
    assert [str(pod["securityContext"]["runAsUser"])] == user
    assert container["resources"]["limits"]["memory"]
    assert re.search(r":\d+\.\d+", container["image"])
    volumes = {each["name"] for each in pod["volumes"]}
    volumes |= {each["metadata"]["name"] for each in the("StatefulSet")["spec"]["volumeClaimTemplates"]}
    assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    assert {"name": "scratch", "mountPath": "/tmp"} in container["volumeMounts"]


def test_the_image_is_of_this_version() -> None:
    assert {container["image"].rpartition(":")[2] for _, container in CONTAINERS} == {lastseen.__version__}


def test_the_service_takes_its_configuration(tmp_path: Path) -> None:
    mounts = {each["mountPath"]: each["name"] for each in ENGINE["volumeMounts"]}
    environment = environment_of(ENGINE)
    (folder,) = [place for place, name in mounts.items() if name == "config"]
    assert environment.pop("LASTSEEN_CONFIG") == f"{folder}/lastseen.toml"
    file = tmp_path / "lastseen.toml"
    file.write_text(the("ConfigMap")["data"]["lastseen.toml"])

    configuration = configure(config=str(file), environment=environment)

    assert configuration.service.log == environment_of(CONTAINERS[1][1])["LASTSEEN_LOG"], "the topics of another log"
    assert configuration.engine["member"] == "lastseen-0"
    headless = the("StatefulSet")["spec"]["serviceName"]
    assert configuration.engine["address"] == f"http://lastseen-0.{headless}:{configuration.service.port}"
    assert the("Service", headless)["spec"]["clusterIP"] == "None"
    assert configuration.service.port == ENGINE["ports"][0]["containerPort"]
    for place in (configuration.engine["snapshot"], configuration.service.token_file):
        assert str(Path(place).parent) in mounts
    assert mounts[str(Path(configuration.engine["snapshot"]).parent)] == "state"


def test_there_is_time_to_end() -> None:
    needed_ms = sum(duration_ms(name, SETTINGS[name]) for name in ("drain_time", "shutdown_timeout"))
    assert PODS[0]["spec"]["terminationGracePeriodSeconds"] * 1000 >= needed_ms + 20_000
    probe = ENGINE["readinessProbe"]
    unready_after_s = probe["periodSeconds"] * probe["failureThreshold"]
    assert duration_ms("drain_time", SETTINGS["drain_time"]) >= unready_after_s * 1000, "callers would be refused"


def statuses(*paths: str) -> set[int]:
    """What the service answers there."""

    async def ask(engine: lastseen.Engine) -> set[int]:
        served = build(engine, operations=[health.router(engine), metrics.router(engine)])
        async with httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url="http://localhost") as client:
            return {(await client.get(path)).status_code for path in paths}

    with lastseen.open_engine("memory://", background=False) as opened:
        return asyncio.run(ask(opened))


def test_ports_and_probes_are_the_services() -> None:
    asked = {name: ENGINE[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {name: each["path"] for name, each in asked.items()} == {
        "startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz",
    }  # fmt: skip
    annotations = PODS[0]["metadata"]["annotations"]
    assert statuses(*{each["path"] for each in asked.values()}, annotations["prometheus.io/path"]) == {200}
    (port,) = ENGINE["ports"]
    assert {each["port"] for each in asked.values()} == {port["name"]}
    for name in ("lastseen", "lastseen-members"):
        assert {each["targetPort"] for each in the("Service", name)["spec"]["ports"]} == {port["name"]}
    assert annotations["prometheus.io/port"] == str(port["containerPort"])
    policy = the("NetworkPolicy")["spec"]
    assert [each["port"] for rule in policy["ingress"] for each in rule["ports"]] == [port["containerPort"]]
    kafka_ports = set(re.findall(r":(\d+)[,/]", SETTINGS["log"].partition("://")[2].partition("?")[0]))
    assert {str(each["port"]) for each in policy["egress"][-1]["ports"]} == kafka_ports


def test_no_secret_is_in_it() -> None:
    assert "Secret" not in {each["kind"] for each in OBJECTS}
    for _, container in CONTAINERS:
        for each in container["env"]:
            if re.search("PASSWORD|TOKEN|SECRET", each["name"]):
                assert "secretKeyRef" in each["valueFrom"]
    (tokens,) = [each for each in PODS[0]["spec"]["volumes"] if each["name"] == "tokens"]
    assert tokens["secret"]["defaultMode"] & 0o022 == 0, "the service refuses tokens that others can write"


def test_the_commands_exist() -> None:
    for _, container in CONTAINERS:
        program, *words = container["args"]
        assert program == "lastseen"
        command = [word for word in words if re.fullmatch("[a-z]+", word)]
        reported = CliRunner().invoke(app, [*command, "--help"])
        assert reported.exit_code == 0
        assert all(word in reported.stdout for word in words if word.startswith("--"))
    words = (FOLDER / "README.md").read_text("utf-8")
    for name in re.findall(r"secret generic ([\w-]+)", words):
        assert name in str(OBJECTS)

"""What is deployed in containers and clusters, as far as it can be known without either."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from bonetumor.worker import cli
from bonetumor.worker.settings import SETTINGS_VARIABLE, read_settings
from kit.servers import need

ROOT = Path(__file__).resolve().parents[2]
CONTAINERS, CHART = ROOT / "deploy" / "containers", ROOT / "deploy" / "chart"
COMPOSE = yaml.safe_load((CONTAINERS / "compose.yaml").read_text())
OURS = ("listener", "io-worker", "gpu-worker")
KUBERNETES = "1.34"
VARIANTS = {
    "as it comes": [],
    "scaled": ["--set", "autoscaling.enabled=true"],
    "with web": ["--set", "web.enabled=true"],
    "without a common disk": ["--set", "spool.shared=false"],
    "without GPU": ["--set", "gpu.devices=null", "--set", "listener.serviceType=ClusterIP"],
}


def run(*command):
    places = str(Path(sys.executable).parent)
    program = need(command[0], places)
    return subprocess.run(
        [program, *map(str, command[1:])],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"PATH": os.pathsep.join([places, os.environ["PATH"]])},
    )


def rendered(*options):
    made = run("helm", "template", "here", CHART, *options)
    assert made.returncode == 0, made.stderr
    return [document for document in yaml.safe_load_all(made.stdout) if document]


def test_the_dockerfile_has_no_findings(tmp_path):
    checked = run("hadolint", CONTAINERS / "Dockerfile")
    assert checked.returncode == 0, checked.stdout
    spoilt = tmp_path / "Dockerfile"
    spoilt.write_text("FROM python\nRUN cd /tmp && sudo ls\n")
    assert run("hadolint", spoilt).returncode == 1


def test_the_image_is_not_root_and_copies_nothing_of_ours_that_it_does_not_need():
    lines = (CONTAINERS / "Dockerfile").read_text().splitlines()
    assert "USER 10001" in lines
    assert "HEALTHCHECK" in "".join(lines)
    copied = {word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]}
    assert "." not in copied
    assert "tests" in (ROOT / ".dockerignore").read_text().splitlines()


def test_the_compose_file_keeps_to_the_specification(tmp_path):
    check = ("check-jsonschema", "--builtin-schema", "vendor.compose-spec")
    checked = run(*check, CONTAINERS / "compose.yaml")
    assert checked.returncode == 0, checked.stdout
    spoilt = tmp_path / "compose.yaml"
    spoilt.write_text("services: {one: {imagine: two}}")
    assert run(*check, spoilt).returncode == 1


def test_the_trial_has_all_that_a_site_has_and_is_closed_to_others():
    assert {*OURS, "rabbitmq", "postgres", "orthanc", "ehr"} == COMPOSE["services"].keys()
    for name in OURS:
        service = COMPOSE["services"][name]
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert "healthcheck" in service
    ports = [p for service in COMPOSE["services"].values() for p in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    mounted = [v for s in COMPOSE["services"].values() for v in s.get("volumes", [])]
    files = [v.split(":")[0] for v in mounted if v.startswith("./")]
    assert all((CONTAINERS / file).is_file() for file in files)


def test_the_trial_s_settings_and_archive_fit_together(monkeypatch):
    monkeypatch.setenv(SETTINGS_VARIABLE, "")
    for name, value in COMPOSE["x-plugin"]["environment"].items():
        if name != SETTINGS_VARIABLE:
            monkeypatch.setenv(name, value)
    settings = read_settings(CONTAINERS / "settings.toml")
    archive = json.loads((CONTAINERS / "orthanc.json").read_text())
    assert archive["DicomModalities"]["bonetumor"] == [
        settings.listener.ae_title,
        "listener",
        settings.listener.port,
    ]
    assert settings.archive.ae_title == archive["DicomAet"]
    assert settings.ledger_url.startswith("postgresql+psycopg://")
    for host in (settings.archive.host, "postgres", "rabbitmq"):
        assert host in COMPOSE["services"]


def test_every_command_that_is_deployed_exists():
    wanted = [COMPOSE["services"][name]["command"] for name in OURS]
    wanted += [COMPOSE["services"][name]["healthcheck"]["test"][2:] for name in OURS]
    text = (CONTAINERS / "Dockerfile").read_text()
    health = json.loads(re.search(r"CMD (\[.bonetumor.*\])", text)[1])
    wanted += [health[1:], json.loads(text.splitlines()[-1].removeprefix("CMD "))]
    for document in (d for o in VARIANTS.values() for d in rendered(*o)):
        if document["kind"] == "Deployment":
            (container,) = document["spec"]["template"]["spec"]["containers"]
            wanted.append(container["args"])
            if "livenessProbe" in container:
                wanted.append(container["livenessProbe"]["exec"]["command"][1:])
    assert len(wanted) > 15
    for command in wanted:
        shown = CliRunner().invoke(cli.app, [command[0], "--help"], terminal_width=200)
        assert shown.exit_code == 0, command
        assert all(option in shown.output for option in command if option.startswith("--"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_chart_makes_what_kubernetes_takes(variant):
    linted = run("helm", "lint", "--strict", CHART, *VARIANTS[variant])
    assert linted.returncode == 0, linted.stdout
    documents = rendered(*VARIANTS[variant])
    checked = [d for d in documents if "keda.sh" not in d["apiVersion"]]
    for document in checked:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    kinds = [d["kind"] for d in documents]
    assert kinds.count("Deployment") == (4 if variant == "with web" else 3)
    assert kinds.count("ScaledObject") == (2 if variant == "scaled" else 0)
    assert kinds.count("PersistentVolumeClaim") == (variant != "without a common disk")
    for document in (d for d in documents if d["kind"] == "Deployment"):
        pod = document["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        labels = document["spec"]["template"]["metadata"]["labels"]
        assert document["spec"]["selector"]["matchLabels"].items() <= labels.items()
    gpu = next(d for d in documents if d["metadata"]["name"] == "here-gpu")
    limits = gpu["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert ("nvidia.com/gpu" in limits) == (variant != "without GPU")
    assert limits["memory"] == "12Gi"


def test_a_chart_that_kubernetes_would_refuse_is_noticed():
    document = rendered()[0] | {"data": {"settings.toml": 7}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, KUBERNETES, strict=True)

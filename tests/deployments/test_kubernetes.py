"""The manifests of Kubernetes: valid, as strict as docker-compose.yml, and the same services part by part."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import kubernetes_validate
import pytest

from benchmarks.containers import compose_file, kubernetes_files
from benchmarks.containers.kubernetes_files import FOLDER, documents, kustomization, with_component
from benchmarks.containers.workload import ROOT, Workload

#: The newest release whose schemas the checker has is used, so that what is deprecated there shows first.
RELEASE = kubernetes_validate.latest_version()
OBJECTS = list(documents())
PODS = kubernetes_files.workloads(OBJECTS)
WITH_DASK = with_component("dask")
#: As many workers as the manifests have.
SERVICES = compose_file.workloads({"NIRFLOW_RAW_DIR": "/data/raw", "NIRFLOW_WORKERS": "2"})
PARTS = [field.name for field in dataclasses.fields(Workload) if field.compare]


def problem_of(document: dict[str, Any]) -> str | None:
    try:
        kubernetes_validate.validate(document, RELEASE, strict=True)
    except kubernetes_validate.ValidationError as error:
        return str(error.message)
    return None


@pytest.mark.parametrize("document", [*OBJECTS, *WITH_DASK], ids=lambda one: one["metadata"]["name"])
def test_every_object_conforms_to_the_schema_of_kubernetes(document: dict[str, Any]) -> None:
    assert problem_of(document) is None


def test_a_misspelt_field_does_not_conform() -> None:
    (worker,) = [one for one in OBJECTS if (one["kind"], one["metadata"]["name"]) == ("Deployment", "worker")]
    patch = {"spec": {"template": {"spec": {"enableServiceLink": False}}}}
    assert "enableServiceLink" in str(problem_of(kubernetes_files.merged(worker, patch)))


def test_the_pods_are_the_services_of_docker_compose() -> None:
    assert set(PODS) == set(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize("part", PARTS)
def test_each_part_agrees_with_docker_compose(name: str, part: str) -> None:
    assert getattr(PODS[name], part) == getattr(SERVICES[name], part)


def test_each_file_is_a_resource_or_described_as_optional() -> None:
    found = kustomization()
    text = (FOLDER / "kustomization.yaml").read_text()
    optional = set(re.findall(r"(?m)^  #- (\S+)$", text))
    assert optional == {"storage-network.yaml"}
    files = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert {*found["resources"], *optional} == files
    (image,) = found["images"]
    assert {one.image for one in PODS.values()} == {f"nirflow:{image['newTag']}", SERVICES["postgres"].image}
    component = kustomization(FOLDER / "dask")
    named = {*component["resources"], *(patch["path"] for patch in component["patches"])}
    assert named == {path.name for path in (FOLDER / "dask").glob("*.yaml")} - {"kustomization.yaml"}


def test_no_secret_is_filled_and_every_claim_and_setting_is_declared() -> None:
    kinds = {one["kind"] for one in WITH_DASK}
    assert "Secret" not in kinds
    text = "".join(path.read_text() for path in FOLDER.rglob("*.yaml"))
    assert not re.findall(r"\w://[^\s/:@]+:[^\s@]+@", text)
    secrets = {source for pod in PODS.values() for source in pod.secrets.values()}
    written = set(re.findall(r"> secrets/(\w+)", compose_file.setup_commands()))
    assert secrets == written
    claims = {one["metadata"]["name"] for one in WITH_DASK if one["kind"] == "PersistentVolumeClaim"}
    used = {mount.shared for pod in kubernetes_files.workloads(WITH_DASK).values() for mount in pod.mounts}
    used |= {mount.shared for mount in PODS["worker"].mounts}
    assert used - {""} == claims | {"postgres"}


def test_only_labelled_pods_talk_and_only_the_server_is_reached_from_outside() -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in OBJECTS if one["kind"] == "NetworkPolicy"}
    assert policies.pop("closed") == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for name, policy in policies.items():
        assert policy["podSelector"] == {"matchLabels": {f"nirflow/{name}": "true"}}
    assert set(policies) == {network for pod in PODS.values() for network in pod.networks}
    assert [name for name, pod in PODS.items() if "edge" in pod.networks] == ["server"]
    (namespace,) = [one for one in OBJECTS if one["kind"] == "Namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_pods_of_an_agreed_standard_have_no_account_of_the_cluster() -> None:
    for one in WITH_DASK:
        spec = one.get("spec", {}).get("jobTemplate", one).get("spec", {})
        pod = spec.get("template", {}).get("spec")
        if pod is not None:
            assert pod["automountServiceAccountToken"] is False
            # A Service named nirflow or dask would set variables named like settings.
            assert pod["enableServiceLinks"] is False
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            (container,) = pod["containers"]
            assert set(container["resources"]["requests"]) == {"cpu", "memory"}


def test_dask_takes_the_steps_of_one_worker_that_shares_its_data_folder() -> None:
    pods = kubernetes_files.workloads(WITH_DASK)
    assert (
        kubernetes_files.replicas(OBJECTS)["worker"]
        == int(PODS["register"].environment["NIRFLOW_WORKER_LIMIT"])
        == 2
    )
    assert kubernetes_files.replicas(WITH_DASK) | {
        "worker": 1,
        "dask-worker": 2,
    } == kubernetes_files.replicas(WITH_DASK)
    for name in ("worker", "dask", "dask-worker"):
        assert pods[name].guarded
        assert {mount.target: mount.shared for mount in pods[name].mounts}["/data"] == "scratch"
    (port,) = [pods["dask"].command[n + 1] for n, one in enumerate(pods["dask"].command) if one == "--port"]
    assert pods["worker"].environment["NIRFLOW_WORKER_DASK"] == f"tcp://dask:{port}"
    assert f"tcp://dask:{port}" in pods["dask-worker"].command
    assert dict(pods["dask-worker"].secrets) == dict(pods["worker"].secrets)
    # Without the component, nothing of it is left.
    assert not any("dask" in str(one).lower() for one in OBJECTS)
    assert (ROOT / "docs" / "scaling.md").read_text().count("deployments/kubernetes") > 1

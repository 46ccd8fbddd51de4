"""The manifests of deployments/kubernetes as a cluster understands them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from benchmarks.containers.compose_file import quantity
from benchmarks.containers.workload import ROOT, Check, Mount, Workload, in_order

FOLDER: Final = ROOT / "deployments" / "kubernetes"
_BYTES: Final = {"Mi": 1 / 1024, "Gi": 1.0}
_LABEL: Final = "nirflow/"
_PAGE: Final = ROOT / "docs" / "scaling.md"
#: ``kubectl create configmap NAME --from-file=KEY=FILE``
_CONFIG_MAP: Final = re.compile(r"create configmap (\S+) --from-file=(\S+)=(\S+)")


def documents(folder: Path = FOLDER) -> Iterator[dict[str, Any]]:
    """Yield the objects that a folder's kustomization names, with the resources that it leaves to the reader."""
    for path in sorted(folder.glob("*.yaml")):
        if path.name != "kustomization.yaml":
            yield from (one for one in yaml.safe_load_all(path.read_text()) if one)


def kustomization(folder: Path = FOLDER) -> dict[str, Any]:
    """Return the kustomization of a folder."""
    found: dict[str, Any] = yaml.safe_load((folder / "kustomization.yaml").read_text())
    return found


def merged(node: Any, patch: Any) -> Any:
    """Return an object with a strategic merge patch: lists of objects are merged by ``name``, and null removes."""
    if isinstance(node, dict) and isinstance(patch, dict):
        both = {key: merged(value, patch[key]) if key in patch else value for key, value in node.items()}
        return {key: value for key, value in (patch | both).items() if value is not None}
    if isinstance(node, list) and isinstance(patch, list) and all(isinstance(one, dict) for one in patch):
        by_name = {one["name"]: one for one in patch}
        kept = [merged(one, by_name.pop(one["name"], {})) for one in node]
        return kept + list(by_name.values())
    return patch


def with_component(name: str) -> list[dict[str, Any]]:
    """Return the objects with a component in a folder of that name: its resources, and its patches."""
    folder = FOLDER / name
    component = kustomization(folder)
    patches = [yaml.safe_load((folder / one["path"]).read_text()) for one in component["patches"]]
    by_name = {(one["kind"], one["metadata"]["name"]): one for one in patches}
    found = [
        merged(one, by_name.get((one["kind"], one["metadata"]["name"]), {})) for one in documents()
    ]  # fmt: skip
    for file in component["resources"]:
        found += [one for one in yaml.safe_load_all((folder / file).read_text()) if one]
    return found


def replicas(objects: list[dict[str, Any]]) -> dict[str, int]:
    """Return the number of pods of each Deployment."""
    return {
        one["metadata"]["name"]: one["spec"].get("replicas", 1)
        for one in objects
        if one["kind"] == "Deployment"
    }


def workloads(objects: list[dict[str, Any]]) -> dict[str, Workload]:
    """Return what the pods of the objects run, by name."""
    settings = {one["metadata"]["name"]: one["data"] for one in objects if one["kind"] == "ConfigMap"}
    services = {one["metadata"]["name"]: one["spec"] for one in objects if one["kind"] == "Service"}
    found = {}
    for one in objects:
        template = _template(one)
        if template is not None:
            name = one["metadata"]["name"]
            found[name] = _workload(name, template, settings, services, one["spec"])
    return found


def config_maps() -> dict[str, dict[str, str]]:
    """Return the ConfigMaps that docs/scaling.md creates from files: file of the checkout by key, by name."""
    found: dict[str, dict[str, str]] = {}
    for name, key, file in _CONFIG_MAP.findall(_PAGE.read_text()):
        found.setdefault(name, {})[key] = file
    return found


def _template(one: Mapping[str, Any]) -> dict[str, Any] | None:
    spec = one.get("spec", {})
    if one["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    found: dict[str, Any] | None = spec.get("template")
    return found


def _workload(
    name: str, template: Mapping[str, Any], settings: Mapping[str, Mapping[str, str]],
    services: Mapping[str, Any], spec: Mapping[str, Any],
) -> Workload:  # fmt: skip
    pod = template["spec"]
    (container,) = pod["containers"]
    environment: dict[str, str] = {}
    for one in container.get("envFrom", ()):
        environment |= settings[one["configMapRef"]["name"]]
    environment |= {one["name"]: one["value"] for one in container.get("env", ())}
    account, own = pod["securityContext"], container["securityContext"]
    guarded = (
        own["readOnlyRootFilesystem"] is True
        and own["allowPrivilegeEscalation"] is False
        and own["capabilities"] == {"drop": ["ALL"]}
        and account["runAsNonRoot"] is True
        and account["runAsUser"] == account["runAsGroup"] == account["fsGroup"]
    )
    limits = container["resources"]["limits"]
    volumes = {one["name"]: one for one in pod["volumes"]}
    claims = {one["metadata"]["name"] for one in spec.get("volumeClaimTemplates", ())}
    return Workload(
        name=name, image=container["image"], command=tuple(container.get("command", ())), environment=environment,
        user=account["runAsUser"], groups=tuple(account.get("supplementalGroups", ())),
        mounts=_mounts(container, volumes, claims), files=_files(container, volumes),
        secrets=_secrets(container, volumes), networks=_networks(template), ports=_published(template, services),
        check=_check(container), init=pod.get("shareProcessNamespace", False), guarded=guarded,
        grace=pod["terminationGracePeriodSeconds"], cpus=float(limits["cpu"]),
        memory=quantity(limits["memory"], _BYTES), copies_image=False,
    )  # fmt: skip


def _networks(template: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(
        label.removeprefix(_LABEL)
        for label, value in template["metadata"]["labels"].items()
        if label.startswith(_LABEL) and value == "true"
    )


def _published(template: Mapping[str, Any], services: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the ports that are reached from outside, by the network ``edge``."""
    labels = template["metadata"]["labels"]
    if f"{_LABEL}edge" not in labels:
        return ()
    return tuple(
        port["port"]
        for service in services.values()
        if service["selector"].items() <= labels.items()
        for port in service["ports"]
    )


def _mounts(container: Mapping[str, Any], volumes: Mapping[str, Any], claims: set[str]) -> tuple[Mount, ...]:
    found = []
    for one in container["volumeMounts"]:
        volume = volumes.get(one["name"], {})
        writable = not one.get("readOnly", False)
        if "persistentVolumeClaim" in volume:
            claim = volume["persistentVolumeClaim"]
            found.append(Mount(one["mountPath"], claim["claimName"], writable and not claim.get("readOnly")))
        elif "emptyDir" in volume:
            found.append(Mount(one["mountPath"], "", writable))
        elif one["name"] in claims:
            found.append(Mount(one["mountPath"], one["name"], writable))
    return in_order(found)


def _mounted(
    container: Mapping[str, Any], volumes: Mapping[str, Any], kind: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    for one in container["volumeMounts"]:
        if kind in volumes.get(one["name"], {}):
            if not one.get("readOnly"):
                raise ValueError(f"{one['mountPath']} is not mounted read-only.")
            yield one["mountPath"], volumes[one["name"]][kind]


def _secrets(container: Mapping[str, Any], volumes: Mapping[str, Any]) -> dict[str, str]:
    return {
        f"{folder}/{item['path']}": item["key"]
        for folder, secret in _mounted(container, volumes, "secret")
        for item in secret["items"]
    }


def _files(container: Mapping[str, Any], volumes: Mapping[str, Any]) -> dict[str, str]:
    return {
        f"{folder}/{key}": file
        for folder, given in _mounted(container, volumes, "configMap")
        for key, file in config_maps()[given["name"]].items()
    }


def _check(container: Mapping[str, Any]) -> Check | None:
    probe = container.get("readinessProbe")
    if probe is None:
        return None
    ports = {one["name"]: one["containerPort"] for one in container.get("ports", ())}
    if "httpGet" in probe:
        return Check(page=(ports[probe["httpGet"]["port"]], probe["httpGet"]["path"]))
    if "tcpSocket" in probe:
        return Check(page=(ports[probe["tcpSocket"]["port"]], ""))
    return Check(tuple(probe["exec"]["command"]))

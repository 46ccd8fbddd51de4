"""The containers: what docker-compose.yml and the Dockerfile permit."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from benchmarks.containers.compose_file import compose, interpolate, secrets_of, variables_in
from benchmarks.containers.dockerfile import image_environment, instructions, made_for_nirflow
from benchmarks.containers.workload import ROOT
from calib_store.model.settings import variable
from deployments.settings.all_settings import Settings

#: As in .env.example: only variables without a default.
VARIABLES = {"NIRFLOW_RAW_DIR": "/data/raw"}
COMPOSE = compose(VARIABLES)
SERVICES: dict[str, Any] = COMPOSE["services"]
STAYING = {"postgres", "server", "worker", "watcher", "judge"}
PINNED = re.compile(r"[a-z]+:\d+\.\d+(\.\d+)?(-[a-z]+)*")
#: The account in PostgreSQL's image.
POSTGRES = "999"

each = pytest.mark.parametrize("name", SERVICES)


def version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def settings() -> set[str]:
    """Return the variables of all settings."""
    names = set()
    for name in Settings.model_fields:
        value = getattr(Settings(), name)
        parts = type(value).model_fields if isinstance(value, BaseModel) else None
        names |= {variable(name, part) for part in parts} if parts else {variable(name)}
    return names


def volumes_of(service: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    """Return volume or folder, and whether it is writable, by the path in the container."""
    found = {}
    for one in service.get("volumes", []):
        if isinstance(one, str):
            source, _, target = one.rpartition(":")
            found[target] = (source, True)
        else:
            found[one["target"]] = (one["source"], not one.get("read_only", False))
    return found


# --- permissions


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("${A}", "a"), ("${B}", ""), ("${B:-x}y", "xy"), ("${A:-x}", "a"), ("${B:-${A}/${C:-${D:-4}}}", "a/4"),
        ("$${A}", "${A}"), ("${A:?why}", "a"),
    ],
)  # fmt: skip
def test_variables_are_substituted_as_by_compose(text: str, result: str) -> None:
    assert interpolate(text, {"A": "a"}) == result


def checked(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_file_conforms_to_the_schema_of_compose(tmp_path: Path) -> None:
    found = checked(ROOT / "docker-compose.yml")
    assert found.returncode == 0, found.stdout
    misspelt = tmp_path / "docker-compose.yml"
    misspelt.write_text(
        (ROOT / "docker-compose.yml").read_text().replace("read_only: true", "readonly: true")
    )
    assert "readonly" in checked(misspelt).stdout


@each
def test_no_service_may_write_gain_rights_or_run_as_root(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    user = service["user"].split(":")
    assert user == ([POSTGRES] * 2 if name == "postgres" else ["10001"] * 2)
    granted = {"privileged", "cap_add", "devices", "network_mode", "pid", "ipc", "userns_mode", "entrypoint"}
    assert not granted & set(service)
    # By default a tmpfs takes the owner of the folder that it covers, which is root.
    for mount in service["tmpfs"]:
        assert f"uid={user[0]},gid={user[1]},mode=07" in mount
    assert any(mount.startswith("/tmp:") for mount in service["tmpfs"])


@each
def test_every_image_has_one_version(name: str) -> None:
    assert PINNED.fullmatch(SERVICES[name]["image"])
    if name != "postgres":
        assert SERVICES[name]["image"] == f"nirflow:{version()}"


def test_only_the_ui_is_published_and_only_to_this_machine() -> None:
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"server"}
    assert SERVICES["server"]["ports"] == ["127.0.0.1:4210:4210"]
    assert compose(VARIABLES | {"NIRFLOW_UI_BIND": "10.0.0.5", "NIRFLOW_UI_PORT": "80"})["services"][
        "server"
    ]["ports"] == ["10.0.0.5:80:4210"]


def test_only_the_server_reaches_the_world_and_others_an_object_store_on_demand() -> None:
    assert COMPOSE["networks"] == {
        "inside": {"internal": True},
        "storage": {"internal": "true"},
        "edge": None,
    }
    networks = {name: set(service["networks"]) for name, service in SERVICES.items()}
    with_files = {"inside", "storage"}
    assert networks == {
        "postgres": {"inside"}, "server": {"inside", "edge"}, "init": with_files, "backup": with_files,
        "register": with_files, "worker": with_files, "watcher": with_files, "judge": with_files,
    }  # fmt: skip
    opened = compose(VARIABLES | {"NIRFLOW_STORAGE_CLOSED": "false", "NIRFLOW_OBJECTS_URL": "s3://b/p"})
    assert opened["networks"]["storage"] == {"internal": "false"}
    for name in with_storage():
        environment = opened["services"][name]["environment"]
        assert environment["NIRFLOW_OBJECTS_URL"] == "s3://b/p"
        assert environment["AWS_SHARED_CREDENTIALS_FILE"] == "/run/secrets/aws_credentials"


@each
def test_every_service_is_limited(name: str) -> None:
    service = SERVICES[name]
    limits = service["deploy"]["resources"]["limits"]
    assert float(limits["cpus"]) > 0
    assert re.fullmatch(r"[1-9]\d*g", limits["memory"])
    assert 100 < int(limits["pids"]) < 2000
    assert service["logging"] == {"driver": "json-file", "options": {"max-size": "20m", "max-file": "5"}}


def test_workers_have_a_data_folder_each() -> None:
    """Scratch and unpacked frames are not shared; products and nights are."""
    volumes = volumes_of(SERVICES["worker"])
    assert volumes["/data"][0] == ""
    assert (volumes["/data/objects"][0], volumes["/nights"][0]) == ("objects", "nights")


def test_a_backup_is_taken_on_demand_by_the_owner() -> None:
    backup = SERVICES["backup"]
    assert backup["profiles"] == ["backup"]
    assert {name for name, service in SERVICES.items() if "profiles" in service} == {"backup"}
    assert secrets_of(backup) == secrets_of(SERVICES["init"])
    folder = backup["command"][-1]
    assert volumes_of(backup)[folder] == ("./backup", True)


def test_each_service_gets_only_the_passwords_that_it_needs() -> None:
    keys = {"aws_credentials": "aws_credentials"}
    client = {"nirflow_database_url": "pipeline_url", "nirflow_server_auth": "server_auth"} | keys
    owner = {"nirflow_database_url": "owner_url"} | keys
    assert {name: secrets_of(service) for name, service in SERVICES.items()} == {
        "postgres": {
            one: one for one in ("postgres_password", "owner_url", "pipeline_url", "reader_url", "prefect_url")
        },
        "init": owner, "backup": owner,
        "server": {
            "nirflow_server_database_url": "prefect_url", "nirflow_server_auth": "server_auth",
            "nirflow_server_operator_auth": "operator_auth", "nirflow_server_viewer_auth": "viewer_auth",
            "nirflow_database_url": "reader_url",
        },
        "register": client, "worker": client, "watcher": client, "judge": client,
    }  # fmt: skip
    assert COMPOSE["secrets"] == {name: {"file": f"./secrets/{name}"} for name in COMPOSE["secrets"]}
    assert set(COMPOSE["secrets"]) == {one for s in SERVICES.values() for one in secrets_of(s).values()}


def test_no_password_is_in_any_file() -> None:
    for file in ("docker-compose.yml", "Dockerfile", ".env.example", "deployments/databases.sql"):
        text = (ROOT / file).read_text().replace("$(word)", "")
        assert not re.findall(r"\w://[^\s/:@]+:[\w$][^\s@]*@", text)
    for environment in (image_environment(), *(service["environment"] for service in SERVICES.values())):
        given = [one for one in environment if re.search("PASSWORD|AUTH|SECRET|TOKEN|DATABASE|WEBHOOK", one)]
        assert set(given) <= {"POSTGRES_PASSWORD_FILE"}


@each
def test_settings_and_secrets_are_known_to_nirflow(name: str) -> None:
    known = settings()
    given = {one for one in SERVICES[name]["environment"] if one.startswith("NIRFLOW_")}
    given |= {one.upper() for one in secrets_of(SERVICES[name]) if one.startswith("nirflow_")}
    assert given <= known
    assert (name == "postgres") == (not given)


def test_the_example_describes_exactly_the_variables_of_the_file() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    passed = {n for s in _plain()["services"].values() for n, v in s["environment"].items() if v is None}
    entries = re.findall(r"(?m)^(#?)([A-Z]+_\w+)=(.*)$", (ROOT / ".env.example").read_text())
    assert {name for _, name, _ in entries} == variables_in(text) | passed
    assert {name: value for off, name, value in entries if not off} == VARIABLES
    given = {name: value for _, name, value in entries}
    with pytest.raises(KeyError, match="raw frames"):
        compose({})
    # Settings in the example must exist.
    environment = compose(given)["services"]["watcher"]["environment"]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        assert Settings().notify.email_to == ("observer@example.org",)
        assert Settings().nightly.cron == "0 9 * * *"


def test_by_default_there_are_as_many_runs_at_a_time_as_workers() -> None:
    for given, replicas, limit in (
        ({}, "1", "1"), ({"NIRFLOW_WORKERS": "3"}, "3", "3"),
        ({"NIRFLOW_WORKERS": "3", "NIRFLOW_WORKER_LIMIT": "6"}, "3", "6"),
    ):  # fmt: skip
        services = compose(VARIABLES | given)["services"]
        assert services["worker"]["deploy"]["replicas"] == replicas
        assert services["register"]["environment"]["NIRFLOW_WORKER_LIMIT"] == limit
    # Several containers of one service cannot have their own names or ports in the file.
    assert not {"container_name", "hostname", "ports"} & set(SERVICES["worker"])
    assert "NIRFLOW_WORKER_NAME" not in SERVICES["worker"]["environment"]


def test_raw_frames_are_mounted_read_only() -> None:
    for name in ("worker", "watcher", "judge"):
        assert volumes_of(SERVICES[name])["/raw"] == ("/data/raw", False)
    for name in ("watcher", "judge"):
        assert json.loads(SERVICES[name]["environment"]["NIRFLOW_WATCH_FOLDERS"]) == ["/raw"]


def test_volumes_are_named_declared_and_over_folders_of_the_image() -> None:
    used = set()
    for name, service in SERVICES.items():
        writable = {
            target: source
            for target, (source, written) in volumes_of(service).items()
            if written and target != "/backup"  # a folder of this machine
        }
        used |= set(filter(None, writable.values()))
        assert not [source for source in writable.values() if "/" in source or "." in source]
        if name != "postgres":
            assert set(writable) <= made_for_nirflow()
    assert used == set(COMPOSE["volumes"])
    # The same path is the same volume in all services, unless each container has its own.
    places = {
        (target, source)
        for name, service in SERVICES.items()
        for target, (source, written) in volumes_of(service).items()
        if written and source
    }
    assert len(places) == len({target for target, _ in places})


def test_permanent_services_are_restarted_and_checked() -> None:
    for name, service in SERVICES.items():
        assert service["restart"] == ("unless-stopped" if name in STAYING else "no")
        assert service["stop_grace_period"]
        for other, how in service.get("depends_on", {}).items():
            wanted = "service_healthy" if other in STAYING else "service_completed_successfully"
            assert how == {"condition": wanted}
            assert ("healthcheck" in SERVICES[other]) == (other in STAYING)
    assert {name for name, s in SERVICES.items() if "healthcheck" in s} == STAYING
    assert all(SERVICES[name]["init"] for name in SERVICES if name != "postgres")


@each
def test_commands_exist(name: str) -> None:
    for command in (
        SERVICES[name].get("command"),
        SERVICES[name].get("healthcheck", {}).get("test", [""])[1:],
    ):
        if command and command[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(command[2])
        elif command:
            assert command[0] in ("nirflow", "python", "pg_isready")


# --- the image


def test_the_image_has_pinned_versions_and_an_unprivileged_user() -> None:
    steps = instructions()
    bases = [rest.split()[0] for instruction, rest in steps if instruction == "FROM"]
    assert bases == ["${PYTHON}"] * 2
    (base,) = [
        rest.removeprefix("PYTHON=")
        for instruction, rest in steps
        if (instruction, rest[:7]) == ("ARG", "PYTHON=")
    ]
    assert PINNED.fullmatch(base)
    own = {"context": ".", "args": {"PYTHON": base}}
    assert all(service["build"] == own for name, service in SERVICES.items() if name != "postgres")
    last = steps[max(i for i, (instruction, _) in enumerate(steps) if instruction == "FROM") :]
    assert [rest for instruction, rest in last if instruction == "USER"] == ["10001:10001"]
    assert last.index(("USER", "10001:10001")) > max(
        i for i, (instruction, _) in enumerate(last) if instruction == "RUN"
    )
    assert ("HEALTHCHECK", "NONE") in last
    assert not {"ENTRYPOINT", "ADD", "EXPOSE", "VOLUME"} & {instruction for instruction, _ in steps}
    labels = " ".join(rest for instruction, rest in last if instruction == "LABEL")
    assert f'image.version="{version()}"' in labels
    assert f'base.name="{base}"' in labels
    assert not [
        rest for instruction, rest in last if instruction == "RUN" and re.search(r"apt|gcc|pip install", rest)
    ]
    assert [
        rest for instruction, rest in steps if instruction == "RUN" and "--constraint constraints.txt" in rest
    ]


def test_the_image_contains_every_package_and_none_is_ignored() -> None:
    copied = [p for instruction, rest in instructions() if instruction == "COPY" and "--from" not in rest
              for p in rest.split()[:-1]]  # fmt: skip
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    assert {name.removesuffix("*") for name in found["include"]} == {p for p in copied if (ROOT / p).is_dir()}
    ignore = [
        one for one in (ROOT / ".dockerignore").read_text().split("\n") if one and not one.startswith("#")
    ]
    assert ignore[0] == "*"
    assert sorted(one[1:] for one in ignore if one.startswith("!")) == sorted(copied)
    assert not [p for p in copied for one in ignore[1:] if not one.startswith("!") and fnmatch(p, one)]
    assert all((ROOT / p).exists() for p in copied)


def test_files_of_libraries_are_written_to_writable_folders() -> None:
    environment = image_environment()
    writable = ("/tmp", *volumes_of(SERVICES["worker"]))
    for name in ("HOME", "NUMBA_CACHE_DIR"):
        assert environment[name].startswith(writable)
    assert SERVICES["worker"]["environment"]["PREFECT_HOME"].startswith("/tmp/")
    assert environment["DO_NOT_TRACK"] == "1"


def with_storage() -> list[str]:
    """Return the services that have the files of the store."""
    return [name for name, service in SERVICES.items() if "storage" in service["networks"]]


def _plain() -> dict[str, Any]:
    import yaml

    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return document

"""The rules `docker-compose.yml` must keep, checked without Docker."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ["web", "worker", "migrate"]
LASTING = sorted(name for name, service in SERVICES.items() if service["restart"] != "no")
HAPROXY = (ROOT / "deploy" / "haproxy.cfg").read_text()


def test_the_parts_of_the_scaled_form() -> None:
    assert set(SERVICES) == {"postgres", "redis", "migrate", "web", "worker", "proxy"}
    assert SERVICES["web"]["deploy"]["replicas"] >= 2
    assert SERVICES["worker"]["deploy"]["replicas"] >= 2
    assert [SERVICES[name]["command"] for name in OURS] == [["web"], ["worker"], ["migrate"]]


@pytest.mark.parametrize("name", LASTING)
def test_what_lasts_restarts_and_is_watched(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"
    assert {"interval", "timeout", "retries"} <= service["healthcheck"].keys()


def test_only_migrate_is_one_shot_and_the_others_wait_for_it() -> None:
    assert sorted(set(SERVICES) - set(LASTING)) == ["migrate"]
    for name in ("web", "worker"):
        assert SERVICES[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


def test_ports_are_published_on_loopback_only_and_by_the_proxy_only() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if service.get("ports")}
    assert list(published) == ["proxy"]
    assert all(re.match(r"127\.0\.0\.1:\$\{\w+:-\d+\}:\d+$", port) for port in published["proxy"])
    assert not any("network_mode" in service for service in SERVICES.values())


def test_databases_are_in_the_closed_network_only() -> None:
    assert COMPOSE["networks"]["inside"]["internal"] is True
    assert SERVICES["postgres"]["networks"] == SERVICES["redis"]["networks"] == ["inside"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_images_are_pinned(name: str) -> None:
    image = SERVICES[name]["image"]
    assert image == "switchboard:local" if name in OURS else re.search(r":\d[\w.-]*$", image), image


@pytest.mark.parametrize("name", OURS)
def test_our_processes_get_their_settings_and_no_rights(name: str) -> None:
    service = SERVICES[name]
    environment = service["environment"]
    assert environment["SWITCHBOARD_DATABASE_URL"].startswith("postgresql+asyncpg://")
    assert environment["SWITCHBOARD_REDIS_URL"] == "redis://redis:6379/0"
    assert f"files:{environment['SWITCHBOARD_FILES_DIR']}" in service["volumes"]
    assert environment["SWITCHBOARD_SECRET_KEY"].startswith("${SWITCHBOARD_SECRET_KEY:?")
    assert "SWITCHBOARD_PUBLIC_URL" in environment
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True


def test_volumes_in_use_are_declared() -> None:
    named = {mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])}
    assert {name for name in named if not name.startswith(".")} == set(COMPOSE["volumes"])


def test_no_secret_has_a_default() -> None:
    secrets = re.findall(r"\$\{(\w*(?:PASSWORD|SECRET)\w*)([^}]*)\}", TEXT)
    assert len(secrets) >= 3
    assert all(rest.startswith(":?") for _, rest in secrets)


def test_the_proxy_knows_who_listens_where() -> None:
    """HTTP is the web processes', mail the workers' (`switchboard web` has no mail listener)."""
    environment = SERVICES["web"]["environment"]
    assert f"server-template web 8 web:{environment['SWITCHBOARD_PORT']}\n" in HAPROXY
    mail = SERVICES["worker"]["environment"]["SWITCHBOARD_LMTP_PORT"]
    assert f"server-template worker 8 worker:{mail}\n" in HAPROXY
    assert f"web:{mail}" not in HAPROXY
    assert set(SERVICES["proxy"]["networks"]) & set(SERVICES["worker"]["networks"])
    for port in SERVICES["proxy"]["ports"]:
        assert f"bind :{port.rsplit(':', 1)[1]}\n" in HAPROXY


def test_the_proxy_may_open_the_files_its_connections_need() -> None:
    connections = re.search(r"maxconn (\d+)", HAPROXY)
    assert connections is not None
    assert SERVICES["proxy"]["ulimits"]["nofile"]["hard"] > 2 * int(connections[1]) + 100


def test_the_image_runs_without_root_under_an_init() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    last_stage = dockerfile[dockerfile.rindex("\nFROM ") :]
    assert re.search(r"^USER 10001:10001$", last_stage, re.MULTILINE)
    assert 'ENTRYPOINT ["tini", "--", "switchboard"]' in last_stage
    assert all(
        re.search(r":\d", line.split()[1]) for line in dockerfile.splitlines() if line.startswith("FROM ")
    )


def test_every_path_the_image_copies_passes_the_ignore_file() -> None:
    allowed = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    names = {source.split("/")[0] for sources in copied for source in sources.split()}
    assert names == allowed

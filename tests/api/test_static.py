"""The desk, the widget and the demo page: history mode, cache headers, policies, a clear word when nothing is built."""

from pathlib import Path

from aiohttp.test_utils import TestClient, TestServer

from api.app import build_app
from api.static_files import add_static
from crm_core.services import Services
from tests.api.conftest import Desk


async def built(services: Services, root: Path, monkeypatch) -> TestClient:
    for name, text in {
        "desk/index.html": "<p>desk</p>",
        "desk/assets/a-1b2c.js": "1",
        "widget/widget.js": "2",
        "widget/app/index.html": "<p>chat</p>",
        "widget/app/assets/c-9.css": "p{}",
        "secret.txt": "no",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr("api.app.add_static", lambda app: add_static(app, root=root))
    client = TestClient(TestServer(build_app(services)))
    await client.start_server()
    return client


async def test_the_desk_answers_every_path_and_caches_only_hashed_files(
    services: Services, tmp_path: Path, monkeypatch
):
    client = await built(services, tmp_path / "static", monkeypatch)
    for path in ("/desk", "/desk/", "/desk/wall", "/desk/inquiries/5"):
        page = await client.get(path)
        assert page.status == 200 and await page.text() == "<p>desk</p>", path
        assert page.headers["Cache-Control"] == "no-cache"
        policy = page.headers["Content-Security-Policy"]
        assert "script-src 'self';" in policy and "frame-ancestors 'none'" in policy
    script = await client.get("/desk/assets/a-1b2c.js")
    assert "immutable" in script.headers["Cache-Control"] and script.content_type == "text/javascript"
    assert (await client.get("/desk/assets/old.js")).status == 404
    for path in (
        "/desk/..%2Fsecret.txt",
        "/desk/%2e%2e/secret.txt",
        "/chat/app/..%2f..%2fsecret.txt",
        "/desk/assets/%00",
    ):
        assert await (await client.get(path)).text() != "no", path
    # A page of the desk by any name is the desk; a file of the chat by a name no file can have is not there.
    assert (await client.get("/desk/" + "a" * 5_000)).status == 200
    assert (await client.get("/chat/app/" + "a" * 5_000)).status == 404
    await client.close()


async def test_the_chat_frame_may_only_stand_on_allowed_sites(
    services: Services, tmp_path: Path, monkeypatch, db
):
    client = await built(services, tmp_path / "static", monkeypatch)
    people = Desk(db, client.server)
    await people.add_inbox(
        "here", "webchat", config={"origins": ["https://agency.example", "bad; script-src *"]}
    )
    await people.add_inbox("any", "webchat")
    expected = {
        "here": "frame-ancestors 'self' https://agency.example",
        "any": "frame-ancestors *",
        "none": "frame-ancestors 'self'",
    }
    for key, policy in expected.items():
        page = await client.get(f"/chat/app/?inbox={key}")
        assert page.status == 200
        assert page.headers["Content-Security-Policy"].endswith(policy)
        assert "unsafe-inline" not in page.headers["Content-Security-Policy"]
    loader = await client.get("/widget.js")
    assert loader.status == 200 and loader.content_type == "text/javascript"
    demo = await (await client.get("/demo/chat")).text()
    assert 'data-inbox="here"' in demo
    for wish, language in {
        "uk-UA,uk;q=0.9,en;q=0.5": "uk",
        "de, ru;q=0.5": "ru",
        "de": "en",
        ";,-,*": "en",
    }.items():
        page = await client.get("/demo/chat", headers={"Accept-Language": wish})
        assert f'<html lang="{language}">' in await page.text(), wish
    await client.close()


async def test_without_a_build_the_page_says_what_to_do(services: Services, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("api.app.add_static", lambda app: add_static(app, root=tmp_path / "nothing"))
    client = TestClient(TestServer(build_app(services)))
    await client.start_server()
    for path in ("/desk", "/chat/app/"):
        page = await client.get(path)
        assert page.status == 503 and "make setup" in await page.text()
    assert (await client.get("/demo/chat")).status == 404
    home = await client.get("/", allow_redirects=False)
    assert isinstance(home.status, int) and home.headers["Location"] == "/desk"
    assert (await client.get("/healthz")).status == 200
    await client.close()


async def test_health_metrics_and_documentation(desk: Desk):
    client = await desk.client()
    assert (await (await client.get("/healthz")).json())["ok"] is True
    ready = await client.get("/readyz")
    assert ready.status == 200 and (await ready.json())["checks"]["database"] == "ok"
    await client.get("/api/v1/inquiries/12345")
    text = await (await client.get("/metrics")).text()
    assert 'route="/api/v1/inquiries/{id}"' in text and "12345" not in text
    page = await client.get("/api/docs")
    assert page.status == 200 and "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "http" not in (await page.text()).replace("http-equiv", "")
    document = await (await client.get("/api/v1/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    missing = await client.get("/api/v1/nothing")
    assert missing.status == 404 and missing.content_type == "application/problem+json"
    wrong = await client.delete("/api/v1/inquiries")
    assert wrong.status == 405 and set(wrong.headers["Allow"].split(",")) >= {"GET", "POST"}
    assert wrong.content_type == "application/problem+json"


async def test_readiness_fails_when_migrations_are_behind_or_nobody_works(services: Services):
    async def behind(_db: object) -> str | None:
        return "at 0001, wanted 0002"

    services.extra["migrations"] = behind
    client = TestClient(TestServer(build_app(services)))
    await client.start_server()
    answer = await client.get("/readyz")
    assert answer.status == 503 and (await answer.json())["checks"]["migrations"].startswith("at 0001")
    await client.close()

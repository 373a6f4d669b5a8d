"""Login, sessions, tokens, roles, and forged requests."""

from api.auth.sessions import SESSION_MS
from crm_core.clock import DAY
from tests.api.conftest import PASSWORD, Desk
from tests.conftest import MovableClock

OURS = {"X-Requested-With": "switchboard", "Origin": "http://desk.example.org"}


async def log_in(desk: Desk, name: str = "anna", password: str = PASSWORD):
    client = await desk.client()
    answer = await client.post(
        "/api/v1/auth/login", json={"email": f"{name.upper()}@example.org", "password": password}
    )
    return client, answer


async def test_login_gives_a_cookie_that_opens_the_api_and_logout_closes_it(desk: Desk):
    client, answer = await log_in(desk)
    assert answer.status == 200
    cookie = answer.cookies["switchboard_session"]
    assert cookie["httponly"] and cookie["samesite"] == "Lax" and cookie["path"] == "/"
    assert (await answer.json())["agent"]["email"] == "anna@example.org"
    token = cookie.value
    refused = await client.get("/api/v1/api-tokens")
    assert refused.status == 403
    assert (await client.post("/api/v1/auth/logout", headers=OURS)).status == 204
    again = await client.get("/api/v1/api-tokens", headers={"Cookie": f"switchboard_session={token}"})
    assert again.status == 401
    assert (await again.json())["code"] == "session_ended"


async def test_wrong_password_and_unknown_user_look_the_same(desk: Desk):
    _, wrong = await log_in(desk, password="wrong")
    _, unknown = await log_in(desk, name="nobody")
    assert wrong.status == unknown.status == 401
    assert await wrong.json() == await unknown.json()
    assert wrong.content_type == "application/problem+json"


async def test_a_session_ends_two_weeks_after_its_last_use(desk: Desk, clock: MovableClock):
    client, _ = await log_in(desk, "ada")
    clock.advance(SESSION_MS - DAY)
    assert (await client.get("/api/v1/api-tokens")).status == 200
    clock.advance(SESSION_MS - DAY)
    assert (await client.get("/api/v1/api-tokens")).status == 200
    clock.advance(SESSION_MS + 1)
    assert (await client.get("/api/v1/api-tokens")).status == 401


async def test_a_cookie_alone_changes_nothing_from_another_site(desk: Desk):
    client, _ = await log_in(desk, "ada")
    body = {"name": "forged"}
    for headers in (
        {},
        {"Origin": OURS["Origin"]},
        {**OURS, "Origin": "http://evil.example"},
        {**OURS, "Origin": "null"},
        {"X-Requested-With": "switchboard", "Sec-Fetch-Site": "cross-site"},
    ):
        answer = await client.post("/api/v1/api-tokens", json=body, headers=headers)
        assert answer.status == 403, headers
    assert (await client.post("/api/v1/api-tokens", json=body, headers=OURS)).status == 201
    assert len((await (await client.get("/api/v1/api-tokens")).json())["items"]) == 5


async def test_too_many_logins_are_slowed_down(desk: Desk, clock: MovableClock):
    clock.set(1_800_000_000_000)
    client = await desk.client()
    for _ in range(8):
        answer = await client.post("/api/v1/auth/login", json={"email": "x@example.org", "password": "y"})
        assert answer.status == 401
    answer = await client.post("/api/v1/auth/login", json={"email": "x@example.org", "password": "y"})
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) >= 1
    assert (await answer.json())["code"] == "rate_limited"


async def test_a_token_works_until_it_is_revoked_and_is_stored_only_as_a_hash(desk: Desk):
    admin = await desk.client("ada")
    made = await (
        await admin.post("/api/v1/api-tokens", json={"name": "robot", "agent_id": desk.ids["anna"]})
    ).json()
    robot = await desk.client()
    bearer = {"Authorization": f"Bearer {made['token']}"}
    assert (await robot.get("/api/v1/api-tokens", headers=bearer)).status == 403
    listed = (await (await admin.get("/api/v1/api-tokens")).json())["items"]
    assert made["token"] not in str(listed)
    assert (await admin.delete(f"/api/v1/api-tokens/{made['id']}")).status == 204
    assert (await admin.delete(f"/api/v1/api-tokens/{made['id']}")).status == 404
    assert (await robot.get("/api/v1/api-tokens", headers=bearer)).status == 401


async def test_odd_credentials_are_refused_cleanly(desk: Desk):
    client = await desk.client()
    for header in ("Bearer", "Bearer ", "Basic YTpi", "Bearer " + "x" * 5000, "Bearer сова"):
        answer = await client.get("/api/v1/api-tokens", headers={"Authorization": header})
        assert answer.status == 401, header
        assert answer.content_type == "application/problem+json"


async def test_changing_the_password_ends_the_other_sessions(desk: Desk):
    here, _ = await log_in(desk)
    there, _ = await log_in(desk)
    wrong = await here.put(
        "/api/v1/me/password", json={"current": "x", "new": "a new long one"}, headers=OURS
    )
    assert wrong.status == 403
    done = await here.put(
        "/api/v1/me/password", json={"current": PASSWORD, "new": "a new long one"}, headers=OURS
    )
    assert done.status == 204
    assert (await here.get("/api/v1/api-tokens")).status == 403
    assert (await there.get("/api/v1/api-tokens")).status == 401
    assert (await log_in(desk))[1].status == 401
    assert (await log_in(desk, password="a new long one"))[1].status == 200

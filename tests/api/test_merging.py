"""Merging and splitting over HTTP: who may, what the answers say, and that both threads stay readable."""

import pytest

from tests.api.conftest import Desk
from tests.api.test_inquiries import write


@pytest.fixture
async def inboxes(desk: Desk) -> Desk:
    await desk.add_inbox("help", "telegram", team_id=desk.teams["support"])
    await desk.add_inbox("other", "telegram", team_id=desk.teams["support"])
    await desk.add_inbox("sell", "telegram", team_id=desk.teams["sales"])
    return desk


async def test_a_merge_and_both_threads(inboxes: Desk):
    source = await write(inboxes, "help", "ira", "My visa")
    target = await write(inboxes, "other", "ira", "My visa again", 2)
    anna, boris = await inboxes.client("anna"), await inboxes.client("boris")
    merge = f"/api/v1/inquiries/{source['id']}/merge"
    assert (await boris.post(merge, json={"into_id": target["id"]})).status == 404
    done = await anna.post(merge, json={"into_id": target["id"], "note": "one customer"})
    assert done.status == 200
    assert (await done.json())["id"] == target["id"]
    assert (await anna.post(merge, json={"into_id": target["id"]})).status == 200
    wrong = await anna.post(merge, json={"into_id": source["id"]})
    assert (wrong.status, (await wrong.json())["code"]) == (422, "same_inquiry")

    gone = await (await anna.get(f"/api/v1/inquiries/{source['id']}")).json()
    assert (gone["status"], gone["merged_into_id"]) == ("closed", target["id"])
    late = await anna.post(f"/api/v1/inquiries/{source['id']}/messages", json={"text": "Hello?"})
    told = await late.json()
    assert (late.status, told["code"], told["params"]) == (409, "merged", {"merged_into_id": target["id"]})
    threads = (await (await anna.get(f"/api/v1/inquiries/{target['id']}/threads")).json())["items"]
    assert [t["inquiry_ids"] for t in threads] == [[target["id"]], [source["id"]]]
    other = threads[1]["conversation_id"]
    listed = f"/api/v1/inquiries/{target['id']}/messages"
    texts = [m["text"] for m in (await (await anna.get(f"{listed}?conversation_id={other}")).json())["items"]]
    assert texts[0] == "My visa"
    assert texts[1].startswith("Merged into #")
    assert (await anna.get(f"{listed}?conversation_id=999999")).status == 404
    own = [m["text"] for m in (await (await anna.get(listed)).json())["items"]]
    assert own[0] == "My visa again" and own[-1] == "one customer"
    # What came into the team's request is the team's to read, whoever had it before.
    moved = await write(inboxes, "sell", "ira", "A tour", 3)
    sofia = await inboxes.client("sofia")
    assert (await anna.get(f"/api/v1/inquiries/{moved['id']}")).status == 404
    taken = await sofia.post(f"/api/v1/inquiries/{moved['id']}/merge", json={"into_id": target["id"]})
    assert taken.status == 200
    assert (await anna.get(f"/api/v1/inquiries/{moved['id']}/messages")).status == 200


async def test_a_split(inboxes: Desk):
    source = await write(inboxes, "help", "ira", "My visa")
    await write(inboxes, "help", "ira", "And a tour to Rome, please", 2)
    anna = await inboxes.client("anna")
    said = (await (await anna.get(f"/api/v1/inquiries/{source['id']}/messages")).json())["items"]
    path = f"/api/v1/inquiries/{source['id']}/split"
    made = await anna.post(path, json={"message_id": said[1]["id"], "subject": "Rome"})
    assert made.status == 201
    new = await made.json()
    assert (new["subject"], new["conversation_id"]) == ("Rome", source["conversation_id"])
    again = await anna.post(path, json={"message_id": said[1]["id"]})
    assert (again.status, (await again.json())["id"]) == (200, new["id"])
    left = await anna.post(path, json={"message_id": said[0]["id"]})
    assert (left.status, (await left.json())["code"]) == (409, "only_message")

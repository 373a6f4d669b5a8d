"""What the demo says of itself when it is up: addresses, logins, and a command per channel to paste into a shell.

The commands need curl and python3 only. Each may be pasted again: ids come of the clock.
"""

import json
import shlex
from dataclasses import dataclass
from typing import Any

from switchboard.demo.organisation import Secrets
from switchboard.demo.people import BUREAU, OUR_NUMBER, STAFF, SUPPORT_ADDRESS, VISITOR

#: replaced by the seconds since 1970 when the command runs
_NOW = "@NOW@"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything of a running demo is."""

    url: str
    inboxes: dict[str, dict[str, Any]]
    lmtp_port: int
    smtp_port: int

    def hook(self, channel: str) -> str:
        tail = "/form" if channel == "form" else ""
        return f"{self.url}/hooks/{self.inboxes[channel]['key']}{tail}"


def description(at: Addresses, secrets: Secrets) -> dict[str, Any]:
    """The one JSON object of `switchboard demo --json`."""
    return {
        "url": at.url,
        "api_token": secrets.api_token,
        "inboxes": [_inbox(at, channel, row) for channel, row in at.inboxes.items()],
        "agents": [
            {
                "email": who.email,
                "password": secrets.password(who.login),
                "role": who.role,
                "team": who.teams[0] if who.teams else None,
                "name": who.name,
            }
            for who in STAFF
        ],
    }


def _inbox(at: Addresses, channel: str, row: dict[str, Any]) -> dict[str, Any]:
    config = row["config"]
    facts: dict[str, Any] = {
        "channel": channel,
        "key": row["key"],
        "secret": row["secret"],
        "name": row["name"],
        "hook_url": at.hook(channel),
    }
    if channel == "email":
        facts |= {"address": row["address"], "lmtp_port": at.lmtp_port, "smtp_port": at.smtp_port}
        facts |= {"relay_port": config["smtp_port"]}
    elif channel == "telegram":
        facts |= {"api_base": config["api_base"], "token": config["token"]}
    elif channel == "telephony":
        facts |= {"vendor": config["vendor"], "originate_url": config["originate_url"]}
        facts |= {"number": config["number"]}
    elif channel == "webchat":
        facts |= {"page_url": f"{at.url}/demo/chat"}
    return facts


def trials(at: Addresses) -> dict[str, tuple[str, str]]:
    """Channel -> (what it does, the command), in the order they are printed."""
    return {
        "telegram": ("a Telegram message to the bot", _telegram(at)),
        "email": (f"an email to {SUPPORT_ADDRESS}", _email(at)),
        "telephony": ("a missed call", _missed_call(at)),
        "webchat": (f"a web chat message (or open {at.url}/demo/chat)", _web_chat(at)),
        "form": ("a request by the form on the site", _form(at)),
    }


def _telegram(at: Addresses) -> str:
    person = {"id": VISITOR.telegram_id, "first_name": VISITOR.name, "language_code": VISITOR.locale}
    update = {
        "update_id": _NOW,
        "message": {
            "message_id": _NOW,
            "date": _NOW,
            "from": {**person, "is_bot": False},
            "chat": {"id": VISITOR.telegram_id, "type": "private", "first_name": VISITOR.name},
            "text": "Hello! My suitcase did not arrive",
        },
    }
    secret = at.inboxes["telegram"]["secret"]
    return (
        f"curl -sS -H 'Content-Type: application/json' -H {_quote(f'X-Telegram-Bot-Api-Secret-Token: {secret}')}"
        f" -d {_json(update)} {at.hook('telegram')}"
    )


def _email(at: Addresses) -> str:
    mail = (
        f"From: Newcomer <newcomer@mail.example>\\r\\nTo: {SUPPORT_ADDRESS}\\r\\nSubject: Do I need a visa?"
        "\\r\\nMessage-ID: <try-%s@mail.example>\\r\\n\\r\\nI fly to Georgia on Monday. Do I need a visa?\\r\\n"
    )
    return (
        f"printf '{mail}' \"$(date +%s)\" | curl -sS --url smtp://127.0.0.1:{at.smtp_port}"
        f" --mail-from newcomer@mail.example --mail-rcpt {SUPPORT_ADDRESS} --upload-file -"
    )


def _missed_call(at: Addresses) -> str:
    row = at.inboxes["telephony"]
    program = (
        "import base64,hashlib,hmac,json,time,urllib.request as u; "
        "b=json.dumps({'call_id':'try-%d'%time.time(),'state':'ended','direction':'inbound','from':'+380670000900',"
        f"'to':'{OUR_NUMBER}','did':'{OUR_NUMBER}','disposition':'missed','final':True" + "}).encode(); "
        f"s=base64.urlsafe_b64encode(hmac.new(b'{row['secret']}',b,hashlib.sha256).digest()).decode().rstrip('='); "
        f"print(u.urlopen(u.Request('{at.hook('telephony')}',b,"
        "{'X-Signature':s,'Content-Type':'application/json'})).read().decode())"
    )
    return f'python3 -c "{program}"'


def _web_chat(at: Addresses) -> str:
    key = at.inboxes["webchat"]["key"]
    session = (
        f"curl -sS -H 'Content-Type: application/json' -d {_json({'inbox_key': key, 'locale': 'en'})}"
        f" {at.url}/chat/v1/session | python3 -c \"import json,sys;print(json.load(sys.stdin)['session'])\""
    )
    message = {"client_id": f"try-{_NOW}", "text": "Hello! Can I change the date of my flight?"}
    return (
        f"curl -sS -H 'Content-Type: application/json' -H \"Authorization: Bearer $({session})\""
        f" -d {_json(message)} {at.url}/chat/v1/messages"
    )


def _form(at: Addresses) -> str:
    fields = {
        "name": "Newcomer",
        "phone": "+380670000901",
        "message": "A week in Greece for two, please",
        "submission_id": f"try-{_NOW}",
    }
    return f"curl -sS -H 'Content-Type: application/json' -d {_json(fields)} {at.hook('form')}"


def _json(value: dict[str, Any]) -> str:
    """A shell word with this JSON, the clock filled in by the shell."""
    text = json.dumps(value, separators=(",", ":")).replace(f'"{_NOW}"', _NOW)
    return "'" + text.replace("'", "'\\''").replace(_NOW, "'$(date +%s)'") + "'"


def _quote(text: str) -> str:
    return shlex.quote(text)


def welcome(at: Addresses, secrets: Secrets) -> str:
    """What `switchboard demo` prints."""
    lines = [
        "",
        f"{BUREAU} is open. Everything here is made up and stays on this machine.",
        "",
        f"  desk       {at.url}/desk",
        f"  wallboard  {at.url}/desk/wall",
        f"  web chat   {at.url}/demo/chat",
        f"  API        {at.url}/api/docs",
        "",
        "Log in as",
    ]
    for who in STAFF:
        teams = ", ".join(who.teams) or "everything"
        lines.append(f"  {who.email:<26}{secrets.password(who.login):<18}{who.role}, {teams}")
    lines += ["", "Send a request in: paste one of these into another terminal."]
    for number, (title, command) in enumerate(trials(at).values(), 1):
        lines += ["", f"# {number}. {title}", command]
    lines += ["", "What agents answer appears below. Ctrl+C ends the demo; its data stays.", ""]
    return "\n".join(lines)

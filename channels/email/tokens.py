"""Reply tokens: proof in an address (or a subject) that a mail belongs to a conversation.

Pure functions. The secret is the installation's, passed in by the core; nothing here looks anything up.
An address is `support+t<token>@example.com`. Mail programs and gateways change the case of addresses and
refuse odd characters, hence base32 in lower case.
"""

import base64
import hashlib
import hmac
import re

#: the letter between `+` and the token: keeps customers' own plus-addresses apart from ours
MARK = "t"
MAX_LOCAL_PART = 64  # RFC 5321 section 4.5.3.1.1
_MAC_BYTES = 10  # 80 bits
_SUBJECT_MAC_BYTES = 5  # weaker, because intake also asks for a known sender (channels.md §2.5)
_MAX_ID_BYTES = 8

_TOKEN_ADDRESS = re.compile(r"\+" + MARK + r"([a-z2-7]{18,29})$")
_SUBJECT = re.compile(r"\[#([a-z2-7]{2,13})-([a-z2-7]{8})\]", re.IGNORECASE)


def make_reply_token(secret: str, conversation_id: int) -> str:
    """A token of at most 29 letters and digits. Raises ValueError unless 0 < conversation_id < 2**63."""
    number = _id_bytes(conversation_id)
    return _encode(number + _mac(secret, b"reply:", number, _MAC_BYTES))


def parse_reply_token(secret: str, token: str) -> int | None:
    """The conversation a token was made for, or None if it was not made with this secret. Never raises."""
    raw = _decode(token)
    if raw is None or not _MAC_BYTES < len(raw) <= _MAC_BYTES + _MAX_ID_BYTES:
        return None
    number, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
    if number[0] == 0 or not hmac.compare_digest(mac, _mac(secret, b"reply:", number, _MAC_BYTES)):
        return None
    return int.from_bytes(number, "big")


def make_subject_token(secret: str, conversation_id: int) -> str:
    """`[#<id>-<mac>]` for a subject. Weaker than a reply token: to be believed only from a known
    participant.
    """
    number = _id_bytes(conversation_id)
    return f"[#{_encode(number)}-{_encode(_mac(secret, b'subject:', number, _SUBJECT_MAC_BYTES))}]"


def parse_subject_token(secret: str, token: str) -> int | None:
    """The conversation of a subject token, with or without its brackets, or None. Never raises."""
    match = _SUBJECT.fullmatch(token if token.startswith("[#") else f"[#{token}]")
    if match is None:
        return None
    number, mac = _decode(match[1]), _decode(match[2])
    if not number or mac is None or number[0] == 0 or len(number) > _MAX_ID_BYTES:
        return None
    if not hmac.compare_digest(mac, _mac(secret, b"subject:", number, _SUBJECT_MAC_BYTES)):
        return None
    return int.from_bytes(number, "big")


def find_subject_token(subject: str) -> str | None:
    """What looks like a subject token, without brackets and unproven."""
    match = _SUBJECT.search(subject)
    return f"{match[1]}-{match[2]}".lower() if match else None


def token_in_address(address: str) -> str | None:
    """What looks like a reply token in an address, unproven."""
    local = address.lower().rpartition("@")[0]
    match = _TOKEN_ADDRESS.search(local)
    return match[1] if match else None


def address_with_token(address: str, token: str) -> str:
    """`support+t<token>@…`. Where the local part would grow past 64 characters the address stays as it is:
    some servers refuse such mail, and References still thread the answer.
    """
    local, _, domain = address.rpartition("@")
    tagged = f"{local.partition('+')[0]}+{MARK}{token}"
    return f"{tagged}@{domain}" if len(tagged) <= MAX_LOCAL_PART else address


def _id_bytes(conversation_id: int) -> bytes:
    if not 0 < conversation_id < 1 << 63:
        raise ValueError(f"not a conversation id: {conversation_id}")
    return conversation_id.to_bytes((conversation_id.bit_length() + 7) // 8, "big")


def _mac(secret: str, purpose: bytes, number: bytes, size: int) -> bytes:
    return hmac.new(secret.encode(), purpose + number, hashlib.sha256).digest()[:size]


def _encode(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=").lower()


def _decode(text: str) -> bytes | None:
    """Strict: one token has one spelling (but for case), so that two spellings cannot pass as two tokens."""
    try:
        data = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except ValueError:
        return None
    return data if _encode(data) == text.lower() else None

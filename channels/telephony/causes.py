"""What providers' codes for the end of a call mean, as our dispositions.

Q.850 causes: https://www.itu.int/rec/T-REC-Q.850. SIP statuses:
https://www.rfc-editor.org/rfc/rfc3261#section-21. Mango's disconnect reasons: its API manual, the list of
result codes. Owns tables only.
"""

ANSWERED = "answered"
MISSED = "missed"
ABANDONED = "abandoned"
BUSY = "busy"
NO_ANSWER = "no_answer"
REJECTED = "rejected"
CANCELLED = "cancelled"
FAILED = "failed"
INVALID_NUMBER = "invalid_number"
VOICEMAIL = "voicemail"
MACHINE = "machine"

DISPOSITIONS = frozenset(
    {
        ANSWERED,
        MISSED,
        ABANDONED,
        BUSY,
        NO_ANSWER,
        REJECTED,
        CANCELLED,
        FAILED,
        INVALID_NUMBER,
        VOICEMAIL,
        MACHINE,
    }
)

_Q850 = {
    1: INVALID_NUMBER,
    17: BUSY,
    18: NO_ANSWER,
    19: NO_ANSWER,
    20: FAILED,
    21: REJECTED,
    22: INVALID_NUMBER,
    27: FAILED,
    28: INVALID_NUMBER,
    34: FAILED,
    38: FAILED,
    41: FAILED,
    42: FAILED,
    44: FAILED,
}

_SIP = {
    403: REJECTED,
    404: INVALID_NUMBER,
    408: NO_ANSWER,
    410: INVALID_NUMBER,
    480: NO_ANSWER,
    484: INVALID_NUMBER,
    486: BUSY,
    487: CANCELLED,
    600: BUSY,
    603: REJECTED,
    604: INVALID_NUMBER,
}

_MANGO = {
    1110: CANCELLED,
    1111: NO_ANSWER,
    1121: BUSY,
    1122: REJECTED,
    1123: REJECTED,
    1130: FAILED,
    1131: NO_ANSWER,
    1132: INVALID_NUMBER,
    1133: INVALID_NUMBER,
    1160: NO_ANSWER,
    1162: BUSY,
    1163: NO_ANSWER,
    1164: NO_ANSWER,
    1190: NO_ANSWER,
    1191: NO_ANSWER,
    1192: NO_ANSWER,
}

#: Words that PBXs use for the same few outcomes (Asterisk's DIALSTATUS, Twilio, Zadarma and our own).
_WORDS = {
    "answer": ANSWERED,
    "completed": ANSWERED,
    "success": ANSWERED,
    "noanswer": NO_ANSWER,
    "cancel": CANCELLED,
    "canceled": CANCELLED,
    "caller_cancelled": CANCELLED,
    "congestion": FAILED,
    "chanunavail": FAILED,
    "unavailable": NO_ANSWER,
    "timeout": NO_ANSWER,
    "declined": REJECTED,
    "invalid": INVALID_NUMBER,
    "vm": VOICEMAIL,
    "fax": MACHINE,
}


def of_word(word: str | None) -> str | None:
    """Our disposition for a provider's word, or None if the word is not known."""
    if not word:
        return None
    key = word.strip().casefold().replace("-", "_").replace(" ", "_")
    if key in DISPOSITIONS:
        return key
    return _WORDS.get(key) or _WORDS.get(key.replace("_", ""))


def of_sip(code: int | None) -> str | None:
    """Disposition of a final SIP status; None for success, provisional answers and codes that say nothing."""
    if code is None or code < 300:
        return None
    return _SIP.get(code, FAILED if code >= 400 else None)


def of_q850(cause: int | None) -> str | None:
    """Disposition of a Q.850 cause; None for 16 (normal clearing) and 31, which say nothing about an
    answer.
    """
    if cause is None or cause in {0, 16, 31}:
        return None
    return _Q850.get(cause, FAILED if cause <= 127 else None)


def of_cause(cause: int | None) -> str | None:
    """Disposition of a numeric cause that may be either: SIP statuses begin at 300, Q.850 ends at 127."""
    return of_q850(cause) if cause is not None and cause <= 127 else of_sip(cause)


def of_mango(reason: int | None) -> str | None:
    """Disposition of Mango's `disconnect_reason`; 1100 and 1120 (normal end) say nothing about an answer."""
    if reason is None or reason < 1110:
        return None
    if reason >= 2000:
        return FAILED
    return _MANGO.get(reason)

"""The languages the product itself speaks to people, and which of them a language tag or a browser's wish means."""

LANGUAGES = ("uk", "ru", "en")
DEFAULT = "en"


def ours(tag: str | None) -> str | None:
    """The language of a BCP 47 tag ("uk-UA", "ru_RU", "EN") if we speak it."""
    short = (tag or "").replace("_", "-").split("-")[0].strip().lower()
    return short if short in LANGUAGES else None


def spoken(tag: str | None) -> str:
    """The language to answer in: the tag's if we speak it, else English."""
    return ours(tag) or DEFAULT


def wished(accept_language: str | None) -> str | None:
    """The first of our languages that an Accept-Language header (RFC 9110) names; programs name the best first,
    whatever the weights say.
    """
    wishes = (accept_language or "").split(",")
    return next((code for wish in wishes if (code := ours(wish.split(";")[0].strip()))), None)


__all__ = ["DEFAULT", "LANGUAGES", "ours", "spoken", "wished"]

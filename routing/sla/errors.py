"""Errors of SLA configuration."""


class SlaConfigError(ValueError):
    """A policy is wrong: `path` is the field (`targets.normal.first_reply.minutes`), `reason` the fault."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason


class UnknownRuleError(LookupError):
    """A clock names a calendar or policy version that the rulebook at hand does not hold."""

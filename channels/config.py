"""From an inbox row to what adapters see of it."""

from collections.abc import Mapping
from typing import Any

from channels.contract import InboxConfig


def inbox_config(row: Mapping[str, Any]) -> InboxConfig:
    """Adapters get the account's address as `config["address"]` too, where the row carries it."""
    config = dict(row["config"])
    if row["address"] and "address" not in config:
        config["address"] = row["address"]
    return InboxConfig(
        id=row["id"],
        key=row["key"],
        channel=row["channel"],
        name=row["name"],
        secret=row["secret"],
        config=config,
        region=row["region"],
        language=row["language"],
    )

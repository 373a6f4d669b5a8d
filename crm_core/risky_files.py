"""Which files of strangers are never stored, whatever channel brings them."""

#: what runs when a person clicks on it
_ENDINGS = frozenset(
    (
        "exe", "scr", "com", "bat", "cmd", "pif", "vbs", "vbe", "js", "jse", "wsf", "wsh",
        "msi", "msp", "hta", "cpl", "jar", "ps1", "lnk", "reg", "dll", "iso", "img",
    )
)  # fmt: skip


def runs_on_click(name: str) -> bool:
    """By its ending, which is what the desktop goes by; trailing dots and spaces fall away there."""
    return name.rstrip(". ").rpartition(".")[2].lower() in _ENDINGS

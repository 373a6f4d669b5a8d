def fill(url: str, messages: int) -> None:
    raise NotImplementedError

"""The load: messages sent over plain sockets, each followed until its event comes out of an agent's socket.

Hand-made clients, because the generator shares the machine with what it measures.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from bench.payloads import MARK, Payload, address
from bench.place import MAIL_ADDRESS, TELEGRAM_KEY, TELEGRAM_SECRET

#: a message that is not on the socket by then is lost
LOST_AFTER_S = 30.0


class Http:
    """One keep-alive connection that posts Telegram updates."""

    def __init__(self, url: str, path: str = f"/hooks/{TELEGRAM_KEY}") -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname, parts.port
        self._head = (
            f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
            f"X-Telegram-Bot-Api-Secret-Token: {TELEGRAM_SECRET}\r\nContent-Length: "
        ).encode()

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)

    async def send(self, payload: Payload) -> None:
        """Returns when the message is accepted. Raises RuntimeError when it is refused."""
        self._writer.write(b"%s%d\r\n\r\n%s" % (self._head, len(payload.body), payload.body))
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        body = await self._reader.readexactly(length)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"refused: {head[:80]!r} {body[:200]!r}")

    def close(self) -> None:
        self._writer.close()


class Lmtp:
    """One LMTP connection, as a site's mail server keeps it."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
        await self._expect(b"220")
        await self._say(b"LHLO bench.example\r\n", b"250")

    async def send(self, payload: Payload) -> None:
        await self._say(f"MAIL FROM:<{address(payload.number)}>\r\n".encode(), b"250")
        await self._say(f"RCPT TO:<{MAIL_ADDRESS}>\r\n".encode(), b"250")
        await self._say(b"DATA\r\n", b"354")
        # No line of these mails begins with a dot, so there is nothing to stuff.
        await self._say(payload.body + b".\r\n", b"250")

    async def _say(self, data: bytes, answer: bytes) -> None:
        self._writer.write(data)
        await self._expect(answer)

    async def _expect(self, answer: bytes) -> None:
        while True:
            line = await self._reader.readuntil(b"\n")
            if not line.startswith(answer):
                raise RuntimeError(f"refused: {line[:200]!r}")
            if line[3:4] == b" ":
                return

    def close(self) -> None:
        self._writer.close()


Client = Http | Lmtp


class Arrivals:
    """Who waits for which message on the feed."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[float]] = {}
        #: messages that came twice or that nobody waits for
        self.strangers = 0

    def expect(self, number: int) -> asyncio.Future[float]:
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        return future

    def heard(self, frame: str) -> None:
        """A frame of the feed."""
        if '"kind":"message.added"' not in frame:
            return
        start = frame.find(MARK) + len(MARK)
        number = int(frame[start : frame.find(MARK, start)])
        future = self._waiting.pop(number, None)
        if future is None:
            self.strangers += 1
        elif not future.done():
            future.set_result(time.perf_counter())


@dataclass
class Result:
    """Times are seconds; `socket` from accepted to the agent's socket, `accepted` from sending."""

    messages: int = 0
    seconds: float = 0.0
    lost: int = 0
    late: int = 0
    accepted: list[float] = field(default_factory=list)
    socket: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.messages / self.seconds if self.seconds else 0.0


async def _follow(client: "Client | _Once", payload: Payload, arrivals: Arrivals, result: Result) -> None:
    arrived = arrivals.expect(payload.number)
    start = time.perf_counter()
    await client.send(payload)
    accepted = time.perf_counter()
    try:
        seen = await asyncio.wait_for(arrived, LOST_AFTER_S)
    except TimeoutError:
        result.lost += 1
        return
    result.messages += 1
    result.accepted.append(accepted - start)
    # The event may outrun the answer to the sender; that is then no time at all.
    result.socket.append(max(seen - accepted, 0.0))


async def closed_loop(
    clients: Sequence[Client], payloads: Sequence[Payload], arrivals: Arrivals, *, seconds: float
) -> Result:
    """Each client sends its next message when its last one is on the agent's socket."""
    result = Result()
    queue = iter(payloads)
    start = time.perf_counter()

    async def run(client: Client) -> None:
        for payload in queue:
            await _follow(client, payload, arrivals, result)
            if time.perf_counter() - start > seconds:
                return

    await asyncio.gather(*(run(c) for c in clients))
    result.seconds = time.perf_counter() - start
    return result


async def open_loop(
    clients: Sequence[Client], payloads: Sequence[Payload], arrivals: Arrivals, *, rate: float, seconds: float
) -> Result:
    """Messages come when they come (Poisson, `rate` a second), whether the last one is through or not."""
    result = Result()
    free: asyncio.Queue[Client] = asyncio.Queue()
    for client in clients:
        free.put_nowait(client)
    rng = random.Random(11)
    tasks: set[asyncio.Task[None]] = set()
    start = due = time.perf_counter()

    async def one(client: Client, payload: Payload) -> None:
        try:
            await _follow(_Once(client, lambda: free.put_nowait(client)), payload, arrivals, result)
        except Exception:
            result.lost += 1
            raise

    for payload in payloads:
        due += rng.expovariate(rate)
        if due - start > seconds:
            break
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        if free.empty():
            result.late += 1
        client = await free.get()
        tasks.add(asyncio.create_task(one(client, payload)))
    await asyncio.gather(*tasks)
    result.seconds = time.perf_counter() - start
    return result


class _Once:
    """A client that is given back as soon as its message is accepted."""

    def __init__(self, client: Client, done: Callable[[], None]) -> None:
        self._client, self._done = client, done

    async def send(self, payload: Payload) -> None:
        try:
            await self._client.send(payload)
        finally:
            self._done()


async def opened(make: Callable[[int], Client], count: int) -> list[Client]:
    clients = [make(n) for n in range(count)]
    for client in clients:
        await client.open()
    return clients

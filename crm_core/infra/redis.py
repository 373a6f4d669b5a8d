"""The scaled form: hints over Redis pub/sub and rate limits by a Lua script. All of it may vanish at any time."""

import asyncio
import contextlib
from collections.abc import Callable

import redis
import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry as ThreadRetry

log = structlog.get_logger(__name__)

_PREFIX = "switchboard:hint:"


def command_client(url: str) -> Redis:
    """For short commands: gives up fast, so that a lost Redis delays nobody."""
    return Redis.from_url(
        url, socket_timeout=2, socket_connect_timeout=2, retry=Retry(ExponentialBackoff(), 1)
    )


def thread_client(url: str) -> redis.Redis:
    """For threads that ask again by themselves: says at once that Redis is away."""
    return redis.Redis.from_url(
        url, socket_timeout=10, socket_connect_timeout=2, retry=ThreadRetry(NoBackoff(), 0)
    )


def subscriber_client(url: str) -> Redis:
    """For waiting on pub/sub: never times out by itself, checks the connection when idle."""
    return Redis.from_url(url, socket_timeout=None, socket_connect_timeout=2, health_check_interval=15)


async def answers(url: str) -> str | None:
    """None if Redis answers, else what it or the network said."""
    client = command_client(url)
    try:
        await client.ping()
    except (RedisError, OSError) as error:
        return str(error)
    finally:
        await client.aclose()
    return None


class RedisHints:
    """Publishes to all processes; subscribers of this process are called in its loop.

    Hints of this process reach its own subscribers directly, so a lost Redis costs other processes only their speed.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._commands = command_client(url)
        self._subscribers: dict[str, list[Callable[[str], None]]] = {}
        self._outbox: asyncio.Queue[tuple[str, str]] = asyncio.Queue(maxsize=1_000)
        self._tasks: list[asyncio.Task[None]] = []
        self._me = f"{id(self):x}-{asyncio.get_running_loop().time():.6f}"

    def publish(self, topic: str, payload: str = "") -> None:
        self._deliver(topic, payload)
        # When Redis is slow, hints pile up; dropping them is harmless because everybody polls as well.
        with contextlib.suppress(asyncio.QueueFull):
            self._outbox.put_nowait((topic, payload))

    def subscribe(self, topic: str, callback: Callable[[str], None]) -> Callable[[], None]:
        self._subscribers.setdefault(topic, []).append(callback)

        def end() -> None:
            with contextlib.suppress(ValueError):
                self._subscribers[topic].remove(callback)

        return end

    async def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._send(), name="hints-send"),
            asyncio.create_task(self._listen(), name="hints-listen"),
        ]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._commands.aclose()

    def _deliver(self, topic: str, payload: str) -> None:
        for callback in tuple(self._subscribers.get(topic, ())):
            callback(payload)

    async def _send(self) -> None:
        while True:
            waiting = {await self._outbox.get()}
            while not self._outbox.empty():
                waiting.add(self._outbox.get_nowait())  # equal hints collapse into one
            for topic, payload in waiting:
                try:
                    await self._commands.publish(_PREFIX + topic, f"{self._me} {payload}")
                except (RedisError, OSError) as error:
                    log.warning("hint_not_sent", topic=topic, error=str(error))

    async def _listen(self) -> None:
        while True:
            client = subscriber_client(self._url)
            try:
                async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.psubscribe(_PREFIX + "*")
                    async for item in pubsub.listen():
                        if item["type"] == "pmessage":
                            self._heard(item["channel"], item["data"])
            except (RedisError, OSError) as error:
                log.warning("hints_lost", error=str(error))
            finally:
                with contextlib.suppress(RedisError, OSError):
                    await client.aclose()
            await asyncio.sleep(1)

    def _heard(self, channel: bytes | str, data: bytes | str) -> None:
        topic = (channel.decode() if isinstance(channel, bytes) else channel).removeprefix(_PREFIX)
        text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
        sender, _, payload = text.partition(" ")
        if sender != self._me:
            self._deliver(topic, payload)


#: GCRA: KEYS[1] the bucket; ARGV now_ms, cost_ms, burst. Returns milliseconds to wait, 0 if taken.
_TAKE = """
local full = tonumber(redis.call('GET', KEYS[1]) or '0')
local now, cost, burst = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if full < now then full = now end
local wait = full - now - (burst - 1) * cost
if wait > 0 then return math.ceil(wait) end
full = full + cost
redis.call('SET', KEYS[1], string.format('%.3f', full), 'PX', math.ceil(full - now) + 1000)
return 0
"""


class RedisLimiter:
    """Shared buckets; while Redis does not answer, nothing is limited, because refusing customers would be worse."""

    def __init__(self, url: str) -> None:
        self._client = command_client(url)
        self._script = self._client.register_script(_TAKE)

    async def take(self, key: str, *, per_s: float, burst: int, now: int) -> float:
        try:
            wait = await self._script(keys=[f"switchboard:rate:{key}"], args=[now, 1000 / per_s, burst])
        except (RedisError, OSError) as error:
            log.warning("rate_limit_unavailable", error=str(error))
            return 0.0
        return int(wait) / 1000

    async def close(self) -> None:
        await self._client.aclose()

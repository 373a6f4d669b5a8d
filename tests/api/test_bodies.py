"""Bodies that do not come as announced are the caller's trouble, and are told so."""

import asyncio
from unittest.mock import Mock

import aiohttp
import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import StreamReader
from aiohttp.test_utils import make_mocked_request

from api.layer.bodies import BodyBroken, BodyCut, read_body
from api.layer.problems import answer_to


@pytest.mark.parametrize(
    ("broken", "raised"),
    [
        (ConnectionResetError("Connection lost"), BodyCut),
        (aiohttp.http_exceptions.ContentEncodingError("not gzip"), BodyBroken),
    ],
)
async def test_a_caller_who_goes_away_is_not_a_database_that_does(
    broken: Exception, raised: type[Exception]
) -> None:
    loop = asyncio.get_running_loop()
    protocol = BaseProtocol(loop)
    protocol.connection_made(Mock(spec=asyncio.Transport))
    payload = StreamReader(protocol, 2**16, loop=loop)
    payload.feed_data(b'{"message":')
    request = make_mocked_request("POST", "/hooks/k/form", payload=payload)
    reading = asyncio.create_task(read_body(request, limit=100))
    await asyncio.sleep(0)
    payload.set_exception(broken)
    with pytest.raises(raised) as caught:
        await reading
    assert answer_to(caught.value, where="/hooks").status == 400

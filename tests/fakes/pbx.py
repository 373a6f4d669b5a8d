"""The fake PBXs, for tests."""

from switchboard.demo.fake_pbx import (
    Answer,
    CallScript,
    Connected,
    Delivered,
    Delivery,
    FakePbx,
    Originated,
    PlayedCall,
    Post,
    generic_pbx,
    mango_pbx,
    twilio_pbx,
)

__all__ = [
    "Answer",
    "CallScript",
    "Connected",
    "Delivered",
    "Delivery",
    "FakePbx",
    "Originated",
    "PlayedCall",
    "Post",
    "generic_pbx",
    "mango_pbx",
    "twilio_pbx",
]

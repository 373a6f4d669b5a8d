"""The strict local Bot API. It lives in the product, because the demo runs it too."""

from switchboard.demo.fake_telegram import FakeTelegram, Fault
from switchboard.demo.fake_telegram_people import Chat, FakeUser, SentMessage

__all__ = ["Chat", "FakeTelegram", "FakeUser", "Fault", "SentMessage"]

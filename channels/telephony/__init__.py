"""Telephony: calls from a generic PBX, Twilio or Mango Office."""

from channels.telephony.channel import TelephonyChannel

__all__ = ["TelephonyChannel"]

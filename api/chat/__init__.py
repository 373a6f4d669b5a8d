"""The widget's protocol under /chat/v1 (channels.md §4.2): sessions, messages, and one log read by three transports."""

"""Implementations of the ports: embedded (memory, directory) and scaled (Redis, S3-compatible)."""

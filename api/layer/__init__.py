"""A thin layer of our own on pydantic over aiohttp: typed handlers, problem documents, OpenAPI 3.1.

No kept library gives OpenAPI 3.1 on aiohttp. The layer knows HTTP and types, nothing of the domain.
"""

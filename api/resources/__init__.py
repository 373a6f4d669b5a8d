"""The resources of /api/v1, one module each: endpoints, their models, and the queries that fill them."""

"""The live feed: one reader of the event log per process, fanned out to sockets by audience, resumable by cursor."""

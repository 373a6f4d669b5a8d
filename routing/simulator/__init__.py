"""The product's own decision core on a virtual clock: `run(scenario, seed) -> Result`.

Drives `routing.decide`, `routing.machine`, `routing.steps`, `routing.order` with state in memory: no database, no
sleeping, no chance that is not seeded. It has no routing rules of its own.
"""

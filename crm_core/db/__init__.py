"""Storage: `engine.Database`, `uow.UnitOfWork`, `types` (columns). Import from the modules: the tables in
`crm_core.schema` need `types` while `uow` needs the tables.
"""

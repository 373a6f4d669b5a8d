"""full-text search over contacts and inquiries: GIN on Postgres, FTS5 with triggers on SQLite"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = ("contact", "inquiry")


def upgrade() -> None:
    sqlite = op.get_bind().dialect.name == "sqlite"
    for table in TABLES:
        if not sqlite:
            op.execute(f"CREATE INDEX fts_{table} ON {table} USING gin (to_tsvector('simple', search_text))")
            continue
        op.execute(
            f"CREATE VIRTUAL TABLE fts_{table} USING fts5(search_text, content='{table}', content_rowid='id', "
            "tokenize=\"unicode61 remove_diacritics 0 tokenchars '@.+-_'\", prefix='2 3')"
        )
        op.execute(
            f"CREATE TRIGGER fts_{table}_ai AFTER INSERT ON {table} BEGIN "
            f"INSERT INTO fts_{table}(rowid, search_text) VALUES (new.id, new.search_text); END"
        )
        op.execute(
            f"CREATE TRIGGER fts_{table}_ad AFTER DELETE ON {table} BEGIN "
            f"INSERT INTO fts_{table}(fts_{table}, rowid, search_text) VALUES ('delete', old.id, old.search_text); END"
        )
        op.execute(
            f"CREATE TRIGGER fts_{table}_au AFTER UPDATE OF search_text ON {table} "
            "WHEN old.search_text IS NOT new.search_text BEGIN "
            f"INSERT INTO fts_{table}(fts_{table}, rowid, search_text) VALUES ('delete', old.id, old.search_text); "
            f"INSERT INTO fts_{table}(rowid, search_text) VALUES (new.id, new.search_text); END"
        )
    if not sqlite:
        # The queue is small and turns over fast: dead rows would make every probe of a lane's head slow.
        op.execute("ALTER TABLE queue_entry SET (autovacuum_vacuum_scale_factor = 0.01, fillfactor = 70)")
        op.execute("ALTER TABLE job SET (autovacuum_vacuum_scale_factor = 0.01, fillfactor = 70)")


def downgrade() -> None:
    sqlite = op.get_bind().dialect.name == "sqlite"
    for table in TABLES:
        if sqlite:
            for trigger in ("ai", "ad", "au"):
                op.execute(f"DROP TRIGGER fts_{table}_{trigger}")
            op.execute(f"DROP TABLE fts_{table}")
        else:
            op.execute(f"DROP INDEX fts_{table}")

"""Column types and the one MetaData that all tables share, on SQLite and Postgres alike."""

from sqlalchemy import JSON, BigInteger, Integer, MetaData, Text
from sqlalchemy.dialects.postgresql import JSONB

#: Names make constraints droppable on SQLite (batch mode) and equal in both histories.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: Automatic ids: SQLite increments only INTEGER primary keys.
Id = BigInteger().with_variant(Integer, "sqlite")

#: References and plain 64-bit numbers.
Big = BigInteger()

#: An instant: milliseconds since the epoch, UTC (ADR 0002).
Ms = BigInteger()

Json = JSON().with_variant(JSONB(astext_type=Text()), "postgresql")

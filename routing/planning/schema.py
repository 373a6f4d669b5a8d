"""Planning's one table: what-if questions, asked by people, answered by a worker, kept with their answers."""

from sqlalchemy import Column, Index, Integer, String, Table, Text

from crm_core.db.types import Big, Id, Json, Ms, metadata

planning_run = Table(
    "planning_run",
    metadata,
    Column("id", Id, primary_key=True),
    Column("state", String(10), nullable=False),  # queued | running | done | failed
    Column("asked_by", Big, nullable=True),  # the agent who asked
    Column("question", Json, nullable=False),  # period, change, seeds …: routing.planning.question
    Column("answer", Json, nullable=True),  # the comparison, of a run that is done
    Column("error", Text, nullable=True),  # why it failed, for people
    Column("error_code", String(60), nullable=True),
    Column("attempts", Integer, nullable=False),
    Column("created_at", Ms, nullable=False),
    Column("started_at", Ms, nullable=True),
    Column("finished_at", Ms, nullable=True),
    Index("ix_planning_run_created_at", "created_at"),
)

"""The migration check must fail when models and migrations differ, or it is decoration."""

from pathlib import Path

import pytest

from tests.services.alembic_check import check

ENV = """
import os
from alembic import context
from sqlalchemy import Column, Integer, MetaData, Table, create_engine
metadata = MetaData()
Table("thing", metadata, Column("id", Integer, primary_key=True){extra})
with create_engine(os.environ["SWITCHBOARD_DATABASE_URL"]).connect() as connection:
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()
"""
REVISION = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = {name!r}, None
def upgrade():
    op.create_table("thing", sa.Column("id", sa.Integer, primary_key=True))
"""


def project(folder: Path, *, extra: str = "", revisions: tuple[str, ...] = ("aa",)) -> Path:
    (folder / "versions").mkdir()
    (folder / "env.py").write_text(ENV.format(extra=extra))
    for name in revisions:
        (folder / "versions" / f"{name}.py").write_text(REVISION.format(name=name))
    config = folder / "alembic.ini"
    config.write_text(f"[alembic]\nscript_location = {folder}\npath_separator = os\n")
    return config


def test_agreement_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(project(tmp_path), f"sqlite:///{tmp_path}/db")
    assert "No new upgrade operations detected." in capsys.readouterr().out


def test_a_column_without_a_migration_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="alembic check failed on sqlite"):
        check(project(tmp_path, extra=', Column("late", Integer)'), f"sqlite:///{tmp_path}/db")
    assert "late" in capsys.readouterr().out


def test_two_heads_fail(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2 heads"):
        check(project(tmp_path, revisions=("aa", "bb")), f"sqlite:///{tmp_path}/db")

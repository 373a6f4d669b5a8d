"""The settings, read once: environment `SWITCHBOARD_*`, then an optional TOML file named by SWITCHBOARD_CONFIG.

Everything else (inboxes, teams, policies, flows) is data, edited by API and screen.
"""

import os
import re
import secrets
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from typing_extensions import override

from crm_core.services import AppSettings

_DATABASE = re.compile(r"(postgres|postgresql|postgresql\+asyncpg|sqlite|sqlite\+aiosqlite)://")


class SettingsError(Exception):
    """A setting is missing or wrong; the text names the variable and the fix."""


class Settings(BaseSettings):
    """One tree for all processes."""

    model_config = SettingsConfigDict(env_prefix="SWITCHBOARD_", extra="forbid")

    data_dir: Path = Field(
        Path("data"), description="directory for the SQLite file, blobs and the secret key"
    )
    database_url: str | None = Field(
        None, description="postgresql+asyncpg://… or sqlite+aiosqlite:///…; default: a file in data_dir"
    )
    redis_url: str | None = Field(
        None, description="redis://…: the scaled form; empty: everything in one process"
    )
    files_dir: Path | None = Field(None, description="directory for blobs; default: data_dir/files")
    secret_key: SecretStr | None = Field(
        None, description="signs tokens; default: made once and kept in data_dir"
    )
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    public_url: str | None = Field(
        None, description="how customers and providers reach us, e.g. https://desk.example.com"
    )
    lmtp_host: str = Field("127.0.0.1", description="address on which the mail listener binds")
    lmtp_port: int | None = Field(
        None, description="port for LMTP from your mail server; empty: no listener; 0: any"
    )
    smtp_port: int | None = Field(None, description="port for SMTP intake; empty: no listener; 0: any")
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()
    webhook_private: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="hosts and networks inside your own net that outbound webhooks may reach, by commas"
    )
    pool_size: int = Field(10, ge=2, le=100)
    sqlite_synchronous: str = Field("FULL", pattern="^(OFF|NORMAL|FULL|EXTRA)$")
    worker_threads: int = Field(16, ge=1, le=256)
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    log_format: str = Field("console", pattern="^(console|json)$")
    clock_file: Path | None = Field(
        None, description="tests and demos: a file holding an offset in milliseconds"
    )
    inbound_keep_days: int = Field(90, ge=1)
    uvloop: bool = True

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str | None) -> str | None:
        if value and not _DATABASE.match(value):
            raise ValueError("must begin with postgresql+asyncpg:// or sqlite+aiosqlite:///")
        return value

    @field_validator("trusted_proxies", "webhook_private", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(p.strip() for p in value.split(",") if p.strip()) if isinstance(value, str) else value

    @classmethod
    @override
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        sources: list[PydanticBaseSettingsSource] = [init_settings, env_settings]
        path = os.environ.get("SWITCHBOARD_CONFIG")
        if path:
            sources.append(TomlConfigSettingsSource(settings_cls, toml_file=Path(path)))
        return tuple(sources)

    @property
    def resolved_database_url(self) -> str:
        url = self.database_url or f"sqlite+aiosqlite:///{self.data_dir.resolve()}/switchboard.db"
        # What operators copy from elsewhere; without a driver SQLAlchemy would take another one.
        if url.startswith(("postgres://", "postgresql://")):
            url = "postgresql+asyncpg://" + url.partition("://")[2]
        if url.startswith("sqlite://"):
            url = "sqlite+aiosqlite://" + url.partition("://")[2]
        return url

    @property
    def form(self) -> str:
        return "scaled" if self.redis_url else "embedded"

    def read_secret_key(self) -> bytes:
        """The configured key, or one made on first use and kept beside the data, readable by its owner only."""
        if self.secret_key is not None:
            key = self.secret_key.get_secret_value().encode()
            if len(key) < 16:
                raise SettingsError("SWITCHBOARD_SECRET_KEY is too short: use at least 16 random characters")
            return key
        path = self.data_dir / "secret.key"
        self.data_dir.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return path.read_bytes().strip()
        with os.fdopen(handle, "wb") as file:
            key = secrets.token_hex(32).encode()
            file.write(key)
        return key

    def for_app(self, *, demo: bool = False) -> AppSettings:
        public_url = (self.public_url or f"http://{self.host}:{self.port}").rstrip("/")
        return AppSettings(
            public_url=public_url,
            secret_key=self.read_secret_key(),
            data_dir=self.data_dir,
            cookie_secure=public_url.startswith("https://"),
            trusted_proxies=self.trusted_proxies,
            webhook_private=self.webhook_private,
            form=self.form,
            inbound_keep_days=self.inbound_keep_days,
            version=program_version(),
            mail_host=self.lmtp_host,
            lmtp_port=self.lmtp_port,
            smtp_port=self.smtp_port,
            demo=demo,
        )


def program_version() -> str:
    try:
        return version("switchboard")
    except PackageNotFoundError:
        return "0+source"


def load(**overrides: Any) -> Settings:
    """Read the settings. Raises SettingsError with one line per wrong variable."""
    path = os.environ.get("SWITCHBOARD_CONFIG")
    try:
        if path:
            # Read once more by the settings' own source, which passes over a file that is not there.
            tomllib.loads(Path(path).read_text(encoding="utf-8"))
        return Settings(**{k: v for k, v in overrides.items() if v is not None})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"SWITCHBOARD_CONFIG: {path}: {error}") from error
    except ValidationError as error:
        lines = [
            f"SWITCHBOARD_{'_'.join(str(p) for p in e['loc']).upper()}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        ]
        raise SettingsError("\n".join(lines)) from error

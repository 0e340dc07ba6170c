"""Every setting of every process, read from the environment (prefix ``STARS_``).

The README's table of settings is this class; a test compares the two.
"""

from functools import lru_cache
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated

from pydantic import Field, PrivateAttr, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_WHO_IS_WHAT = r"\s*(?:admin|moderator|group:[^\s,=]{1,100})\s*=\s*(?:member|star|staff)\s*"
_DISCOURSE_ROLES = rf"^{_WHO_IS_WHAT}(?:,{_WHO_IS_WHAT})*$"


class Settings(BaseSettings):
    """What the environment says. Absent infrastructure is embedded by ``stars up`` and an error for ``stars run``."""

    model_config = SettingsConfigDict(env_prefix="STARS_", extra="ignore", env_ignore_empty=True)

    data: Path = Field(Path(".stars"), description="folder of the embedded instance")
    url: str | None = Field(None, description="public base URL, also where commands find the services")

    kafka: str | None = Field(None, description="Kafka bootstrap servers, host:port[,host:port]")
    kafka_replication: int = Field(1, ge=1, le=5, description="replication factor of the Kafka topics that are created")
    partitions: int = Field(12, ge=1, le=1000, description="partitions of each stream when it is created")
    batch_records: int = Field(500, ge=1, le=10_000, description="most Kafka records applied in one transaction")

    postgres: str | None = Field(None, description="PostgreSQL 18 or newer, postgresql://user:password@host/db")
    postgres_topics: str | None = Field(None, description="another server or login for the topics service")
    postgres_notifier: str | None = Field(None, description="another server or login for the notifier service")
    postgres_leaderboard: str | None = Field(None, description="another server or login for the leaderboard service")
    postgres_applications: str | None = Field(None, description="another server or login for the applications service")
    postgres_pool: int = Field(8, ge=3, le=100, description="connections of one process of one service")

    secret: SecretStr | None = Field(
        None, description="HS256 key of bearer tokens, at least 32 bytes; sessions are signed with what is made of it"
    )
    issuer: str | None = Field(None, description="expected issuer of bearer tokens, and of sign-ins by OpenID Connect")
    jwks: str | None = Field(None, description="URL of the issuer's JSON Web Key Set")
    audience: str | None = Field(None, description="expected audience of bearer tokens")
    member_claim: str = Field("sub", description="the claim that holds the forum's member id")
    roles_claim: str = Field("roles", description="the claim that holds the roles: member, star, staff, forum")
    oidc_client_id: str | None = Field(
        None, description="client id at the OpenID provider `STARS_ISSUER`; with it, people sign in there"
    )
    oidc_client_secret: SecretStr | None = Field(None, description="the client's secret; none: a public client")
    oidc_scope: str = Field("openid profile", description="what the OpenID provider is asked for")
    erasure_key: SecretStr | None = Field(None, description="key of erased members' stand-ins; never change it")

    host: str = Field("127.0.0.1", description="address that HTTP listens on")
    port: int = Field(8080, ge=0, le=65535, description="port that HTTP listens on")
    proxies: Annotated[list[str], NoDecode] = Field(
        [],
        description="addresses or networks of the proxies in front, comma separated: their X-Forwarded-For and "
        "X-Forwarded-Proto are believed; none: those of this machine alone",
    )
    cors_origins: Annotated[list[str], NoDecode] = Field(
        [], description="origins that browsers may call from, comma separated"
    )
    max_body: int = Field(4 * 1024 * 1024, ge=1024, description="largest request body, in bytes")
    rate_limit: int = Field(
        6000, ge=0, description="requests a minute of one caller without the role forum or staff; 0: no limit"
    )

    discourse_secret: SecretStr | None = Field(
        None, description="secret of the Discourse webhook; without it there is no route"
    )
    discourse_url: str | None = Field(None, description="base URL of the Discourse to poll and to sign in at")
    discourse_mapping: Path | None = Field(None, description="JSON file: category id -> space, kind, language")
    discourse_poll_seconds: int = Field(180, ge=10, description="pause between two polls of the Discourse")

    smtp: SecretStr | None = Field(
        None,
        description="mail servers, best first, separated by blanks: smtp://user:password@host:port?connections=8 "
        "(smtp+starttls, smtps, smtp+plain); none: mails are kept in the local mailbox",
    )
    mail_from: str = Field(
        "Constellation <noreply@constellation.invalid>", description="the address that mails come from"
    )
    mail_bounces: str | None = Field(
        None, description="the address whose +extensions take bounces; none: that of STARS_MAIL_FROM"
    )
    push_contact: str | None = Field(
        None, description="mailto: or https: address for push services to reach us; none: made from STARS_MAIL_FROM"
    )
    delivery_lease: float = Field(
        20.0, ge=1, le=600, description="seconds after which a dead process's deliveries are taken over"
    )
    discourse_connect_secret: SecretStr | None = Field(
        None, description="DiscourseConnect provider secret; with it, people sign in at `STARS_DISCOURSE_URL`"
    )
    discourse_roles: str = Field(
        "admin=staff, moderator=staff",
        pattern=_DISCOURSE_ROLES,
        description="who is what by DiscourseConnect: admin, moderator or group:NAME = member, star or staff",
    )

    discourse_api_key: SecretStr | None = Field(
        None, description="admin API key of the Discourse; with it and a group, Stars join that group and leave it"
    )
    discourse_api_user: str = Field("system", description="whom the admin API key acts as")
    discourse_star_group: int | None = Field(None, ge=1, description="id of the Discourse group of Stars")
    webhook_urls: Annotated[list[str], NoDecode] = Field(
        [], description='where "Ada is a Star" and "Ada is answering" are posted, comma separated'
    )
    webhook_secret: SecretStr | None = Field(
        None, description="signs outgoing webhooks (Standard Webhooks); without it none is sent"
    )

    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR")
    log_format: str = Field("json", pattern="^(json|text)$", description="json or text")
    otlp_endpoint: str | None = Field(
        None, description="OpenTelemetry collector, http://host:4318; none: traces stay here"
    )

    @field_validator("cors_origins", "proxies", "webhook_urls", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("proxies")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        for one in value:
            try:
                ip_network(one)
            except ValueError as error:
                raise ValueError(f"{error}; name addresses (10.0.0.5) or networks (10.0.0.0/8)") from None
        return value

    def erasure_key_bytes(self) -> bytes:
        """The key of stand-ins; without one of its own it is made from the signing secret."""
        key = self.erasure_key or self.secret
        if key is None:
            raise ValueError("STARS_ERASURE_KEY is not set; it must be the same in every service, for ever")
        return key.get_secret_value().encode()

    _listening: str | None = PrivateAttr(None)

    def listens_at(self, url: str) -> None:
        """This process answers there: what links say where no public address is set."""
        self._listening = url

    def public_url(self) -> str:
        """Where people find this installation, for links in what is sent to them; without a slash at its end."""
        return (self.url or self._listening or f"http://{self.host}:{self.port}").rstrip("/")

    def postgres_of(self, service: str) -> str | None:
        """The DSN of one service: its own where one is set, else the common one."""
        own: str | None = getattr(self, f"postgres_{service}", None)
        return own or self.postgres


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()

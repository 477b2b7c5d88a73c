"""The address of a gallery in PostgreSQL, ``postgresql://…``, which may hold a password that nobody shall see."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from obelisk.errors import GalleryError

SCHEMES = ("postgresql", "postgres")
SCHEMA = "obelisk"
"""The schema of a gallery whose address names none."""
SECRETS = ("password", "sslpassword")
HOSTS = re.compile(r"([^:@/]*|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?(,([^:@/]*|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?)*")


@dataclass(frozen=True, kw_only=True)
class DatabaseAddress:
    """Where a gallery is in PostgreSQL.

    ``url`` is what PostgreSQL's library takes, ``shown`` is the address without a password, and ``schema`` the one that
    holds the tables: that of the parameter ``schema``, which is ours, or ``obelisk``.
    """

    url: str = field(repr=False)
    shown: str
    schema: str
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def hide_secrets(self, text: str) -> str:
        """Return a text of somebody else without the passwords of the address."""
        for secret in self.secrets:
            text = text.replace(secret, "…") if secret else text
        return text


def is_address(place: Path | str) -> bool:
    """Return whether a gallery is named by the address of a database."""
    return str(place).partition(":/")[0] in SCHEMES


def parse_address(text: str) -> DatabaseAddress:
    """Parse ``postgresql://[user[:password]@][host[:port]][/database][?parameter=value…]``.

    Raises :class:`GalleryError`, without the text, for one that can't be told apart from its password.
    """
    scheme, _, rest = text.partition(":/")
    given = urlsplit(f"{scheme}://{rest.lstrip('/') if not rest.startswith('//') else rest[1:]}")
    login, _, hosts = given.netloc.rpartition("@")
    user, _, password = login.partition(":")
    parameters = parse_qsl(given.query, keep_blank_values=True)
    if "@" in login or "@" in given.path + given.query + given.fragment or not HOSTS.fullmatch(hosts):
        what = "the address of the database can't be read, and isn't shown because it may hold a password"
        fix = "in user and password write @ : / ? # as %40 %3A %2F %3F %23, or keep the password in ~/.pgpass"
        raise GalleryError(what, fix=fix)
    plain = [(name, value) for name, value in parameters if name != "schema"]
    schema = dict(parameters).get("schema") or SCHEMA
    public = [(name, value) for name, value in parameters if name not in SECRETS]
    where = f"{user}@{hosts}" if user else hosts
    secrets = [unquote(password), *(value for name, value in parameters if name in SECRETS)]
    return DatabaseAddress(
        url=f"postgresql://{given.netloc}{given.path}" + (f"?{urlencode(plain, quote_via=quote)}" if plain else ""),
        shown=f"postgresql://{where}{given.path}"
        + (f"?{urlencode(public, quote_via=quote, safe='/')}" if public else ""),
        schema=schema,
        secrets=tuple(sorted({*secrets, password} - {""}, key=len, reverse=True)),
    )

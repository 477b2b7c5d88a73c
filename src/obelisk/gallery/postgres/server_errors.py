"""PostgreSQL's errors as errors that a user can act on; no password is in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors

from obelisk.errors import GalleryError, GalleryLockedError
from obelisk.gallery.address import DatabaseAddress

MISSING = (errors.UndefinedTable, errors.InvalidSchemaName, errors.InvalidCatalogName)
REFUSED_LOGIN = re.compile(r"password authentication failed|no password supplied|authentication|role .* does not exist")
LOST = (errors.AdminShutdown, errors.CrashShutdown, errors.DatabaseDropped, errors.IdleInTransactionSessionTimeout)
NEVER_CONNECTED = re.compile(
    r"connection to server (at|on) .* failed|connection failed|resolve|connection timeout|invalid"
)
STARTING = re.compile(r"starting up|shutting down|in recovery mode|not yet accepting", re.IGNORECASE)
PGPASS = "put the password into ~/.pgpass (host:port:database:user:password, mode 600), or name a service file"


@contextmanager
def translating_server_errors(address: DatabaseAddress) -> Iterator[None]:
    """Turn PostgreSQL's errors into ours."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, address) from None


def translate(error: psycopg.Error, address: DatabaseAddress) -> GalleryError:
    """Return our error for one of PostgreSQL's."""
    where = address.shown
    said = address.hide_secrets(" ".join(str(error).strip().splitlines()[:1]))
    if isinstance(error, (errors.InvalidPassword, errors.InvalidAuthorizationSpecification)) or (
        error.sqlstate is None and REFUSED_LOGIN.search(said)
    ):
        return GalleryError(f"the database refuses the login: {tail_of(said)}", where=where, fix=PGPASS)
    if isinstance(error, MISSING) or ('database "' in said and "does not exist" in said):
        return missing_gallery_error(address)
    if isinstance(error, errors.InsufficientPrivilege):
        fix = "ask the owner of the database for this right"
        return GalleryError(f"the database does not allow this: {said}", where=where, fix=fix)
    if isinstance(error, errors.ReadOnlySqlTransaction):
        what = "the gallery cannot be written to: the database is read-only, or a standby"
        return GalleryError(what, where=where, fix="name the primary server")
    if isinstance(error, (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure)):
        what = "other processes kept the gallery locked for too long"
        return GalleryLockedError(what, where=where, fix="try again when they are done")
    if (error.sqlstate or "").startswith("53"):  # its disk is full, or its memory, or it has no connection left
        return machine_error(f"the database server has run out of room: {tail_of(said)}", where, "see to it; try again")
    if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        if STARTING.search(said) or isinstance(error, errors.CannotConnectNow):
            return machine_error("the database server is starting or stopping", where, "try again in a moment")
        if isinstance(error, LOST) or (error.sqlstate is None and not NEVER_CONNECTED.search(said)):
            fix = "what was acknowledged is kept; give the same command again"
            return machine_error("the connection to the database was lost", where, fix)
        return machine_error(f"the database can't be reached: {tail_of(said)}", where, "check that it runs; try again")
    return GalleryError(f"the gallery cannot be used: {said}", where=where)


def tail_of(said: str) -> str:
    """Return what is new in a message of PostgreSQL's library, which begins with the address."""
    return re.sub(r"^(connection [a-z ]+: )?connection to server (at|on) .*? failed: ", "", said)


def machine_error(what: str, where: str, fix: str) -> GalleryError:
    """Return an error that is not the user's mistake."""
    error = GalleryError(what, where=where, fix=fix)
    error.exit_code = 1
    return error


def missing_gallery_error(address: DatabaseAddress) -> GalleryError:
    """Return the error for a database without a gallery, or one that does not exist."""
    fix = f"build it with `obelisk gallery build '{address.shown}' --data DIR`, or fill it with `obelisk gallery push`"
    return GalleryError("no such gallery in the database", where=address.shown, fix=fix)

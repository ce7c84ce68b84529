"""What can go wrong with the embedded PostgreSQL.

    EmbeddedError
    ├── NoPostgres     no binaries, or none that run on this system
    ├── NoOwner        no operating-system user that the server could run as
    ├── NoPlace        the base directory cannot be used
    ├── DiskFull       no room for the data directory or for the server
    ├── StartFailed    the server did not come up; quotes the end of its log
    ├── StopFailed     the server did not go down
    ├── DatabaseFailed a database could not be made
    └── InUse          somebody still uses the server that should be stopped

Every message is one sentence that names the thing and what to do about it.
"""


class EmbeddedError(Exception):
    """The embedded PostgreSQL cannot do what was asked; the message says what to do next."""


class NoPostgres(EmbeddedError):
    """There are no PostgreSQL binaries that this system can run."""


class NoOwner(EmbeddedError):
    """There is no operating-system user as whom the server could run."""


class NoPlace(EmbeddedError):
    """The base directory cannot be made, reached, or trusted, or it holds data that must not be opened."""


class DiskFull(EmbeddedError):
    """The disk ran full while the data directory was made or the server started."""


class StartFailed(EmbeddedError):
    """The server did not come up in the time allowed."""


class StopFailed(EmbeddedError):
    """The server did not go down in the time allowed."""


class DatabaseFailed(EmbeddedError):
    """A database could not be made in a running server."""


class InUse(EmbeddedError):
    """Other processes still use the server."""

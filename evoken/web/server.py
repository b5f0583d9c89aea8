"""The socket that the page is served from."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from evoken.errors import SettingError, reason_of, shown


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that is bound; 0 is any port that is free.

    Raises:
        SettingError: the host is none of this machine's, or the port is taken.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except (OSError, UnicodeError) as error:
        raise SettingError(
            f"could not listen on {shown(host, 100)}, port {port}: {reason_of(error)}.",
            "Choose another `host` or `port`; port 0 is any that is free.",
        ) from error
    try:
        yield bound
    finally:
        bound.close()

"""Who may ask for what: hosts, other sites, tokens, sizes, and the files of a folder of runs."""

import os
import secrets
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from evoken.errors import RunError, shown

MOST_BYTES = 200 << 20  # of one request
COOKIE = "evoken"  # with the port: cookies of a host are one for all its ports
NAMES = ("localhost", "127.0.0.1", "::1")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",  # with none, a browser hides where a form came from
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """Let through what may come in.

    A page of another site may send a browser here: under a name that it has pointed to this machine
    (the Host is another one), or with a form or a script (Origin and Sec-Fetch-Site say so).

    Args:
        hosts: names in Host that are this server's; empty for any, which a token must guard then.
        token: what opens the page once in a browser; "" for no token.
    """

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...] = NAMES, token: str = "") -> None:
        self._app, self._hosts, self._token = app, hosts, token
        self._session = secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI asks."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # there are no websockets here
        headers = Headers(scope=scope)
        response = self._refusal(scope, headers) or self._login(scope, headers)

        async def safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    given.setdefault(name, value)
                given.setdefault("cache-control", "no-store")
            await send(message)

        await (response or self._app)(scope, _counted(receive), safely)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        if self._hosts and _host_of(headers.get("host", "")) not in self._hosts:
            return PlainTextResponse("This page has another address.", 421)
        if int(headers.get("content-length") or 0) > MOST_BYTES:
            return PlainTextResponse(f"At most {MOST_BYTES >> 20} MB at a time.", 413)
        if scope["method"] in ("GET", "HEAD"):
            return None
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        same = (origin or "").partition("://")[2] == headers.get("host")
        if (origin and not same) or site not in (None, "same-origin", "none"):
            return PlainTextResponse("This came from another site.", 403)
        if not origin and not site:
            return PlainTextResponse("This did not come from the page.", 403)
        return None

    def _login(self, scope: Scope, headers: Headers) -> Response | None:
        """None for who is known; the way in, or out, for others."""
        if not self._token:
            return None
        name = f"{COOKIE}-{(scope.get('server') or ('', ''))[1]}"
        # Not http.cookies: what other servers of this host have set may be nothing to it at all.
        if _same(cookie_parser(headers.get("cookie", "")).get(name, ""), self._session):
            return None
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        if scope["method"] == "GET" and _same(query.get("token", [""])[0], self._token):
            response = RedirectResponse("/", 303)
            # Lax: a link in a letter opens the page, too. What changes anything is posted, and a
            # post from elsewhere is refused above.
            response.set_cookie(name, self._session, httponly=True, samesite="lax")
            return response
        return PlainTextResponse("Open the address that 'evoken web' printed, with its token.", 401)


def _host_of(header: str) -> str:
    """The name in a Host header; "" where there is none to be found."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _same(given: str, expected: str) -> bool:
    return secrets.compare_digest(given.encode(), expected.encode())


def _counted(receive: Receive) -> Receive:
    """The same, until too much has come: a body may be longer than it says, or not say."""
    count = 0

    async def counting() -> Message:
        nonlocal count
        message = await receive()
        count += len(message.get("body", b""))
        return {"type": "http.disconnect"} if count > MOST_BYTES else message

    return counting


def place(home: Path, name: str) -> Path:
    """What a name in an address means: a path in the folder ``home``.

    Raises:
        RunError: it leads out of it, over a link, or to what is hidden there.
    """
    parts = name.split("/")
    odd = any(p in ("", ".", "..") or p.startswith(".") or len(os.fsencode(p)) > 255 for p in parts)
    if odd or not name.isprintable() or "\\" in name:
        raise RunError(f"there is no {shown(name, 100)} here.", "Go back and choose again.")
    path = home
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise RunError(f"{shown(name, 100)} is a link.", "Links are not followed.")
    return path

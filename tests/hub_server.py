"""A server on this machine that answers as the hub does, for its client as it is."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class HubServer:
    """What is on it.

    Attributes:
        files: by OWNER/NAME, content by the names of files.
        revisions: names that there are, beside the commit's.
        refusal: status and headers of every answer, if it is to refuse.
        sizes: what it says of a file's size instead of the truth, by name.
        fetched: names of the files that were sent.
    """

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    revisions: tuple[str, ...] = ("main",)
    refusal: tuple[int, dict[str, str]] | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for a path."""
        if self.refusal:
            return *self.refusal, b"{}"
        parts = [unquote(part) for part in urlsplit(path).path.strip("/").split("/")]
        about = parts[:2] == ["api", "models"]
        owner, name, *rest = parts[2:] if about else parts
        revision, file = rest[1] if rest else "main", "/".join(rest[2:])
        kept = self.files.get(f"{owner}/{name}")
        if kept is None:
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
        if revision not in (*self.revisions, COMMIT):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        if about:
            siblings = [
                {"rfilename": n, "size": self.sizes.get(n, len(c)), "blobId": "0" * 40}
                for n, c in kept.items()
            ]
            info = {"id": f"{owner}/{name}", "sha": COMMIT, "siblings": siblings}
            return 200, {"Content-Type": "application/json"}, json.dumps(info).encode()
        if file not in kept:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b""
        etag = hashlib.sha256(kept[file]).hexdigest()
        return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, kept[file]


@contextmanager
def serving() -> Iterator[HubServer]:
    """The server, while the block runs."""
    hub = HubServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(with_body=True)

        def do_HEAD(self) -> None:
            self._send(with_body=False)

        def _send(self, with_body: bool) -> None:
            status, headers, body = hub.answer(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body)
                if "/resolve/" in self.path and status == 200:
                    hub.fetched.append(self.path.rpartition("/")[2])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

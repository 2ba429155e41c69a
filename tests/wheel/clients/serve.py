"""A web server on the loopback, for stand-ins: a handler class is served by threads, and can be told to fail."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from typing import Any


class Handler(http.server.BaseHTTPRequestHandler):
    """One method, answer(), for every verb. `state` is the server's, shared by all requests under its lock."""

    protocol_version = "HTTP/1.1"
    state: Any

    def log_message(self, format: str, *args: object) -> None:  # silence
        pass

    def handle_all(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        url = urllib.parse.urlsplit(self.path)
        self.url_path = urllib.parse.unquote(url.path)
        self.query = {k: v[0] for k, v in urllib.parse.parse_qs(url.query).items()}
        self.state.seen.append((self.command, self.url_path))
        if self.state.before(self):
            return
        with self.state.lock:
            self.answer()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_all

    def answer(self) -> None:
        raise NotImplementedError

    def dispatch(self, routes: list[tuple[str, str, Any]]) -> bool:
        """Calls the first route (methods, pattern of the path, function of the pattern's groups) that fits, if any does."""
        for method, pattern, call in routes:
            found = re.fullmatch(pattern, self.url_path)
            if found and self.command in method.split():
                call(self, *found.groups())
                return True
        return False

    def json(self) -> Any:
        return json.loads(self.body)

    def reply(self, status: int, body: bytes | dict | list | str = b"", **headers: str) -> None:
        if not isinstance(body, bytes):
            headers.setdefault("Content-Type", "application/json")
            body = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def reply_file(self, body: bytes, **headers: str) -> None:
        """With ranges, as a file server gives them."""
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes=") and wanted.endswith("-"):
            begin = int(wanted[6:-1])
            if begin >= len(body):
                self.reply(416)
                return
            self.reply(206, body[begin:], Content_Range=f"bytes {begin}-{len(body) - 1}/{len(body)}", **headers)
            return
        self.reply(200, body, **headers)


class State:
    """What a stand-in holds. before() may answer a request itself, or end the client: then it returns True."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.seen: list[tuple[str, str]] = []
        self.url = ""

    def before(self, handler: Handler) -> bool:
        return False


@contextlib.contextmanager
def serving(handler: type[Handler], state: Any) -> Iterator[str]:
    bound = type(handler.__name__, (handler,), {"state": state})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), bound)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield state.url
    finally:
        server.shutdown()
        server.server_close()

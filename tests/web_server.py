"""A web server on loopback that serves one file, and misbehaves as it is told."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

Mood = Literal[
    "sound", "no_range", "truncates", "flips", "hangs", "redirects", "elsewhere", "floods", "gone"
]
FLOOD_BYTES = 2**27
RANGE = re.compile(r"bytes=(\d+)-(\d+)")


class WebServer:
    """Serves a file at ``url``.

    Args:
        data: the file.

    Attributes:
        mood: how it behaves.
        moods: how it behaves at the next requests, before ``mood`` again.
        location: where it redirects to.
        requests: the range that each request asked for, None for the whole.
        sent_bytes: of all answers.
        flipped_at: position of the byte that is changed in the mood ``flips``.
        cut_at: position in the file that no answer goes past in the mood ``truncates``.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.mood: Mood = "sound"
        self.moods: list[Mood] = []
        self.location = ""
        self.requests: list[tuple[int, int] | None] = []
        self.sent_bytes = 0
        self.flipped_at = 0
        self.cut_at = 0
        self.goes_on = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        """Of the file."""
        return f"http://127.0.0.1:{self._server.server_port}/model.onnx"

    @contextlib.contextmanager
    def running(self) -> Iterator[WebServer]:
        """Serves."""
        self._thread.start()
        try:
            yield self
        finally:
            self.goes_on.set()
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answers one request."""
        match = RANGE.fullmatch(handler.headers.get("Range", ""))
        asked = (int(match[1]), int(match[2])) if match else None
        self.requests.append(asked)
        mood = self.moods.pop(0) if self.moods else self.mood
        if mood == "gone":
            handler.send_error(404)
            return
        if mood == "floods":
            self._flood(handler)
            return
        if mood in ("redirects", "elsewhere"):
            handler.send_response(302)
            handler.send_header("Location", self.url if mood == "redirects" else self.location)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            self.mood = "sound" if mood == "redirects" else self.mood
            return
        start, end = asked or (0, len(self.data) - 1)
        if mood == "no_range" or asked is None:
            start, end = 0, len(self.data) - 1
            handler.send_response(200)
        else:
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{end}/{len(self.data)}")
        body = self.data[start : end + 1]
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        self._send(handler, mood, start, body)

    def _flood(self, handler: BaseHTTPRequestHandler) -> None:
        """Redirects, and sends a body with it until nobody takes it any more."""
        self.mood = "sound"
        handler.send_response(302)
        handler.send_header("Location", self.url)
        handler.end_headers()
        with contextlib.suppress(OSError):
            while self.sent_bytes < FLOOD_BYTES:
                handler.wfile.write(bytes(2**16))
                self.sent_bytes += 2**16

    def _send(self, handler: BaseHTTPRequestHandler, mood: Mood, start: int, body: bytes) -> None:
        if mood == "hangs":
            self.goes_on.wait()
            return
        if mood == "flips" and start <= self.flipped_at < start + len(body):
            at = self.flipped_at - start
            body = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        if mood == "truncates":
            body = body[: max(0, self.cut_at - start)]
        with contextlib.suppress(OSError):
            handler.wfile.write(body)
            self.sent_bytes += len(body)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            """Hands each request on."""

            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Says nothing."""

        return Handler

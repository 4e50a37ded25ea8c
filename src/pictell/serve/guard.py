"""What every request and every answer passes: who may ask, security headers, the count."""

from __future__ import annotations

from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pictell.serve.metrics import Metrics
from pictell.serve.schemas import error_example

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",  # pictures are shown from the browser's own memory
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
PATHS = frozenset({"/", "/v1/captions", "/v1/models", "/healthz", "/metrics", "/openapi.json"})


class Guard:
    """ASGI middleware.

    Args:
        app: What answers.
        metrics: Where requests are counted.
        hosts: Host names under which the server may be called; None for any. A page of another
            site can make a browser call this machine under a name of that site's own; the name
            gives it away.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, hosts: frozenset[str] | None) -> None:
        self.app, self.metrics, self.hosts = app, metrics, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(scope["path"], message["status"])
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope["method"], Headers(scope=scope))
        await (refusal or self.app)(scope, receive, guarded_send)

    def _refusal(self, method: str, headers: Headers) -> JSONResponse | None:
        host = _host_name(headers.get("host", ""))
        if self.hosts is not None and host not in self.hosts:
            text = (
                f"this server is not called {host[:100]!r}; use {' or '.join(sorted(self.hosts))}"
            )
            return _refused(421, "wrong_host", text)
        # Browsers say so when a page of another site asks; a link to our page is no harm.
        link = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
        if headers.get("sec-fetch-site") == "cross-site" and not link:
            text = "a page of another site asks; open this server's own page instead"
            return _refused(403, "cross_site", text)
        return None

    def _count(self, path: str, status: int) -> None:
        # Any other path is one label: whoever makes up paths must not fill the memory.
        self.metrics.requests.labels(path if path in PATHS else "other", str(status)).inc()


def _refused(status: int, code: str, message: str) -> JSONResponse:
    content: dict[str, Any] = error_example(code, message)
    return JSONResponse(content, status)


def _host_name(host: str) -> str:
    """Without the port: `[::1]:8000` is `[::1]`."""
    if host.startswith("["):
        return host.partition("]")[0].lower() + "]"
    return host.partition(":")[0].lower()

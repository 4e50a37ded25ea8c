"""The page's files: a fixed handful, read once, so that no path of a request reaches the disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fastapi import FastAPI, Request, Response

from pictell.report.viewer import viewer_script, viewer_style

_HERE = Path(__file__).parent / "page"
HTML, SCRIPT, STYLE, DRAWING = (
    "text/html; charset=utf-8",
    "text/javascript; charset=utf-8",
    "text/css; charset=utf-8",
    "image/svg+xml",
)


def add_page(app: FastAPI) -> None:
    """Serve the page at / and its files below /page/."""
    for path, (content, media_type) in _assets().items():
        _add_asset(app, path, content.encode(), media_type)


def _assets() -> dict[str, tuple[str, str]]:
    def own(name: str) -> str:
        return (_HERE / name).read_text(encoding="utf-8")

    return {
        "/": (own("index.html"), HTML),
        "/page/page.js": (own("page.js"), SCRIPT),
        "/page/texts.js": (own("texts.js"), SCRIPT),
        "/page/page.css": (own("page.css"), STYLE),
        "/page/icon.svg": (own("icon.svg"), DRAWING),
        "/page/viewer.js": (viewer_script(), SCRIPT),
        "/page/viewer.css": (viewer_style(), STYLE),
    }


def _add_asset(app: FastAPI, path: str, content: bytes, media_type: str) -> None:
    tag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}  # ask, and be told that nothing changed

    @app.get(path, include_in_schema=False)
    async def asset(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media_type, headers=headers)

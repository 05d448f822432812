"""The page's server: on loopback, for one reader. Answers to other hosts' pages, and to other host names, are refused.

Text from a store or a reader leaves as JSON and is put into the page as text. The policy that each answer carries lets
the page load nothing but from here, so that no request leaves the machine.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lab.demo.answers import Answers
from lab.errors import LabError

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
#: The first port that is tried, and how many after it.
PORT, PORTS = 8765, 50
PAGE = Path(__file__).parent / "page"
#: A body beyond this is no query; 10,000 words are 60 kB.
MOST_BYTES = 1 << 20
#: More heads than these are not asked at once.
MOST_HEADS = 4
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Guard:
    """Adds ``HEADERS`` to each answer, and refuses what a page from elsewhere asks."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in HEADERS.items())]
            await send(message)

        headers = dict(scope["headers"])
        linked = headers.get(b"sec-fetch-mode") == b"navigate" and scope["path"] in ("/", "/index.html")
        if linked or headers.get(b"sec-fetch-site", b"none") in (b"same-origin", b"none"):
            await self.app(scope, receive, guarded)
        else:
            refused = JSONResponse({"error": "the page answers only itself, not other sites"}, 403)
            await refused(scope, receive, guarded)


def application(answers: Answers) -> Starlette:
    """The page of a store."""
    files = answers.files

    async def data(request: Request) -> Response:
        return Response("window.exported = null;\n", media_type="text/javascript")

    async def about(request: Request) -> Response:
        return await _told(answers.about)

    async def captions(request: Request) -> Response:
        return await _told(answers.captions.holding, request.query_params.get("q", "")[:200])

    async def videos(request: Request) -> Response:
        return await _told(answers.list_videos, request.query_params.get("q", "")[:200])

    async def typed(request: Request) -> Response:
        ask = await _body(request)
        return await _told(answers.typed, str(ask.get("text", "")), *_heads_and_video(ask))

    async def picked(request: Request) -> Response:
        ask = await _body(request)
        return await _told(answers.picked, _whole(ask.get("caption"), "caption"), *_heads_and_video(ask))

    async def told_of(request: Request) -> Response:
        heads, video = _heads_and_video(ask := await _body(request))
        return await _told(answers.told_of, _whole(ask.get("video"), "video") if video is None else video, heads)

    def thumbnail(request: Request) -> Response:
        row, place = request.path_params["row"], request.path_params["place"]
        pictures = files.pictures(row) if row < len(answers.store.videos) else ()
        if place >= len(pictures):
            raise HTTPException(404, "the store has no such picture")
        keep = {"cache-control": "private, max-age=3600"}
        return Response(pictures[place], media_type="image/jpeg", headers=keep)

    def video(request: Request) -> Response:
        path = files.video(row := request.path_params["row"])
        if path is None and files.leads_out(row):
            raise HTTPException(404, "the video's file is a link that leads out of the root: --root names another")
        if path is None:
            raise HTTPException(404, "the video's file is not there any more")
        return FileResponse(path, media_type=KINDS.get(path.suffix.lower(), "video/mp4"))

    return Starlette(
        routes=[
            Route("/data.js", data),
            Route("/api/about", about),
            Route("/api/captions", captions),
            Route("/api/videos", videos),
            Route("/api/typed", typed, methods=["POST"]),
            Route("/api/picked", picked, methods=["POST"]),
            Route("/api/told_of", told_of, methods=["POST"]),
            Route("/frames/{row:int}-{place:int}.jpg", thumbnail),
            Route("/video/{row:int}", video),
            Mount("/", StaticFiles(directory=PAGE, html=True)),
        ],
        middleware=[Middleware(Guard), Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])],
        exception_handlers={LabError: _refused, HTTPException: _refused, ValueError: _refused},
    )


KINDS = {".webm": "video/webm", ".ogv": "video/ogg", ".mov": "video/quicktime", ".mkv": "video/x-matroska"}


# -- requests --------------------------------------------------------------------------------------------------------


async def _told(ask: Callable[..., dict[str, Any]], *given: Any) -> Response:
    """The answer of a function, in a thread of its own; a ``LabError`` becomes a line for the page."""
    return JSONResponse(await run_in_threadpool(ask, *given), headers={"cache-control": "no-store"})


async def _refused(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 400
    said = error.detail if isinstance(error, HTTPException) else str(error)
    if not isinstance(error, HTTPException | LabError):
        log.error("a request failed", exc_info=error)
    return JSONResponse({"error": said}, status)


async def _body(request: Request) -> dict[str, Any]:
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise HTTPException(415, "a question must be JSON")
    held = b""
    async for part in request.stream():
        held += part
        if len(held) > MOST_BYTES:
            raise HTTPException(413, f"a question must be shorter than {MOST_BYTES >> 10} kB")
    try:
        asked = json.loads(held)
    except (ValueError, RecursionError):
        raise HTTPException(400, "a question must be JSON") from None
    if not isinstance(asked, dict):
        raise HTTPException(400, "a question must be a JSON object")
    return asked


def _heads_and_video(asked: dict[str, Any]) -> tuple[list[str], int | None]:
    heads = asked.get("heads")
    if not (isinstance(heads, list) and 1 <= len(heads) <= MOST_HEADS and all(isinstance(key, str) for key in heads)):
        raise HTTPException(400, f"a question must name 1 to {MOST_HEADS} heads")
    video = asked.get("video")
    return list(dict.fromkeys(heads)), None if video is None else _whole(video, "video")


def _whole(value: Any, name: str) -> int:
    with contextlib.suppress(TypeError, ValueError):
        if not isinstance(value, bool | float) and 0 <= int(value) < 1 << 40:
            return int(value)
    raise HTTPException(400, f"{name} must be a whole number")


# -- running ---------------------------------------------------------------------------------------------------------


def listen(port: int = PORT) -> socket.socket:
    """A socket on loopback at a port, or at the next free one, which is said. Raises ``LabError`` if none is free."""
    for tried in range(port, min(port + PORTS, 65536)):
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((HOST, tried))
            made.listen()  # here, since a port that is only bound can be bound again
        except OSError:
            made.close()
            continue
        if tried != port:
            log.info("port %d is in use: %d it is", port, tried)
        return made
    raise LabError(f"ports {port} to {port + PORTS - 1} must have one that is free, and none is: use another --port")


def serve(app: Starlette, at: socket.socket) -> None:
    """Answers until it is interrupted."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, server_header=False))
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[at])


def warm(answers: Answers) -> threading.Thread:
    """Loads the text tower meanwhile, so that the first query does not wait for it."""

    def load() -> None:
        try:
            _ = answers.encoder
        except Exception as error:  # whatever it is, the page serves without it
            said = str(error) if isinstance(error, LabError) else f"{type(error).__name__}: {error}"
            log.warning("captions can be picked, but no query typed: %s", " ".join(said.split()))

    made = threading.Thread(target=load, daemon=True)
    made.start()
    return made

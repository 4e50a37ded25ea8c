"""The HTTP API and the page as a FastAPI application.

app = create_app(Service(Models.load(["runs/attention"]), Limits(), batch_size=32, threads=2))

POST /v1/captions    pictures in, captions out
GET  /v1/models      what captions, and what is taken
GET  /healthz        for a supervisor
GET  /metrics        for Prometheus
GET  /openapi.json   this API for programs
GET  /               the page
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from pictell import __version__
from pictell.serve.assets import add_page
from pictell.serve.guard import Guard
from pictell.serve.limits import RefusedError
from pictell.serve.schemas import (
    CAPTIONS_EXAMPLE,
    CaptionOptions,
    CaptionsAnswer,
    ErrorAnswer,
    Health,
    ModelsAnswer,
    error_example,
)
from pictell.serve.service import Service
from pictell.serve.uploads import FIELD, drain, read_form

CLIENT_GONE = 499  # never sent; a name for it in the metrics
LISTS = frozenset({"models"})
Result = TypeVar("Result")

REFUSALS = {
    400: ("bad_form", "the multipart form does not parse"),
    408: ("too_slow", "the request took longer than 30 s to arrive; send it faster"),
    413: ("too_many_pixels", "photo.png: 20000 x 10000 pixels are more than the 50,000,000"),
    415: ("not_a_picture", "notes.pdf: not a picture; send JPEG, PNG, WebP, AVIF, GIF, TIFF, BMP"),
    422: ("undecodable", "photo.jpg: the picture does not decode (image file is truncated)"),
    503: ("busy", "64 pictures are waiting already; try again in 2 s"),
}


def create_app(service: Service, *, hosts: frozenset[str] | None = None) -> FastAPI:
    """The application; its lifespan starts and stops the service.

    Args:
        service: What captions.
        hosts: Names under which the server may be called; None for any.
    """
    app = FastAPI(
        title="pictell",
        version=__version__,
        description="Captions for pictures. Nothing is kept, and no address is ever fetched.",
        docs_url=None,  # FastAPI's own pages load scripts from another site
        redoc_url=None,
        lifespan=_lifespan(service),
    )
    app.add_middleware(Guard, metrics=service.metrics, hosts=hosts)
    _add_error_handlers(app)
    _add_captions(app, service)
    _add_status(app, service)
    add_page(app)
    return app


def _lifespan(service: Service) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        await service.start()
        yield
        await service.stop()

    return lifespan


def _add_captions(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/captions",
        summary="Caption one or several pictures",
        description="A single picture that is refused sets the status. Of several, each has its "
        "own `error`, and the status is that of the first only if all are refused.",
        response_model=None,
        responses=_captions_responses(),
        openapi_extra={"requestBody": _request_body()},
    )
    async def captions(request: Request) -> Response:
        started = time.perf_counter()
        service.admit()
        async with service.budget.reserve(request):
            form = await read_form(request, service.limits)
            received = time.perf_counter()
            work = service.caption(form.pictures, _options(form.fields))
            answers = await _unless_gone(request, work)
        service.metrics.seconds.observe(time.perf_counter() - started)
        refused = [answer for answer in answers if isinstance(answer, RefusedError)]
        if len(refused) == len(answers):
            raise refused[0]
        pictures = [
            {"file": upload.name, "error": answer.to_dict()}
            if isinstance(answer, RefusedError)
            else answer
            for upload, answer in zip(form.pictures, answers, strict=True)
        ]
        seconds = round(time.perf_counter() - received, 4)
        return JSONResponse({"pictures": pictures, "seconds": seconds})


def _add_status(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", summary="Models and limits", response_model=ModelsAnswer)
    async def models() -> dict[str, Any]:
        return service.describe()

    @app.get(
        "/healthz",
        summary="Whether captions are made",
        responses={200: {"model": Health}, 503: {"model": Health}},
        response_model=None,
    )
    async def healthz() -> Response:
        health = service.health()
        return JSONResponse(health, 200 if health["status"] == "ok" else 503)

    @app.get("/metrics", summary="Counters for Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=service.metrics.content_type)


async def _unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Wait for work that is given up when the client goes away.

    Raises:
        ClientDisconnect: It went.
    """
    working, gone = asyncio.create_task(work), asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        working.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _options(fields: dict[str, list[str]]) -> CaptionOptions:
    """The options of a form, or a sentence about the first that is wrong."""
    values: dict[str, Any] = {}
    for name, given in fields.items():
        # An empty field means the same as none: forms send those that were left alone.
        filled = [value for value in given if value.strip()]
        if filled:
            values[name] = filled if name in LISTS else filled[-1]
    try:
        return CaptionOptions.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        name = ".".join(map(str, first["loc"]))[:100]
        if first["type"] == "extra_forbidden":
            known = ", ".join([FIELD, *CaptionOptions.model_fields])
            message = f"there is no field {name!r}; the fields are: {known}"
        else:
            message = f"{name} is {str(first['input'])[:100]!r}: {first['msg']}"
        raise RefusedError(422, "bad_option", message) from None


# -- errors ----------------------------------------------------------------------------------------


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> Response:
        if error.status != 408:  # who sends too slowly is not waited for
            await drain(request)
        headers = {"Retry-After": str(error.retry_after)} if error.retry_after else {}
        return _error(error.status, error.code, error.message, headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        del request, error
        return Response(status_code=CLIENT_GONE)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            message = f"there is nothing at {request.url.path[:200]}; see /openapi.json"
            return _error(404, "not_found", message)
        message = f"{request.method} {request.url.path[:200]}: {error.detail}"
        return _error(error.status_code, "bad_request", message, dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def defect(request: Request, error: Exception) -> Response:
        del request, error  # logged with its traceback by the server
        return _error(500, "defect", "pictell failed; its log on the server says why")


def _error(
    status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    return JSONResponse(error_example(code, message), status, headers)


# -- the API's description -------------------------------------------------------------------------


def _captions_responses() -> dict[int | str, dict[str, Any]]:
    responses: dict[int | str, dict[str, Any]] = {
        200: {
            "model": CaptionsAnswer,
            "content": {"application/json": {"example": CAPTIONS_EXAMPLE}},
        }
    }
    for status, (code, message) in REFUSALS.items():
        responses[status] = {
            "model": ErrorAnswer,
            "content": {"application/json": {"example": error_example(code, message)}},
        }
    responses[503]["headers"] = {
        "Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer"}}
    }
    return responses


def _request_body() -> dict[str, Any]:
    schema = CaptionOptions.model_json_schema()
    pictures = {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "description": "Picture files: JPEG, PNG, WebP, AVIF, GIF, TIFF or BMP",
    }
    properties = {FIELD: pictures, **schema["properties"]}
    return {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "required": [FIELD], "properties": properties},
                "encoding": {FIELD: {"contentType": "image/*"}},
                "examples": {
                    "one picture, greedy": {"value": {FIELD: ["photo.jpg"], "beam": 1}},
                    "two pictures, one model, attention maps": {
                        "value": {
                            FIELD: ["a.jpg", "b.png"],
                            "models": ["attention"],
                            "detail": "maps",
                        }
                    },
                },
            }
        },
    }

"""A service of the tiny models, and what to send it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from serving import benchmark

from pictell.serve.app import create_app
from pictell.serve.limits import Limits
from pictell.serve.models import Models
from pictell.serve.service import Service

benchmark("running_server")  # tests and hostile_uploads import it by this name


@pytest.fixture(scope="session")
def models(trained_runs) -> Models:
    return Models.load([trained_runs / "rnn", trained_runs / "attention"])


@pytest.fixture
def client_of(models):
    """Make a client of a service with limits of its own; all are ended with the test."""
    open_clients = []

    def make(*, batch_size: int = 8, **limits) -> TestClient:
        service = Service(
            models, Limits(**{"decoders": 1, **limits}), batch_size=batch_size, threads=1
        )
        client = TestClient(create_app(service), raise_server_exceptions=False)
        client.service = service  # type: ignore[attr-defined]
        open_clients.append(client.__enter__())
        return client

    yield make
    for client in open_clients:
        client.__exit__(None, None, None)


@pytest.fixture(scope="module")
def client(models) -> Iterator[TestClient]:
    """A client of a service with the usual limits, shared by a module."""
    service = Service(models, Limits(decoders=1), batch_size=8, threads=1)
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        client.service = service  # type: ignore[attr-defined]
        yield client


@pytest.fixture(scope="session")
def photos(shapes_dataset) -> list[Path]:
    """Pictures of red and blue shapes."""
    return sorted((shapes_dataset / "pictures").glob("val_*.png"))

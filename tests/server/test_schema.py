"""Schemathesis: requests made up from our own OpenAPI description; no 5xx, none that is not described."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.server.conftest import TOKEN, make_studies
from tests.server.process import Process, ours

pytestmark = pytest.mark.slow
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 25


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("schema")
    with ours(make_studies(folder / "studies"), folder / "state", TOKEN) as running:
        yield running


@pytest.fixture(scope="module")
def described(server: Process):  # type: ignore[no-untyped-def]
    return schemathesis.openapi.from_url(
        f"{server.address}/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"}
    )


def test_every_route(described: schemathesis.BaseSchema, subtests: pytest.Subtests) -> None:
    """Schemathesis's own pytest plugin does not know pytest 9 yet."""
    operations = [found.ok() for found in described.get_all_operations()]
    assert len(operations) > 40
    for operation in operations:
        with subtests.test(operation.label):
            made_up(operation)


def made_up(operation: schemathesis.APIOperation) -> None:
    @given(operation.as_strategy())
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def answers_as_described(case: schemathesis.Case) -> None:
        case.call_and_validate(headers={"Authorization": f"Bearer {TOKEN}"}, checks=CHECKS, timeout=60)

    answers_as_described()

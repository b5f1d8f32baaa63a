"""What the service says of its endpoints, held against what they answer, by schemathesis."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from serving import listening

schemathesis = pytest.importorskip("schemathesis")
JSON = "application/json"
FOREVER = "/v1/alerts/stream"
ACCEPTANCE = [
    schemathesis.checks.positive_data_acceptance,
    schemathesis.checks.negative_data_rejection,
]
WELL, BADLY = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE


def ask(folder, mode, n):
    """Send so many requests to every endpoint, made from the schema, and check the answers."""
    asked = []
    with listening(folder) as (_, client):
        schema = schemathesis.openapi.from_url(f"{client.base_url}/openapi.json")
        for found in schema.exclude(path=FOREVER).get_all_operations():
            operation = found.ok()

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(
                max_examples=n,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
                deadline=None,
                database=None,
            )
            def check(case):
                opaque = case.media_type not in (None, JSON)  # bytes or lines, to OpenAPI
                case.call_and_validate(excluded_checks=ACCEPTANCE if opaque else [])

            try:
                check()
            except Unsatisfiable:  # an endpoint that takes nothing cannot be asked wrongly
                continue
            asked.append(operation.path)
    return asked


def test_every_endpoint_answers_as_its_schema_says(tmp_path):
    assert len(ask(tmp_path, WELL, 1)) == 10


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "n_endpoints"), [(WELL, 10), (BADLY, 7)])
def test_every_endpoint_answers_many_requests_as_its_schema_says(tmp_path, mode, n_endpoints):
    assert len(ask(tmp_path, mode, 50)) == n_endpoints

"""Spans of requests, and the trace that goes from a submit to the end of every attempt."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from jobs.logbook import JsonLines
from jobs.tracing import Tracing, exporters, from_environment
from service.app import build_context, create_app
from tests.service.core_driver import Api, Worker, sampling

OUTER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traced(settings, spans) -> Iterator[Api]:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    context = replace(build_context(settings), tracing=Tracing(provider))
    with Api(create_app(settings.model_copy(update={"log_requests": True}), context)) as client:
        yield client


def _named(spans: InMemorySpanExporter, name: str) -> ReadableSpan:
    (found,) = [span for span in spans.get_finished_spans() if span.name == name]
    return found


def _is_at(traceparent: str, span: ReadableSpan) -> bool:
    return traceparent.startswith(f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-")


def test_one_trace_goes_from_submit_to_finish(traced, spans):
    reply = traced.post("/v1/jobs", json=sampling(), headers={"traceparent": OUTER})
    submit = _named(spans, "POST /v1/jobs")
    assert f"{submit.context.trace_id:032x}" in OUTER
    assert f"{submit.parent.span_id:016x}" in OUTER
    assert submit.attributes["meshyard.job_id"] == reply.json()["id"]
    assert submit.attributes["meshyard.request_id"] == reply.headers["x-request-id"]

    given = Worker(traced).claim().given
    claim = _named(spans, "POST /v1/workers/{worker_id}/claim")
    assert _is_at(given["traceparent"], submit)
    assert given["request_id"] == claim.attributes["meshyard.request_id"]
    assert (claim.attributes["meshyard.job_id"], claim.attributes["meshyard.attempt_id"]) == (given["job_id"], given["attempt_id"])
    assert str(claim.attributes["meshyard.worker_id"]).startswith("wrk_")

    end = {"fence": given["fence"], "ending": "succeeded", "step": 1500}
    traced.post(f"/v1/attempts/{given['attempt_id']}/finish", json=end, headers={"traceparent": given["traceparent"]})
    finish = _named(spans, "POST /v1/attempts/{attempt_id}/finish")
    assert finish.parent.span_id == submit.context.span_id
    assert finish.attributes["meshyard.attempt_id"] == given["attempt_id"]


def test_spans_are_named_by_route_and_health_checks_have_none(traced, spans):
    for path in ("/healthz", "/readyz", "/metrics", "/v1/jobs/job_" + "0" * 32, "/nothing/here"):
        traced.get(path)
    assert [(span.name, span.attributes["http.response.status_code"]) for span in spans.get_finished_spans()] == [
        ("GET /v1/jobs/{job_id}", 404),
        ("GET", 404),
    ]


def test_a_log_line_bears_the_trace(traced, spans, caplog):
    caplog.handler.setFormatter(JsonLines())
    with caplog.at_level(logging.INFO, "service.http.journal"):
        traced.get("/v1/jobs")
    (line,) = map(json.loads, caplog.text.splitlines())
    assert line["trace_id"] == f"{_named(spans, 'GET /v1/jobs').context.trace_id:032x}"


def test_without_spans_of_ours_the_callers_place_is_kept(api):
    api.submit(traceparent=OUTER)
    api.submit(traceparent="00-" + "0" * 32 + "-b7ad6b7169203331-01")
    assert [Worker(api).claim().given["traceparent"] for _ in range(2)] == [OUTER, None]


def test_jobs_made_from_others_belong_to_the_request_that_made_them(traced, spans):
    first = traced.submit()
    worker = Worker(traced)
    worker.claim().finish()
    traced.post(f"/v1/jobs/{first['id']}/clone")
    assert _is_at(worker.claim().given["traceparent"], _named(spans, "POST /v1/jobs/{job_id}/clone"))


@pytest.mark.parametrize(
    ("environment", "names"),
    [
        ({}, []),
        ({"OTEL_SERVICE_NAME": "x"}, []),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, ["otlp"]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, ["otlp"]),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, ["console", "otlp"]),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, []),
        ({"OTEL_SDK_DISABLED": "TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, []),
    ],
    ids=["nothing", "a name alone", "an endpoint", "an endpoint for traces", "exporters by name", "none", "disabled"],
)
def test_the_standard_variables_say_whether_there_are_traces(environment, names):
    assert exporters(environment) == names


def test_a_wish_that_cannot_be_met_is_a_warning_and_no_trace(caplog):
    tracing = from_environment({"OTEL_TRACES_EXPORTER": "carrier-pigeon"}, "test")
    assert tracing.provider is None
    assert "no exporter called carrier-pigeon is installed" in caplog.text


def test_the_service_has_a_name_of_its_own_unless_the_variables_say_otherwise(monkeypatch):
    wanted = {"OTEL_TRACES_EXPORTER": "console"}
    names: list[object] = []
    for service in ("", "mine"):
        monkeypatch.setenv("OTEL_SERVICE_NAME", service)
        tracing = from_environment(wanted, "meshyard-service")
        names.append(tracing.provider.resource.attributes["service.name"])
        tracing.close()
    assert names == ["meshyard-service", "mine"]

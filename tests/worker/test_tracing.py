"""The span of an attempt: what a collector hears of it from an agent that is told by the standard variables alone."""

from __future__ import annotations

import signal

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.worker.polling import until

ASKED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_an_attempt_is_a_span_in_the_trace_of_its_job(service, agent):
    script = [["phase", "compiling"], ["steps", 1, 3], ["end", "failed", {"error": {"code": "nan_loss", "message": "no"}}]]
    job = service.submit(script, traceparent=ASKED, request_id="req_1")
    worker = agent(service, OTEL_EXPORTER_OTLP_ENDPOINT=service.url)
    until(lambda: job.finish)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0

    (request,) = map(ExportTraceServiceRequest.FromString, service.traces)
    (resource,) = request.resource_spans
    assert {each.key: each.value.string_value for each in resource.resource.attributes}["service.name"] == "meshyard-worker"
    (span,) = resource.scope_spans[0].spans
    assert f"00-{span.trace_id.hex()}-{span.parent_span_id.hex()}-01" == ASKED
    told = {each.key: each.value.string_value or each.value.int_value for each in span.attributes}
    assert told == {
        "meshyard.job_id": "job_1",
        "meshyard.attempt_id": "att_1",
        "meshyard.worker_id": "wrk_1",
        "meshyard.request_id": "req_1",
        "meshyard.ending": "failed",
        "meshyard.step": 3,
        "error.type": "nan_loss",
    }
    assert "compiling" in [event.name for event in span.events]
    assert job.finish_headers["traceparent"].startswith(f"00-{span.trace_id.hex()}-{span.span_id.hex()}-")

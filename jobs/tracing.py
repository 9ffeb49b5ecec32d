"""Traces by OpenTelemetry, where the operator wants them: the extra `otel`, told what to do by the `OTEL_…` variables alone.

Off, nothing of the extra is imported. A job keeps the place in a trace from which it was asked for (`traceparent`), so that every
attempt at it, on whatever worker, belongs to that trace.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

LOG = logging.getLogger(__name__)

TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""Source: W3C Trace Context, version 00."""

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
CLOSING_SECONDS = 3.0
GROUP = "opentelemetry_traces_exporter"
"""The entry points by which packages offer exporters."""


class Trail:
    """One attempt's span, to be told what becomes of it. Without a span it tells nobody.

    Attributes:
        traceparent: the span's place, for requests that belong below it.
    """

    def __init__(self, span: Span | None = None, traceparent: str | None = None) -> None:
        self._span = span
        self.traceparent = traceparent

    def enter(self, phase: str, step: int) -> None:
        """A phase begins."""
        if self._span is not None:
            self._span.add_event(phase, {"meshyard.step": step})

    def end(self, ending: str, step: int, error: str | None = None) -> None:
        """The attempt has ended: how, where, and with which error code."""
        if self._span is None:
            return
        self._span.set_attributes({"meshyard.ending": ending, "meshyard.step": step})
        if error is not None:
            from opentelemetry.trace import StatusCode

            self._span.set_attribute("error.type", error)
            self._span.set_status(StatusCode.ERROR, error)


class Tracing:
    """Spans of one process.

    Args:
        provider: makes and exports them; None: there are none.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self.provider = provider

    def note(self, **ids: str) -> None:
        """Say what the span under way is about."""
        if self.provider is not None:
            from opentelemetry.trace import get_current_span

            get_current_span().set_attributes({f"meshyard.{name}": ident for name, ident in ids.items()})

    def here(self) -> str | None:
        """The place of the span under way; None if there is none."""
        if self.provider is None:
            return None
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier)
        return carrier.get("traceparent")

    def ids(self) -> dict[str, str]:
        """What log lines bear, so that they are found from the trace."""
        place = self.here()
        return {} if place is None else {"trace_id": place.split("-")[1]}

    @contextmanager
    def attempt(self, traceparent: str | None, **about: str | None) -> Generator[Trail]:
        """A span that lasts as long as the block.

        Args:
            traceparent: where the job was asked for.
            about: what the span is about.
        """
        if self.provider is None:
            yield Trail()
            return
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        place = TraceContextTextMapPropagator().extract({"traceparent": traceparent or ""}, Context())
        attributes = {f"meshyard.{name}": text for name, text in about.items() if text is not None}
        tracer = self.provider.get_tracer("meshyard")
        with tracer.start_as_current_span("attempt", place, SpanKind.CONSUMER, attributes) as span:
            yield Trail(span, self.here())

    def close(self) -> None:
        """Export what is left, if that can be done soon: a collector that hangs must not keep a process from its end."""
        if self.provider is not None:
            exporting = Thread(target=self.provider.shutdown, daemon=True)
            exporting.start()
            exporting.join(CLOSING_SECONDS)


def from_environment(environment: Mapping[str, str], name: str) -> Tracing:
    """What the operator wants. Where it cannot be had a warning says why, and the process goes on without.

    Args:
        environment: of this process.
        name: what it is called in traces unless the variables say otherwise.
    """
    wanted = exporters(environment)
    if not wanted:
        return Tracing()
    try:
        return Tracing(_provider(wanted, environment, name))
    except ImportError as error:
        LOG.warning("no traces: %s; install the extra: pip install 'meshyard[otel]', or set OTEL_SDK_DISABLED=true", error)
    except (LookupError, ValueError, OSError) as error:
        LOG.warning("no traces: check the variables that begin with OTEL_: %s", error)
    return Tracing()


def exporters(environment: Mapping[str, str]) -> list[str]:
    """Names of the exporters that the variables ask for; none unless they name one, or where to send spans."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    implied = "otlp" if any(environment.get(name) for name in ENDPOINTS) else "none"
    named = (environment.get("OTEL_TRACES_EXPORTER") or implied).split(",")
    return [name for entry in named if (name := entry.strip().lower()) not in {"", "none"}]


def _provider(wanted: list[str], environment: Mapping[str, str], name: str) -> TracerProvider:
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create()
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: name}))
    made = [_exporter(entry, environment) for entry in wanted]
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    for exporter in made:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _exporter(name: str, environment: Mapping[str, str]) -> SpanExporter:
    protocol = next((found for variable in PROTOCOLS if (found := environment.get(variable))), "http/protobuf")
    offered = ("otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http") if name == "otlp" else name
    found = next(iter(entry_points(group=GROUP, name=offered)), None)
    if found is None:
        raise LookupError(f"no exporter called {offered} is installed")
    exporter: SpanExporter = found.load()()
    return exporter

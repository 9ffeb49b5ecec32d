"""How a look at a job is drawn, and how it is asked for."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from jobs.preflight import Findings
from meshyard.cli.views.preflight import report_view


def drawn(report: dict[str, Any], word: str = "valid") -> str:
    console = Console(width=160, record=True, file=None)
    with console.capture() as captured:
        console.print(report_view(report, word))
    return captured.get()


EXAMINED = {
    "platform": "cpu", "device_kind": "cpu", "devices": 8, "virtual": True, "mesh_axes": {"data": 8}, "versions": {}, "seconds": {},
}  # fmt: skip
EMBED = {
    "path": "embed.embedding", "shape": [256, 32], "dtype": "float32", "logical_axes": ["vocab", "embed"],
    "partition": [None, "data"], "bytes": 32768, "bytes_per_device": 4096,
}  # fmt: skip


def findings(**parts: Any) -> dict[str, Any]:
    """A report that the service could give."""
    return Findings.model_validate({"examined": EXAMINED, **parts}).model_dump(mode="json")


def test_a_training_job_is_drawn_as_tables_with_a_curve_and_ticks():
    total = {"count": 8192, "bytes": 32768, "bytes_per_device": 4096}
    memory = dict.fromkeys(("parameters", "optimizer", "gradients", "other", "batch", "activations"), 2048) | {"total": 12288}
    checklist = [
        {"item": "Hot paths JIT-compiled", "status": "pass", "evidence": "one executable"},
        {"item": "Gradient clipping enabled", "status": "warn", "evidence": "not clipped"},
    ]
    curve = {"steps": [0, 5, 10], "values": [0.0, 1.0, 0.5]}
    text = drawn(findings(parameters=[EMBED], total_parameters=total, memory=memory, checklist=checklist, learning_rate=curve))
    expected = (
        "embed.embedding",
        "256 x 32",
        "·, data",
        "32.0 KiB",
        "8,192",
        "learning_rate",
        "✓ Hot paths",
        "! Gradient",
        "8 virtual",
    )
    assert [part for part in expected if part not in text] == []
    assert text.rstrip().endswith("valid")


def test_what_does_not_fit_is_drawn_with_what_would():
    verdict = {"code": "would_oom", "need_bytes": 2**31, "limit_bytes": 2**30, "limit": "a device"}
    tried = {"title": "remat", "changes": [{"pointer": "/remat", "value": "full"}], "need_bytes": 2**29, "fits": True}
    text = drawn(findings(verdict=verdict, suggestions=[tried]), "not valid")
    assert "would_oom: 2.0 GiB of 1.0 GiB (a device)" in text
    assert "/remat = full" in text
    assert text.rstrip().endswith("not valid")


def test_a_sampler_is_drawn_with_its_sites():
    sites = [{"name": "theta", "shape": [8], "dtype": "float32", "draws_bytes": 1024}]
    sampling = {"sites": sites, "chains": 4, "draws": 8, "draws_bytes": 2048, "block_bytes": 64, "host_bytes": 2**30, "fits": True}
    assert "theta" in drawn(findings(sampling=sampling))

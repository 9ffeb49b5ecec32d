"""A worker in plain requests: it claims, reports what a test tells it to, and finishes. It computes nothing."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import quote

import httpx


class FakeWorker:
    """Registers with a service; its bytes travel over HTTP."""

    def __init__(self, server: str, catalog_digest: str) -> None:
        self._http = httpx.Client(base_url=server, timeout=60, trust_env=False)
        offers = [f"{section}/{entry['type']}" for section in self._sections() for entry in self._entries(section)]
        self.id = self._post(
            "/v1/workers",
            platform="cpu",
            device_kind="fake",
            device_count=8,
            memory_bytes=2**33,
            catalog_digest=catalog_digest,
            offers=offers,
        )["id"]

    def _sections(self) -> list[str]:
        return [item["section"] for item in self._http.get("/v1/catalog").json()["data"]]

    def _entries(self, section: str) -> list[dict[str, Any]]:
        return self._http.get(f"/v1/catalog/{section}").json()["data"]

    def _post(self, path: str, **body: Any) -> Any:
        reply = self._http.post(path, json=body)
        assert reply.status_code < 300, reply.text
        return reply.json() if reply.content else None

    def claim(self) -> Held:
        """The next attempt."""
        while True:
            given = self._post(f"/v1/workers/{self.id}/claim", devices=8, wait_seconds=20.0)
            if given:
                return Held(self, given)

    def close(self) -> None:
        """Be gone."""
        self._http.close()

    def send(self, attempt: str, fence: int, path: str, data: bytes) -> dict[str, Any]:
        """Upload a file; gives its entry for a manifest, relative to what `path` begins with."""
        digest = hashlib.sha256(data).hexdigest()
        headers = {"X-Meshyard-Fence": str(fence), "X-Content-SHA256": digest}
        reply = self._http.put(f"/v1/attempts/{attempt}/files/{quote(path)}", content=data, headers=headers)
        assert reply.status_code == 200, reply.text
        return {"bytes": len(data), "sha256": digest}

    def post(self, path: str, **body: Any) -> Any:
        """A request that is answered well."""
        return self._post(path, **body)


class Held:
    """An attempt that a fake worker holds."""

    def __init__(self, worker: FakeWorker, given: dict[str, Any]) -> None:
        self._worker, self.job = worker, given["job_id"]
        self._id, self._fence = given["attempt_id"], given["fence"]
        self._batch = 0

    def beat(self, step: int, phase: str = "training", handled: int = 0) -> dict[str, Any]:
        """Say where it stands; gives what to do."""
        return self._worker.post(f"/v1/attempts/{self._id}/heartbeat", fence=self._fence, step=step, phase=phase, handled=handled)

    def report(self, **content: Any) -> None:
        """Bring a batch."""
        self._batch += 1
        self._worker.post(f"/v1/attempts/{self._id}/report", fence=self._fence, batch=self._batch, **content)

    def metric(self, name: str, step: int, value: float | None, **labels: str) -> None:
        """Bring one point."""
        odd = {"0": "NaN"} if value is None else {}
        self.report(series=[{"name": name, "labels": labels, "steps": [step], "values": [value], "nonfinite": odd}])

    def checkpoint(self, step: int, files: dict[str, bytes], **metrics: float) -> None:
        """Bring a checkpoint with all its files."""
        manifest = [{"path": path, **self._send(f"checkpoints/{step}/{path}", data)} for path, data in files.items()]
        self.report(checkpoints=[{"step": step, "metrics": metrics, "files": manifest}])

    def finish(self, ending: str, step: int, artifacts: dict[str, bytes] | None = None, **rest: Any) -> None:
        """End it."""
        sent = [{"path": path, **self._send(f"outputs/{path}", data)} for path, data in (artifacts or {}).items()]
        body = {"fence": self._fence, "ending": ending, "step": step, "artifacts": sent, **rest}
        self._worker.post(f"/v1/attempts/{self._id}/finish", **body)

    def _send(self, path: str, data: bytes) -> dict[str, Any]:
        return self._worker.send(self._id, self._fence, path, data)

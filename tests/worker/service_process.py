"""The real service in a process of its own, and the few requests that these tests make of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from tests.worker.fake_service import free_port
from tests.worker.polling import until

SPEC: dict[str, Any] = {
    "kind": "train",
    "model": {"type": "mlp", "in_features": 1, "hidden": [], "out_features": 1},
    "data": {"inline": {"x": [0.0, 1.0, 2.0, 3.0], "y": [1.0, 3.0, 5.0, 7.0]}, "batch_size": 4},
    "loss": {"type": "squared_error"},
    "optimizer": {"type": "sgd", "learning_rate": 0.1},
    "steps": 100,
}


class ServiceProcess:
    """A service with short leases.

    Args:
        folder: for its database and its artifact folder.
        database_url: another database than SQLite in that folder.
        lease_seconds: the term of a lease.
    """

    def __init__(self, folder: Path, database_url: str | None = None, lease_seconds: float = 2.0) -> None:
        self.root = folder / "artifacts"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = {
            "MESHYARD_PORT": str(self.port),
            "MESHYARD_DATABASE_URL": database_url or f"sqlite:///{folder / 'service.db'}",
            "MESHYARD_ARTIFACT_ROOT": str(self.root),
            "MESHYARD_LEASE_SECONDS": str(lease_seconds),
            "MESHYARD_SWEEP_SECONDS": "0.2",
        }
        self._log = (folder / "service.log").open("wb")
        self._http = httpx.Client(base_url=self.url, trust_env=False)
        self._process: subprocess.Popen[bytes] | None = None

    def up(self) -> None:
        """Serve."""
        environment = {name: text for name, text in os.environ.items() if not name.startswith("MESHYARD_")}
        command = [sys.executable, "-m", "service", "serve"]
        self._process = subprocess.Popen(command, env=environment | self._environment, stdout=self._log, stderr=self._log)
        until(self._answers)

    def down(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def close(self) -> None:
        self.down(signal.SIGKILL)
        self._http.close()
        self._log.close()

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "the service has ended"
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def submit(self, script: list[list[Any]], **more: Any) -> str:
        """Queue a job for the fake child; gives its id."""
        return self.post("/v1/jobs", SPEC | {"metadata": {"script": json.dumps(script)}} | more)["id"]

    def post(self, path: str, body: Any = None) -> Any:
        response = self._http.post(path, json=body)
        assert response.is_success, response.text
        return response.json()

    def get(self, path: str, **query: Any) -> Any:
        response = self._http.get(path, params=query)
        assert response.is_success, response.text
        return response.json()

    def content(self, path: str) -> bytes:
        response = self._http.get(path)
        assert response.is_success, response.text
        return response.content

    def job(self, job_id: str) -> dict[str, Any]:
        return self.get(f"/v1/jobs/{job_id}")

    def until_status(self, job_id: str, *wanted: str) -> dict[str, Any]:
        """Wait until the job is in one of these states."""
        until(lambda: self.job(job_id)["status"] in wanted)
        return self.job(job_id)

    def log(self, job_id: str) -> str:
        return self.content(f"/v1/jobs/{job_id}/logs").decode()

    def steps(self, job_id: str, name: str = "train/loss") -> list[int]:
        """The steps at which a metric is known."""
        series = self.get(f"/v1/jobs/{job_id}/metrics", names=name, max_points=10_000)["series"]
        return series[0]["steps"] if series else []

    def events(self, job_id: str) -> list[str]:
        return [event["type"] for event in self.get(f"/v1/jobs/{job_id}/events", limit=100)["data"]]

    def attempts(self, job_id: str) -> list[dict[str, Any]]:
        return self.get(f"/v1/jobs/{job_id}/attempts")["data"]

    def checkpoints(self, job_id: str) -> list[int]:
        return [checkpoint["step"] for checkpoint in self.get(f"/v1/jobs/{job_id}/checkpoints")["data"]]

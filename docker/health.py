"""The containers' health check: exit status 0 when the process in this container does its work. Standard library only.

`health.py service` asks the service for its readiness. `health.py worker` asks the service whether it still hears from the worker
of this container, which carries the label `container` with the container's host name.
"""

import json
import os
import sys
import urllib.request
from typing import Any

SECONDS = 4.0


def _get(url: str) -> Any:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {os.environ.get('MESHYARD_API_KEY', '')}"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=SECONDS) as response:  # noqa: S310  (the address is the operator's own)
        return json.load(response)


def service_is_well() -> bool:
    """Tell whether the service reaches its database and its artifact folder."""
    _get(f"http://127.0.0.1:{os.environ.get('MESHYARD_PORT', '8642')}/readyz")
    return True


def worker_is_well() -> bool:
    """Tell whether the service has heard from this container's worker of late."""
    server = os.environ.get("MESHYARD_SERVER", "http://127.0.0.1:8642")
    url = f"{server}/v1/workers?limit=100"
    while True:
        page = _get(url)
        if any(_is_this_container(worker) for worker in page["data"]):
            return True
        if not page["has_more"]:
            return False
        url = f"{server}/v1/workers?limit=100&after={page['next']}"


def _is_this_container(worker: dict[str, Any]) -> bool:
    return worker["labels"].get("container") == os.environ["HOSTNAME"] and worker["status"] != "gone"


if __name__ == "__main__":
    try:
        well = service_is_well() if sys.argv[1] == "service" else worker_is_well()
    except OSError as error:
        sys.exit(f"unhealthy: {error}")
    sys.exit(0 if well else "unhealthy: the service has not heard from this worker")

"""One look at a spec inside a child: from the agent's message to what was found. Nothing of the job is run."""

from __future__ import annotations

import contextlib
import traceback
from dataclasses import replace

from jobs.errors import JobError, UserFault
from jobs.programs import user_code
from jobs.programs.preflight.look import examine
from jobs.programs.user_errors import explain
from jobs.spec.models import on_any_device
from worker import devices, memory
from worker.channel import Channel, Message
from worker.handed import folders, subject


def run(channel: Channel, start: Message) -> None:
    """Look, and say what was found, whatever happens on the way.

    Args:
        channel: to the agent.
        start: the agent's `preflight` message (`worker.channel`).
    """
    try:
        _look(channel, start)
    except JobError as error:
        _fail(channel, error)
    except Exception as error:  # noqa: BLE001  (an edge: whatever a program raises becomes the answer)
        own = None if memory.is_shortage(error) else explain(error, folders(start))
        _fail(channel, own or _as_job_error(error))


def _look(channel: Channel, start: Message) -> None:
    spec = start["assignment"]["spec"]
    # What is looked at is the job's own program, whatever is to be debugged in it.
    plain = spec | {"debug": spec["debug"] | {"disable_jit": False, "nans": False, "log_compiles": False}}
    devices.configure(start["cpu_devices"], start["device_ids"], start["compile_cache"], plain)
    user_code.install(folders(start))
    looked_at = subject(start)
    if start["level"] == "shapes":  # on whatever devices there are
        looked_at = replace(looked_at, spec=on_any_device(looked_at.spec))
    found = examine(looked_at, start["level"], devices.versions(), virtual=start["cpu_devices"] is not None)
    channel.send({"type": "found", "found": found.model_dump(mode="json")})


def _fail(channel: Channel, error: JobError) -> None:
    with contextlib.suppress(OSError):  # a log that cannot be written must not keep the last message back
        traceback.print_exception(error)
    failure = {"code": error.code, "message": error.message[:10_000], "param": error.param}
    channel.send({"type": "end", "ending": "failed", "step": 0, "error": failure})


def _as_job_error(error: Exception) -> JobError:
    text = f"{type(error).__name__}: {error}"[:2000]
    if memory.is_shortage(error):
        return UserFault("oom", f"the devices ran out of memory while the step was compiled: {text}", "/data/batch_size")
    return UserFault("compile_failed", f"the step could not be traced or compiled: {text}")

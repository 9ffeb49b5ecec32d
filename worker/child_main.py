"""A child: one process, one attempt or one look at a spec. It owns the devices and speaks to its agent alone.

Started ahead of time, it imports the libraries and waits, with no backend started, until its agent gives it something to do.
"""

from __future__ import annotations

import ctypes
import faulthandler
import logging
import os
import signal
import sys

from worker.channel import Channel

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Wait for an assignment, run it, say how it ended."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # the children of a dead agent must not go on
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the agent decides when to stop, and says so
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax warns of parts that we do not ask it to write, three times a save
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    reader, writer, mark = (int(fd) for fd in sys.argv[1:4])
    channel = Channel(os.fdopen(reader, "rb"), os.fdopen(writer, "wb", buffering=0), mark)
    from worker import attempt, preflight  # noqa: PLC0415  (the libraries, ahead of the assignment; nothing may come before this)

    line = next(channel.receive(), None)
    if line is not None:
        (preflight if line["type"] == "preflight" else attempt).run(channel, line)


if __name__ == "__main__":
    main()

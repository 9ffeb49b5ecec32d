"""Sending messages to webhooks: the only place from which the service speaks to anybody by itself.

The name is resolved here, every address it has is judged, and the connection goes to one that was; the target's certificate is
still checked against the name. Redirects are not followed, no proxy is used, and of an answer little is read.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

import httpx
from fastapi.concurrency import run_in_threadpool

from service.context import Context
from service.domain import deliveries
from service.domain.deliveries import Outcome, Parcel
from service.domain.targets import Address, Allowed, NotAllowed, check, judge

LOG = logging.getLogger(__name__)

Resolve = Callable[[str, int], Awaitable[list[Address]]]

WEBHOOKS = "webhooks"
AT_ONCE = 32
MOST_ANSWER_BYTES = 64 * 1024
LONGEST_WAIT_SECONDS = 6 * 3600.0


async def resolve(host: str, port: int) -> list[Address]:
    """Every address of a host, as the system tells. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(str(address[0]).partition("%")[0]) for *_, address in found]


class Courier:
    """Takes messages that are due and sends them, several at a time, until the service stops.

    Args:
        context: what the service shares.
        resolving: how names become addresses.
    """

    def __init__(self, context: Context, resolving: Resolve = resolve) -> None:
        self._context = context
        self._resolve = resolving
        self._allowed = Allowed.read(context.settings.webhook_targets)
        self._under_way: dict[asyncio.Task[None], str] = {}

    async def run(self) -> None:
        """Deliver until the service stops; what is under way then is delivered by the next."""
        signals = self._context.signals
        async with httpx.AsyncClient(timeout=self._context.settings.webhook_timeout_seconds, trust_env=False) as client:
            while not signals.closing:
                with signals.hearing(WEBHOOKS) as heard:
                    taken = await self._take()
                    for parcel in taken:
                        task = asyncio.create_task(self._deliver(client, parcel))
                        self._under_way[task] = parcel.webhook_id
                        task.add_done_callback(self._done)
                    if not taken:
                        await signals.wait(WEBHOOKS, heard, self._context.settings.poll_seconds)
            left = list(self._under_way)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        self._context.signals.wake(WEBHOOKS)

    async def _take(self) -> list[Parcel]:
        room, each = AT_ONCE - len(self._under_way), Counter(self._under_way.values())
        try:
            return await run_in_threadpool(deliveries.take, self._context, room, each) if room > 0 else []
        except Exception:
            # The database may be away for a while; the messages stay.
            LOG.exception("in the background: taking messages for webhooks")
            return []

    async def _deliver(self, client: httpx.AsyncClient, parcel: Parcel) -> None:
        try:
            outcome = await self.send(client, parcel)
            settled = await run_in_threadpool(deliveries.settle, self._context, parcel, outcome)
            self._context.telemetry.delivered(settled)
        except Exception:
            # The lease runs out and the message is sent again.
            LOG.exception("delivering %s", parcel.delivery_id)

    async def send(self, client: httpx.AsyncClient, parcel: Parcel) -> Outcome:
        """Send a message once, whatever comes of it."""
        try:
            async with asyncio.timeout(self._context.settings.webhook_timeout_seconds):
                return await self._post(client, parcel)
        except TimeoutError:
            return Outcome(error="The target took too long.")
        except NotAllowed as error:
            return Outcome(error=str(error))
        except (OSError, httpx.HTTPError, httpx.InvalidURL) as error:
            return Outcome(error=f"{type(error).__name__}: {error}")

    async def _post(self, client: httpx.AsyncClient, parcel: Parcel) -> Outcome:
        check(parcel.url, self._allowed)  # the operator may have taken back what was allowed when it was added
        url = httpx.URL(parcel.url)
        port = url.port or (443 if url.scheme == "https" else 80)
        address = judge(url.host, await self._resolve(url.host, port), self._allowed)
        host = url.netloc.decode("ascii")
        headers = {**parcel.headers, "Host": host, "Content-Type": "application/json", "User-Agent": "meshyard-webhooks"}
        # One connection each: a pooled one would be found by its address, whatever name it was opened for.
        headers["Connection"] = "close"
        pinned = url.copy_with(host=str(address), port=port)
        request = client.build_request("POST", pinned, content=parcel.body, headers=headers, extensions={"sni_hostname": url.host})
        reply = await client.send(request, stream=True, follow_redirects=False)
        try:
            await _read_little(reply)
        finally:
            await reply.aclose()
        return _outcome(reply)


async def _read_little(reply: httpx.Response) -> None:
    """Let a target finish its answer, if it is a short one: many take a connection cut off before as a failure of theirs."""
    size = 0
    with suppress(httpx.HTTPError):
        async for chunk in reply.aiter_raw():
            size += len(chunk)
            if size > MOST_ANSWER_BYTES:
                return


def _outcome(reply: httpx.Response) -> Outcome:
    if reply.is_success:
        return Outcome(reply.status_code)
    told = f"The target answered {reply.status_code}"
    detail = f"{told}; redirects are not followed." if reply.is_redirect else f"{told}."
    wait = reply.headers.get("retry-after", "")
    seconds = float(wait) if wait.isascii() and wait.isdigit() and len(wait) < 10 else 0.0
    return Outcome(reply.status_code, detail, min(seconds, LONGEST_WAIT_SECONDS))

"""From files on disk to a checkpoint that the service lists: digests, the way there, and word of it, in the child's order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from jobs.errors import InfraFault, JobError
from jobs.protocol import Committed, File
from worker.api import Refused
from worker.messages import Checkpointed, Kept
from worker.outbox import Outbox
from worker.places import Known, Place
from worker.transfer import Mismatch, below, describe, files_below, identity_of


class Committer:
    """Commits one attempt's checkpoints, one after another, beside everything else.

    Args:
        place: where its bytes are.
        outbox: the way out.
        known: outputs whose digests are known, by path; those that the child writes anew are found out.
        on_failure: called once when bytes cannot be kept; nothing is committed after it.
    """

    def __init__(self, place: Place, outbox: Outbox, known: dict[str, Known], on_failure: Callable[[JobError], None]) -> None:
        self._place = place
        self._outbox = outbox
        self._known = dict(known)
        self._on_failure = on_failure
        self._queue: asyncio.Queue[Checkpointed | Kept | None] = asyncio.Queue()

    def put(self, message: Checkpointed | Kept) -> None:
        """A checkpoint, or other files, are whole on this disk."""
        self._queue.put_nowait(message)

    def close(self) -> None:
        """No more will come: `run` ends with the last one."""
        self._queue.put_nowait(None)

    async def run(self) -> None:
        """Commit what is put, until `close`.

        Raises:
            AttemptSuperseded: the fence is stale.
        """
        while (message := await self._queue.get()) is not None:
            try:
                await (self._keep(message) if isinstance(message, Kept) else self._commit(message))
            except (OSError, Mismatch, Refused) as error:
                what = "an artifact" if isinstance(message, Kept) else f"the checkpoint of step {message.step}"
                self._on_failure(_not_kept(what, error))
                return

    async def artifacts(self, paths: Iterable[str]) -> list[File]:
        """Keep files of the folder of outputs for good, and describe them.

        Raises:
            InfraFault: `storage_failed`.
            AttemptSuperseded: the fence is stale.
        """
        try:
            outputs, _ = await self._outputs(paths)
        except (OSError, Mismatch, Refused) as error:
            raise _not_kept("an artifact", error) from error
        return outputs

    async def _keep(self, message: Kept) -> None:
        outputs, _ = await self._outputs(message.paths)
        self._outbox.put_artifacts(outputs, message.happened())

    async def _commit(self, message: Checkpointed) -> None:
        own = f"checkpoints/{message.step}"
        folder = below(self._place.directory, own)
        names = await asyncio.to_thread(files_below, folder)
        files = [await describe(self._place.directory, own, name, durable=self._place.durable) for name in names]
        await self._place.keep(_moved(files, own))
        outputs, fresh = await self._outputs(message.outputs)
        metrics: dict[str, float | None] = {
            name: None if isinstance(value, str) else value for name, value in message.metrics.items()
        }
        self._outbox.put_checkpoint(Committed(step=message.step, metrics=metrics, files=files, outputs=outputs, fresh=fresh))

    async def _outputs(self, paths: Iterable[str]) -> tuple[list[File], list[File]]:
        """All of these outputs, and those of them that were not known before."""
        fresh = [await self._described(path) for path in paths if not self._is_known(path)]
        await self._place.keep(_moved([known.file for known in fresh], "outputs"))
        self._known |= {known.file.path: known for known in fresh}
        return [self._known[path].file for path in paths], [known.file for known in fresh]

    async def _described(self, path: str) -> Known:
        folder = self._place.directory / "outputs"
        identity = identity_of(below(folder, path))
        return Known(await describe(self._place.directory, "outputs", path, durable=self._place.durable), identity)

    def _is_known(self, path: str) -> bool:
        known = self._known.get(path)
        return known is not None and known.identity == identity_of(below(self._place.directory / "outputs", path))


def _moved(files: Iterable[File], folder: str) -> list[File]:
    """The same files, named from one folder further up."""
    return [file.model_copy(update={"path": f"{folder}/{file.path}"}) for file in files]


def _not_kept(what: str, error: Exception) -> InfraFault:
    return InfraFault("storage_failed", f"The bytes of {what} could not be kept: {error}.")

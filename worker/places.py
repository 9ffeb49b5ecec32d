"""Where an attempt's bytes are: in the service's artifact folder if this machine sees it, else on their way through the service.

Both give the same: a folder for the child to write in, data and checkpoint to start from, verified, and files kept for good.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from jobs.errors import InfraFault, UserFault
from jobs.protocol import Assignment, Code, Dataset, File, Resume
from jobs.spec.data import pointer_of
from worker import api
from worker.transfer import Digests, Identity, Mismatch, below, download, for_each, identity_of, is_refusal_of_bytes, upload, verify

DATA = "/data/dataset"


@dataclass(frozen=True)
class Known:
    """A file whose digest is known as long as it stays the same file."""

    file: File
    identity: Identity


@dataclass(frozen=True)
class Inputs:
    """What an attempt starts from, all of it verified.

    Attributes:
        dataset: the data file.
        beside: the files that are read beside it, by what they are for.
        code: bundles of user code by id, packed as they were uploaded.
        resume: folder of the checkpoint.
        outputs: by path, the outputs of earlier attempts, which now lie in the folder of outputs.
    """

    dataset: Path | None = None
    beside: dict[str, Path] = field(default_factory=dict[str, Path])
    resume: Path | None = None
    outputs: dict[str, Known] = field(default_factory=dict[str, Known])
    code: dict[str, Path] = field(default_factory=dict[str, Path])


class Place(Protocol):
    """The bytes of one attempt. `directory` is where its child writes `checkpoints/{step}/` and `outputs/`."""

    directory: Path
    durable: bool
    """Whether `directory` keeps files for good, so that they must be on the disk before they are reported."""

    async def prepare(self) -> Inputs:
        """Fetch and verify everything the attempt starts from.

        Raises:
            JobError: `dataset_invalid`, `checkpoint_corrupt` or `storage_failed`.
        """
        ...

    async def keep(self, files: Iterable[File]) -> None:
        """Keep files for good. Their paths are relative to `directory`. Raises OSError, Refused, AttemptSuperseded."""
        ...

    async def committed(self, step: int) -> None:
        """The service lists the checkpoint of this step."""
        ...


class SharedFolder:
    """Bytes in the artifact folder itself.

    Args:
        root: the artifact folder as this machine sees it.
        assignment: the attempt.
        digests: of data files seen before.
    """

    durable = True

    def __init__(self, root: Path, assignment: Assignment, digests: Digests) -> None:
        self._root = root
        self._assignment = assignment
        self._digests = digests
        self.directory = below(root, assignment.prefix)

    async def prepare(self) -> Inputs:
        """Verify in place; outputs of earlier attempts are linked into the attempt's own folder."""
        assignment = self._assignment
        if assignment.resume is not None and not (self._root / "jobs").is_dir():
            # A folder that has come unmounted must not cost a job its checkpoints.
            raise InfraFault("storage_failed", f"The artifact folder {self._root} is not there any more.")
        try:
            outputs = self.directory / "outputs"
            outputs.mkdir(parents=True, exist_ok=True)
            dataset = await self._dataset(assignment.dataset) if assignment.dataset else None
            beside = {role: await self._dataset(file, pointer_of(role)) for role, file in assignment.beside.items()}
            code = {each.id: await self._code(each) for each in assignment.code}
            if assignment.resume is None:
                return Inputs(dataset, beside, code=code)
            folder = await self._checkpoint(assignment.resume)
            return Inputs(dataset, beside, folder, await self._outputs(assignment.resume, outputs), code)
        except OSError as error:
            raise _storage_failed(error) from error

    async def keep(self, files: Iterable[File]) -> None:
        """They are where they belong; the folders that name them must reach the disk too."""
        folders = {below(self.directory, file.path).parent for file in files}
        above = {parent for folder in folders for parent in folder.parents if parent.is_relative_to(self.directory)}
        await asyncio.to_thread(_flush_folders, sorted(folders | above))

    async def committed(self, step: int) -> None:
        """Retention is the service's."""

    async def _dataset(self, dataset: Dataset, pointer: str = DATA) -> Path:
        path = below(self._root, dataset.key)
        if path.stat().st_size != dataset.bytes or await self._digests.of(path) != dataset.sha256:
            raise _dataset_invalid(pointer)
        return path

    async def _code(self, code: Code) -> Path:
        path = below(self._root, code.key)
        await _verified(path, code)
        return path

    async def _checkpoint(self, resume: Resume) -> Path:
        folder = below(self._root, resume.prefix)
        try:
            await for_each(resume.files, lambda file: verify(below(folder, file.path), file))
        except Mismatch as error:
            raise _checkpoint_corrupt(resume, error) from error
        return folder

    async def _outputs(self, resume: Resume, target: Path) -> dict[str, Known]:
        known: dict[str, Known] = {}

        async def take(file: File) -> None:
            source = below(self._root, resume.keys[file.path])
            await verify(source, file)
            own = below(target, file.path)
            await asyncio.to_thread(_link, source, own)
            known[file.path] = Known(file, identity_of(own))

        try:
            await for_each(resume.outputs, take)
        except Mismatch as error:
            raise _checkpoint_corrupt(resume, error) from error
        return known


class ThroughService:
    """Bytes that travel: scratch on this machine, the service at the other end.

    Args:
        service: the other end.
        assignment: the attempt.
        scratch: folder for this attempt alone.
        datasets: folder of downloaded data by digest.
    """

    durable = False

    def __init__(self, service: api.Service, assignment: Assignment, scratch: Path, datasets: Datasets) -> None:
        self._service = service
        self._assignment = assignment
        self._scratch = scratch
        self._datasets = datasets
        self.directory = scratch / "own"

    async def prepare(self) -> Inputs:
        """Download and verify."""
        assignment = self._assignment
        try:
            outputs = self.directory / "outputs"
            outputs.mkdir(parents=True, exist_ok=True)
            dataset = await self._datasets.get(self._service, assignment.dataset) if assignment.dataset else None
            beside = {
                role: await self._datasets.get(self._service, file, pointer_of(role)) for role, file in assignment.beside.items()
            }
            code = {each.id: await self._code(each) for each in assignment.code}
            if assignment.resume is None:
                return Inputs(dataset, beside, code=code)
            return Inputs(dataset, beside, *await self._resume(assignment.resume, outputs), code)
        except (OSError, api.Refused) as error:
            raise _storage_failed(error) from error

    async def keep(self, files: Iterable[File]) -> None:
        """Send them to the service."""
        ours = self._assignment

        async def send(file: File) -> None:
            await upload(self._service, ours.attempt_id, ours.fence, file, below(self.directory, file.path))

        await for_each(files, send)

    async def committed(self, step: int) -> None:
        """The service has this step; the copies of earlier ones here are of no more use."""
        await asyncio.to_thread(_delete_before, self.directory / "checkpoints", step)

    async def _code(self, code: Code) -> Path:
        path = self._scratch / code.sha256
        try:
            await download(self._service, api.code_content(code.id), path, _file_of(code))
        except Mismatch as error:
            raise _code_invalid() from error
        except api.Refused as error:
            if is_refusal_of_bytes(error):
                raise _code_invalid() from error
            raise
        return path

    async def _resume(self, resume: Resume, outputs: Path) -> tuple[Path, dict[str, Known]]:
        folder = self._scratch / "resume"
        folder.mkdir(exist_ok=True)
        known: dict[str, Known] = {}

        async def fetch(file: File) -> None:
            address = api.checkpoint_file(resume.job_id, resume.step, file.path)
            await download(self._service, address, below(folder, file.path), file)

        async def fetch_output(file: File) -> None:
            own = below(outputs, file.path)
            await download(self._service, api.artifact(resume.job_id, file.path), own, file)
            known[file.path] = Known(file, identity_of(own))

        try:
            await for_each(resume.files, fetch)
            await for_each(resume.outputs, fetch_output)
        except Mismatch as error:
            raise _checkpoint_corrupt(resume, error) from error
        except api.Refused as error:
            if is_refusal_of_bytes(error):
                raise _checkpoint_corrupt(resume, error) from error
            raise
        return folder, known


class Datasets:
    """Downloaded data by digest, each fetched once however many slots want it.

    Args:
        folder: where they are kept.
        digests: of files seen before.
    """

    def __init__(self, folder: Path, digests: Digests) -> None:
        self._folder = folder
        self._digests = digests
        self._locks: dict[str, asyncio.Lock] = {}

    async def get(self, service: api.Service, dataset: Dataset, pointer: str = DATA) -> Path:
        """The verified file of a dataset. `pointer`: where the job names it.

        Raises:
            UserFault: `dataset_invalid`, if the service's bytes are not those it named.
            Refused: the service does not give it.
        """
        path = self._folder / dataset.sha256
        async with self._locks.setdefault(dataset.sha256, asyncio.Lock()):
            if path.exists() and await self._digests.of(path) == dataset.sha256:
                os.utime(path)  # it is in use: what is kept for later jobs goes by that
                return path
            expected = File(path=dataset.sha256, bytes=dataset.bytes, sha256=dataset.sha256)
            try:
                await download(service, api.dataset_content(dataset.id), path, expected)
            except Mismatch as error:
                raise _dataset_invalid(pointer) from error
            except api.Refused as error:
                if is_refusal_of_bytes(error):
                    raise _dataset_invalid(pointer) from error
                raise
        return path


def _link(source: Path, target: Path) -> None:
    """Make `target` the same file, or a copy on a file system that has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _delete_before(folder: Path, step: int) -> None:
    """Delete the checkpoints of earlier steps."""
    for old in [path for path in folder.iterdir() if path.name.isdecimal() and int(path.name) < step]:
        shutil.rmtree(old, ignore_errors=True)


def _flush_folders(folders: list[Path]) -> None:
    for folder in folders:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _file_of(code: Code) -> File:
    return File(path=code.sha256, bytes=code.bytes, sha256=code.sha256)


async def _verified(path: Path, code: Code) -> None:
    try:
        await verify(path, _file_of(code))
    except Mismatch as error:
        raise _code_invalid() from error


def _code_invalid() -> UserFault:
    return UserFault(
        "user_code_error", "The code bundle is gone, or its bytes do not match its digest. Upload it again.", "/model/code"
    )


def _dataset_invalid(pointer: str) -> UserFault:
    return UserFault("dataset_invalid", "The dataset is gone, or its bytes do not match its digest. Upload it again.", pointer)


def _checkpoint_corrupt(resume: Resume, error: Exception) -> InfraFault:
    return InfraFault("checkpoint_corrupt", f"The checkpoint of step {resume.step} cannot be resumed from: {error}.")


def _storage_failed(error: Exception) -> InfraFault:
    return InfraFault("storage_failed", f"The files of the attempt cannot be read or written: {error}.")

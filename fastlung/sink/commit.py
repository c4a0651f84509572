"""
How results reach the sink, in the one order that survives being killed at any moment.

Old record away, names claimed, payloads, outcome of each scan, leftovers of earlier attempts away,
and last the record, which is the commit. Until then the group counts as not done and a rerun does
it again, writing the same bytes.
"""

from __future__ import annotations

import errno
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from isal import isal_zlib

from fastlung.config import StoreOptions
from fastlung.errors import AccessError, SinkLostError, StoreError
from fastlung.limits import Limits
from fastlung.revisions import revisions_of
from fastlung.scan import Outcome
from fastlung.sink.identity import check_identity
from fastlung.sink.names import claim_key, claim_name, holder_of
from fastlung.sink.records import Record, outcome_key, read_record, record_key, to_json
from fastlung.sink.shared_names import keep_if_ours
from fastlung.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from typing_extensions import Buffer

    from fastlung.config import Config
    from fastlung.source.groups import SourceGroup
    from fastlung.storage.base import Store

__all__ = ["Job", "Storer", "Task", "committed_outcomes", "failed"]

#: Causes that every further write would meet too: the run stops at once.
SINK_IS_UNUSABLE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ENOTCONN,
    errno.ESTALE,
}
#: What is written side by side: image, mask, metadata and picture, and the claim of the next scan.
FILES_AT_ONCE = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """
    What every source group of a run has in common; small and picklable.

    Attributes
    ----------
    source, sink : str
        URLs for `open_store`.
    config : Config
        What is done to a scan.
    storage : StoreOptions
        How both stores are reached.
    names_key : bytes
        Key of hashed names; empty unless names are hashed.
    writer : str
        Random token of this run, in every record it writes.
    sink_id : str
        Which sink this run began; empty where nobody needs to know.
    memory_bytes : int
        Memory that all workers together may use; no scan may need more.
    ahead_bytes : int
        Source bytes that one worker may hold beside those of the scan it computes.
    requests : int
        Requests that one worker may have under way at once.
    threads : int
        Threads that compute one scan; change no bit.
    limits : Limits
        The largest input that is taken.
    """

    source: str
    sink: str
    config: Config
    storage: StoreOptions = field(default_factory=StoreOptions)
    names_key: bytes = field(repr=False)
    writer: str
    sink_id: str = ""
    memory_bytes: int
    ahead_bytes: int = 0
    requests: int = 4
    threads: int = 1
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """
    One source group that is to be done.

    Attributes
    ----------
    group : SourceGroup
        The group.
    leftovers : tuple of str
        Keys in the sink that earlier attempts at this group have left.
    committed : bool
        Whether the sink holds a record of the group, now out of date.
    need_bytes : int
        Memory that computing it is expected to take, without what is read ahead; 0 if unknown.
    """

    group: SourceGroup
    leftovers: tuple[str, ...] = ()
    committed: bool = False
    need_bytes: int = 0

    @property
    def source_bytes(self) -> int:
        """Bytes to be read."""
        return self.group.size_bytes


def failed(name: str, group_id: str, error: Exception, *, transient: bool) -> Outcome:
    """Outcome of a scan that an error of ours ended."""
    return Outcome(
        name=name,
        group=group_id,
        status="failed",
        error=type(error).__name__,
        message=printable(str(error)),
        transient=transient,
    )


class Storer:
    """
    Writes scans and records beside computing, in the order they are given.

    At most one scan's files are being written while the next one is computed: `put` waits for the
    last. They go side by side, and all of them are there before the outcome is. Names are claimed
    and records written beside them, too: with 30 ms to an answer, these alone would leave a link of
    100 MB/s idle for a tenth of the time that a chest takes on it.

    Parameters
    ----------
    job : Job
        The run.
    sink : Store
        Where everything goes.
    """

    def __init__(self, job: Job, sink: Store) -> None:
        self._job = job
        self._sink = sink
        self._thread = ThreadPoolExecutor(1, "fastlung-storer")
        self._records = ThreadPoolExecutor(1, "fastlung-records")
        self._payloads = ThreadPoolExecutor(FILES_AT_ONCE, "fastlung-payload")
        self._last: Future[Outcome] | None = None
        #: Wall seconds of writing and of waiting for it, and payload bytes written.
        self.seconds = 0.0
        self.waited_seconds = 0.0
        self.stored_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A record waits for the files before it, never the other way round.
        for threads in (self._thread, self._records):
            threads.shutdown(cancel_futures=error is not None)
        self._payloads.shutdown()

    def drain(self) -> None:
        """Wait until all that was given so far is written."""
        for threads in (self._thread, self._records):
            threads.submit(int).result()

    def put(
        self, task: Task, outcome: Outcome, files: Mapping[str, Sequence[Buffer]]
    ) -> Future[Outcome]:
        """
        Write one scan, once the files of the scan before are written.

        Parameters
        ----------
        task : Task
            Its source group.
        outcome : Outcome
            What is known of the scan; its `name` is the name wished for.
        files : mapping of str to sequence of bytes-like
            File name to contents.

        Returns
        -------
        Future of Outcome
            With the final name, outputs, and status: ``failed`` if it could not be written.

        Raises
        ------
        StoreError
            If the sink takes no more writes at all.
        """
        claimed = self._payloads.submit(self._claim, task, outcome.name)
        started = time.perf_counter()
        if self._last is not None:
            self._last.result()
        waited = time.perf_counter() - started
        self.waited_seconds += waited
        outcome = replace(outcome, seconds={**outcome.seconds, "wait": waited})
        self._last = self._thread.submit(self._write, outcome, claimed, files)
        return self._records.submit(self._note, self._last)

    def commit(
        self,
        task: Task,
        outcomes: Sequence[Outcome | Future[Outcome]],
        skipped_files: Mapping[str, int],
    ) -> Future[tuple[Outcome, ...]]:
        """
        Write the record of a source group, after its scans.

        Parameters
        ----------
        task : Task
            The group.
        outcomes : sequence of Outcome or Future of Outcome
            One for each series, the futures from `put`.
        skipped_files : mapping of str to int
            Reason -> files that belong to no series.

        Returns
        -------
        Future of tuple of Outcome
            The final outcomes. Raises StoreError if the sink takes no more writes at all.
        """
        return self._records.submit(self._commit, task, tuple(outcomes), skipped_files)

    def _claim(self, task: Task, name: str) -> str:
        self._uncommit(task)
        return claim_name(self._sink, name, task.group.id)

    def _write(
        self, outcome: Outcome, claimed: Future[str], files: Mapping[str, Sequence[Buffer]]
    ) -> Outcome:
        started = time.perf_counter()
        try:
            name = claimed.result()
            outputs = self._write_payloads(
                {f"scans/{name}/{file}": buffers for file, buffers in files.items()}
            )
        except StoreError as error:
            return self._unwritten(outcome, error)
        finally:
            elapsed = time.perf_counter() - started
            self.seconds += elapsed
        return replace(
            outcome,
            name=name,
            wished_name="" if name == outcome.name else outcome.name,
            outputs=outputs,
            seconds={**outcome.seconds, "store": elapsed},
        )

    def _note(self, written: Future[Outcome]) -> Outcome:
        """Write the outcome of a scan whose files are written."""
        outcome = written.result()
        try:
            if outcome.outputs:
                self._sink.put(outcome_key(outcome.name), [to_json(outcome)])
                keep_if_ours(self._sink, outcome.name, outcome.group)
        except StoreError as error:
            return self._unwritten(outcome, error)
        return outcome

    def _write_payloads(
        self, payloads: Mapping[str, Sequence[Buffer]]
    ) -> dict[str, tuple[int, int]]:
        """Write all files of a scan; none is being written any more when this ends, or raises."""
        going = [
            self._payloads.submit(self._sink.put, key, buffers) for key, buffers in payloads.items()
        ]
        try:
            outputs = {key: _facts(buffers) for key, buffers in payloads.items()}
        finally:
            wait(going)
        for future in going:
            future.result()
        self.stored_bytes += sum(size_bytes for size_bytes, _ in outputs.values())
        return outputs

    def _commit(
        self,
        task: Task,
        outcomes: tuple[Outcome | Future[Outcome], ...],
        skipped_files: Mapping[str, int],
    ) -> tuple[Outcome, ...]:
        final = tuple(o.result() if isinstance(o, Future) else o for o in outcomes)
        config = self._job.config
        record = Record(
            group=task.group.id,
            label=task.group.label,
            objects_digest=task.group.digest,
            config_digest=config.digest,
            outcomes=final,
            skipped_files=skipped_files,
            writer=self._job.writer,
            written_at=datetime.now(UTC).isoformat(timespec="seconds"),
            revisions=revisions_of(final, mask=config.mask, mask_on=config.mask_on),
        )
        try:
            self._uncommit(task)
            _remove_leftovers(self._sink, task, record)
            counted = _put_record(self._sink, record)
            if self._job.sink_id:
                check_identity(self._sink, self._job.sink_id)
        except StoreError as error:
            return tuple(self._unwritten(outcome, error) for outcome in final)
        return counted.outcomes

    def _uncommit(self, task: Task) -> None:
        """Remove an old record: from now on the group counts as not done."""
        if task.committed:
            self._sink.delete(record_key(task.group.id))

    def _unwritten(self, outcome: Outcome, error: StoreError) -> Outcome:
        cause = error.__cause__
        if isinstance(error, AccessError | SinkLostError) or (
            isinstance(cause, OSError) and cause.errno in SINK_IS_UNUSABLE
        ):
            raise error
        if outcome.status == "failed":
            return outcome
        lost = failed(outcome.name, outcome.group, error, transient=True)
        return replace(outcome, status="failed", outputs={}, error=lost.error,
                       message=lost.message, transient=True)  # fmt: skip


def _facts(buffers: Sequence[Buffer]) -> tuple[int, int]:
    """Bytes and CRC-32 of an object."""
    size, crc = 0, 0
    for buffer in buffers:
        size += memoryview(buffer).nbytes
        # A tenth of zlib's time: 2 ms for 63 MB.
        crc = isal_zlib.crc32(buffer, crc)
    return size, crc


def _remove_leftovers(sink: Store, task: Task, record: Record) -> None:
    _remove(sink, set(task.leftovers) - _keys_of(record), record.group)


def _remove(sink: Store, keys: set[str], group_id: str) -> None:
    """Remove what lies under names of a group, but for names that another has by now."""
    names = {key.split("/")[1] for key in keys}
    foreign = {name for name in names if holder_of(sink, name) not in ("", group_id)}
    # A claim goes last: it says whose the other objects are, should this be interrupted.
    for key in sorted(keys, key=lambda key: (key.endswith("/group"), key)):
        if key.split("/")[1] not in foreign:
            sink.delete(key)


def _put_record(sink: Store, record: Record) -> Record:
    """Commit; what counts is what was there first."""
    key = record_key(record.group)
    if sink.create(key, to_json(record)):
        return record
    # Another writer was faster. With the same input, configuration and revisions it wrote the same
    # bytes, and its record counts; anything else is no race but a mistake.
    rival = read_record(sink, key)
    if rival is None or _made_of(rival) != _made_of(record):
        raise StoreError(
            f"{key}: another writer is at work in this sink, with other input, configuration or "
            "version of fastlung; let it finish, then run again"
        )
    _remove(sink, _keys_of(record) - _keys_of(rival), record.group)
    return rival


def _keys_of(record: Record) -> set[str]:
    names = {outcome.name for outcome in record.outcomes if outcome.outputs}
    own = {key for name in names for key in (outcome_key(name), claim_key(name))}
    return own | record.outputs.keys()


def _made_of(record: Record) -> tuple[object, ...]:
    """What decides the bytes of a group."""
    return record.objects_digest, record.config_digest, dict(record.revisions)


def committed_outcomes(sink: Store, job: Job, group: SourceGroup) -> tuple[Outcome, ...]:
    """
    Outcomes of a source group that this run has committed already; empty if it has not.

    A worker may end after a commit and before its message.
    """
    record = read_record(sink, record_key(group.id))
    if record is None:
        return ()
    mine = (record.writer, record.objects_digest, record.config_digest)
    if mine != (job.writer, group.digest, job.config.digest):
        return ()
    return record.outcomes

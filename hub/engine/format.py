"""The format number of a hub: the version of the rows, events and commands on its topics. Every `!meta` row has it.

Data of another format is rejected before anything is written: an engine that cannot read the data must not fence one that can.
"""

from msgspec import DecodeError, Struct, json

from ..core import FORMAT, META_KEY
from ..errors import ConfigurationError
from ..kafka import STATE, Cluster, PartitionReader, TopicMissing, describe_partitions

#: The last transaction of a partition ends with its `!meta` row and a marker; aborted transactions may follow.
TAIL_RECORDS = 64
READ_RECORDS, READ_MS = 1_000, 20


class FormatMismatch(ConfigurationError):
    """The data on the topics of a hub has a format that this version cannot read."""

    def __init__(self, where: str, found: int) -> None:
        was = f"is of format {found}" if found else "has no format number, since an earlier version wrote it"
        super().__init__(
            f"The hub's data in {where} {was}, and this version reads format {FORMAT} only:"
            " drain the hub with the version that wrote it, then start over with new topics."
        )


class _Numbered(Struct):
    """The field with the format number, if present."""

    format: int = 0


class _Unnumbered(Struct):
    """Fields of rows written before format numbers existed, which distinguish them from foreign rows."""

    offset: int
    epoch: int
    now_us: int
    partitions: int


_numbered = json.Decoder(_Numbered)
_unnumbered = json.Decoder(_Unnumbered)


def check_format(meta: bytes | None, where: str) -> None:
    """Check the value of a `!meta` row. Raises FormatMismatch for another format. A row that no engine can have written
    passes; it is rejected when it is decoded."""
    if meta is None:
        return
    try:
        found = _numbered.decode(meta).format
        if not found:
            _unnumbered.decode(meta)
    except (DecodeError, RecursionError, UnicodeDecodeError):
        return
    if found != FORMAT:
        raise FormatMismatch(where, found)


async def check_hub_format(cluster: Cluster) -> None:
    """Check the format of a hub with partition 0, which has a `!meta` row since the first take-over. Missing and empty topics
    pass. Raises FormatMismatch, `BrokerUnreachable`."""
    try:
        await describe_partitions(cluster, STATE)  # a reader would wait for the topic
        async with PartitionReader(cluster) as reader:
            await reader.open(STATE, 0, 0)
            check_format(await _last_meta(reader), f"{STATE}-0 at {cluster}")
    except TopicMissing:
        return


async def _last_meta(reader: PartitionReader) -> bytes | None:
    """The last `!meta` row: at the end of the log, or earlier if aborted transactions follow it."""
    start, end = await reader.start_offset(), await reader.end_offset()
    for begin in dict.fromkeys((max(start, end - TAIL_RECORDS), start)):
        found: bytes | None = None
        reader.seek(begin)
        while reader.position < end:
            for record in await reader.read(READ_RECORDS, READ_MS):
                found = record.value if record.key == META_KEY else found
        if found is not None:
            return found
    return None

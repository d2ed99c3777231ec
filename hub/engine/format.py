"""The format number of a hub: which version of rows, events and commands its topics hold. Every `!meta` row carries it.

Data of another format is refused before anything is written: an engine that cannot read a hub must not fence the one that can.
"""

from msgspec import DecodeError, Struct, json

from ..core import FORMAT, META_KEY
from ..errors import ConfigurationError
from ..kafka import STATE, Cluster, PartitionReader, TopicMissing, describe_partitions

#: The last transaction of a partition ends with its `!meta` row and a marker; aborted ones may follow.
TAIL_RECORDS = 64
READ_RECORDS, READ_MS = 1_000, 20


class FormatMismatch(ConfigurationError):
    """The topics of a hub hold data of a format that this version does not read."""

    def __init__(self, where: str, found: int) -> None:
        was = f"is of format {found}" if found else "has no format number, since an earlier version wrote it"
        super().__init__(
            f"The hub's data in {where} {was}, and this version reads format {FORMAT} only:"
            " drain the hub with the version that wrote it, then start over with new topics."
        )


class _Numbered(Struct):
    """What rows of every format have in common, or miss."""

    format: int = 0


class _Unnumbered(Struct):
    """What distinguishes a row that was written before there were format numbers from one that no engine wrote."""

    offset: int
    epoch: int
    now_us: int
    partitions: int


_numbered = json.Decoder(_Numbered)
_unnumbered = json.Decoder(_Unnumbered)


def check_format(meta: bytes | None, where: str) -> None:
    """Raises FormatMismatch where the value of a `!meta` row is of another format. A row that no engine of any version can have
    written passes: whoever reads it finds out."""
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
    """Check the format of a hub by its partition 0, which has a `!meta` row since the first engine took it over. Topics that
    are missing or empty pass. Raises FormatMismatch, `BrokerUnreachable`."""
    try:
        await describe_partitions(cluster, STATE)  # a reader would wait for the topic
        async with PartitionReader(cluster) as reader:
            await reader.open(STATE, 0, 0)
            check_format(await _last_meta(reader), f"{STATE}-0 at {cluster}")
    except TopicMissing:
        return


async def _last_meta(reader: PartitionReader) -> bytes | None:
    """The last `!meta` row: in the tail of the log, or, where aborted transactions are in the way, somewhere before."""
    start, end = await reader.start_offset(), await reader.end_offset()
    for begin in dict.fromkeys((max(start, end - TAIL_RECORDS), start)):
        found: bytes | None = None
        reader.seek(begin)
        while await reader.position() < end:
            for record in await reader.read(READ_RECORDS, READ_MS):
                found = record.value if record.key == META_KEY else found
        if found is not None:
            return found
    return None

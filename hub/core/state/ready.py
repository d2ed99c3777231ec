"""Ready tasks in dispatch order: by effective priority, then by creation time.

Effective priority rises with age, one level every `AGING_SECONDS`, for all tasks alike; so the order between two tasks never
changes while they wait, and a heap with a fixed rank is exact: `rank = created - priority * AGING_SECONDS`, lowest first.
Tasks wait in buckets of (queue, namespace, name, version), because a worker takes only what it has registered.
"""

from heapq import heapify, heappop, heappush

from ..times import SECOND_US

#: Waiting time that equals one level of priority; so long that priority is strict in an ordinary backlog.
AGING_SECONDS = 600


Bucket = tuple[str, str, str, str | None]


Entry = tuple[int, int, str]


class ReadyQueue:
    """Heaps by bucket, and the counter of the current entry of each waiting task. Other entries (the task is no longer ready, or
    became ready again, perhaps as a new run of its id in another bucket) are removed lazily, when they reach the head."""

    __slots__ = ("_counter", "buckets", "entries", "waiting")

    def __init__(self) -> None:
        self.buckets: dict[Bucket, list[Entry]] = {}
        self.waiting: dict[str, int] = {}
        self._counter = 0
        self.entries = 0

    def push(self, task: str, bucket: Bucket, priority: int, created_us: int) -> None:
        """Add a task that became ready, instead of its earlier entry if it has one."""
        self._counter += 1
        rank = created_us - priority * AGING_SECONDS * SECOND_US
        self.waiting[task] = self._counter
        self.entries += 1
        heappush(self.buckets.setdefault(bucket, []), (rank, self._counter, task))

    def remove(self, task: str) -> None:
        """Remove a task that is no longer ready (dispatched, cancelled, expired)."""
        self.waiting.pop(task, None)

    def head(self, bucket: Bucket) -> Entry | None:
        """The first current entry of a bucket; None if there is none, and the bucket is removed."""
        heap, waiting = self.buckets.get(bucket), self.waiting
        while heap:
            entry = heap[0]
            if waiting.get(entry[2]) == entry[1]:
                return entry
            heappop(heap)
            self.entries -= 1
        self.buckets.pop(bucket, None)
        return None

    def take(self, bucket: Bucket) -> Entry | None:
        """Remove the entry that `head` returned. Returns the next one, as `head`."""
        del self.waiting[heappop(self.buckets[bucket])[2]]
        self.entries -= 1
        return self.head(bucket)

    def heads(self) -> list[tuple[int, int, str, Bucket]]:
        """A heap of the heads of all buckets: (rank, counter, task, bucket)."""
        heads = [(*entry, bucket) for bucket in list(self.buckets) if (entry := self.head(bucket)) is not None]
        heapify(heads)
        return heads

    def rebuild(self) -> None:
        """Remove the entries that are not current."""
        for bucket, heap in list(self.buckets.items()):
            left = [entry for entry in heap if self.waiting.get(entry[2]) == entry[1]]
            heapify(left)
            self.buckets[bucket] = left
        self.entries = sum(map(len, self.buckets.values()))

    def __len__(self) -> int:
        return len(self.waiting)

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
    """Heaps by bucket. Entries of tasks that are no longer ready are removed lazily, when they reach the head."""

    __slots__ = ("_counter", "buckets", "entries", "waiting")

    def __init__(self) -> None:
        self.buckets: dict[Bucket, list[Entry]] = {}
        self.waiting: set[str] = set()
        self._counter = 0
        self.entries = 0

    def push(self, task: str, bucket: Bucket, priority: int, created_us: int) -> None:
        """Add a task that became ready."""
        self._counter += 1
        rank = created_us - priority * AGING_SECONDS * SECOND_US
        self.waiting.add(task)
        self.entries += 1
        heappush(self.buckets.setdefault(bucket, []), (rank, self._counter, task))

    def remove(self, task: str) -> None:
        """Remove a task that is no longer ready (dispatched, cancelled, expired)."""
        self.waiting.discard(task)

    def head(self, bucket: Bucket) -> Entry | None:
        """The first entry of a bucket whose task is still ready; None if there is none, and the bucket is removed."""
        heap = self.buckets.get(bucket)
        while heap:
            if heap[0][2] in self.waiting:
                return heap[0]
            heappop(heap)
            self.entries -= 1
        self.buckets.pop(bucket, None)
        return None

    def take(self, bucket: Bucket) -> Entry | None:
        """Remove the head of a bucket. Returns the next one, as `head`."""
        self.waiting.discard(heappop(self.buckets[bucket])[2])
        self.entries -= 1
        return self.head(bucket)

    def heads(self) -> list[tuple[int, int, str, Bucket]]:
        """A heap of the heads of all buckets: (rank, counter, task, bucket)."""
        heads = [(*entry, bucket) for bucket in list(self.buckets) if (entry := self.head(bucket)) is not None]
        heapify(heads)
        return heads

    def rebuild(self) -> None:
        """Remove the entries of tasks that are no longer ready."""
        for bucket, heap in list(self.buckets.items()):
            left = [entry for entry in heap if entry[2] in self.waiting]
            heapify(left)
            self.buckets[bucket] = left
        self.entries = sum(map(len, self.buckets.values()))

    def __len__(self) -> int:
        return len(self.waiting)

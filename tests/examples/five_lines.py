"""The shortest subscriber: a function.

```toml
[[subscribers]]
use = "five_lines:report"
```
"""

from schemas import Event
from subscribers import error_of, subscriber


@subscriber("task.failed", "workflow.failed")
async def report(event: Event) -> None:
    """Print what failed, and why."""
    error = error_of(event)
    print(f"{event.taskname or event.subject} failed: {error.message if error else 'no reason is known'}")

"""Tasks for a worker process that has no OpenTelemetry of its own."""

from hub import TaskRegistry

tasks = TaskRegistry()


@tasks.task("charge")
async def charge() -> None:
    from opentelemetry import trace

    with trace.get_tracer("app").start_as_current_span("call the bank"):
        pass

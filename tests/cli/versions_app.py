"""A task in two versions, as a worker's module has them."""

from hub import TaskRegistry

tasks = TaskRegistry()


@tasks.task("greet")
def greet_once() -> str:
    return "one"


@tasks.task("greet", version="2", timeout_seconds=5)
def greet_again() -> str:
    return "two"

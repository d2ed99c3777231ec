"""All connections to a cluster use the same `Cluster` value; only a few files may create one."""

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).parents[2] / "hub"
CLIENTS = {"AIOKafkaAdminClient", "AIOKafkaConsumer", "AIOKafkaProducer"}
SOCKETS = {"create_connection", "open_connection"}


@functools.cache
def calls() -> dict[str, set[str]]:
    """The names of what each file of the hub calls."""
    return {
        str(path.relative_to(ROOT)): {
            name_of(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
        }
        for path in ROOT.rglob("*.py")
    }


def files_that_call(*names: str) -> set[str]:
    """The files of the hub in which a function or a method of one of these names is called."""
    return {path for path, called in calls().items() if not called.isdisjoint(names)}


def name_of(called: ast.expr) -> str:
    """`f` of `f(...)`, `f` of `o.f(...)`, `Cluster.of` of `Cluster.of(...)`."""
    if isinstance(called, ast.Attribute):
        owner = called.value
        return "Cluster.of" if called.attr == "of" and isinstance(owner, ast.Name) and owner.id == "Cluster" else called.attr
    return called.id if isinstance(called, ast.Name) else ""


def test_connections_are_made_from_a_cluster_in_two_files() -> None:
    assert files_that_call(*CLIENTS) == {"kafka/clients.py"}
    assert files_that_call(*SOCKETS) == {"kafka/connection.py", "runtime/health/fetch.py"}


def test_a_cluster_is_made_where_a_process_or_a_client_begins() -> None:
    assert files_that_call("Cluster.of") == {"client/hub.py", "runtime/cluster.py", "worker/worker.py"}
    assert files_that_call("Cluster") == set()

"""A Docker engine for tests: the few endpoints of the Engine API that testcontainers uses, over HTTP on a loopback port.

It runs two images. `apache/kafka` is a process of the embedded broker on the published port: a container that is killed and
started again keeps its data, one that is removed loses them, and one whose environment would not make a broker that clients can
reach ends at once, as the real one does. `testcontainers/ryuk` is the reaper: when the connection of the program that uses it
closes, it removes the containers with the label that the program named.

Format: Docker Engine API v1.43 (https://docs.docker.com/reference/api/engine/).
"""

import json
import re
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

ROOT = Path(__file__).parents[1]
API_VERSION = "1.43"
END_SECONDS = 20


class Container:
    """What was asked for, and the process that it is."""

    def __init__(self, id: str, spec: dict[str, Any], folder: Path) -> None:
        self.id = id
        self.image: str = spec["Image"]
        self.labels: dict[str, str] = spec.get("Labels") or {}
        self.environment = dict(entry.split("=", 1) for entry in spec.get("Env") or [])
        self.bindings: dict[str, list[dict[str, str]]] = (spec.get("HostConfig") or {}).get("PortBindings") or {}
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        self.reaper: ThreadingTCPServer | None = None
        self.complaint = ""

    @property
    def running(self) -> bool:
        """Is its process alive?"""
        return self.reaper is not None or (self.process is not None and self.process.poll() is None)

    def published(self) -> dict[str, list[dict[str, str]]]:
        """Container ports and where they are on the host."""
        if self.reaper is not None:
            return {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(self.reaper.server_address[1])}]}
        return self.bindings

    def inspect(self) -> dict[str, Any]:
        """As `GET /containers/{id}/json` answers."""
        state = {"Running": self.running, "Status": "running" if self.running else "exited"}
        return {
            "Id": self.id,
            "Name": f"/{self.id}",
            "Config": {"Image": self.image, "Labels": self.labels, "Tty": True},
            "State": state,
            "HostConfig": {"NetworkMode": "default", "LogConfig": {"Type": "json-file"}},
            "NetworkSettings": {"Ports": self.published(), "Networks": {"bridge": {"Gateway": "127.0.0.1"}}},
        }

    def start_broker(self) -> None:
        """Run the image of Apache Kafka."""
        self.complaint = why_no_broker(self.environment, self.bindings)
        if self.complaint:
            return
        port = self.bindings["9092/tcp"][0]["HostPort"]
        command = [sys.executable, "-m", "tests.delivery.broker_process", str(self.folder), port]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(END_SECONDS)
        if self.reaper is not None:
            self.reaper.shutdown()
            self.reaper.server_close()
            self.reaper = None


def why_no_broker(environment: dict[str, str], bindings: dict[str, list[dict[str, str]]]) -> str:
    """What keeps the image of Apache Kafka from being a broker that clients on the host can reach; empty if nothing does."""
    properties = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in environment.items()
        if name.startswith("KAFKA_") and name != "KAFKA_HEAP_OPTS"
    }
    for needed in ("node.id", "process.roles", "controller.quorum.voters", "controller.listener.names", "listeners"):
        if needed not in properties:
            return f'Missing required configuration "{needed}" which has no default value.'
    listeners = dict(entry.split("://", 1) for entry in properties["listeners"].split(","))
    advertised = dict(entry.split("://", 1) for entry in properties.get("advertised.listeners", "").split(",") if entry)
    for name, address in advertised.items():
        inside = listeners[name].rpartition(":")[2]
        published = [binding["HostPort"] for binding in bindings.get(f"{inside}/tcp") or []]
        if published != [address.rpartition(":")[2]]:
            return f"The listener {name} is advertised as {address} and published on {published}: no client reaches it."
    return "" if advertised else "Nothing is advertised: clients would be sent to the container's own name."


class DockerEngine:
    """The engine: its containers, and what was done. Use `docker_engine()`."""

    def __init__(self, folder: Path, images: set[str]) -> None:
        self.folder = folder
        self.in_the_registry = images
        self.pulled: list[str] = []
        self.containers: dict[str, Container] = {}
        self.done: list[tuple[str, str]] = []
        self._removed: defaultdict[str, threading.Event] = defaultdict(threading.Event)
        self._numbers = iter(range(1, 1000))
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_for(self))
        self._server.daemon_threads = True

    @property
    def address(self) -> str:
        """As DOCKER_HOST wants it."""
        return f"tcp://127.0.0.1:{self._server.server_address[1]}"

    def serve(self) -> None:
        """Answer until `close`."""
        threading.Thread(target=self._server.serve_forever, name="docker-engine", daemon=True).start()

    def close(self) -> None:
        """End every container and the server."""
        for id in list(self.containers):
            self.remove(id)
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        """Status and content of an answer."""
        if method == "GET" and path in ("/_ping", "/version", "/networks"):
            about = {"ApiVersion": API_VERSION, "MinAPIVersion": "1.24", "Version": "24.0.0"}
            return 200, {"/_ping": "OK", "/version": about, "/networks": []}[path]
        if match := re.fullmatch(r"/images/(.+)/json", path):
            return (200, {"Id": match[1], "RepoTags": [match[1]]}) if match[1] in self.pulled else _missing(match[1])
        if path == "/images/create":
            return self._pull(f"{query['fromImage']}:{query['tag']}")
        if path == "/containers/json":
            return 200, [container.inspect() for container in self.containers.values()]
        if path == "/containers/create":
            return self._create(body)
        if match := re.fullmatch(r"/containers/(\w+)(?:/(\w+))?", path):
            return self._container(method, match[1], match[2])
        return 501, {"message": f"{method} {path} is not served"}

    def _pull(self, image: str) -> tuple[int, Any]:
        if image not in self.in_the_registry:
            return _missing(image)
        self.pulled.append(image)
        return 200, {"status": f"Downloaded newer image for {image}"}

    def _create(self, spec: dict[str, Any]) -> tuple[int, Any]:
        if spec["Image"] not in self.pulled:
            return _missing(spec["Image"])
        with self._lock:
            id = f"{next(self._numbers):064x}"
            self.containers[id] = Container(id, spec, self.folder / id)
        self.done.append(("create", spec["Image"]))
        return 201, {"Id": id, "Warnings": []}

    def _container(self, method: str, id: str, action: str | None) -> tuple[int, Any]:
        container = self.containers.get(id)
        if container is None:
            return _missing(id)
        if method == "DELETE":
            self.remove(id)
            return 204, ""
        if action in ("json", "logs"):
            return 200, container.inspect() if action == "json" else container.complaint
        self.done.append((str(action), container.image))
        if action == "start":
            self._start(container)
        elif action in ("kill", "stop"):
            container.kill()
        else:
            return 501, {"message": f"{action} is not served"}
        return 204, ""

    def _start(self, container: Container) -> None:
        if container.image.startswith("apache/kafka:"):
            container.start_broker()
        else:
            container.reaper = _reaper_for(self)
            threading.Thread(target=container.reaper.serve_forever, name="reaper", daemon=True).start()

    def remove(self, id: str) -> None:
        """End a container and forget it with its data."""
        with self._lock:
            container = self.containers.pop(id, None)
        if container is not None:
            container.kill()
            self.done.append(("remove", container.image))
            self._removed[container.image].set()

    def removed(self, image: str) -> threading.Event:
        """Is set when a container of this image is gone."""
        return self._removed[image]


def _missing(what: str) -> tuple[int, Any]:
    return 404, {"message": f"No such image or container: {what}"}


def _handler_for(engine: DockerEngine) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            url = urlsplit(self.path)
            path = re.sub(r"^/v[\d.]+", "", unquote(url.path))
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            status, content = engine.answer(self.command, path, query, json.loads(body) if body else None)
            data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(content, str) else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = _serve

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is written for a request."""

    return Handler


def _reaper_for(engine: DockerEngine) -> ThreadingTCPServer:
    class Reaper(StreamRequestHandler):
        def handle(self) -> None:
            wanted: set[tuple[str, str]] = set()
            with suppress(ConnectionError):  # how the connection of a killed program ends
                for line in self.rfile:
                    name, _, value = line.decode().strip().removeprefix("label=").partition("=")
                    wanted.add((name, value))
                    self.wfile.write(b"ACK\n")
            for id, container in list(engine.containers.items()):
                if wanted & container.labels.items() and container.reaper is None:
                    engine.remove(id)

    class Server(ThreadingTCPServer):
        daemon_threads = True

    return Server(("127.0.0.1", 0), Reaper)


@contextmanager
def docker_engine(folder: Path, images: set[str]) -> Iterator[DockerEngine]:
    """An engine whose registry holds `images`; its containers end with it."""
    engine = DockerEngine(folder, images)
    engine.serve()
    try:
        yield engine
    finally:
        engine.close()

"""The composition root: the services of each process, the supervisor of the processes, and their status. See README.md.

`hub.runtime.status` is imported separately: it imports the Kafka client, for which a starting supervisor must not wait.
"""

from .child import Child, ChildSpec
from .errors import ChildFailed, DataDirectoryTaken, PortTaken, ProcessFailed
from .launching import CommandLine, Launcher, make_launcher
from .listener import Listener, make_listener
from .process import HealthOptions, Process, print_line, run_process
from .roles import BrokerOptions, serve_broker, serve_delivery, serve_engine, serve_worker
from .run_file import read_run_file
from .supervisor import Fleet, Supervisor
from .trial import check_registries

__all__ = [
    "BrokerOptions",
    "Child",
    "ChildFailed",
    "ChildSpec",
    "CommandLine",
    "DataDirectoryTaken",
    "Fleet",
    "HealthOptions",
    "Launcher",
    "Listener",
    "PortTaken",
    "Process",
    "ProcessFailed",
    "Supervisor",
    "check_registries",
    "make_launcher",
    "make_listener",
    "print_line",
    "read_run_file",
    "run_process",
    "serve_broker",
    "serve_delivery",
    "serve_engine",
    "serve_worker",
]

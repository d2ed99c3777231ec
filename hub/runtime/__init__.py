"""The composition root: what each process runs, and the supervisor that runs the processes. See README.md."""

from .errors import DataDirectoryTaken, PortTaken, ProcessFailed
from .process import Process, die_with_parent, print_line, run_process
from .roles import BrokerOptions, serve_broker, serve_delivery, serve_engine, serve_worker

__all__ = [
    "BrokerOptions",
    "DataDirectoryTaken",
    "PortTaken",
    "Process",
    "ProcessFailed",
    "die_with_parent",
    "print_line",
    "run_process",
    "serve_broker",
    "serve_delivery",
    "serve_engine",
    "serve_worker",
]

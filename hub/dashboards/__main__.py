"""`python -m hub.dashboards` writes the files in `generated/`, which docker-compose.yml uses."""

from pathlib import Path

from .files import write_files
from .site import COMPOSE

if __name__ == "__main__":
    write_files(Path(__file__).parent / "generated", COMPOSE)

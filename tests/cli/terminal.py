"""Commands on a terminal of so many columns, as somebody looks at them."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

SECONDS = 60
_STYLES = re.compile(r"\x1b\[[0-9;]*m")


def on_terminal(columns: int, *arguments: str) -> list[str]:
    """The lines that `hub ...` prints on a terminal of so many columns (0: it does not say), without colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24 if columns else 0, columns, 0, 0))
    unset = ("COLUMNS", "LINES", "TERMINAL_WIDTH", "FORCE_COLOR", "GITHUB_ACTIONS")
    environment = {name: value for name, value in os.environ.items() if name not in unset and not name.startswith("HUB_")}
    command = [sys.executable, "-m", "hub", *arguments]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL, env=environment) as process:
        os.close(theirs)
        printed = bytearray()
        while piece := _read(ours):
            printed += piece
        process.wait(SECONDS)
    os.close(ours)
    return [_STYLES.sub("", line).rstrip() for line in printed.decode().replace("\r", "").splitlines()]


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux: nobody has the other end any more
        return b""

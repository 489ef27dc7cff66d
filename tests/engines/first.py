"""The first process of such a machine: it waits for the network, and buries who dies.

python -m tests.engines.first ENTERED CONNECTED COMMAND…
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys


def main() -> None:
    entered, connected, *argv = sys.argv[1:]
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    os.write(int(entered), b"1")
    if not os.read(int(connected), 1):
        sys.exit("no network")
    command = subprocess.Popen(argv)
    signal.signal(signal.SIGTERM, lambda *_: command.terminate())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command has it, too, and ends in its way
    while True:
        pid, status = os.wait()
        if pid == command.pid:
            sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()

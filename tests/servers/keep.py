"""Run a command until this process's input ends: a server of a test never outlives the tests, however they end."""

import os
import subprocess
import sys
import threading


def _ends_with_input(child: "subprocess.Popen[bytes]") -> None:
    sys.stdin.buffer.read()
    child.terminate()
    try:
        child.wait(5)
    except subprocess.TimeoutExpired:
        child.kill()


if __name__ == "__main__":
    server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    threading.Thread(target=_ends_with_input, args=[server], daemon=True).start()
    code = server.wait()
    os._exit(code if code > 0 else 0)  # the thread that reads cannot be woken

"""The parent's side of the process that a local engine runs in: start it, talk to it, hear of its end, end it."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import sysconfig
import threading
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from batch.engines.local import frames

STDERR_LINES = 200  # kept for error messages
KERNELS = "AI_ROUTER_NATIVE"  # "0" where the user wants no native kernels, "died" where a worker with them did
GRACE_SECONDS = 0.7  # after each of: stdin closed, terminate
FOLLOWED_BY_SYSTEM = 9  # the signal of the kernel's out-of-memory killer


class ChildProcess:
    """A worker process. `on_frame` and `on_exit` are called from threads of this object, `on_exit` once and last.

    Threads rather than asyncio's subprocesses, because an engine outlives the event loop of a run: the next run may
    have another one.
    """

    def __init__(
        self,
        env: Mapping[str, str],
        on_frame: Callable[[ChildProcess, frames.Frame], None],
        on_exit: Callable[[ChildProcess], None],
        log_path: Path | None = None,
    ) -> None:
        self._on_frame = on_frame
        self._on_exit = on_exit
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._log_path = log_path
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        options: dict[str, object] = (
            {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}  # type: ignore[attr-defined,unused-ignore]
            if sys.platform == "win32"
            else {"start_new_session": True}  # the terminal's Ctrl-C does not reach it
        )
        # -P: the folder someone happens to stand in is no place to import from.
        command = [sys.executable, "-P", "-m", "batch.engines.local.worker"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=dict(env), **options)  # type: ignore[call-overload]
        self._reader = self._thread(self._read)
        self._error_reader = self._thread(self._read_stderr)
        self._thread(self._write)
        self._waiter = self._thread(self._wait)

    @property
    def pid(self) -> int:
        """The process's number."""
        return int(self._process.pid)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    @property
    def stderr_tail(self) -> list[str]:
        """The last lines it wrote to stderr, stray prints among them."""
        return list(self._stderr)

    @property
    def how_it_ended(self) -> str:
        """The exit status in words."""
        code = self._process.returncode
        if code is None:
            return "still running"
        if code >= 0:
            last = next((line for line in reversed(self._stderr) if line), "")
            return f"exit code {code}" + (f": {last}" if last else "")
        try:
            name = f" ({signal.Signals(-code).name})"
        except ValueError:
            name = ""
        hint = "; the system may have run out of memory" if -code == FOLLOWED_BY_SYSTEM else ""
        return f"signal {-code}{name}{hint}"

    def send(self, data: bytes) -> None:
        """Send an encoded frame; never blocks, and is lost where the process is gone, which `on_exit` tells."""
        self._outbox.put(data)

    def stop(self) -> None:
        """End the process within two seconds: ask, terminate, kill. Blocks."""
        self._outbox.put(None)  # closes stdin, at which the worker ends
        for end in (self._process.terminate, self._process.kill):
            try:
                self._process.wait(GRACE_SECONDS)
                break
            except subprocess.TimeoutExpired:
                end()
        self._process.wait()
        self._waiter.join(GRACE_SECONDS)

    @staticmethod
    def _thread(target: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=target, name=f"engine-{target.__name__.strip('_')}", daemon=True)
        thread.start()
        return thread

    def _write(self) -> None:
        # Closing flushes, and so fails too where the process is gone; the waiter tells of that.
        with contextlib.suppress(OSError), self._process.stdin as stdin:
            while (data := self._outbox.get()) is not None:
                stdin.write(data)
                stdin.flush()

    def _read(self) -> None:
        # What is no frame (ValueError) ends it as the stream's end does: the process is of no use any more.
        with contextlib.suppress(OSError, ValueError), self._process.stdout as stdout:
            while (frame := frames.read(stdout)) is not None:
                self._on_frame(self, frame)
        if self.alive:
            try:
                self._process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()  # without its stdout it can answer nothing

    def _read_stderr(self) -> None:
        with (
            self._log_path.open("ab") if self._log_path else contextlib.nullcontext() as log,
            self._process.stderr as lines,
        ):
            for line in lines:
                self._stderr.append(line.decode("utf-8", "replace").rstrip())
                if log:
                    log.write(line)
                    log.flush()

    def _wait(self) -> None:
        self._process.wait()
        # What it had said before it died is still in the pipes; a grandchild may hold them open for ever.
        self._reader.join(GRACE_SECONDS)
        self._error_reader.join(GRACE_SECONDS)
        self._outbox.put(None)
        self._on_exit(self)


def worker_env(threads: int | None, *, kernels: bool = True) -> dict[str, str]:
    """The environment of a worker: this package importable, the network left alone, its CPU threads set.

    Without `kernels`, the native ones that a core may have are left alone: one with them died.

    OMP_* have to be there before torch is imported; what the user has set stays, unless `threads` is given.
    """
    env = dict(os.environ)
    root = str(Path(__file__).resolve().parents[3])
    if root != sysconfig.get_path("purelib"):  # where it is installed it is found as it is
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [root, env.get("PYTHONPATH")]))
    env["PYTHONUTF8"] = "1"
    if not kernels and env.get(KERNELS) != "0":
        env[KERNELS] = "died"
    env["PYTHONFAULTHANDLER"] = "1"  # a crash in native code says where, on stderr
    env |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    env |= {"TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}
    if threads or "OMP_NUM_THREADS" not in env:
        env["OMP_NUM_THREADS"] = env["MKL_NUM_THREADS"] = str(threads or physical_cores())
    # OpenMP's threads spin while they wait by default, which takes the core from whoever they wait for as soon as
    # anything else runs: two threads on two busy cores took 16 s for what passive ones did in 0.7 s. A moment of it
    # (about 10 µs) spares most of the wake-ups within a step.
    if "OMP_WAIT_POLICY" not in env:
        env["OMP_WAIT_POLICY"] = "PASSIVE"
        env.setdefault("GOMP_SPINCOUNT", "1000")
    return env


def physical_cores() -> int:
    """Cores this process may use, two hardware threads of one core counted once; at least 1."""
    if sys.platform != "linux":
        # Not known without a library; macOS on Apple silicon has one thread a core anyway.
        return os.cpu_count() or 1
    cores: set[str] = set()
    usable = os.sched_getaffinity(0)
    for cpu in usable:
        try:
            cores.add(Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text())
        except OSError:
            cores.add(str(cpu))
    return max(1, min(len(cores), _cgroup_cpus() or len(cores)))


def _cgroup_cpus() -> int | None:
    """Whole CPUs that a container's quota allows (cgroup v2 cpu.max: microseconds used, microseconds passed)."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if quota == "max" else max(1, round(int(quota) / int(period)))
    except (OSError, ValueError):
        return None

"""The small program between a worker and one child: nothing the child started outlives the worker, whatever happens.

Run as `python -I -S launcher.py CONTROL STATUS DEADLINE GRACE MARK LIMITS FDS PROGRAM ARGUMENT…`; standard library
only and no more of it than needed (`_signal` and not `signal`), because its start is paid for every child. CONTROL is
the read end of the worker's pulse: lines `deadline SECONDS` (on `clock`) and `stop GRACE_SECONDS`; its end means that
the worker is gone. STATUS gets `{"pid": …}` or `{"errno": …}`, later one JSON line about the end, then the last bytes
of the child's stderr.

On Linux the launcher is a subreaper: a descendant that left the group, or whose parent died, is still its child or
grandchild, so "no child left to wait for" proves that nobody is left. Elsewhere the proof covers the process group.
"""

import _signal as signal  # type: ignore[import-not-found]  # the C half of signal: 5 ms less
import ctypes
import errno
import os
import resource
import select
import sys
import time

LINUX = sys.platform == "linux"
TAIL_BYTES = 16 * 1024
MARK = "SPOOL_MARK"
_TICKS = os.sysconf("SC_CLK_TCK")
_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def clock() -> float:
    """Seconds that also pass while the machine sleeps, as leases do; comparable between processes of one machine."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if LINUX else time.monotonic()


class Entry:
    """A process as /proc shows it. `cpu_s` is its own and that of the children it reaped; `reaped_cpu_s` is theirs."""

    __slots__ = ("alive", "cpu_s", "parent", "pid", "reaped_cpu_s", "session", "started")

    def __init__(self, pid: int, text: bytes) -> None:
        # The name in parentheses may contain anything, spaces and parentheses too: count from its end.
        fields = text[text.rindex(b")") + 2 :].split()
        own, reaped = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
        self.pid = pid
        self.alive = fields[0] not in b"ZXx"
        self.parent = int(fields[1])
        self.session = int(fields[3])
        self.started = int(fields[19])
        self.cpu_s = (own + reaped) / _TICKS
        self.reaped_cpu_s = reaped / _TICKS


def look(pid: int) -> Entry | None:
    """One process, or None when there is none (a zombie is there, and not alive)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib would double the start time
            text = file.read()
    except OSError:
        return None
    return Entry(pid, text)


def everyone() -> list[int]:
    """The ids of all processes; empty where there is no /proc."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()] if LINUX else []  # noqa: PTH208 - as above


def descendants(root: int, strangers: set[int] | None = None) -> list[Entry]:
    """Everyone below `root`. `strangers` remembers who is not, which makes the next look fast enough to catch a
    family that forks while it is being killed."""
    known = strangers if strangers is not None else set()
    seen = {entry.pid: entry for entry in map(look, (p for p in everyone() if p not in known)) if entry is not None}
    family: list[Entry] = []
    for pid, entry in seen.items():
        above: Entry | None = entry
        while above is not None and above.parent not in (root, 0) and above.parent not in known:
            above = seen.get(above.parent)
        if above is None:
            continue  # its parent ended during the look: the next one will tell
        if above.parent == root:
            family.append(entry)
        else:
            known.add(pid)
    return family


def marked(mark: str) -> list[int]:
    """Everyone alive whose mark begins so: an ancestor was started with it, and the environment was kept."""
    needle = f"{MARK}={mark}".encode()
    found = []
    for pid in everyone():
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 - as above
                if needle not in file.read():
                    continue
        except OSError:
            continue
        entry = look(pid)
        if entry is not None and entry.alive:
            found.append(pid)
    return found


def send(pid: int, number: int, *, group: bool = False) -> bool:
    """Signal a process, or the group it leads; False when there is none."""
    try:
        (os.killpg if group else os.kill)(pid, number)  # noqa: TID251 - the launcher is worker/process.py's other half
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # macOS says so of a group of zombies; whether one is left is asked elsewhere
    return True


class _Launcher:
    """One child, from its start to the proof that nothing is left."""

    def __init__(self, control: int, status: int, deadline: float, grace_s: float) -> None:
        self.control, self.status = control, status
        self.deadline, self.grace_s = deadline, grace_s
        self.child = 0
        self.verdict: int | None = None
        self.kill_at: float | None = None
        self.cut_off = False
        self.tail = bytearray()
        self.commands = b""
        self.strangers: set[int] = set()
        self.looks = 0

    def start(self, argv: list[str], mark: str, limits: str, fds: list[int]) -> int:
        """Start the child; returns 0, or the errno of why it could not."""
        for fd in (self.control, self.status):
            os.set_inheritable(fd, False)
        if LINUX:
            _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self.wake = _signals_as_bytes()
        self.stderr, stderr_write = os.pipe()
        failed, failed_write = os.pipe()
        launcher = os.getpid()
        self.child = os.fork()
        if self.child == 0:
            try:
                _become(argv, mark, limits, launcher, stderr_write)
            except (OSError, ValueError) as error:
                os.write(failed_write, b"%d" % (getattr(error, "errno", None) or errno.EINVAL))
            finally:
                os._exit(127)
        os.close(stderr_write)
        os.close(failed_write)
        # The child alone holds its pipes now, so that whoever reads them sees their end.
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, *fds):
            os.dup2(null, fd)
        os.set_blocking(self.stderr, False)
        os.set_blocking(self.control, False)
        reason = int(os.read(failed, 16) or 0)
        os.close(failed)
        return reason

    def guard(self) -> None:
        """Return when the child and everyone it started are gone."""
        poll = select.poll()
        for fd in (self.control, self.wake, self.stderr):
            poll.register(fd, select.POLLIN)
        while self._anyone_left():
            now = clock()
            if now >= self.deadline and (self.kill_at is None or self.kill_at > now):
                self.cut_off, self.kill_at = self.cut_off or self.kill_at is None, now
            if self.verdict is not None:
                self.kill_at = now
            if self.kill_at is not None and now >= self.kill_at:
                self._kill()
                timeout_s = 0.002
            else:
                timeout_s = min(1.0, self.deadline - now, (self.kill_at or self.deadline) - now)
            for fd, _ in poll.poll(max(0.0, timeout_s) * 1000 + 1):
                if fd == self.stderr:
                    more = self._read_stderr()
                elif fd == self.control:
                    more = self._read_control()
                else:
                    more = self._read_signals()
                if not more:
                    poll.unregister(fd)
        self._read_stderr()

    def report(self) -> None:
        """Tell the worker how it ended."""
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        line = '{"returncode": %d, "cpu_s": %.3f, "max_rss_bytes": %d, "cut_off": %s}\n' % (  # noqa: UP031 - as above
            os.waitstatus_to_exitcode(self.verdict) if self.verdict is not None else -signal.SIGKILL,
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss * (1024 if LINUX else 1),
            "true" if self.cut_off else "false",
        )
        tell(self.status, line.encode() + bytes(self.tail))

    def _anyone_left(self) -> bool:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return not LINUX and send(self.child, 0, group=True)
            if pid == 0:
                return True
            if pid == self.child:
                self.verdict = status

    def _stop(self, grace_s: float) -> None:
        """SIGTERM now, SIGKILL after the grace; a later and shorter grace wins."""
        now = clock()
        if self.kill_at is None:
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)
            self.kill_at = now + grace_s
        self.kill_at = min(self.kill_at, now + grace_s, max(now, self.deadline))

    def _kill(self) -> None:
        self._signal(signal.SIGKILL)
        self.looks += 1
        if self.looks % 64 == 0:
            self.strangers.clear()  # ids are used again

    def _signal(self, number: int) -> None:
        if self.verdict is None or not LINUX:
            # Until it has been waited for, the id cannot be anyone else's.
            send(self.child, number, group=True)
        for entry in descendants(os.getpid(), self.strangers):
            if entry.alive:
                send(entry.pid, number)

    def _read_stderr(self) -> bool:
        while True:
            try:
                data = os.read(self.stderr, 65536)
            except BlockingIOError:
                return True
            if not data:
                return False
            self.tail += data
            del self.tail[:-TAIL_BYTES]
            if len(data) < 65536:
                return True

    def _read_control(self) -> bool:
        try:
            data = os.read(self.control, 65536)
        except BlockingIOError:
            return True
        if not data:
            self._stop(self.grace_s)
            return False
        *lines, self.commands = (self.commands + data).split(b"\n")
        for line in lines:
            word, _, number = line.partition(b" ")
            if word == b"deadline":
                self.deadline = float(number)
            elif word == b"stop":
                self._stop(float(number))
        return True

    def _read_signals(self) -> bool:
        if set(os.read(self.wake, 4096)) - {signal.SIGCHLD}:
            self._stop(self.grace_s)
        return True


def tell(fd: int, data: bytes) -> None:
    """Write all of it; a reader who is gone does not matter."""
    try:
        while data:
            data = data[os.write(fd, data) :]
    except BrokenPipeError:
        pass


def _prctl(option: int, value: int) -> None:
    # By hand, because Python has no name for it: no descendant may slip away to init.
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _signals_as_bytes() -> int:
    """Turn signals into bytes on a pipe; returns its read end."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    return read


def _become(argv: list[str], mark: str, limits: str, launcher: int, stderr: int) -> None:
    """In the forked child: take the limits and turn into the program. Returns only by raising."""
    os.setsid()
    if LINUX:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != launcher:
            os._exit(127)
        try:
            with open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123 - as above
                file.write("500")  # when memory runs out, the tool goes before the worker does
        except OSError:
            pass  # a container may forbid it, and the tool runs as well without
    os.dup2(stderr, 2)
    os.nice(1)
    if LINUX:
        try:  # noqa: SIM105 - as above: contextlib costs every start
            # An ffmpeg is threads that hand each other small things. Whom one of them wakes must not take its processor
            # at once: in turns that are longer the same work takes a twentieth less.
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        except OSError:
            pass  # a container may forbid this, too
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # Python ignores these two, and a program inherits that
    for name, _, value in (pair.partition("=") for pair in limits.split(",") if pair):
        kind = getattr(resource, name)
        _, most = resource.getrlimit(kind)
        wanted = int(value) if most == resource.RLIM_INFINITY else min(int(value), most)
        # Five seconds lie between SIGXCPU, which names the cause, and the SIGKILL that ends a program deaf to it.
        hard = wanted + 5 if name == "RLIMIT_CPU" and most == resource.RLIM_INFINITY else wanted
        resource.setrlimit(kind, (wanted, hard))
    os.execvpe(argv[0], argv, {**os.environ, MARK: mark})  # noqa: S606, TID251 - the worker chose this environment


def main(arguments: list[str]) -> None:
    """Start the child, guard it, report."""
    control, status, deadline, grace_s, mark, limits, fds, *argv = arguments
    launcher = _Launcher(int(control), int(status), float(deadline), float(grace_s))
    reason = launcher.start(argv, mark, limits, [int(fd) for fd in fds.split(",") if fd])
    tell(launcher.status, b'{"errno": %d}\n' % reason if reason else b'{"pid": %d}\n' % launcher.child)
    launcher.guard()
    if not reason:
        launcher.report()


if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)  # nothing is left to tidy, and tidying takes milliseconds

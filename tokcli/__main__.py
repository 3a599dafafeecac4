"""`python -m tokcli` and the script `tok`."""

import atexit
import contextlib
import io
import os
import signal
import sys
import time
from types import FrameType

SAME_REQUEST = 1.0
"""Seconds within which a second signal is the first one, sent to the whole group or handed on by a launcher."""

ASK_AGAIN = 0.5
"""Seconds after which it is looked whether the interruption was taken in, again and again until the end."""

INTERRUPTED = 130
"""Exit code of a command that was stopped."""


class Interruption:
    """SIGINT and SIGTERM end a command alike: by KeyboardInterrupt, once, from before the first slow import on.

    Python drops an exception that is raised inside of a finalizer or a callback, and libraries drop some while they are
    imported. A command that works on although it was interrupted is interrupted again.
    """

    def __init__(self) -> None:
        self._first: float | None = None
        self._code: int | None = None

    def install(self) -> None:
        """Take the signals over. Processes forked from this one leave SIGINT to it, which ends them."""
        atexit.register(self._exit_with_code)  # the first to register is the last to run
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # a shell's background jobs keep ignoring it
            signal.signal(signal.SIGINT, self._receive)
        signal.signal(signal.SIGTERM, self._receive)
        os.register_at_fork(after_in_child=_leave_to_parent)

    def end(self, code: int) -> None:
        """From now on it is too late to stop."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if self.received:
            self._code = code

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now
            sys.unraisablehook = lambda _: None  # what is torn down half-way has nothing to say
            signal.signal(signal.SIGALRM, self._look_again)
            signal.setitimer(signal.ITIMER_REAL, ASK_AGAIN, ASK_AGAIN)
        elif now - self._first < SAME_REQUEST:
            return
        raise KeyboardInterrupt

    def _look_again(self, number: int, frame: FrameType | None) -> None:
        """Interrupt again, unless what is being done is to leave: then the interruption is under way."""
        under_way = sys.exc_info()[1]
        while under_way is not None and not isinstance(under_way, KeyboardInterrupt):
            under_way = under_way.__context__
        if under_way is None:
            raise KeyboardInterrupt

    def _exit_with_code(self) -> None:
        """Leave before Python kills itself, as it does after a KeyboardInterrupt inside of `exec`, handled or not."""
        if self._code is not None:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
            os._exit(self._code)

    @property
    def received(self) -> bool:
        """Whether one of the signals has come."""
        return self._first is not None


def _leave_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def main() -> None:
    """Run the command line and leave with its exit code."""
    interruption = Interruption()
    interruption.install()
    try:
        code = _run(interruption)
    except KeyboardInterrupt:
        code = _say_stopped()
    interruption.end(code)
    sys.exit(code)


def _run(interruption: Interruption) -> int:
    try:
        from tokcli.cli.app import run
    except Exception:
        if interruption.received:  # an extension module makes an ImportError of it
            raise KeyboardInterrupt from None
        raise
    for stream in (sys.stdout, sys.stderr):
        # An arrow or a file's name that the encoding of a pipe lacks is a question mark, and no end of the command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    return run(sys.argv[1:], lambda: interruption.received)


def _say_stopped() -> int:
    """What is left to do where even the command line was not there yet."""
    message = "stopped before anything was done; the same command starts again"
    if "--json" in sys.argv:
        print(f'{{"error": {{"kind": "interrupted", "message": "{message}", "exit_code": {INTERRUPTED}}}}}')
    else:
        print(f"tok: {message}", file=sys.stderr)
    sys.stdout.flush()
    return INTERRUPTED


if __name__ == "__main__":
    main()

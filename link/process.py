"""The process of a command: its streams, its signals, and how it ends.

Exit status: 0 done, 1 the result is a failure (verdict FAIL, proof failed), 2 bad input, 3 undecided, 70 a
fault of the program, 130 interrupted, 143 terminated.  Whatever ends a command early says so in one line on
stderr, which for a fault names a file with the traceback.
"""

from __future__ import annotations

# No more than this: until these are imported a signal ends the process by itself.
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType

__all__ = ["FAULT", "Terminated", "ended", "run"]

FAULT = 70
"""Exit status of a fault of the program (``EX_SOFTWARE`` of sysexits.h)."""

_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}

_NOTHING_LEFT = "nothing half-written is left"
"""Unless the error has a note on how to go on."""

_received: list[int] = []
"""Signals that came; one may surface as another error, as when it comes while a C extension is imported."""


class Terminated(BaseException):
    """SIGTERM came; like an interrupt it passes what cleans up."""


def run(program: str, module: str) -> int:
    """Import ``module``, call its ``main`` and return the exit status, from the first moment of the process.

    From here on SIGINT and SIGTERM end the command with 130 or 143 and one line, also while modules are
    imported and while the process winds up.  Only once nothing is left to do are they ignored.
    """
    for number in _WORDS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as in the background of a shell
            signal.signal(number, _raise)
    sys.excepthook = lambda kind, error, trace: _unhandled(program, error, trace)
    try:
        import atexit
        from importlib import import_module

        atexit.register(_ignore)  # the first one, and therefore the last to run
        _open_streams()
        try:
            status = import_module(module).main()
        except SystemExit as stop:  # after --help
            status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        sys.stdout.flush()
    except Exception as error:  # noqa: BLE001 - such as one at the import of the module
        status = ended(program, error)
    except (KeyboardInterrupt, Terminated) as error:
        status = ended(program, error)
    # ``python -m`` remembers an interrupt that came inside exec(), whatever became of it, and would in the
    # end kill itself by it (pythonrun.c, unhandled_keyboard_interrupt); the next exec() forgets it.
    exec("")
    for number in _WORDS:
        if signal.getsignal(number) is _raise:
            signal.signal(number, lambda number, _: _leave(program, number))
    return int(status or 0)


def ended(program: str, error: BaseException) -> int:
    """Say in one line why a command ends, and return its exit status."""
    from twophase.link.errors import LinkError, VerificationError
    from twophase.link.escape import visible

    if isinstance(error, KeyboardInterrupt | Terminated) or _received:
        number = _received[0] if _received else signal.SIGINT
        number = signal.SIGTERM if isinstance(error, Terminated) else number
        way_on = visible(next(iter(getattr(error, "__notes__", [])), _NOTHING_LEFT))
        return _failed(f"{program}: {_WORDS[signal.Signals(number)]}; {way_on}", 128 + number)
    if isinstance(error, LinkError):
        kept = "\n" if isinstance(error, VerificationError) else ""  # one line for each failed check
        return _failed(f"{program}: error: {visible(str(error), kept)}", error.exit_status)
    if isinstance(error, MemoryError):
        return _failed(f"{program}: error: not enough memory ({visible(str(error))})", 2)
    if isinstance(error, OSError):
        # A file that cannot be read, a disk that is full: the machine's fault, not a defect of the program.
        where = f"'{visible(str(error.filename))}': " if error.filename else ""
        if not where and not _flushes():
            where = "the output cannot be written: "
        return _failed(f"{program}: error: {where}{visible(error.strerror or str(error))}", 2)
    return _fault(program, error)


def _fault(program: str, error: BaseException) -> int:
    """The line of a defect, with the place that it shows at, and the traceback in a file."""
    import tempfile
    import traceback

    from twophase.link.escape import visible

    name = "".join(traceback.format_exception_only(error)).strip().splitlines()[0]
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    trace = _circumstances() + "".join(traceback.format_exception(error))
    try:
        handle, path = tempfile.mkstemp(prefix=f"{program}-fault-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(trace)
    except OSError as failure:
        where = (
            f"no file can be written ({failure.strerror}): the traceback follows\n{visible(trace, chr(10))}"
        )
    else:
        where = f"please report it with '{path}', which holds the traceback"
    return _failed(f"{program}: fault of the program: {visible(name + place)}; {where}", FAULT)


def _circumstances() -> str:
    """What a report of a defect needs besides the traceback."""
    import platform
    from contextlib import suppress
    from importlib.metadata import PackageNotFoundError, version

    lines = [f"command: {sys.argv}", f"python {platform.python_version()}, {platform.platform()}"]
    for package in ("twophase-link", "numpy", "onnxruntime", "onnx", "torch"):
        with suppress(PackageNotFoundError):
            lines.append(f"{package} {version(package)}")
    return "\n".join(lines) + "\n\n"


def _failed(line: str, status: int) -> int:
    from contextlib import suppress

    with suppress(OSError, ValueError):  # nobody listens
        print(line, file=sys.stderr, flush=True)  # noqa: T201
    return status


def _flushes() -> bool:
    """Whether stdout can be written; if not, what it still holds goes nowhere, and the exit says nothing."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def _open_streams() -> None:
    """Have the streams open: one that is closed goes nowhere, and no file of ours takes its number.

    Text that the stream's encoding does not have is shown by its number.
    """
    from contextlib import suppress
    from pathlib import Path

    nowhere = Path(os.devnull)
    with suppress(OSError):
        while (handle := os.open(nowhere, os.O_RDWR)) <= 2:  # the lowest free number
            pass
        os.close(handle)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, nowhere.open("w", encoding="utf-8", errors="backslashreplace"))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _raise(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def _leave(program: str, number: int) -> None:
    """A signal came after the command had ended: nothing is to be put in order."""
    _failed(f"{program}: {_WORDS[signal.Signals(number)]}; {_NOTHING_LEFT}", 128 + number)
    os._exit(128 + number)


def _unhandled(program: str, error: BaseException, trace: TracebackType | None) -> None:
    """What :func:`run` could not catch, as a second signal while the first was answered."""
    os._exit(ended(program, error.with_traceback(trace)))


def _ignore() -> None:
    for number in _WORDS:
        signal.signal(number, signal.SIG_IGN)

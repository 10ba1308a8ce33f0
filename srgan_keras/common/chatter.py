"""Keeps what TensorFlow's and LiteRT's libraries print when loaded off the screen, nothing else.

They write to file descriptor 2 itself, before any setting that would silence them is read. So it
is led through a small program, this file, that leaves out the lines it knows and passes on all
others at once. It is another process: what the libraries say is printed even if they crash.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

#: Lines that say nothing to do or to know, as of TensorFlow 2.21 and LiteRT 2.
KNOWN = re.compile(
    rb"^WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR"
    rb"|^[IWE]0000 .*(cuda_\w+\.cc|cuda drivers|cuDNN|cuFFT|cuBLAS|computation placer|TensorRT)"
    rb"|^[IW]\d{4} .*\bport\.cc:\d+\] oneDNN custom operations are on"
    rb"|^[IW]\d{4} .*\bcpu_feature_guard\.cc:\d+\]"
    rb"|^To enable the following instructions: "
    rb"|^INFO: Created TensorFlow Lite XNNPACK delegate for CPU"
)
#: What ends the stream: processes that were started meanwhile may hold it open.
END = b"\0end of chatter\n"


@contextlib.contextmanager
def without_chatter() -> Iterator[None]:
    """Leaves out `KNOWN` lines of what is written to file descriptor 2, by whomever.

    Where TF_CPP_MIN_LOG_LEVEL asks for more than errors (0 to 2), all is printed.
    """
    wanted = os.environ.get("TF_CPP_MIN_LOG_LEVEL") in ("0", "1", "2")
    if wanted or not sys.executable:
        yield
        return
    sys.stderr.flush()
    command = [sys.executable, "-I", "-S", __file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as reader:
        screen = os.dup(2)
        os.dup2(reader.stdin.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.write(2, END)
            os.dup2(screen, 2)
            os.close(screen)


def pass_on() -> None:
    """Copies the lines of standard input to standard error, without those that are known."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who writes.
    for line in sys.stdin.buffer:
        ended = line.endswith(END)
        line = line.removesuffix(END)
        if line and not KNOWN.search(line):
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()
        if ended:
            break


if __name__ == "__main__":
    pass_on()

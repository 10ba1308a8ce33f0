import os
import subprocess
import sys

KNOWN = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795288183.065036   28449 cudart_stub.cc:31] Could not find cuda drivers on your "
    "machine, GPU will not be used.",
)


def run(program, **environment):
    """What a program leaves on the screen; it prints `known` lines inside of `without_chatter`."""
    begin = f"""
import os, sys
os.environ.update({environment})
from srgan_keras.common.chatter import without_chatter
known = {KNOWN!r}
with without_chatter():
    for line in known:
        os.write(2, line.encode() + b"\\n")
"""
    # JAX, if a test has imported it, has chosen a level for all processes that start here.
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", begin + program],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


def test_only_known_lines_are_left_out():
    code, said = run("""
    os.write(2, b"E0000 00:00:1.5 12 tensor.cc:1] out of luck\\nhalf")
print(" and after", file=sys.stderr)
""")
    assert code == 0
    assert said == "E0000 00:00:1.5 12 tensor.cc:1] out of luck\nhalf and after\n"


def test_a_crash_and_an_exception_lose_nothing():
    code, said = run("""
    os.write(2, b"terminate called")
    os.abort()
""")
    assert code < 0
    assert said == "terminate called"
    code, said = run("""
    raise ImportError("no such library")
""")
    assert code == 1
    assert said.endswith("ImportError: no such library\n")


def test_all_is_printed_where_it_is_asked_for():
    assert run("    pass", TF_CPP_MIN_LOG_LEVEL="0") == (0, "\n".join((*KNOWN, "")))


def test_another_process_that_holds_the_stream_is_not_waited_for():
    code, said = run("""
    import subprocess
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
print("on", file=sys.stderr)
child.communicate(b"\\n")
""")
    assert (code, said) == (0, "on\n")

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from srgan_keras.common import cli

ROOT = Path(__file__).parents[1]


def run_code(body: str) -> subprocess.CompletedProcess:
    code = f"from srgan_keras.common import cli\ndef main(argv):\n    {body}\ncli.run(main)"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ("return None", 0, ""),
        ("return 3", 3, ""),
        ("raise cli.UserError('no such\\nthing')", 2, "error: no such thing\n"),
        ("raise cli.UserError('set `crop_size` to 8')", 2, "error: set --crop-size to 8\n"),
        ("raise cli.UserError('`a b` and `a.b`')", 2, "error: `a b` and `a.b`\n"),
        ("raise KeyboardInterrupt", 130, "interrupted\n"),
        ("raise OSError(28, 'No space left', 'a.png')", 2, "error: a.png: No space left\n"),
        ("open('/nowhere/x')", 2, "error: /nowhere/x: No such file or directory\n"),
    ],
)
def test_run_turns_errors_into_one_line(body, code, message):
    result = run_code(body)
    assert (result.returncode, result.stderr) == (code, message)


def test_ctrl_c_while_a_command_is_imported_ends_quietly(tmp_path):
    """Even where an extension module would have made another error of it."""
    (tmp_path / "slow.py").write_text(
        "import os, signal\ntry: os.kill(os.getpid(), signal.SIGINT)\n"
        "except BaseException: raise ImportError('initialization failed')\n"
    )
    done = start("slow", tmp_path)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_a_command_starts_and_ends_with_its_main_s_code(tmp_path):
    (tmp_path / "quick.py").write_text("def main(argv): return 3")
    assert start("quick", tmp_path).returncode == 3


@pytest.mark.parametrize("backend", ["garbage", "torch"])
def test_a_backend_that_is_not_there_is_one_line(tmp_path, backend):
    done = start("quick", tmp_path, KERAS_BACKEND=backend)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: Keras' backend '{backend}' (environment variable KERAS_BACKEND) is not installed "
        "or not one that this runs on: tensorflow, jax.\n"
    )


def start(module, folder, **environment) -> subprocess.CompletedProcess:
    code = f"from srgan_keras.common import cli\ncli.start('{module}')"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", **environment}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_run_leaves_programming_errors_alone():
    result = run_code("raise KeyError('bug')")
    assert result.returncode == 1
    assert "Traceback" in result.stderr


def test_run_is_quiet_when_the_reader_leaves():
    code = "from srgan_keras.common import cli\ncli.run(lambda argv: print('x\\n' * 200000))"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_run_prints_names_that_are_no_text():
    assert run_code("print('\\udc80')").returncode == 0


def test_run_goes_on_where_stdout_is_closed():
    body = "import sys; print('lost'); print('kept', file=sys.stderr); return 3"
    code = f"from srgan_keras.common import cli\ndef main(argv):\n    {body}\ncli.run(main)"
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} >&-"
    result = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (3, "kept\n")


def test_a_file_whose_name_begins_as_options_do(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-dash.png").touch()
    (tmp_path / "--fast").touch()
    assert parser().parse_args(["--fast"]).fast
    with pytest.raises(SystemExit):
        parser().parse_args(["-dash.png"])
    assert "the file of that name is ./-dash.png" in capsys.readouterr().err


def parser() -> cli.Parser:
    parser = cli.Parser(prog="tool")
    parser.add_argument("--crop-size", type=cli.positive_int, default=384, help="side")
    parser.add_argument("--ratio", type=cli.ratio, default=0.8, help="share")
    parser.add_argument("--seed", type=int, default=0, help="chance")
    parser.add_argument("--fast", action="store_true", help="hurry")
    return parser


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--crop-sise", "3"], "unknown argument --crop-sise; did you mean --crop-size?"),
        (["--crop", "3"], "unknown argument --crop; did you mean --crop-size?"),
        (["--qqqqqq=3"], "unknown argument --qqqqqq; --help lists the options"),
        (["--crop-size", "0"], "must be a whole number above 0. Received: 0"),
        (["--crop-size", "x"], "must be a whole number above 0. Received: x"),
        (["--ratio", "1.5"], "must be a number from 0 to 1. Received: 1.5"),
        (["--ratio", "nan"], "must be a number from 0 to 1. Received: nan"),
        (["--seed", "a\nb"], "invalid int value"),
    ],
)
def test_parser_errors_are_one_line(argv, message, capsys):
    with pytest.raises(SystemExit) as stop:
        parser().parse_args(argv)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith("tool: error: ")
    assert message in error
    assert error.count("\n") == 1


def test_help_shows_the_defaults_that_say_something():
    text = parser().format_help()
    assert "(default: 384)" in text
    assert "(default: 0)" in text
    assert "False" not in text


def test_progress_passes_items_through_and_prints_a_line_every_tenth(capsys):
    assert list(cli.progress(iter(range(40)), 40, "things")) == list(range(40))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("things: 4/40, ")
    assert lines[-1].endswith("0 s left")


def test_progress_updates_one_line_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    list(cli.progress(range(3), 3, "things"))
    error = capsys.readouterr().err
    assert error.startswith("\rthings: ")
    assert error.count("\n") == 1


def test_progress_of_nothing_prints_nothing(capsys):
    assert list(cli.progress([], 0, "things")) == []
    assert capsys.readouterr().err == ""

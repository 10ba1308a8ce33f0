"""Runs the commands that README.md and docs/*.md show, top to bottom, as a reader would.

    python tests/run_documented_commands.py
    python tests/run_documented_commands.py README.md         only those of this page
    python tests/run_documented_commands.py --keep FOLDER     leaves what they have written there
    python tests/run_documented_commands.py --keep FOLDER docs/recipes.md     goes on there

No test: it takes minutes. `.ci/run` runs the README's in a step of its own, and a maintainer all,
before a release and after changes to the pages. It takes the README first, then the pages in the
order in which the README's table links them; of each the `bash` and `python` blocks, and the
commands of this package that stand in a sentence. All run in one folder, which is empty but for
what a reader has (`lay_out`): photographs, all small. A later command may use what an earlier one
has made; a block that makes something anew, such as `crops`, finds the old one gone. A command that
has been run is not run again.

What is documented takes hours, so settings are added: those in `SMALLER` to the commands named
there, and what stands in `PYTHON` is put into Python's blocks. Nothing else is changed but
`<date>`. A command fails if its exit code is not 0, or if what it names as `--out` or `--run` isn't
there afterwards. What matches `SHOWN`, or needs a package that is not installed (`NEEDS`), is not
run. All are printed: the result, the seconds, what was added, or why it was only shown. The exit
code is 1 if a command has failed.
"""

import argparse
import dataclasses
import importlib.util
import itertools
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from data_prep_fixtures import SmallCoco
from process_fixtures import environment

from srgan_keras.data import SAMPLE_IMAGES

ROOT = Path(__file__).parents[1]
#: What is only shown (regular expressions), and why.
SHOWN = {
    r"^pip install": "the package is installed already",
    r"^python -m pytest": "the tests, which .ci/run runs itself",
    r"^python -m srgan_keras\.benchmark": "times the machine for minutes; see test_benchmark.py",
    r"--coordinator-address": "needs two machines; see test_training_machines.py",
    r"compare .*--steps 300": "the command above it, for hours",
    r"--ray auto": "needs a Ray cluster; see test_upscale_ray.py",
    r"srgan_keras\.web": "a server, which does not end by itself; see test_web.py",
    r"srgan_keras\.rate report": "needs what raters send; see test_rate.py",
    r"^srun ": "needs Slurm and several machines",
    r"^export ": "for the commands below it",
    r"^gcloud ": "needs a TPU pod",
    r"\bRUN\b": "RUN stands for any run",
}
#: Packages that commands need (regular expressions), beyond those that are always there.
NEEDS = {
    r"KERAS_BACKEND=jax": "jax",
    r"--format openvino|\.xml": "openvino",
}
#: What is added to commands (regular expressions); all that match count.
SMALLER = {
    r"data_prep\.(coco|folder)": "--crop-size 96",
    r"data_prep\.coco": "--num-images 8",
    r"srgan_keras\.train": "--epochs 1 --steps-per-epoch 1 --crop-size 32 --batch-size 2",
    # From nothing, or from a run that was made so; what ships has sixteen blocks.
    r"^(?!.*--(recipe demo|init-generator (srgan|srresnet|photo)))"
    r".*\.train .*--data": "--residual-blocks 1",
    # These layers of VGG19 ship; the recipes' own are downloaded.
    r"\.train --data|--recipe (srgan|srgan-vgg54|photo|wdrn) ": "--content-loss block2_conv2",
    r"--recipe tutorial": "--content-loss block2_conv2",
    r"--micro-batch": "--micro-batch 2",
    r"--recipe wdrn ": "--critic-layer block2_conv2",
    r"srgan_keras\.compare": "--steps 1 --recipes srcnn --show srcnn",
}
#: What is put in place of what in Python's blocks.
PYTHON = {
    "build_generator()": "build_generator(filters=8, residual_blocks=1)",
    "image_size=384": "image_size=32, filters=8, dense_units=8",
    "block5_conv4": "block2_conv2",
    "batch_size=4)": "batch_size=2, crop_size=32)",
    "steps_per_epoch=100, epochs=10": "steps_per_epoch=1, epochs=1",
    "large = serve": "import numpy\n\nsmall = numpy.zeros((1, 24, 32, 3), 'uint8')\nlarge = serve",
}


@dataclasses.dataclass
class Command:
    """A command of a page, and what became of it.

    Attributes:
        text: as it stands there.
        block: the page, and the number of its block there.
        python: whether it is a whole block of Python.
        added: what was added to it.
        result: "ok", "failed", "shown", or "" as long as nothing is known.
        reason: why it failed, or was only shown.
        seconds: that it took.
    """

    text: str
    block: tuple[str, int]
    python: bool = False
    added: str = ""
    result: str = ""
    reason: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        """One line of the report."""
        spent = f"{self.seconds:6.1f} s" if self.result != "shown" else " " * 8
        name = "Python: " + self.text.split("\n")[0] if self.python else self.text
        line = f"{self.result:6} {spent}  " + " ".join(name.replace("\\\n", " ").split())
        line += f"  [+ {self.added}]" if self.added else ""
        return line + (f"\n{' ' * 17}({self.reason})" if self.reason else "")

    def outputs(self) -> list[str]:
        """What it names as its results."""
        return re.findall(r"--(?:out|run) (\S+)", self.text)


def main() -> int:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="default: one that is removed")
    parser.add_argument("pages", nargs="*", help="only these; FOLDER has what others have made")
    args = parser.parse_args()
    commands = [command for page in find_pages() for command in find_commands(page)]
    for number, command in enumerate(commands):
        choose(command, commands[:number])
    check_tables(commands)
    commands = [c for c in commands if not args.pages or c.block[0] in args.pages]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        if not (folder / "photo.jpg").exists():
            lay_out(folder)
        for page, of_page in itertools.groupby(commands, lambda command: command.block[0]):
            print(f"\n{page}")
            for _, block in itertools.groupby(of_page, lambda command: command.block):
                run_block(list(block), folder)
    results = [command.result for command in commands]
    counts = ", ".join(f"{results.count(word)} {word}" for word in ("ok", "failed", "shown"))
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    computed = spent.ru_utime + spent.ru_stime
    print(f"\n{counts}; {time.monotonic() - began:.0f} s in all, {computed:.0f} s of CPU time")
    return "failed" in results


def find_pages() -> list[Path]:
    """The README, then the pages of its table, then all others."""
    readme = ROOT / "README.md"
    linked = re.findall(r"^\| \[.*?\]\((docs/.*?)\)", readme.read_text(), re.M)
    in_order = [readme, *(ROOT / name for name in linked), *sorted(ROOT.glob("docs/*.md"))]
    return list(dict.fromkeys(in_order))


def find_commands(page: Path) -> list[Command]:
    """The commands of a page, in their order."""
    pattern = r"^```(bash|python)\n(.*?)^```|`((?:pip install [^`]* && )?python -m [^`]+)`"
    found = []
    for number, match in enumerate(re.finditer(pattern, page.read_text(), re.M | re.S)):
        language, body, inline = match.groups()
        block = str(page.relative_to(ROOT)), number
        if language == "python":
            found.append(Command(body, block, python=True))
            continue
        found += [Command(text, block) for text in split(inline or body)]
    return found


def split(block: str) -> list[str]:
    """Splits a block of a shell into its commands; comments are left out."""
    commands, text = [], ""
    for line in block.splitlines():
        text += line
        if text.endswith("\\"):
            text += "\n"
            continue
        try:
            words = shlex.split(text, comments=True)
        except ValueError:  # A quotation goes on in the next line.
            text += "\n"
            continue
        if words:
            install, _, rest = text.partition(" && ")
            commands += [install, rest] if rest and words[0] == "pip" else [text]
        text = ""
    return commands


def choose(command: Command, before: list[Command]) -> None:
    """Decides whether a command is run and what is added to it, or why it is only shown."""
    if command.python:
        return
    reasons = [reason for pattern, reason in SHOWN.items() if re.search(pattern, command.text)]
    for pattern, package in NEEDS.items():
        if re.search(pattern, command.text) and importlib.util.find_spec(package) is None:
            reasons.append(f"needs {package}, which is not installed")
    if any(same.text == command.text for same in before if not same.python):
        reasons = ["as above"]
    if reasons:
        command.result, command.reason = "shown", "; ".join(reasons)
    matching = [more for pattern, more in SMALLER.items() if re.search(pattern, command.text)]
    command.added = "" if command.result else " ".join(matching)


def check_tables(commands: list[Command]) -> None:
    """Ends the script if the tables above name what no page has any more."""
    shell = [command.text for command in commands if not command.python]
    python = [command.text for command in commands if command.python]
    patterns = [*SHOWN, *NEEDS, *SMALLER]
    unused = [one for one in patterns if not any(re.search(one, text) for text in shell)]
    unused += [one for one in PYTHON if not any(one in text for text in python)]
    if unused:
        sys.exit(f"no command has {unused}")


def lay_out(folder: Path) -> None:
    """Makes the folder, with what a reader has: photographs, benchmarks and COCO."""
    photographs = sorted(SAMPLE_IMAGES.glob("*/*.jpg"))
    for name, count, size in (("holiday", 2, 64), ("Set5", 2, 96), ("Set14", 2, 96)):
        (folder / name).mkdir(parents=True)
        for photograph in photographs[:count]:
            small = Image.open(photograph).resize((size, size))
            small.save(folder / name / f"{photograph.stem}.png")
    Image.open(photographs[0]).resize((96, 64)).save(folder / "photo.jpg")
    (folder / "photos.txt").write_text("photo.jpg\n")
    (folder / "home" / "Pictures").mkdir(parents=True)
    for photograph in photographs[:6]:
        shutil.copy(photograph, folder / "home" / "Pictures")
    SmallCoco(folder / "coco", count=8, width=112, height=100)


def run_block(block: list[Command], folder: Path) -> None:
    """Runs and prints a block's commands; what an earlier block has made of the same name goes."""
    for name in (name for command in block if not command.result for name in command.outputs()):
        shutil.rmtree(folder / name, ignore_errors=True)
    for command in block:
        if not command.result:
            run(command, folder)
        print(command, flush=True)


def run(command: Command, folder: Path) -> None:
    """Runs a command in the folder, and keeps what became of it."""
    dates = [path.name for path in folder.glob("runs/tutorial-*")]
    text = command.text.replace("tutorial-<date>", dates[0] if dates else "tutorial-<date>")
    for old, new in PYTHON.items() if command.python else ():
        text = text.replace(old, new)
    if command.added:  # A comment would take it.
        text = re.sub(r"\s+# .*$", "", text) + f" {command.added}"
    words = ["python"] if command.python else ["bash", "-euo", "pipefail"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = environment("tensorflow") | {"HOME": str(folder.resolve() / "home"), "PATH": path}
    env["SLURM_ARRAY_TASK_ID"] = "1"
    for name in ("SRGAN_VGG_WEIGHTS", "SRGAN_KERAS_CACHE", "KERAS_BACKEND"):
        env.pop(name, None)
    began = time.monotonic()
    done = subprocess.run(
        [*words, "-c", text],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    command.seconds = time.monotonic() - began
    missing = [name for name in command.outputs() if not (folder / name).exists()]
    command.result = "failed" if done.returncode or missing else "ok"
    if done.returncode:
        command.reason = f"exit code {done.returncode}: {done.stdout[-2000:]}"
    elif missing:
        command.reason = f"has not made {', '.join(missing)}"


if __name__ == "__main__":
    sys.exit(main())

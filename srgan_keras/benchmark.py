"""Times training, upscaling and the input pipeline, beside this machine's own limit.

    python -m srgan_keras.benchmark
    python -m srgan_keras.benchmark --baseline      also the tutorial's way, in the same run

This is the command line; the timing is `training.timing` and `inference.timing`.
"""

if __name__ == "__main__":  # In front of the imports, as `start` says.
    from srgan_keras.common import cli

    cli.start("srgan_keras.benchmark")


import argparse
import itertools
import json
import platform
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from srgan_keras.common import cli
from srgan_keras.common.files import replacing
from srgan_keras.inference.runtimes import is_installed
from srgan_keras.inference.timing import time_upscaling
from srgan_keras.run import versions
from srgan_keras.training.devices import (
    choose_strategy,
    describe_devices,
    peak_memory,
    require_tensorflow,
)
from srgan_keras.training.timing import (
    PRECISIONS,
    time_input,
    time_parts,
    time_step,
    time_tutorial_step,
)

STEPS = [
    *itertools.product([96], [4], ["pixel_shuffle", "nearest"], PRECISIONS),
    *itertools.product([384], [1], ["pixel_shuffle", "nearest"], PRECISIONS),
    (384, 1, "pixel_shuffle", "float32", "pooling"),
]
PARTS = (96, 4, "pixel_shuffle")
UPSCALINGS = [
    (side, precision, runtime)
    for side in (96, 384, 1024)
    for precision, runtime in (
        ("float32", "tensorflow"),
        ("bfloat16", "tensorflow"),
        ("float32", "openvino"),
        ("float32", "onnx"),
    )
]
INPUT = (96, 16)
SECTIONS = ("step", "parts", "upscale", "input")


def main(argv: list[str] | None = None) -> None:
    """The command line; see the module's docstring."""
    args = parse_arguments(argv)
    require_tensorflow("The benchmark")
    machine = {
        **versions(),
        "platform": platform.platform(),
        "devices": describe_devices(choose_strategy("default")),
        "date": time.strftime("%Y-%m-%d"),
    }
    print(", ".join(f"{name}: {value}" for name, value in machine.items()))
    report = {"machine": machine, "repeats": args.repeats}
    args.out.mkdir(parents=True, exist_ok=True)
    # A process for each case, so that the peak of its memory is its own.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:

        def time_it(function, *case):
            return pool.submit(with_memory, function, args.repeats, *case).result()

        if "step" in args.only:
            report["step"] = report_steps(time_it, args.baseline)
        if "parts" in args.only:
            report["parts"] = report_parts(time_it, args.out / "parts.png")
        if "upscale" in args.only:
            print_header("upscaling", "side, precision, runtime")
            report["upscale"] = [
                print_row(case, time_it(time_upscaling, *case))
                for case in UPSCALINGS
                if is_installed(case[2])
            ]
        if "input" in args.only:
            result = report["input"] = time_it(time_input, *INPUT)
            side, batch = INPUT
            speed = f"{result['crops_per_second']:.0f} crops/s"
            print(f"\nInput pipeline: {speed} ({side} of 384 pixels, batch {batch})")
    with replacing(args.out / "benchmark.json") as path:
        path.write_text(json.dumps(report, indent=2) + "\n")
    print(f"Written to {args.out}")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = cli.Parser(
        prog="python -m srgan_keras.benchmark",
        description="Times training, upscaling and the input pipeline on this machine.",
    )
    parser.add_argument("--repeats", type=cli.positive_int, default=7, help="times in each case")
    parser.add_argument("--baseline", action="store_true", help="time the tutorial's way too")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="sections")
    parser.add_argument(
        "--out", type=cli.folder, default="benchmark", help="folder for benchmark.json, parts.png"
    )
    return parser.parse_args(argv)


def with_memory(function: Callable[..., dict], *args: Any) -> dict[str, Any]:
    """Calls a function that times something; adds the peak of the process's `memory`."""
    return function(*args) | {"memory": peak_memory()}


def report_steps(time_it: Callable[..., dict], baseline: bool) -> list[dict]:
    """Times and prints training steps."""
    rows = []
    print_header("training step", "crop, batch, upsampling, precision, head")
    for case in STEPS:
        rows.append(print_row(case, time_it(time_step, *case)))
        if baseline and case[2:] == ("pixel_shuffle", "float32"):
            result = time_it(time_tutorial_step, *case)
            rows.append(print_row((*case[:3], "the tutorial's way"), result))
    return rows


def report_parts(time_it: Callable[..., dict], path: Path) -> dict[str, dict[str, float]]:
    """Times, prints and draws the parts of a training step."""
    report = {}
    print(f"\nParts of the step at 96 pixels, batch 4: {path}")
    for precision in PRECISIONS:
        parts = report[precision] = time_it(time_parts, *PARTS, precision)
        del parts["memory"]
        words = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in parts.items())
        print(f"  {precision}: {words}", flush=True)
    draw_parts(report, path)
    return report


def print_header(*names: str) -> None:
    """Prints the head of a table of timings."""
    columns = [": ".join(names), "s (median)", "least to most", "GFLOP/s", "of product", "memory"]
    print("\n|", " | ".join(columns), "|\n" + "|---" * len(columns) + "|", flush=True)


def print_row(case: tuple, result: dict[str, Any]) -> dict[str, Any]:
    """Prints a timing as a table's row; returns it with its case."""
    cells = [
        ", ".join(map(str, case)),
        f"{result['median']:.3f}",
        f"{min(result['seconds']):.3f} to {max(result['seconds']):.3f}",
        f"{result['gflops']:.0f} of {result['peak_gflops']:.0f}",
        f"{result['share']:.2f}",
        result["memory"],
    ]
    print("|", " | ".join(cells), "|", flush=True)
    return {"case": case, **result}


def draw_parts(report: dict[str, dict[str, float]], path: Path) -> None:
    """Draws the parts of a step as one bar for each precision."""
    figure = Figure(figsize=(9, 2.4), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(report))
    for name in next(iter(report.values())):
        seconds = [parts[name] for parts in report.values()]
        axes.barh(list(report), seconds, left=left, label=name)
        left += seconds
    axes.set(xlabel="seconds", title="Training step, 96 pixels, batch 4: its parts timed alone")
    axes.legend(ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.35))
    with replacing(path) as unfinished:
        figure.savefig(unfinished)

"""What computes a network: TensorFlow, OpenVINO, ONNX Runtime or LiteRT, imported when asked for.

A runtime opens files, and gives for each a function of NumPy arrays, a `Stage`. It knows no
pictures: sending them through in pieces is left to `upscaler`, writing the files to `formats`.
"""

import contextlib
import importlib
import importlib.util
import json
import os
import re
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from srgan_keras.common.chatter import without_chatter
from srgan_keras.common.errors import UserError, in_one_line

#: Name -> (module that it needs, extra of setup.cfg that has it, suffix of its files).
RUNTIMES = {
    "tensorflow": ("tensorflow", "", ""),
    "openvino": ("openvino", "openvino", ".xml"),
    "onnx": ("onnxruntime", "onnx", ".onnx"),
    "litert": ("ai_edge_litert", "litert", ".tflite"),
}
PRECISIONS = ("float32", "bfloat16")
#: What an exported file calls the numbers of its `Extent`, as a JSON list.
KEY = "srgan_keras"
_DEVICE = re.compile(r"auto|cpu|(gpu|npu)(:\d+)?")
_SHORT_OF_MEMORY = re.compile(r"ResourceExhausted|MemoryError|alloc|out of memory", re.IGNORECASE)


class ConversionError(UserError):
    """A network that a runtime's converter does not know."""


class Extent(NamedTuple):
    """How a network, or a stage of one, goes with pieces of pictures.

    Attributes:
        scale: by how much it enlarges.
        margin: how far in LR pixels a result looks around.
        memory: about how many bytes it takes for each LR pixel.
    """

    scale: int
    margin: int
    memory: int


@dataclass(frozen=True)
class Stage:
    """A network, or a part of one, ready to compute.

    Attributes:
        run: function from `(1, h, w, c)` to `(1, scale * h, scale * w, d)`, arrays. Pixels are in
            [0, 255]; where they are float32 they are not rounded, and may lie somewhat outside.
        dtype: of what it takes, and where that is uint8 of what it gives.
        extent: its `Extent`.
        release: gives memory back that the runtime keeps from one call to the next, where it can.
    """

    run: Callable[[np.ndarray], np.ndarray]
    dtype: type
    extent: Extent
    release: Callable[[], Any] = lambda: None


def is_installed(runtime: str) -> bool:
    """Whether what a runtime needs is installed; it is not imported."""
    return importlib.util.find_spec(RUNTIMES[runtime][0]) is not None


def check_installed(runtime: str) -> None:
    """Raises a UserError, which names the extra, if a runtime is not installed."""
    if not is_installed(runtime):
        module, extra, _ = RUNTIMES[runtime]
        what = f'".[{extra}]"' if extra else "."
        raise UserError(f"`runtime` {runtime} needs the package {module}: pip install -e {what}")


def import_tensorflow() -> Any:
    """Imports TensorFlow, without what it prints in doing so."""
    with contextlib.nullcontext() if "tensorflow" in sys.modules else without_chatter():
        return importlib.import_module("tensorflow")


def sees_gpu() -> bool:
    """Whether this machine shows programs a GPU of NVIDIA or AMD; no runtime is asked."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not hidden and any(Path(path).exists() for path in ("/dev/nvidia0", "/dev/kfd"))


def has_bfloat16(runtime: str, device: str) -> bool:
    """Whether a runtime has a device that computes in bfloat16: others take longer, not shorter."""
    if runtime == "openvino":
        return _OpenVINO(device, "float32").has_bfloat16()
    if runtime != "tensorflow":
        return False
    import tensorflow as tf

    gpus = [] if device == "cpu" else tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        return details.get("compute_capability", (0, 0)) >= (8, 0)
    processor = Path("/proc/cpuinfo")  # of Linux; elsewhere nothing tells
    known = processor.read_text() if processor.is_file() else ""
    return bool(re.search(r"\b(avx512_bf16|amx_bf16)\b", known))


def is_short_of_memory(error: Exception) -> bool:
    """Whether an exception, of any runtime, says that memory is full."""
    return bool(_SHORT_OF_MEMORY.search(f"{type(error).__name__}: {error}"))


def open_files(
    runtime: str, files: Sequence[Path], device: str = "auto", precision: str = "float32"
) -> list[Stage]:
    """Opens the stages of a network.

    Args:
        runtime: a name in `RUNTIMES`.
        files: of the runtime's format, as `formats` writes them; of TensorFlow, one SavedModel.
        device: `"auto"`, `"cpu"`, `"gpu"` or `"gpu:1"`; OpenVINO has `"npu"`, too.
        precision: of the arithmetic: what OpenVINO computes float32 networks in.

    Raises:
        UserError: if the runtime is not installed, has no such device or precision, or a file is
            not of this package's making.
    """
    check_device(device)
    check_installed(runtime)
    opener = {"openvino": _OpenVINO, "onnx": _ONNX, "litert": _LiteRT}.get(runtime)
    if opener is None:
        return open_saved_model(files[0], device)
    engine = opener(device, precision)
    return [_open(engine, file) for file in files]


def check_device(device: str) -> None:
    """Raises a UserError if a string does not name a device."""
    if not _DEVICE.fullmatch(device):
        raise UserError(f"`device` must be auto, cpu, gpu, gpu:1 or npu. Received: {device!r}")


def _open(engine: Any, file: Path) -> Stage:
    try:
        if not file.is_file():
            raise UserError(f"There is no file {file}.")
        run, dtype, about, *release = engine.open(file)
        extent = Extent(*json.loads(about)) if about else None
    except UserError:
        raise
    except Exception as error:  # Whatever a damaged file makes a runtime raise.
        if is_short_of_memory(error):
            raise
        raise UserError(f"{file} does not load ({in_one_line(error)}).") from error
    if extent is None:
        raise UserError(f"{file} is not a file that srgan_keras.export wrote.")
    return Stage(run, dtype, extent, *release)


def open_saved_model(folder: Path, device: str = "auto") -> list[Stage]:
    """Opens a SavedModel as `open_files` does."""
    tf = import_tensorflow()
    with _placed(device):
        try:
            model = tf.saved_model.load(str(folder))
        except Exception as error:  # Whatever a damaged file makes TensorFlow raise.
            raise UserError(f"{folder} does not load ({in_one_line(error)}).") from error
    if not all(hasattr(model, name) for name in ("scale", "margin", "serve")):
        raise UserError(f"{folder} is not a SavedModel that srgan_keras.export wrote.")
    return list_stages(model, device)


def list_stages(module: Any, device: str = "auto") -> list[Stage]:
    """Lists the stages of a `tf.Module`, as `formats.serving_module` makes it.

    One that version 0.1 has saved has one stage, which takes and gives 8 bits.
    """
    import tensorflow as tf

    _placed(device)  # or there is no such device

    def stage(function, dtype, extent):
        def run(x, owner=module):  # The module owns the variables that its function reads.
            with _placed(device):
                return np.asarray(function(tf.constant(x)))

        return Stage(run, dtype, Extent(*map(int, extent)))

    if not hasattr(module, "extents"):
        extent = (module.scale, module.margin, OLD_MEMORY)
        return [stage(lambda x: module.serve(x)["pixels"], np.uint8, extent)]
    extents = np.asarray(module.extents)
    return [
        stage(function, np.float32, extent)
        for function, extent in zip(module.stages, extents, strict=True)
    ]


#: What a generator of 64 filters takes, for SavedModels that do not say it.
OLD_MEMORY = 12288


def _count_threads() -> int:
    """How many threads OpenMP's variable asks for, which Ray sets for its workers; 0: all cores."""
    return int(os.environ.get("OMP_NUM_THREADS", "").partition(",")[0] or 0)


def _placed(device: str) -> Any:
    import tensorflow as tf

    if device == "auto":
        return tf.device(None)
    kind, _, number = device.upper().partition(":")
    there = tf.config.list_logical_devices(kind)
    if int(number or 0) >= len(there):
        names = ", ".join(x.name.removeprefix("/device:") for x in tf.config.list_logical_devices())
        raise UserError(f"TensorFlow has no `device` {device} here. It has {names}.")
    return tf.device(f"/{kind}:{number or 0}")


class _OpenVINO:
    """Intel's runtime, for x86 processors of all makers and Intel's GPUs."""

    def __init__(self, device: str, precision: str) -> None:
        import openvino

        self.core = openvino.Core()
        self.device = "CPU" if device == "auto" else device.upper().replace(":", ".")
        there = self.core.available_devices
        if not {self.device, f"{self.device}.0"} & set(there):
            raise UserError(f"OpenVINO has no `device` {device} here. It has {', '.join(there)}.")
        if precision == "bfloat16" and not self.has_bfloat16():
            raise UserError(f"OpenVINO does not compute in bfloat16 on this machine's {device}.")
        kinds = {"float32": "f32", "bfloat16": "bf16"}
        self.options = {"INFERENCE_PRECISION_HINT": kinds[precision], "PERFORMANCE_HINT": "LATENCY"}
        self.options["INFERENCE_NUM_THREADS"] = _count_threads()

    def has_bfloat16(self) -> bool:
        return "BF16" in self.core.get_property(self.device, "OPTIMIZATION_CAPABILITIES")

    def open(self, file: Path) -> tuple[Callable, type, str | None, Callable]:
        model = self.core.read_model(file)
        about = model.get_rt_info(KEY).value if model.has_rt_info(KEY) else None
        dtype = model.input(0).get_element_type().to_dtype().type
        compiled = self.core.compile_model(model, self.device, self.options)
        return lambda x: compiled([x])[0], dtype, about, compiled.release_memory


class _ONNX:
    """ONNX Runtime."""

    def __init__(self, device: str, precision: str) -> None:
        import onnxruntime

        if precision != "float32":
            raise UserError(f"ONNX Runtime computes in float32 here, not in {precision}.")
        kind, _, number = device.partition(":")
        provider = "CPUExecutionProvider" if kind in ("auto", "cpu") else "CUDAExecutionProvider"
        there = onnxruntime.get_available_providers()
        if provider not in there or kind == "npu":
            raise UserError(f"ONNX Runtime has no `device` {device} here. It has {there}.")
        self.providers = [(provider, {"device_id": number} if number else {})]
        self.session = onnxruntime.InferenceSession
        self.options = onnxruntime.SessionOptions()
        self.options.log_severity_level = 3  # Errors. They are raised, too.
        self.options.intra_op_num_threads = _count_threads()

    def open(self, file: Path) -> tuple[Callable, type, str | None]:
        session = self.session(file, self.options, providers=self.providers)
        (taken,) = session.get_inputs()
        dtype = np.uint8 if taken.type == "tensor(uint8)" else np.float32
        about = session.get_modelmeta().custom_metadata_map.get(KEY)
        return lambda x: session.run(None, {taken.name: x})[0], dtype, about


class _LiteRT:
    """Google's runtime for telephones, on their processors or this one."""

    def __init__(self, device: str, precision: str) -> None:
        from ai_edge_litert.interpreter import Interpreter

        if device not in ("auto", "cpu") or precision != "float32":
            raise UserError(f"LiteRT has no `device` {device} and `precision` {precision} here.")
        self.interpreter = Interpreter

    def open(self, file: Path) -> tuple[Callable, type, str | None]:
        with without_chatter():
            interpreter = self.interpreter(str(file), num_threads=os.cpu_count())
            interpreter.allocate_tensors()
        (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()

        def run(x):
            interpreter.resize_tensor_input(taken["index"], x.shape)
            interpreter.allocate_tensors()
            interpreter.set_tensor(taken["index"], x)
            interpreter.invoke()
            return interpreter.get_tensor(given["index"])

        return run, taken["dtype"], _read_appended(file)


def _read_appended(file: Path) -> str | None:
    """What a .tflite file says in a ZIP archive behind its own end, where its metadata belongs."""
    if not zipfile.is_zipfile(file):
        return None
    with zipfile.ZipFile(file) as archive:
        return archive.read(KEY).decode() if KEY in archive.namelist() else None

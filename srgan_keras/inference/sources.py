"""Which files a generator is in, told without Keras.

Opening them is left to `pretrained` and to the runtimes.
"""

import os
from pathlib import Path

from srgan_keras.common.errors import UserError
from srgan_keras.common.files import GENERATOR, SAVED_MODEL, checksum

WEIGHTS = Path(__file__).parents[1] / "weights"
#: Name of a generator that ships with the package -> SHA-256 checksum of its file.
PRETRAINED = {
    "srresnet": "4ab941ae3735ee8786ae42319614a25995a46c96815bc0fb5073c1a1a86cbe93",
    "srgan": "5e6a2f0a77e6a7529eceb9db63475b2213f79c8a3313e5ee7731e3c327a95acf",
    "vdsr": "436343bb8ec8a120c6e1be6edcd37b56af55200a8f5eabf3c6dd404753bad339",
    "srcnn": "539056ad0127e2ca9da623a500c0c38edf236f011b344250cf9927ccc7c89897",
    "photo-srresnet": "645dc27d359795666e3a6aee1fe937eb8b3eb53be7c3d5129e8fc5bcebaf35cc",
    "photo": "599ceb197aae09e3835a0533de32fbf387545a740160a21541e136e6cc78fdc7",
}
#: Generator that makes detail up -> the one that it was trained on from, and can be mixed with.
FORERUNNERS = {"srgan": "srresnet", "photo": "photo-srresnet"}
_PAIRS = " or ".join(f"{plain} with {detailed}" for detailed, plain in FORERUNNERS.items())
#: What `blend` does, in words.
BLENDING = f"mixes {_PAIRS}: 0 is nearest to the photograph, 1 has the most detail"
#: The file of a SavedModel that says which generator was beside it when it was written.
BESIDE = "generator.sha256"


def find_shipped(name: str, blend: float | None = None) -> list[Path]:
    """Finds the files of a generator that ships with the package.

    Args:
        name: in `PRETRAINED`.
        blend: as for `pretrained.load_pretrained`.

    Returns:
        its .keras file; before it, with a blend, that of the generator it is mixed with.

    Raises:
        UserError: if there is no such generator, blend is out of range or not for one in
            `FORERUNNERS`, or a file is not the one that was shipped.
    """
    if name not in PRETRAINED:
        raise UserError(f"There is no generator {name!r}. Names: {', '.join(PRETRAINED)}.")
    if blend is not None and (name not in FORERUNNERS or not 0 <= blend <= 1):
        raise UserError(f"`blend` {BLENDING}. Received: blend={blend} for {name}")
    names = [name] if blend is None else [FORERUNNERS[name], name]
    files = [WEIGHTS / f"{name}_x4.keras" for name in names]
    for name, file in zip(names, files, strict=True):
        if not file.is_file() or checksum(file) != PRETRAINED[name]:
            raise UserError(f"{file} is missing or damaged. Install srgan-keras again.")
    return files


def find_generator(source: str | os.PathLike, blend: float | None = None) -> list[Path]:
    """Finds the .keras files of a generator.

    Args:
        source: a name in `PRETRAINED`, a run folder, or a generator's .keras file.
        blend: as for `pretrained.load_pretrained`; None with a path.

    Raises:
        UserError: if there is no such generator; and as `find_shipped`.
    """
    if str(source) in PRETRAINED or blend is not None:
        return find_shipped(str(source), blend)
    source = Path(source)
    file = source if source.suffix == ".keras" else source / GENERATOR
    if not file.is_file():
        raise UserError(
            f"There is no generator {file}. Give a run of srgan_keras.train, a .keras file, or one "
            f"of {', '.join(PRETRAINED)}."
        )
    return [file]


def find_saved_model(path: Path) -> Path | None:
    """Finds a SavedModel that is of use: the folder itself, or that of a run.

    Returns:
        its folder; None if there is none, or it was written of another generator than the run's.
    """
    if (path / "saved_model.pb").is_file():
        return path
    exported, generator = path / SAVED_MODEL, path / GENERATOR
    if not (exported / "saved_model.pb").is_file():
        return None
    return None if generator.is_file() and is_stale(exported, generator) else exported


def is_stale(folder: Path, generator: Path) -> bool:
    """Whether a run's generator is another than when the SavedModel beside it was written.

    Args:
        folder: of the SavedModel.
        generator: the .keras file.
    """
    record = folder / BESIDE
    if record.is_file():
        return record.read_text() != checksum(generator)
    exported = folder / "saved_model.pb"
    return generator.stat().st_mtime > exported.stat().st_mtime  # It was written by version 0.1.

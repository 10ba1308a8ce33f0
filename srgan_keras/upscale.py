"""Enlarges photographs with an exported SavedModel.

    python -m srgan_keras.upscale PHOTO...
    python -m srgan_keras.upscale PHOTO... --model RUN_OR_SAVEDMODEL --out FOLDER

Needs no model code for a SavedModel, which says itself how it scales. Opening photographs belongs
to `data_prep`.
"""

import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import tensorflow as tf

from data_prep import cli
from data_prep.pictures import PictureError, list_pictures, open_picture, write_png


class TrainedModel:
    """A trained generator that enlarges pictures.

    A large picture goes through in tiles. Each tile is cut out with as much around it as its result
    depends on, so the whole has no seams and is what the model makes of it in one piece.

    Args:
        source: folder that `srgan_keras.export` wrote, a run folder that has one, or whatever
            `load_generator` takes.
        blend: as for `load_generator`.
        tile: int, longest side of a tile in LR pixels, its surroundings not counted.

    Attributes:
        scale: int, by how much it enlarges.

    Raises:
        cli.UserError: if there is no such generator.
    """

    def __init__(self, source="srgan", blend=None, *, tile=256):
        folder = _find_saved_model(Path(source))
        model = _load_saved_model(folder) if folder and blend is None else _serve(source, blend)
        self.scale, self.margin, self.tile = int(model.scale), int(model.margin), tile
        self._model = model  # owns the variables that its function reads

    def __call__(self, picture):
        """Enlarges `(h, w, 3)` uint8 into `(scale * h, scale * w, 3)` uint8."""
        height, width, _ = picture.shape
        scale, margin, tile = self.scale, self.margin, self.tile
        result = np.empty((scale * height, scale * width, 3), np.uint8)
        for top in range(0, height, tile):
            for left in range(0, width, tile):
                bottom, right = min(top + tile, height), min(left + tile, width)
                outer_top, outer_left = max(top - margin, 0), max(left - margin, 0)
                piece = picture[outer_top : bottom + margin, outer_left : right + margin]
                sr = self._model.serve(tf.constant(piece[None]))["pixels"][0].numpy()
                y, x = scale * (top - outer_top), scale * (left - outer_left)
                result[scale * top : scale * bottom, scale * left : scale * right] = sr[
                    y : y + scale * (bottom - top), x : x + scale * (right - left)
                ]
        return result


def _find_saved_model(path):
    for folder in (path, path / "saved_model"):
        if (folder / "saved_model.pb").is_file():
            return folder
    return None


def _load_saved_model(folder):
    try:
        model = tf.saved_model.load(str(folder))
    except Exception as error:  # Whatever a damaged file makes TensorFlow raise.
        reason = " ".join(str(error).split())[:200]
        raise cli.UserError(f"{folder} does not load ({reason}).") from error
    if not all(hasattr(model, name) for name in ("scale", "margin", "serve")):
        raise cli.UserError(f"{folder} is not a SavedModel that srgan_keras.export wrote.")
    return model


def _serve(source, blend):
    # Here, because a SavedModel needs neither of them.
    from srgan_keras.export import serving_module
    from srgan_keras.runs import load_generator

    generator, recipe = load_generator(source, blend)
    return serving_module(generator, recipe.lr_range)


def find_photos(arguments, out):
    """Resolves the command's arguments into photographs.

    Args:
        arguments: list of `Path`; folders are looked through recursively.
        out: `Path` of the folder for the enlargements, which is left out.

    Returns:
        list of (path, name): the photograph, and its path relative to the argument it came from.

    Raises:
        cli.UserError: if an argument does not exist, or a folder holds no pictures.
    """
    photos = []
    for argument in arguments:
        if argument.is_dir():
            found = [
                path
                for path in list_pictures(argument)
                if not path.resolve().is_relative_to(out.resolve())
            ]
            if not found:
                raise cli.UserError(f"There are no pictures in {argument}.")
            photos += [(path, path.relative_to(argument)) for path in found]
        elif argument.exists():
            photos.append((argument, Path(argument.name)))
        else:
            raise cli.UserError(f"There is no file {argument}.")
    return photos


def choose_targets(names, out, scale):
    """Names the enlargements: `a/b.jpg` becomes `out/a/b_x4.png`.

    Where two photographs would get the same name, they keep their endings: `b.jpg_x4.png`.

    Args:
        names: list of relative `Path`.
        out: `Path` of the folder for the enlargements.
        scale: int.

    Raises:
        cli.UserError: if two still get the same name.
    """
    short = Counter(name.with_suffix("") for name in names)
    targets = []
    for name in names:
        stem = name.stem if short[name.with_suffix("")] == 1 else name.name
        targets.append(out / name.with_name(f"{stem}_x{scale}.png"))
    twice = [target for target, count in Counter(targets).items() if count > 1]
    if twice:
        raise cli.UserError(
            f"Two photographs would be written to {twice[0]}. Upscale them into different folders."
        )
    return targets


def main(argv=None):
    """The command line; see the module's docstring."""
    parser = cli.Parser(
        prog="python -m srgan_keras.upscale",
        description="Enlarges photographs with a trained model.",
    )
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="files and folders")
    parser.add_argument(
        "--model",
        default="srgan",
        help="srgan, srresnet, a run of srgan_keras.train, or a SavedModel (default: srgan)",
    )
    parser.add_argument(
        "--blend",
        type=float,
        metavar="0..1",
        help="mixes srresnet (0: nearest to the photograph) with srgan (1: the most detail)",
    )
    parser.add_argument("--out", type=Path, default=Path("upscaled"), help="folder for the results")
    parser.add_argument(
        "--tile",
        type=cli.positive_int,
        default=256,
        help="side of the pieces that a large photograph goes through in; less needs less memory",
    )
    args = parser.parse_args(argv)

    photos = find_photos(args.photos, args.out)
    model = TrainedModel(args.model, args.blend, tile=args.tile)
    targets = choose_targets([name for _, name in photos], args.out, model.scale)
    failed = 0
    for (photo, _), target in zip(photos, targets, strict=True):
        start = time.perf_counter()
        try:
            picture = open_picture(photo)
        except PictureError as error:
            print(f"skipped {photo}: {error.reason}", file=sys.stderr)
            failed += 1
            continue
        try:
            result = model(picture)
        except (tf.errors.ResourceExhaustedError, MemoryError) as error:
            raise cli.UserError(
                f"Out of memory on {photo}. Set a --tile smaller than {args.tile}."
            ) from error
        write_png(target, result)
        (h, w, _), (new_h, new_w, _) = picture.shape, result.shape
        seconds = time.perf_counter() - start
        print(f"{photo} {w}x{h} -> {target} {new_w}x{new_h} ({seconds:.1f} s)", flush=True)
    return 2 if failed else 0


if __name__ == "__main__":
    cli.run(main)

import io
import os
import pickle
import random
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from data_prep_fixtures import png_header, save_photo
from PIL import Image, ImageCms, ImageOps

from srgan_keras.common.errors import UserError
from srgan_keras.common.pictures import (
    PictureError,
    list_pictures,
    name_results,
    open_picture,
    picture_size,
    write_png,
)

RAMP = np.linspace(0, 255, 48).astype(np.uint8).reshape(6, 8)
COLOURS = np.stack([RAMP, RAMP[::-1], 255 - RAMP], axis=-1)


def reopened(image: Image.Image, path, **options) -> np.ndarray:
    image.save(path, **options)
    picture = open_picture(path)
    assert picture.dtype == np.uint8
    assert picture.shape == (image.height, image.width, 3)
    return picture


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=-1)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "gif", "webp", "jp2"])
def test_rgb_formats(tmp_path, suffix):
    options = {"webp": {"lossless": True}, "gif": {}}.get(suffix, {})
    image = Image.fromarray(COLOURS)
    picture = reopened(image, tmp_path / f"a.{suffix}", **options)
    np.testing.assert_array_equal(picture, COLOURS)


def test_greyscale_has_three_equal_channels(tmp_path):
    np.testing.assert_array_equal(reopened(Image.fromarray(RAMP), tmp_path / "a.png"), grey(RAMP))


def test_one_bit(tmp_path):
    black_and_white = Image.fromarray(RAMP > 99)
    assert black_and_white.mode == "1"
    expected = grey(np.where(RAMP > 99, 255, 0).astype(np.uint8))
    np.testing.assert_array_equal(reopened(black_and_white, tmp_path / "a.png"), expected)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_scaled_not_clipped(tmp_path, suffix):
    image = Image.fromarray(RAMP.astype(np.uint16) * 257)
    assert image.mode == "I;16"
    np.testing.assert_array_equal(reopened(image, tmp_path / f"a.{suffix}"), grey(RAMP))


def test_16_bit_pgm_and_32_bit_tiff(tmp_path):
    sixteen = RAMP.astype(">u2") * 257
    (tmp_path / "a.pgm").write_bytes(b"P5 8 6 65535\n" + sixteen.tobytes())
    np.testing.assert_array_equal(open_picture(tmp_path / "a.pgm"), grey(RAMP))
    image = Image.fromarray(RAMP.astype(np.int32) * 8_000_000)
    assert image.mode == "I"
    np.testing.assert_array_equal(reopened(image, tmp_path / "a.tif"), grey(RAMP))


@pytest.mark.parametrize("white", [1, 255, 65535, 1e6])
def test_float_is_scaled_to_its_white(tmp_path, white):
    image = Image.fromarray((RAMP / 255 * white).astype(np.float32))
    assert image.mode == "F"
    np.testing.assert_array_equal(reopened(image, tmp_path / "a.tif"), grey(RAMP))


def test_float_with_nan_and_all_black(tmp_path):
    values = np.zeros((6, 8), np.float32)
    values[0, :3] = np.nan, np.inf, -np.inf
    assert reopened(Image.fromarray(values), tmp_path / "a.tif").max() == 0


@pytest.mark.parametrize("suffix", ["tif", "jpg"])
def test_cmyk(tmp_path, suffix):
    image = Image.new("CMYK", (8, 6), (255, 0, 255, 0))
    picture = reopened(image, tmp_path / f"a.{suffix}")
    np.testing.assert_allclose(picture[0, 0], (0, 255, 0), atol=2)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_white(tmp_path, mode):
    image = Image.new("RGBA", (8, 6), (0, 0, 0, 0)).convert(mode)
    image.paste(Image.new("RGBA", (4, 6), (100, 100, 100, 255)).convert(mode), (4, 0))
    picture = reopened(image, tmp_path / "a.png")
    assert picture[0, 0].tolist() == [255] * 3
    assert picture[0, 7].tolist() == [100] * 3


def test_palette_with_transparency(tmp_path):
    image = Image.new("P", (8, 6), 0)
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.putpixel((3, 2), 1)
    assert reopened(image, tmp_path / "opaque.png")[0, 0].tolist() == [200, 0, 0]
    picture = reopened(image, tmp_path / "clear.png", transparency=0)
    assert picture[0, 0].tolist() == [255] * 3
    assert picture[2, 3].tolist() == [0, 0, 200]


def test_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    picture = reopened(frames[0], tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert picture[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(COLOURS).save(tmp_path / f"a.{suffix}", exif=exif, **options)
    stored = Image.fromarray(COLOURS)
    stored.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(stored))
    np.testing.assert_array_equal(open_picture(tmp_path / f"a.{suffix}"), expected)


def test_broken_exif_is_ignored(tmp_path):
    picture = reopened(Image.fromarray(COLOURS), tmp_path / "a.png", exif=b"Exif\0\0nonsense")
    np.testing.assert_array_equal(picture, COLOURS)


def test_colour_profile_is_converted_to_srgb(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")
    red = Image.new("RGB", (8, 6), (255, 0, 0))
    plain = reopened(red, tmp_path / "srgb.png", icc_profile=srgb)
    assert plain[0, 0].tolist() == [255, 0, 0]
    picture = reopened(red, tmp_path / "swapped.png", icc_profile=swapped)
    np.testing.assert_allclose(picture[0, 0], [0, 0, 255], atol=2)


@pytest.mark.parametrize("profile", [b"nonsense", b"grey"])
def test_profile_that_does_not_fit_is_ignored(tmp_path, profile):
    if profile == b"grey":  # a valid profile, for other channels
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    picture = reopened(Image.fromarray(COLOURS), tmp_path / "a.png", icc_profile=profile)
    np.testing.assert_array_equal(picture, COLOURS)


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.tile(COLOURS, (20, 20, 1))).save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"this is text", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (jpeg()[: len(jpeg()) // 2], "truncated"),
        (png_header(9, 9), "truncated"),
        (png_header(50_000, 50_000), "too large (decompression bomb): 2500000000 pixels"),
        (png_header(13_341, 13_343), "too large (decompression bomb): 178008963 pixels"),
    ],
)
def test_unusable_files_say_why(tmp_path, data, reason):
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with pytest.raises(PictureError) as caught:
        open_picture(path)
    assert caught.value.reason.startswith(reason)
    assert str(caught.value) == f"{path}: {caught.value.reason}"
    assert pickle.loads(pickle.dumps(caught.value)).reason == caught.value.reason


def test_pillow_is_left_as_it_was(tmp_path):
    before = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    (tmp_path / "a.png").write_bytes(png_header(50_000, 50_000))
    with pytest.raises(PictureError):
        open_picture(tmp_path / "a.png")
    assert before == (Image.MAX_IMAGE_PIXELS, warnings.filters)


def test_threads_leave_the_warning_filters_as_they_were(tmp_path):
    path = save_photo(tmp_path / "a.png", 400, 400)
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(open_picture, [path] * 80))
    assert warnings.filters == before


@pytest.mark.parametrize(
    ("name", "reason"),
    [("none.png", "no such file"), (".", "not a file"), ("a\0b", "broken"), ("b" * 300, "file n")],
)
def test_paths_that_are_no_files(tmp_path, name, reason):
    with pytest.raises(PictureError, match=reason):
        open_picture(tmp_path / name)


def test_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(PictureError, match="not a file"):
        open_picture(tmp_path / "a.png")


def test_one_pixel(tmp_path):
    assert open_picture(save_photo(tmp_path / "a.png", 1, 1)).shape == (1, 1, 3)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "PPM"])
def test_damaged_files_raise_nothing_else(tmp_path, format_):
    chance = random.Random(format_)
    file = io.BytesIO()
    Image.fromarray(COLOURS).save(file, format_)
    path = tmp_path / "a.jpg"
    for _ in range(60):
        data = bytearray(file.getvalue())
        for _ in range(3):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data[: chance.randint(1, len(data))])
        try:
            assert open_picture(path).shape[2] == 3
        except PictureError as error:
            assert "\n" not in str(error)


def test_list_pictures_is_sorted_recursive_and_leaves_out_hidden_ones(tmp_path):
    names = ["b.JPG", "a/z.png", "a/c.tiff", "a/deep/x.WebP"]
    for name in [*names, ".hidden.png", ".git/x.png", "notes.txt", "a/.tmp-7-x.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in list_pictures(tmp_path)]
    assert found == sorted(names)


def test_list_pictures_needs_a_folder(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        list_pictures(tmp_path / "none")
    with pytest.raises(UserError, match="not a folder"):
        list_pictures(save_photo(tmp_path / "a.png"))


def test_a_named_pipe_and_a_link_in_a_circle_are_no_pictures(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "circle.png").symlink_to("circle.png")
    assert len(list_pictures(tmp_path, without=tmp_path / "other")) == 2
    assert list_pictures(tmp_path, without=tmp_path) == []
    for name, reason in (("pipe", "not a file"), ("circle", "too many levels of symbolic links")):
        for read in (open_picture, picture_size):
            with pytest.raises(PictureError, match=f"{name}.png: {reason}"):
                read(tmp_path / f"{name}.png")


def test_names_of_results(tmp_path):
    names = [Path("a.jpg"), Path("a.png"), Path("b.png"), Path("sub/a.png")]
    results = [Path(f"{name}_x4.png") for name in ("a.jpg", "a.png", "b", "sub/a")]
    assert name_results(names, "_x4") == results
    names = [Path("a.jpg"), Path("a.png"), Path("a.jpg.bmp")]
    assert name_results(names) == [Path(f"{name}.png") for name in names]
    with pytest.raises(UserError, match=r"Two pictures would be written to a\.jpg\.png"):
        name_results([Path("a.jpg"), Path("a.jpg")])
    long = [Path(letter * 250 + ".png") for letter in ("x", "\u00e9")]
    for result in name_results([*long, Path("x" * 249 + ".jpg")], "_x4"):
        (tmp_path / f".tmp-123456-{result}").touch()


def test_write_png_makes_folders_and_leaves_nothing_else(tmp_path):
    write_png(tmp_path / "new" / "a.png", COLOURS)
    write_png(tmp_path / "new" / "a.png", COLOURS[::-1])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]
    np.testing.assert_array_equal(open_picture(tmp_path / "new" / "a.png"), COLOURS[::-1])


@pytest.mark.parametrize("array", [RAMP, COLOURS.astype(float), COLOURS[..., :2]])
def test_write_png_refuses_other_arrays(tmp_path, array):
    with pytest.raises(ValueError, match="Received"):
        write_png(tmp_path / "a.png", array)

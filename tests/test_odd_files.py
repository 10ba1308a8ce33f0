"""What comes out of odd files; a network that repeats pixels stands for the real one."""

import io
import zlib

import numpy as np
import odd_files as odd
import PIL
import pytest
from PIL import ExifTags, Image, ImageCms

from srgan_keras.common import colour, metadata
from srgan_keras.common.photograph import WRITTEN, open_photograph
from srgan_keras.common.pictures import PictureError
from srgan_keras.inference.enlarging import Size, enlarge_files, fill_clear

RGB = odd.photo()
RGBA = np.dstack([RGB, np.where(np.indices((16, 24))[1] < 12, 0, 200)]).astype(np.uint8)
DEEP = (odd.photo(channels=4).astype(np.uint16) * 257) ^ 0x005A  # the low bytes are others
WIDE = odd.icc_profile(*odd.ADOBE_RGB)
P3 = odd.icc_profile(*odd.DISPLAY_P3)


class Repeat:
    """Enlarges by repeating pixels, which leaves every value as it is."""

    scale, bits = 4, 16

    def __call__(self, picture):
        assert picture.dtype == np.uint8
        return picture.repeat(4, axis=0).repeat(4, axis=1)

    def upscale_float(self, picture):
        assert picture.dtype == np.float32
        assert 0 <= picture.min() <= picture.max() <= 255
        return picture.repeat(4, axis=0).repeat(4, axis=1)


def grey(values):
    return values[..., 0]


def image(array, format_="PNG", mode=None, **options) -> bytes:
    file, picture = io.BytesIO(), Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(file, format=format_, **options)
    return file.getvalue()


def frames(format_) -> bytes:
    more = [Image.fromarray(RGB[::-1]), Image.fromarray(RGB[:, ::-1])]
    return image(RGB, format_, save_all=True, append_images=more, **LOSSLESS.get(format_, {}))


def palette(transparent) -> bytes:
    picture = Image.fromarray(RGB).quantize(8)
    file = io.BytesIO()
    picture.save(file, format="PNG", **({"transparency": 0} if transparent else {}))
    return file.getvalue()


LOSSLESS = {"WEBP": {"lossless": True}}
LA = np.dstack([grey(RGB), RGBA[..., 3]])
EXIF = {"exif": odd.exif()}
#: The file; the format asked for; what comes out (mode, bits, size, its notes as a whole).
FILES = {
    "rgb.png": (image(RGB), "png", "RGB", 8, (96, 64), []),
    "rgba.png": (image(RGBA), "png", "RGBA", 8, (96, 64), []),
    "la.png": (image(LA), "png", "LA", 8, (96, 64), []),
    "grey.png": (image(grey(RGB)), "png", "L", 8, (96, 64), []),
    "bilevel.png": (image(grey(RGB) > 99), "png", "L", 8, (96, 64), []),
    "palette.png": (palette(False), "png", "RGB", 8, (96, 64), []),
    "palette_clear.png": (palette(True), "png", "RGBA", 8, (96, 64), []),
    "grey16.png": (odd.png_16(DEEP[..., :1]), "png", "I;16", 16, (96, 64), ["16 bits"]),
    "la16.png": (odd.png_16(DEEP[..., :2]), "png", "RGBA", 16, (96, 64), ["16 bits"]),
    "rgb16.png": (odd.png_16(DEEP[..., :3]), "png", "RGB", 16, (96, 64), ["16 bits"]),
    "rgba16.png": (odd.png_16(DEEP), "png", "RGBA", 16, (96, 64), ["16 bits"]),
    "clear16.png": (odd.png_16(DEEP[..., :3], tRNS=DEEP[0, 0, :3].astype(">u2").tobytes()),
                    "png", "RGBA", 16, (96, 64), ["16 bits"]),
    "rgb16.tif": (odd.tiff_16(DEEP[..., :3]), "same", "RGB", 16, (96, 64), ["16 bits"]),
    "rgb16_motorola.tiff": (odd.tiff_16(DEEP[..., :3], ">"), "png", "RGB", 16, (96, 64),
                            ["16 bits"]),
    "rgba16.tif": (odd.tiff_16(DEEP), "tiff", "RGBA", 16, (96, 64), ["16 bits"]),
    "grey16.tif": (image(grey(DEEP), "TIFF"), "same", "I;16", 16, (96, 64), ["16 bits"]),
    "float.tif": (image(grey(RGB).astype(np.float32) / 255, "TIFF"), "same", "I;16", 16, (96, 64),
                  ["16 bits"]),
    "rgb16_to_jpg.png": (odd.png_16(DEEP[..., :3]), "jpg", "RGB", 8, (96, 64),
                         ["16 bits", "8 of its 16 bits left"]),
    "rgba_to_jpg.png": (image(RGBA), "jpg", "RGB", 8, (96, 64), ["transparency laid on white"]),
    "rgba.webp": (image(RGBA, "WEBP", lossless=True, exact=True), "same", "RGBA", 8, (96, 64), []),
    "cmyk.jpg": (image(RGB, "JPEG", "CMYK"), "png", "RGB", 8, (96, 64), ["CMYK made RGB"]),
    "cmyk.tif": (image(RGB, "TIFF", "CMYK"), "same", "RGB", 8, (96, 64), ["CMYK made RGB"]),
    "ycbcr.tif": (image(RGB, "TIFF", "YCbCr"), "same", "RGB", 8, (96, 64), []),
    "p3.jpg": (image(RGB, "JPEG", icc_profile=P3), "same", "RGB", 8, (96, 64),
               ["Display P3 converted to sRGB"]),
    "adobe.png": (image(RGB, icc_profile=WIDE), "png", "RGB", 8, (96, 64),
                  ["Adobe RGB (1998) converted to sRGB"]),
    "adobe16.png": (odd.png_16(DEEP[..., :3], iCCP=b"a\0\0" + zlib.compress(WIDE)), "png", "RGB",
                    16, (96, 64), ["Adobe RGB (1998) converted to sRGB", "16 bits"]),
    "srgb.png": (image(RGB, icc_profile=colour.srgb_profile()), "png", "RGB", 8, (96, 64), []),
    "rotated.jpg": (image(RGB, "JPEG", **EXIF), "same", "RGB", 8, (64, 96), []),
    "rotated.png": (image(RGB, **EXIF), "png", "RGB", 8, (64, 96), []),
    "rotated.webp": (image(RGB, "WEBP", **EXIF), "tiff", "RGB", 8, (64, 96), []),
    "rotated.tif": (image(RGB, "TIFF", exif=odd.exif()), "jpg", "RGB", 8, (64, 96), []),
    "animated.gif": (frames("GIF"), "same", "RGB", 8, (96, 64), ["the first of 3 frames"]),
    "animated.webp": (frames("WEBP"), "png", "RGB", 8, (96, 64), ["the first of 3 frames"]),
    "pages.tif": (frames("TIFF"), "same", "RGB", 8, (96, 64), ["the first of 3 pages"]),
    "one.png": (image(RGB[:1, :1]), "same", "RGB", 8, (4, 4), []),
    "line.png": (image(odd.photo(1, 4000)), "webp", "RGB", 8, (4, 16000), []),
    "strip.jpg": (image(odd.photo(6000, 40), "JPEG"), "same", "RGB", 8, (24000, 160), []),
    "lying.jpg": (image(RGB), "same", "RGB", 8, (96, 64), []),
    "photo.bmp": (image(RGB, "BMP"), "same", "RGB", 8, (96, 64), []),
    "photo.jp2": (image(RGB, "JPEG2000"), "same", "RGB", 8, (96, 64), []),
}  # fmt: skip
SUFFIXES = {"png": ".png", "jpg": ".jpg", "webp": ".webp", "tiff": ".tiff"}


def enlarge(tmp_path, name, data, format_="png", size=None, **options):
    """The file that a file becomes, and what is said of it."""
    photo = tmp_path / name
    photo.write_bytes(data)
    suffix = SUFFIXES.get(format_, photo.suffix)
    if suffix in (".bmp", ".gif", ".jp2"):
        suffix = ".png"
    task = (photo, (tmp_path / "out" / name).with_suffix(suffix))
    ((_, result),) = enlarge_files([task], Repeat(), size or Size(), **options)
    if isinstance(result, PictureError):
        raise result
    return task[1], result


@pytest.mark.parametrize("name", FILES)
def test_what_comes_out(name, tmp_path):
    if name == "ycbcr.tif" and int(PIL.__version__.split(".")[0]) < 13:
        pytest.skip("Pillow before 13 does not read it")
    data, format_, mode, bits, size, notes = FILES[name]
    target, result = enlarge(tmp_path, name, data, format_)
    assert result.notes == notes
    with Image.open(target) as opened:
        assert opened.size == result.after == size
        assert opened.mode == mode
        assert opened.format == WRITTEN[target.suffix]
    before, after = open_photograph(tmp_path / name), open_photograph(target)
    assert after.bits == bits
    assert (after.alpha is None) == (mode not in ("RGBA", "LA"))
    if format_ in ("jpg", "webp") or target.suffix == ".jpg" or before.alpha is not None:
        return
    expected = before.colours.repeat(4, axis=0).repeat(4, axis=1)
    np.testing.assert_array_equal(after.colours, expected)


@pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("format_", SUFFIXES)
def test_exif_stays_and_is_made_true(source, format_, tmp_path):
    """Upright, of the new size, without the thumbnail; all else as it was."""
    data = image(RGB, source, xmp=odd.XMP, **EXIF) if source != "PNG" else image(RGB, **EXIF)
    target, _ = enlarge(tmp_path, f"a{WRITTEN_AS[source]}", data, format_)
    with Image.open(target) as opened:
        exif = opened.getexif()
        details, gps = exif.get_ifd(ExifTags.IFD.Exif), exif.get_ifd(ExifTags.IFD.GPSInfo)
        assert not exif.get_ifd(ExifTags.IFD.IFD1)
    assert exif.get(0x0112, 1) == 1
    assert exif[282] == exif[283] == 300
    assert (exif[271], exif[315]) == ("Camera", "A. Nobody")
    assert (details[0xA002], details[0xA003]) == (64, 96)
    assert details[36867] == "2026:11:21 10:00:00"
    assert details[33434] == pytest.approx(1 / 250)
    assert details[37500] == odd.MAKER_NOTE
    assert details[0xA001] == 65535
    assert gps[1] == "N"
    assert [float(x) for x in gps[2]] == [52, 31, 12]


WRITTEN_AS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif"}


def test_exif_is_changed_where_it_must_be_and_nowhere_else():
    before = odd.exif()[6:]
    after = metadata.correct_exif(before, 70_000, 64, converted=True)
    changed = [i for i, pair in enumerate(zip(before, after, strict=True)) if len(set(pair)) > 1]
    assert len(changed) < 16
    exif = Image.Exif()
    exif.load(after)
    details = exif.get_ifd(ExifTags.IFD.Exif)
    assert (exif[274], details[0xA001], details[0xA002], details[0xA003]) == (1, 1, 70_000, 64)
    short = metadata.correct_exif(before, 3, 70_000, converted=False)
    exif.load(short)
    assert exif.get_ifd(ExifTags.IFD.Exif)[0xA003] == 70_000  # It was too short for that.
    for broken in (b"", b"nonsense", before[:60], b"MM\0*\xff\xff\xff\xff"):
        assert metadata.correct_exif(broken, 1, 1, converted=False) is None


@pytest.mark.parametrize("format_", SUFFIXES)
def test_xmp_iptc_and_comments_stay_where_there_is_a_place(format_, tmp_path):
    extra = metadata.iptc_segment(odd.IPTC)
    data = image(RGB, "JPEG", xmp=odd.XMP, extra=extra, comment=b"caf\xc3\xa9")
    target, result = enlarge(tmp_path, "a.jpg", data, format_)
    after = open_photograph(target)
    assert b'xmp:Rating="4"' in after.xmp
    assert b'tiff:Orientation="1"' in after.xmp
    assert b"PixelXDimension>64<" in after.xmp
    assert result.after == (64, 96)  # XMP alone says that it is to be turned.
    has_iptc, has_texts = format_ in ("jpg", "tiff"), format_ in ("jpg", "png")
    assert after.iptc == (odd.IPTC if has_iptc else b"")
    assert after.texts == ({"Comment": "caf\u00e9"} if has_texts else {})
    assert ("IPTC left out" in result.notes) != has_iptc
    assert ("texts left out" in result.notes) != has_texts


def test_texts_of_png_files(tmp_path):
    data = image(RGB, pnginfo=odd.png_texts(), dpi=(72, 144))
    target, _ = enlarge(tmp_path, "a.png", data)
    after = open_photograph(target)
    assert after.texts == {"parameters": "a castle, steps 20", "Title": "Schlo\u00df"}
    assert after.dpi == pytest.approx((72, 144), abs=0.01)


@pytest.mark.parametrize("format_", SUFFIXES)
def test_metadata_can_be_left_out(format_, tmp_path):
    extra = metadata.iptc_segment(odd.IPTC)
    options = {"xmp": odd.XMP, "extra": extra, "comment": b"word", "icc_profile": P3}
    data = image(RGB, "JPEG", **options, **EXIF)
    target, result = enlarge(tmp_path, "a.jpg", data, format_, strip_metadata=True)
    assert result.after == (64, 96)
    for word in (b"Nobody", b"Camera", b"MAKER", b"Rating", b"word"):
        assert word not in target.read_bytes()
    after = open_photograph(target)
    assert not (after.exif or after.xmp or after.iptc or after.texts) or format_ == "tiff"
    assert colour.is_srgb(after.profile)  # It says what the colours are.


@pytest.mark.parametrize("name", ["p3.jpg", "adobe.png", "adobe16.png"])
def test_colours_are_converted_and_named(name, tmp_path):
    data, _, *_ = FILES[name]
    target, _ = enlarge(tmp_path, name, data)
    with Image.open(target) as opened:
        assert "sRGB" in ImageCms.getProfileDescription(io.BytesIO(opened.info["icc_profile"]))
    source = Image.open(io.BytesIO(data)).convert("RGB")
    profile = io.BytesIO(P3 if name == "p3.jpg" else WIDE)
    srgb = ImageCms.createProfile("sRGB")
    expected = np.asarray(ImageCms.profileToProfile(source, profile, srgb)).astype(float)
    after = open_photograph(target)
    result = after.colours[::4, ::4] / (257 if after.bits == 16 else 1)
    assert np.abs(result - expected).max() < 3  # Of 16 bits they see the high ones alone.
    assert np.abs(expected - np.asarray(source)).mean() > 2


def test_profiles_of_16_bits_against_littlecms():
    ramp = np.stack(np.meshgrid(*[np.arange(0, 256, 15)] * 3), axis=-1).reshape(-1, 18, 3)
    ramp = ramp.astype(np.uint8)
    for profile in (WIDE, P3, odd.grey_profile(1.8), colour.srgb_profile()):
        is_grey = b"GRAY" in profile
        colours = np.repeat(ramp[..., :1], 3, axis=2) if is_grey else ramp
        picture = Image.fromarray(colours[..., 0] if is_grey else colours)
        srgb = ImageCms.createProfile("sRGB")
        theirs = ImageCms.profileToProfile(picture, io.BytesIO(profile), srgb, outputMode="RGB")
        ours = colour.convert_16_bits(colours.astype(np.uint16) * 257, profile) / 257
        assert np.abs(ours - np.asarray(theirs)).max() < 1.6  # Theirs is rounded.
    assert colour.convert_16_bits(ramp.astype(np.uint16), b"nonsense") is None
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert colour.convert_16_bits(ramp.astype(np.uint16), lab) is None


def test_the_profile_that_is_written_says_no_present_time():
    """So the same photograph gives the same file at any time, on any machine."""
    profile = ImageCms.ImageCmsProfile(io.BytesIO(colour.srgb_profile())).profile
    assert str(profile.creation_date) == "1999-10-18 00:00:00"


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_all_16_bits_come_through(suffix, tmp_path):
    for channels in (1, 2, 3, 4):
        data = odd.png_16(DEEP[..., :channels])
        target, _ = enlarge(tmp_path, "a.png", data, "png" if suffix == ".png" else "tiff")
        if suffix == ".tif" and channels == 2:
            continue  # Pillow does not open grey with alpha and 16 bits.
        after = open_photograph(target)
        expected = DEEP[..., : channels - 1 + channels % 2].repeat(4, axis=0).repeat(4, axis=1)
        clear = 0 if after.alpha is None else after.alpha == 0
        np.testing.assert_array_equal(after.colours, np.broadcast_to(expected, after.colours.shape))
        assert np.all(clear == 0)


def test_tiff_files_are_what_another_reader_takes_them_for(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    for channels in (1, 2, 3, 4):
        data = odd.png_16(DEEP[..., :channels])
        target, _ = enlarge(tmp_path, "a.png", data, "tiff")
        colours = channels - 1 + channels % 2
        with tifffile.TiffFile(target) as file:
            array = file.pages[0].asarray().reshape(64, 96, channels)
            assert [kind.name for kind in file.pages[0].extrasamples] == (
                ["UNASSALPHA"] if channels % 2 == 0 else []
            )
        np.testing.assert_array_equal(array[::4, ::4, :colours], DEEP[..., :colours])


def test_nothing_dark_shows_through_where_it_is_clear(tmp_path):
    """A light disc, black where nothing is seen, as image editors save it."""
    y, x = np.mgrid[:32, :32] - 15.5
    alpha = (255 * (np.hypot(x, y) < 10)).astype(np.uint8)
    colours = np.where(alpha[..., None] > 0, 230, 0).astype(np.uint8).repeat(3, axis=2)
    data = image(np.dstack([colours, alpha]))
    seen = []

    class Smooth(Repeat):
        def __call__(self, picture):
            seen.append(picture)
            return np.asarray(Image.fromarray(picture).resize((128, 128), Image.BICUBIC))

    photo, target = tmp_path / "a.png", tmp_path / "b.png"
    photo.write_bytes(data)
    list(enlarge_files([(photo, target)], Smooth(), Size()))
    after = open_photograph(target)
    assert seen[0].min() >= 229
    assert after.colours[after.alpha > 0].min() >= 228
    assert len(np.unique(after.alpha)) > 10  # A soft border, not steps.


def test_filling_what_is_clear():
    colours = np.zeros((9, 13, 3), np.uint8)
    alpha = np.zeros((9, 13), np.uint8)
    assert not fill_clear(colours, alpha).any()
    colours[:, :3], alpha[:, :3] = (200, 100, 50), 255
    colours[0, 12], alpha[0, 12] = (0, 0, 250), 1
    filled = fill_clear(colours, alpha)
    np.testing.assert_array_equal(filled[alpha > 0], colours[alpha > 0])
    assert np.abs(filled[4, 3].astype(int) - (200, 100, 50)).max() < 60
    np.testing.assert_array_equal(fill_clear(colours.astype(np.uint16) * 257, alpha).dtype, "u2")


@pytest.mark.parametrize(
    ("size", "expected", "ending"),
    [
        (Size(), (96, 64), "_x4"),
        (Size(outscale=2.5), (60, 40), "_x2.5"),
        (Size(outscale=6.0), (144, 96), "_x6"),
        (Size(width=50), (50, 33), "_50x"),
        (Size(height=50), (75, 50), "_x50"),
        (Size(width=50, height=10), (15, 10), "_50x10"),
        (Size(outscale=0.001), (1, 1), "_x0.001"),
    ],
)
def test_sizes(size, expected, ending, tmp_path):
    for name in ("rgb.png", "rgba.png", "rgba16.png"):
        _, result = enlarge(tmp_path, name, FILES[name][0], size=size)
        assert result.after == expected
    assert size.ending(4) == ending


def test_resizing_keeps_a_plain_colour_plain(tmp_path):
    data = odd.png_16(np.full((8, 8, 4), 40_000, np.uint16))
    target, _ = enlarge(tmp_path, "a.png", data, size=Size(outscale=2.5))
    after = open_photograph(target)
    assert np.abs(after.colours.astype(int) - 40_000).max() <= 1
    assert np.abs(after.alpha.astype(int) - 40_000).max() <= 1


@pytest.mark.parametrize(
    ("array", "format_", "options", "size", "reason"),
    [
        (odd.photo(4096, 1), "webp", {}, Size(), "too large for WEBP: 16384x4, at most 16383"),
        (RGB, "jpg", {}, Size(width=70_000), "too large for JPEG: 70000x46667"),
        (RGB, "png", {}, Size(outscale=1e4), "too large: 240000x160000"),
        (RGB, "jpg", {"exif": odd.exif() + bytes(70_000)}, Size(), "cannot be written as JPEG"),
    ],
)
def test_what_a_format_cannot_hold_is_said(array, format_, options, size, reason, tmp_path):
    with pytest.raises(PictureError, match=reason):
        enlarge(tmp_path, "a.png", image(array, **options), format_, size)
    assert not list((tmp_path / "out").glob("*"))


def test_broken_metadata_harms_no_picture(tmp_path):
    data = image(RGB, exif=b"Exif\0\0nonsense", icc_profile=b"nonsense")
    target, result = enlarge(tmp_path, "a.png", data)
    assert result.notes == [
        "its colour profile is broken and left out",
        "its EXIF is broken and left out",
    ]
    np.testing.assert_array_equal(open_photograph(target).colours[::4, ::4], RGB)


def test_quality(tmp_path):
    sizes = {
        (format_, quality): enlarge(tmp_path, "a.png", image(RGB), format_, quality=quality)[0]
        .stat()
        .st_size
        for format_ in ("jpg", "webp")
        for quality in (30, 90)
    }
    assert sizes["jpg", 30] < sizes["jpg", 90]
    assert sizes["webp", 30] < sizes["webp", 90]
    target, _ = enlarge(tmp_path, "a.png", image(RGBA), "webp", quality=100)
    colours = open_photograph(target).colours[::4, ::4]
    np.testing.assert_array_equal(colours[:, 12:], RGB[:, 12:])


def test_how_many_of_16_bits_mean_something_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(Repeat, "bits", 8)
    _, result = enlarge(tmp_path, "a.png", odd.png_16(DEEP))
    assert result.notes == ["16 bits, 8 of them meaningful"]

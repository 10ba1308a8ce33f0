"""The page: what it does without a browser, and all of it in Debian's Chromium."""

import importlib.util
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srgan_keras import upscale, web
from srgan_keras.common.errors import UserError
from srgan_keras.common.pictures import PictureError
from srgan_keras.inference import page
from srgan_keras.inference.sources import PRETRAINED

PIXELS = 10_000


def save(path, width, height, **options):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def photos(tmp_path):
    """Two photographs, one with EXIF; one that is broken, and one that is too large."""
    exif = Image.Exif()
    exif[0x010E] = "a cat"
    folder = tmp_path / "photos"
    files = {
        "cat": save(folder / "cat.jpg", 24, 20, exif=exif),
        "dog": save(folder / "dog.png", 20, 16),
        "huge": save(folder / "huge.png", 120, 100),
        "broken": folder / "broken.png",
    }
    files["broken"].write_bytes(files["dog"].read_bytes()[:200])
    return files


def test_what_comes_of_photographs(photos, saved_model, tmp_path):
    """One after the other; a failure is said and ends nothing."""
    outcomes = list(page.work(list(photos.values()), saved_model, 0.5, PIXELS, tmp_path))
    lines = [page.describe(outcome) for outcome in outcomes]
    assert lines[0].startswith("<li>cat.jpg: 24x20 to 96x80, ")
    assert lines[2] == (
        '<li class="failed">huge.png: too large: 120x100 are 0.012 megapixels, and this page takes '
        "0.01 at most; --megapixels allows more</li>"
    )
    assert lines[3] == '<li class="failed">broken.png: truncated</li>'
    hostile = PictureError(Path("<b>.png"), "broken")
    assert page.describe(hostile) == '<li class="failed">&lt;b&gt;.png: broken</li>'
    assert [type(outcome) for outcome in outcomes[2:]] == [PictureError] * 2
    upscale.main([str(photos["cat"]), "--model", str(saved_model), "--out", str(tmp_path / "out")])
    written = (tmp_path / "out" / "cat_x4.png").read_bytes()
    assert outcomes[0].after.read_bytes() == written
    with Image.open(outcomes[0].before) as before:
        assert before.size == (96, 80)


def test_clear_errors(saved_model, monkeypatch):
    with pytest.raises(UserError, match="no generator none"):
        next(page.work(["a.png"], "none", 1, PIXELS, "."))
    monkeypatch.setitem(sys.modules, "gradio", None)
    with (
        pytest.raises(UserError, match=r'needs Gradio: pip install -e "\.\[web\]" in the clone'),
        page.served([str(saved_model)], PIXELS, "127.0.0.1", None),
    ):
        pass


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_the_command(address, monkeypatch, capsys):
    """It says where the page is and who may use it, and ends on the signal that services send."""

    @contextmanager
    def served(models, pixels, *bound):
        assert models == ["runs/mine", "auto", *PRETRAINED]
        assert (pixels, *bound) == (2_500_000, address, 8000)
        signal.raise_signal(signal.SIGTERM)
        yield "http://here:8000/"
        served.ended = True

    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(page, "served", served)
    monkeypatch.setattr(os, "_exit", sys.exit)
    options = ["--model", "runs/mine", "--megapixels", "2.5", "--address", address]
    try:
        with pytest.raises(SystemExit, match="0"):
            web.main([*options, "--port", "8000"])
    finally:
        for number, handler in handlers:
            signal.signal(number, handler)
    assert served.ended
    said = capsys.readouterr()
    assert "Open http://here:8000/" in said.out
    assert ("no password" in said.err) == (address == "0.0.0.0")


@pytest.fixture(scope="module")
def url(saved_model, tmp_path_factory):
    """The page, with a small generator; its files are gone when it is stopped, as a service is."""
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("needs the extra web")
    folder = tmp_path_factory.mktemp("temporary")
    command = [sys.executable, "-m", "srgan_keras.web", "--model", str(saved_model)]
    command += ["--megapixels", str(PIXELS / 1e6)]
    environment = {**os.environ, "TMPDIR": str(folder)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().split()[1]
            assert list(folder.rglob("*_x4.png"))
        finally:
            process.terminate()
    assert process.returncode == 0
    assert not list(folder.glob("srgan-web-*"))


def open_page(browser, url, **options):
    """A page of a new profile; what fails in it and what it asks for are kept in lists."""
    tab = browser.new_context(accept_downloads=True, **options).new_page()
    tab.set_default_timeout(60_000)
    tab.failures, tab.requests = [], []
    tab.on("pageerror", lambda error: tab.failures.append(str(error)))
    tab.on("request", lambda request: tab.requests.append(request.url))
    tab.goto(url)
    return tab


def drop(tab, *files):
    """Drops photographs and waits until they are there; then clicks on Enlarge."""
    tab.set_input_files("input[type=file]", [str(file) for file in files])
    tab.wait_for_selector(f"[aria-label='{files[-1].name}']")
    tab.get_by_role("button", name="Enlarge", exact=True).click()


CLIP = "parseFloat(document.querySelector('.slider img.fixed').style.clipPath.split(' ').pop())"
WIDTH = "document.querySelector('.slider img').getBoundingClientRect().width"
SIZES = "[...document.querySelectorAll('.slider img')].map(i => [i.naturalWidth, i.naturalHeight])"


def test_from_dropping_to_the_download(url, chromium, photos, saved_model, tmp_path):
    """On a wide window: four files of which two are none; slide, zoom, the other one, download."""
    tab = open_page(chromium, url, viewport={"width": 1400, "height": 900})
    drop(tab, *photos.values())
    tab.wait_for_selector("li:has-text('broken.png: truncated')")
    lines = tab.locator(".report li >> visible=true").all_inner_texts()
    assert [line.split(":")[0] for line in lines] == [file.name for file in photos.values()]
    assert "at most; --megapixels allows more" in lines[2]

    tab.wait_for_function(f"{SIZES}.length == 2 && {SIZES}.every(size => size[0] == 96)")
    assert tab.evaluate(SIZES) == [[96, 80], [96, 80]]
    picture = tab.locator(".slider img").first
    kinds = tab.evaluate(
        "Promise.all([...document.querySelectorAll('.slider img')].map("
        "async i => (await (await fetch(i.src)).blob()).type))"
    )
    assert kinds == ["image/png"] * 2
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    handle = tab.locator(".slider .icon-wrap").bounding_box()
    x, y = (handle[start] + handle[side] / 2 for start, side in (("x", "width"), ("y", "height")))
    assert x == pytest.approx(box["x"] + box["width"] / 2, abs=2)
    clipped = tab.evaluate(CLIP)
    tab.mouse.move(x, y)
    tab.mouse.down()
    tab.mouse.move(x + 100, y, steps=5)
    tab.mouse.up()
    assert tab.evaluate(CLIP) > clipped + 0.01
    # Beside the handle, which takes the wheel to itself.
    tab.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4)
    tab.mouse.wheel(0, -100)
    tab.wait_for_function(f"{WIDTH} > {1.02 * box['width']}")

    target = upscale_file(photos["cat"], saved_model, tmp_path)
    with tab.expect_download() as file:
        tab.locator(".results a").first.click()
    file.value.save_as(tmp_path / "cat.png")
    assert (tmp_path / "cat.png").read_bytes() == target.read_bytes()
    with Image.open(tmp_path / "cat.png") as image:
        assert image.getexif()[0x010E] == "a cat"

    tab.get_by_label("Shown").click()
    tab.get_by_role("option", name="2. dog.png").click()
    tab.wait_for_function(f"{SIZES}.length == 2 && {SIZES}.every(size => size[0] == 80)")
    assert not tab.failures
    assert all(one.startswith((url, "blob:", "data:")) for one in tab.requests)


def test_two_at_once_on_telephones(url, chromium, photos):
    """Both get their own; nothing is wider than the window."""
    options = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    tabs = [open_page(chromium, url, **options) for _ in range(2)]
    for tab, name in zip(tabs, ("cat", "dog"), strict=True):
        drop(tab, photos[name], photos["broken"])
    for tab, width in zip(tabs, (96, 80), strict=True):
        tab.wait_for_selector("li:has-text('broken.png: truncated')")
        tab.wait_for_function(f"{SIZES}.length == 2 && {SIZES}.every(size => size[0] == {width})")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        assert not tab.failures


def test_what_the_page_refuses(url, chromium, tmp_path):
    """An upload that is too large, other sites' names, and files that are none of its own."""
    large = tmp_path / "large.png"
    large.write_bytes(bytes(page.BYTES * PIXELS + 1))
    tab = open_page(chromium, url)
    tab.set_input_files("input[type=file]", str(large))
    tab.wait_for_selector("text=/exceeds|too large|maximum/i")
    tab.get_by_role("button", name="Enlarge", exact=True).click()
    tab.wait_for_selector("text=Drop a photograph first.")
    for path, host, code in (
        ("", "elsewhere.example", 400),
        (f"gradio_api/file={Path(__file__).resolve()}", None, 403),
    ):
        request = urllib.request.Request(url + path, headers={"Host": host} if host else {})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request)
        assert refused.value.code == code
        refused.value.close()


def upscale_file(photo, model, folder):
    out = folder / "out"
    assert upscale.main([str(photo), "--model", str(model), "--out", str(out)]) == 0
    return out / f"{photo.stem}_x4.png"

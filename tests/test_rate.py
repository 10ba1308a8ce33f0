import json
import shutil

import numpy as np
import pytest
from PIL import Image

from srgan_keras import rate
from srgan_keras.common.errors import UserError
from srgan_keras.evaluation import opinion


@pytest.fixture
def photos(tmp_path):
    """Two folders with a photograph each, small and larger than a telephone's screen."""
    rng = np.random.default_rng(0)
    for name, shape in (("small", (40, 44, 3)), ("large", (60, 600, 3))):
        (tmp_path / name).mkdir()
        pixels = rng.integers(0, 256, shape, np.uint8)
        Image.fromarray(pixels).save(tmp_path / name / "photo.png")
    return [tmp_path / "small", tmp_path / "large"]


def run(*arguments):
    return rate.main([str(argument) for argument in arguments])


def make(photos, out, *more):
    sets = ["--sets", *photos, "--examples", photos[0]]
    assert run("make", *sets, "--methods", "bicubic", "hr", "nearest", "--out", out, *more) == 0
    return json.loads((out / opinion.KEY).read_text())


def test_from_photographs_to_a_page(photos, tmp_path, capsys):
    key = make(photos, tmp_path / "test", "--seed", "7")
    said = capsys.readouterr().out
    assert "6 pictures to rate" in said
    assert f"--key {tmp_path / 'test' / 'key.json'}" in said
    assert key["methods"] == ["nearest", "bicubic", "hr"]
    assert key["seed"] == 7
    assert {what["set"] for what in key["pictures"].values()} == {"small", "large"}


def test_clear_errors(photos, tmp_path):
    hr = tmp_path / "hr"
    hr.mkdir()
    for arguments, message in (
        (["make", "--sets", photos[0], "--methods", "cubic"], "nor one of nearest"),
        (["make", "--sets", photos[0], photos[0]], "folders have the same name"),
        (["make", "--sets", tmp_path / "none"], "no such folder"),
        (["report", tmp_path / "a.csv", "--key", tmp_path / "key.json"], "Give the `key`"),
    ):
        with pytest.raises(UserError, match=message):
            run(*arguments)
    make(photos, tmp_path / "test")
    with pytest.raises(UserError, match="is not empty"):
        make(photos, tmp_path / "test")
    with pytest.raises(UserError, match="None of the files counts"):
        run("report", tmp_path / "a.csv", "--key", tmp_path / "test" / "key.json")


def test_a_model_cannot_pass_as_the_photograph(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(rate, "load_methods", lambda names, scale: dict.fromkeys([*names, "hr"]))
    with pytest.raises(UserError, match="cannot be called hr"):
        run("make", "--sets", photos[0], "--methods", "run/hr", "--out", tmp_path / "test")


def open_page(browser, test, **options):
    """A page of a new profile; what it asks for and what fails in it is kept in lists."""
    context = browser.new_context(accept_downloads=True, **options)
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.failures, page.requests = [], []
    page.on("pageerror", lambda error: page.failures.append(str(error)))
    page.on("console", lambda message: page.failures.append(message.text))
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto((test / opinion.PAGE / opinion.INDEX).as_uri())
    return page


def wait_for(page, count):
    """Waits until the picture of this count can be rated."""
    page.wait_for_function(f"ready && document.getElementById('count').textContent == '{count}'")


def download(page, button, path):
    with page.expect_download() as file:
        page.click(button)
    file.value.save_as(path)
    return file.value.suggested_filename


def test_from_the_first_click_to_the_report(chromium, photos, tmp_path, capsys):
    """On a wide screen, by keyboard and mouse, with a way back and a reload in the middle."""
    test = tmp_path / "test"
    key = make(photos, test)
    order = opinion.order_for(key, "Zoë B.")
    page = open_page(chromium, test, viewport={"width": 1400, "height": 900})
    assert page.text_content("#total") == "6"
    page.fill("#name", "  Zoë,  B. ")
    page.click("text=Begin")
    captions = page.locator("figcaption").all_text_contents()
    assert [text[-13:] for text in captions] == [" is a 1 (bad)", "5 (excellent)"]
    page.click("#next")
    wait_for(page, "1 of 6")
    assert page.get_attribute("#picture", "src") == f"pictures/{order[0]}.png"
    page.keyboard.press("2")
    wait_for(page, "2 of 6")
    page.click("#scores button >> nth=4")
    wait_for(page, "3 of 6")
    page.keyboard.press("Backspace")
    wait_for(page, "2 of 6")
    page.keyboard.press("9")  # no score
    page.keyboard.press("3")
    wait_for(page, "3 of 6")

    page.reload()
    wait_for(page, "3 of 6")
    name = download(page, "#save", tmp_path / "part.csv")
    assert name == f"opinion-{key['page']}-Zoë-B.-incomplete.csv"
    for count in (3, 4, 5, 6):
        wait_for(page, f"{count} of 6")
        page.keyboard.press(str(count - 1))
    page.wait_for_selector("#end:not([hidden])")
    assert download(page, "#download", tmp_path / "all.csv") == f"opinion-{key['page']}-Zoë-B..csv"
    assert page.input_value("#text") == (tmp_path / "all.csv").read_text(encoding="utf-8")
    assert not page.failures
    assert all(url.startswith(("file:", "blob:")) for url in page.requests)

    ratings = opinion.read_ratings(tmp_path / "all.csv", key)
    assert ratings.scores == dict(zip(order, [2, 3, 2, 3, 4, 5], strict=True))
    capsys.readouterr()
    files = [tmp_path / "part.csv", tmp_path / "all.csv"]
    assert run("report", *files, "--key", test / "key.json", "--out", tmp_path / "report") == 2
    said = capsys.readouterr()
    assert f"left out {files[0]}: incomplete: Zoë B. has rated 2 of 6 pictures." in said.err
    assert "| nearest | " in said.out
    assert (tmp_path / "report" / "opinion.png").is_file()
    assert run("report", files[1], "--key", test / "key.json") == 0


def test_a_telephone_without_memory(chromium, photos, tmp_path):
    """By touch, in one file, where the browser keeps nothing and a pixel is 2.625 of its own."""
    test = tmp_path / "test"
    key = make(photos, test, "--one-file")
    page = open_page(
        chromium,
        test,
        viewport={"width": 390, "height": 844},
        device_scale_factor=2.625,
        has_touch=True,
        is_mobile=True,
    )
    page.add_init_script(
        "Object.defineProperty(window, 'localStorage', {get() { throw new Error('forbidden'); }})"
    )
    page.reload()
    assert page.is_visible("#memory")
    rater = page.input_value("#name")
    assert rater.startswith("rater ")
    page.tap("text=Begin")
    page.tap("#next")
    for count in range(1, 7):
        wait_for(page, f"{count} of 6")
        natural, shown = page.evaluate(
            "[picture.naturalWidth, picture.getBoundingClientRect().width * devicePixelRatio]"
        )
        assert shown == pytest.approx(2 * natural, abs=0.1)  # whole pixels, as many as fit
        widths = page.evaluate("[rating.scrollWidth, rating.clientWidth, rating.scrollLeft]")
        assert widths[1] == 390
        assert widths[0] == pytest.approx(max(390, shown / 2.625), abs=1)
        assert widths[2] == pytest.approx((widths[0] - 390) / 2, abs=1)  # its middle is seen first
        page.tap(f"#scores button >> nth={count % 5}")
    page.wait_for_selector("#end:not([hidden])")
    download(page, "#download", tmp_path / "all.csv")
    assert not page.failures
    ratings = opinion.read_ratings(tmp_path / "all.csv", key)
    assert ratings.rater == rater
    assert list(ratings.scores.values()) == [2, 3, 4, 5, 1, 2]


def test_a_picture_that_is_missing_is_said(chromium, photos, tmp_path):
    test = tmp_path / "test"
    make(photos, test)
    shutil.rmtree(test / opinion.PAGE / opinion.PICTURES)
    page = open_page(chromium, test)
    page.click("text=Begin")
    page.click("#next")
    page.wait_for_selector("#count:text('This picture is missing')")

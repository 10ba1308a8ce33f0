import csv
import json
import math
import re

import numpy as np
import pytest
from PIL import Image

from srgan_keras.common.errors import UserError
from srgan_keras.common.pictures import open_picture, picture_size
from srgan_keras.evaluation import opinion
from srgan_keras.evaluation.tables import find_samples, find_sets
from srgan_keras.inference.interpolation import Interpolation

METHODS = {name: Interpolation(name, 4) for name in ("nearest", "bicubic", "lanczos")}
VALUES = {"": 2872998923, "a": 444641715, "Zoë B.": 2897276523, "t0/Anna/p0": 845197404}
PICTURES = 2 * (len(METHODS) + 1)


@pytest.fixture
def photos(tmp_path):
    """A folder of two photographs, whose names would tell nothing."""
    rng = np.random.default_rng(0)
    for name, shape in (("a.png", (44, 40, 3)), ("b.png", (40, 48, 3))):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(tmp_path / "photos" / name)
    return tmp_path / "photos"


def make(photos, folder, seed=0, **options):
    sets, examples = find_sets([photos], [], 4), find_samples(photos, 4)[:1]
    return opinion.make_test(sets, METHODS, examples, 4, seed, folder, **options)


@pytest.fixture
def key(photos, tmp_path):
    make(photos, tmp_path / "test")
    return opinion.read_key(tmp_path / "test" / opinion.KEY)


def write_scores(path, key, rater, scores):
    """Writes what the page gives a rater to download."""
    rows = [opinion.COLUMNS]
    for position, (name, score) in enumerate(
        zip(opinion.order_for(key, rater), scores, strict=False), 1
    ):
        rows.append([key["page"], rater, position, name, score])
    text = "\n".join(",".join(map(str, row)) for row in rows)
    path.write_text(f"{text}\nchecksum,c{opinion.mix(text):08x}\n", encoding="utf-8")
    return path


def files_of(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_seed_gives_the_same_page_byte_for_byte(photos, tmp_path):
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        assert make(photos, tmp_path / name, seed) == PICTURES
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    other = set(files_of(tmp_path / "other")) & set(files_of(tmp_path / "one"))
    assert {str(path) for path in other} == {"key.json", "page/index.html"}


def test_the_page_does_not_tell_which_method_made_what(photos, tmp_path):
    make(photos, tmp_path / "test")
    page = tmp_path / "test" / opinion.PAGE
    html = (page / opinion.INDEX).read_text(encoding="utf-8").lower()
    for word in (*METHODS, "hr", "photos", "a.png", "b.png", "seed", "interpolation", "srgan"):
        assert not re.search(rf"\b{re.escape(word)}\b", html), word
    names = [path.name for path in (page / opinion.PICTURES).iterdir()]
    assert len(names) == PICTURES + 2  # an example of two pictures
    assert all(re.fullmatch(r"p[0-9a-f]{12}\.png", name) for name in names)
    assert "http" not in html
    shown = json.loads(re.search(r'type="application/json">(.*?)</script>', html)[1])["pictures"]
    assert list(shown) == sorted(shown)  # not in the order of the methods


def test_pictures_are_the_methods_pixels(photos, tmp_path, key):
    for name, what in key["pictures"].items():
        (sample,) = [s for s in find_samples(photos, 4) if s.name == what["image"]]
        lr, hr = sample.open(4)
        expected = hr if what["method"] == "hr" else METHODS[what["method"]](lr)
        path = tmp_path / "test" / opinion.PAGE / opinion.PICTURES / f"{name}.png"
        np.testing.assert_array_equal(open_picture(path), expected)


def test_one_file_holds_its_pictures(photos, tmp_path, key):
    make(photos, tmp_path / "one", one_file=True)
    assert {str(path) for path in files_of(tmp_path / "one")} == {"key.json", "page/index.html"}
    html = (tmp_path / "one" / opinion.PAGE / opinion.INDEX).read_text()
    assert html.count("data:image/png;base64,") == PICTURES + 2
    assert opinion.read_key(tmp_path / "one" / opinion.KEY) == key


def test_a_folder_that_is_in_use_is_refused(photos, tmp_path):
    make(photos, tmp_path / "test")
    with pytest.raises(UserError, match="is not empty"):
        make(photos, tmp_path / "test")


def test_raters_have_orders_of_their_own(key):
    anna, ben = opinion.order_for(key, "Anna"), opinion.order_for(key, "Ben")
    assert sorted(anna) == sorted(ben) == sorted(key["pictures"])
    assert anna != ben
    assert anna == opinion.order_for(key, "Anna")


def test_the_hash_is_the_page_s():
    """The values are those that the page gives in Chromium."""
    assert [opinion.mix(text) for text in VALUES] == list(VALUES.values())


def test_statistics_by_hand():
    rows = [{"method": "a", "score": score} for score in (1, 2, 2, 5)]
    rows += [{"method": "b", "score": 4}]
    found = opinion.summarise(rows, ["b", "a", "unseen"])
    assert list(found) == ["b", "a"]
    assert found["a"].counts == (1, 2, 0, 0, 1)
    assert found["a"].mean == 2.5
    # Squares of -1.5, -0.5, -0.5 and 2.5 sum to 9; over 3 is the variance, over 4 the mean's.
    assert found["a"].standard_error == pytest.approx(math.sqrt(9 / 3 / 4))
    assert math.isnan(found["b"].standard_error)
    assert opinion.format_opinions(found).splitlines()[2:] == [
        "| b | 4.00 | - | 1 | 0 | 0 | 0 | 1 | 0 |",
        "| a | 2.50 | 0.87 | 4 | 1 | 2 | 0 | 0 | 1 |",
    ]


def test_files_are_joined_with_the_key(key, tmp_path):
    scores = [1, 2, 3, 4, 5, 1, 2, 3]
    files = [write_scores(tmp_path / f"{r}.csv", key, r, scores) for r in ("Anna", "Ben Ö.")]
    ratings, problems = opinion.collect(files, key)
    assert not problems
    rows = opinion.list_scores(ratings, key)
    assert len(rows) == 2 * PICTURES
    for row in rows:
        name = opinion.order_for(key, row["rater"])[row["position"] - 1]
        assert row["score"] == scores[row["position"] - 1]
        assert {k: row[k] for k in ("set", "image", "method")} == key["pictures"][name]
    counts = [o.count for o in opinion.summarise(rows, key["methods"]).values()]
    assert counts == [4] * len(key["methods"])


def test_incomplete_and_duplicate_files_are_named(key, tmp_path):
    whole = write_scores(tmp_path / "whole.csv", key, "Anna", [3] * PICTURES)
    again = write_scores(tmp_path / "again.csv", key, "anna", [4] * PICTURES)
    part = write_scores(tmp_path / "part.csv", key, "Ben", [3] * 5)
    early = write_scores(tmp_path / "early.csv", key, "Anna", [3] * 2)
    ratings, problems = opinion.collect([early, whole, again, part], key)
    assert [one.rater for one in ratings] == ["Anna"]
    assert problems == [
        f"{early}: incomplete: Anna has rated 2 of 8 pictures.",
        f"{part}: incomplete: Ben has rated 5 of 8 pictures.",
        f"{again}: duplicate: anna counts already, with {whole}.",
    ]
    ratings, problems = opinion.collect([early, whole, part], key, incomplete=True)
    assert [len(one.scores) for one in ratings] == [8, 5]
    assert problems == [f"{early}: duplicate: Anna counts already, with {whole}."]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda text: text.replace(",3\n", ",4\n", 1), "its checksum is that of other scores"),
        (lambda text: text.replace(",3\n", ",6\n", 1), "has the score 6, not 1 to 5"),
        (lambda text: text.replace(",3\n", ",\n", 1), "has the score , not 1 to 5"),
        (lambda text: text.replace(",3\n", "\n", 1), "has the score , not 1 to 5"),
        (lambda text: re.sub("p[0-9a-f]{12}", "pother", text, count=1), "pother is not a picture"),
        (lambda text: text.replace("checksum,c", "checksum,d"), "its checksum is that of other"),
        (lambda text: text.split("checksum")[0], "its last line, the checksum, is missing"),
        (lambda text: "\n".join(text.split("\n")[:1] + text.split("\n")[2:]), "in the order of"),
        (lambda text: re.sub(r"\bt[0-9a-f]{10}", "t0", text), "belongs to the page t0, and the"),
        (lambda text: "a,b\n1,2\n", "not a file of scores"),
        (lambda text: "", "not a file of scores"),
        (lambda text: text.split("\n")[0] + "\nchecksum,c00000000\n", "it holds no score"),
    ],
)
def test_changed_files_are_refused_in_one_line(key, tmp_path, change, message):
    path = write_scores(tmp_path / "scores.csv", key, "Anna", [3] * PICTURES)
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=message) as error:
        opinion.read_ratings(path, key)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_what_a_spreadsheet_changes_does_not_matter(key, tmp_path):
    path = write_scores(tmp_path / "scores.csv", key, "Ben Ö.", [3] * PICTURES)
    before = opinion.read_ratings(path, key)
    lines = path.read_text(encoding="utf-8").splitlines()
    text = "\r\n".join([*lines[:-1], lines[-1] + ",,,", ""])
    path.write_text(text, encoding="utf-8-sig", newline="")
    assert opinion.read_ratings(path, key) == before


def test_no_text_and_no_file(key, tmp_path):
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(UserError, match="not a CSV file in UTF-8"):
        opinion.read_ratings(tmp_path / "picture.csv", key)
    with pytest.raises(UserError, match="there is no such file"):
        opinion.read_ratings(tmp_path / "none.csv", key)


def test_keys_that_are_none(tmp_path):
    with pytest.raises(UserError, match="Give the `key` that make wrote"):
        opinion.read_key(tmp_path / "key.json")
    wrong = {"page": "t0", "methods": ["a"], "pictures": {"p0": {"method": "b"}}}
    for text in ("{", "[]", "{}", json.dumps(wrong), json.dumps({**wrong, "pictures": [1]})):
        (tmp_path / "key.json").write_text(text)
        with pytest.raises(UserError, match="is not the key of an opinion test"):
            opinion.read_key(tmp_path / "key.json")


def test_the_figure_has_its_bins_centred_on_the_scores():
    opinions = {"a": opinion.Opinion((1, 2, 0, 0, 1)), "b": opinion.Opinion((0, 0, 0, 3, 0))}
    axes = opinion.draw_distribution(opinions, "title").axes[0]
    (mesh,) = [c for c in axes.collections if hasattr(c, "get_coordinates")]
    edges = mesh.get_coordinates()
    np.testing.assert_array_equal(edges[:, 0, 1], [0.5, 1.5, 2.5, 3.5, 4.5, 5.5])
    np.testing.assert_array_equal(edges[0, :, 0], [-0.5, 0.5, 1.5])
    np.testing.assert_array_equal(
        np.asarray(mesh.get_array()).reshape(5, 2).T, [[25, 50, 0, 0, 25], [0, 0, 0, 100, 0]]
    )
    (line,) = [line for line in axes.lines if line.get_marker() == "o"]
    assert line.get_color() == "red"
    np.testing.assert_array_equal(line.get_xydata(), [[0, 2.5], [1, 4]])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b"]


def test_the_report_is_written(key, tmp_path):
    ratings, _ = opinion.collect(
        [write_scores(tmp_path / "a.csv", key, "Anna", [1, 2, 3, 4, 5, 1, 2, 3])], key
    )
    rows = opinion.list_scores(ratings, key)
    opinions = opinion.summarise(rows, key["methods"])
    opinion.write_report(tmp_path / "report", rows, opinions)
    written = tmp_path / "report" / "opinion.md"
    assert written.read_text() == opinion.format_opinions(opinions) + "\n"
    assert picture_size(tmp_path / "report" / "opinion.png") == (870, 630)
    with open(tmp_path / "report" / "ratings.csv", newline="") as file:
        assert [{**row, "position": int(row["position"]), "score": int(row["score"])}
                for row in csv.DictReader(file)] == rows  # fmt: skip

"""The opinion test: people rate pictures, blind.

    python -m srgan_keras.rate make --sets Set14 --methods bicubic srresnet srgan --out opinion
    python -m srgan_keras.rate report scores/*.csv --key opinion/key.json --out report

The first command writes a page, the second makes a table and a figure of the files that come back.
This is the command line; the test is `evaluation.opinion`.
"""

if __name__ == "__main__":  # In front of the imports, as `start` says.
    from srgan_keras.common import cli

    cli.start("srgan_keras.rate")


import argparse
import sys
from pathlib import Path

from srgan_keras.common import cli
from srgan_keras.common.errors import UserError
from srgan_keras.data import SAMPLE_IMAGES
from srgan_keras.evaluation import opinion
from srgan_keras.evaluation.tables import find_samples, find_sets
from srgan_keras.inference.interpolation import FILTERS
from srgan_keras.inference.sources import PRETRAINED
from srgan_keras.inference.upscaler import load_methods


def main(argv: list[str] | None = None) -> int:
    """The command line; see the module's docstring."""
    args = parse_arguments(argv)
    return args.command(args)


def make(args: argparse.Namespace) -> int:
    """Writes the page and its key."""
    sets = find_sets(args.sets, [], args.scale)
    examples = find_samples(args.examples, args.scale)[: opinion.EXAMPLES]
    names = dict.fromkeys([opinion.WORST, *args.methods])
    names.pop(opinion.PHOTOGRAPH, None)  # It is always there.
    methods = load_methods(list(names), args.scale)
    if opinion.PHOTOGRAPH in methods:
        raise UserError(f"A model cannot be called {opinion.PHOTOGRAPH}. Rename its folder.")
    count = opinion.make_test(
        sets, methods, examples, args.scale, args.seed, args.out, args.one_file
    )
    page, key = args.out / opinion.PAGE, args.out / opinion.KEY
    given = page / opinion.INDEX if args.one_file else page
    print(f"{count} pictures to rate: {page / opinion.INDEX}, to be opened in a browser.")
    print(f"Give raters {given}; keep {key} to yourself.")
    print("Then make the table and the figure of the files that they send:")
    print(f"  python -m srgan_keras.rate report *.csv --key {key} --out report")
    return 0


def report(args: argparse.Namespace) -> int:
    """Prints the table; writes it and the figure."""
    key = opinion.read_key(args.key)
    ratings, problems = opinion.collect(args.scores, key, args.incomplete)
    for problem in problems:
        print(f"left out {problem}", file=sys.stderr)
    if not ratings:
        raise UserError("None of the files counts, so there is nothing to report.")
    rows = opinion.list_scores(ratings, key)
    opinions = opinion.summarise(rows, key["methods"])
    print(opinion.format_opinions(opinions))
    if args.out:
        opinion.write_report(args.out, rows, opinions)
        print(f"Written to {args.out}")
    return 2 if problems else 0


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = cli.Parser(
        prog="python -m srgan_keras.rate", description="The opinion test: people rate pictures."
    )
    commands = parser.add_subparsers(required=True, metavar="make | report")
    command = commands.add_parser("make", help="write the page", description="Writes the page.")
    command.set_defaults(command=make)
    folder = {"type": Path, "metavar": "FOLDER"}
    written = {**folder, "type": cli.folder}
    option = command.add_argument
    option(
        "--sets",
        nargs="+",
        required=True,
        help="photographs, HR/ and LR_x4/ pairs, crops",
        **folder,
    )
    option(
        "--methods",
        nargs="+",
        default=["bicubic", "srresnet", "srgan"],
        help=f"{', '.join((*FILTERS, *PRETRAINED))}, runs, SavedModels or .keras files; nearest "
        "and the photograph are always there",
    )
    option("--out", default="opinion", help="new folder for the page and its key", **written)
    option("--seed", type=int, default=0, help="of the pictures' names and the raters' orders")
    option("--scale", type=cli.positive_int, default=4, help="factor between LR and HR")
    option(
        "--examples",
        default=SAMPLE_IMAGES / "train",
        help=f"photographs whose first {opinion.EXAMPLES} show raters what a 1 and a 5 is",
        **folder,
    )
    option("--one-file", action="store_true", help="put the pictures into the page, for telephones")
    made = command

    command = commands.add_parser("report", help="table and figure", description="Reports.")
    command.set_defaults(command=report)
    option = command.add_argument
    option("scores", nargs="+", type=Path, metavar="CSV", help="the files that raters sent")
    option("--key", type=Path, default=Path("opinion", opinion.KEY), help="what make wrote")
    option("--incomplete", action="store_true", help="count raters who have not rated all, too")
    option("--out", help="folder for table, figure and every score", **written)
    parser.usage = "".join(
        one.format_usage().removeprefix("usage: ").replace("%", "%%") for one in (made, command)
    )
    return parser.parse_args(argv)

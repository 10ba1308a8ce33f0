"""A page in the browser that enlarges photographs on the machine that serves it.

What is downloaded from it is, byte for byte, what `upscale` writes. Gradio, of the extra `web`,
draws it, and is imported where it is used.
"""

import contextlib
import dataclasses
import functools
import html
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from srgan_keras.common.errors import UserError
from srgan_keras.common.pictures import PictureError, open_picture, picture_size, write_png
from srgan_keras.inference.choosing import AUTO, Chooser, load_model
from srgan_keras.inference.enlarging import Enlarged, Size, enlarge_files, resize
from srgan_keras.inference.photos import choose_targets
from srgan_keras.inference.sources import FORERUNNERS
from srgan_keras.inference.upscaler import Upscaler

if TYPE_CHECKING:
    import gradio

#: How long pictures are kept, in seconds, both uploaded and enlarged.
KEPT = 2 * 60 * 60
#: Bytes of an uploaded file for each pixel that is allowed, at most: four channels of 32 bits.
BYTES = 16
#: The addresses that other machines do not reach.
LOCAL = ("127.0.0.1", "localhost")
#: The models in which another one can be mixed.
BLENDED = (AUTO, *FORERUNNERS)
#: How many jobs may wait behind the one at work, of all who have the page open.
WAITING = 20

# The pictures are laid over each other; where one is clear, the other must not show through.
_STYLE = """
.gradio-container { max-width: 1400px !important; }
.slider img { background: white !important; max-height: 80vh !important; }
.gradio-container { --block-info-text-color: var(--block-title-text-color); }
.results .label-clear-button { display: none; }
.report { overflow-wrap: anywhere; min-height: 80px; }
.report .progress-text { position: static; transform: none; }  /* not over the bar */
.report ul { margin: 0; padding-left: 1.2em; }
.report .failed { color: #b91c1c; }
.dark .report .failed { color: #fca5a5; }
"""


@dataclasses.dataclass(frozen=True)
class Shown:
    """An enlarged photograph, as the page shows it.

    Attributes:
        name: of the photograph's file.
        before: PNG file, the photograph enlarged by interpolation, of the size of `after`.
        after: PNG file, what `upscale` writes of it.
        enlarged: what is to be said of it.
    """

    name: str
    before: Path
    after: Path
    enlarged: Enlarged


def enlarge_photo(photo: Path, folder: Path, model: Upscaler | Chooser, pixels: int) -> Shown:
    """Enlarges a photograph as `upscale` does, with something to compare it with.

    Args:
        photo: the file.
        folder: an empty one for the results.
        model: as `load_model` gives it.
        pixels: the most that the photograph may have.

    Raises:
        UserError: if it cannot be used, or is larger than that.
    """
    width, height = picture_size(photo)
    if width * height > pixels:
        raise PictureError(
            photo,
            f"too large: {width}x{height} are {width * height / 1e6:.3g} megapixels, and this page "
            f"takes {pixels / 1e6:g} at most; --megapixels allows more",
        )
    size = Size()
    (target,) = choose_targets([(photo, Path(photo.name))], folder, size.ending(model.scale))
    ((_, result),) = enlarge_files([(photo, target)], model, size)
    if isinstance(result, UserError):
        raise result
    before = folder / "before" / target.name
    write_png(before, resize(open_picture(photo), result.after, Image.Resampling.BICUBIC))
    return Shown(photo.name, before, target, result)


def describe(outcome: Shown | PictureError) -> str:
    """What came of a photograph, as an item of a list in HTML; no name is taken for HTML."""
    if isinstance(outcome, PictureError):
        failure = html.escape(f"{outcome.path.name}: {outcome.reason}")
        return f'<li class="failed">{failure}</li>'
    (width, height), (new_width, new_height) = outcome.enlarged.before, outcome.enlarged.after
    line = f"{outcome.name}: {width}x{height} to {new_width}x{new_height}"
    notes = [line, *outcome.enlarged.notes, f"{outcome.enlarged.seconds:.1f} s"]
    return f"<li>{html.escape(', '.join(notes))}</li>"


def work(
    photos: list[str], model: str, blend: float, pixels: int, folder: Path
) -> Iterator[Shown | PictureError]:
    """Enlarges photographs one after the other.

    Args:
        photos: their files.
        model: as `load_model` takes it.
        blend: likewise; taken for those in `BLENDED` alone, in which 1 changes nothing.
        pixels: the most that each may have.
        folder: each gets a folder of its own in it, so equal names do no harm.

    Yields:
        what came of each.

    Raises:
        UserError: if the model does not load.
    """
    upscaler = _load(model, blend if model in BLENDED and blend < 1 else None)
    for photo in map(Path, photos):
        try:
            yield enlarge_photo(photo, Path(tempfile.mkdtemp(dir=folder)), upscaler, pixels)
        except PictureError as error:
            yield error


@functools.lru_cache(maxsize=1)
def _load(model: str, blend: float | None) -> Upscaler | Chooser:
    """The model last used, which the next job mostly wants again."""
    return load_model(model, blend)


def build(models: list[str], pixels: int) -> "gradio.Blocks":
    """Draws the page.

    Args:
        models: the generators to choose from, as `load_model` takes them; the first is chosen.
        pixels: the most that a photograph may have.
    """
    import gradio as gr

    options = {"analytics_enabled": False, "delete_cache": (KEPT // 12, KEPT)}
    with gr.Blocks(title="Enlarge photographs", **options) as page:
        gr.Markdown(
            f"# Enlarge photographs\nOf up to {pixels / 1e6:g} megapixels each. They stay on the "
            f"machine that serves this page, which deletes them after {KEPT // 3600} hours."
        )
        with gr.Row():
            photos = gr.File(label="Photographs", file_count="multiple", file_types=["image"])
            with gr.Column():
                model = gr.Dropdown(
                    models, label="Model", info="auto chooses srgan or photo, which make detail up"
                )
                blend = gr.Slider(
                    0,
                    1,
                    1,
                    step=0.05,
                    label="Blend",
                    info="0: nearest to the photograph, 1: the most detail",
                    visible=models[0] in BLENDED,
                )
                with gr.Row():
                    button = gr.Button("Enlarge", variant="primary")
                    stop = gr.Button("Stop")
        report = gr.HTML(elem_classes="report")
        results = gr.File(
            label="Download", elem_classes="results", visible=False, interactive=False
        )
        chooser = gr.Dropdown(
            label="Shown", info="drag the handle; the wheel or two fingers zoom", visible=False
        )
        slider = gr.ImageSlider(
            label="Bicubic | enlarged",
            elem_classes="slider",
            max_height=10_000,
            buttons=["fullscreen"],
            visible=False,
        )
        pairs = gr.State([])
        model.change(lambda name: gr.Slider(visible=name in BLENDED), model, blend, queue=False)
        chooser.input(_show, [chooser, pairs], slider, queue=False)
        run = button.click(
            _runner(pixels, Path(page.GRADIO_CACHE)),
            [photos, model, blend],
            [report, chooser, slider, results, pairs],
            show_progress_on=report,
            concurrency_limit=1,
        )
        stop.click(None, cancels=run)
    return page


def _runner(pixels: int, folder: Path) -> Callable:
    """The function behind the button."""
    import gradio as gr

    def run(photos, model, blend, progress=gr.Progress()):  # noqa: B008 (so Gradio finds it)
        if not photos:
            raise gr.Error("Drop a photograph first.", print_exception=False)
        hidden = gr.update(visible=False, value=None)
        yield "", hidden, hidden, hidden, []
        progress((0, len(photos)), desc=Path(photos[0]).name, unit="photographs")
        done: list[Shown] = []
        lines = []
        try:
            for outcome in work(photos, model, blend, pixels, folder):
                lines.append(describe(outcome))
                if isinstance(outcome, Shown):
                    done.append(outcome)
                progress((len(lines), len(photos)), unit="photographs")
                yield f"<ul>{''.join(lines)}</ul>", *_present(done, isinstance(outcome, Shown))
        except UserError as error:
            raise gr.Error(html.escape(str(error)), print_exception=False) from error

    return run


def _present(done: list[Shown], is_new: bool) -> tuple:
    """The chooser, the slider, the files to download, and the pairs behind the chooser."""
    import gradio as gr

    if not is_new:
        return (gr.skip(),) * 4
    pairs = [(str(one.before), str(one.after)) for one in done]
    names = [(f"{index}. {one.name}", index) for index, one in enumerate(done, 1)]
    # Whoever looks at the first goes on doing so while others become ready.
    if len(done) == 1:
        chooser = gr.update(choices=names, value=1, visible=True)
        slider = gr.update(value=pairs[0], visible=True)
    else:
        chooser, slider = gr.update(choices=names), gr.skip()
    return chooser, slider, gr.update(value=[after for _, after in pairs], visible=True), pairs


def _show(index: int, pairs: list[tuple[str, str]]) -> tuple[str, str]:
    """What the slider shows."""
    import gradio as gr

    if not os.path.exists(pairs[index - 1][1]):
        raise gr.Error("This has been deleted by now: enlarge it again.", print_exception=False)
    return pairs[index - 1]


@contextlib.contextmanager
def served(models: list[str], pixels: int, address: str, port: int | None) -> Iterator[str]:
    """Serves the page, with a folder for its files that is removed in the end.

    Args:
        models: as for `build`.
        pixels: likewise.
        address: of this machine, to which the page is bound.
        port: None: the first that is free from 7860 on.

    Yields:
        the page's URL.

    Raises:
        UserError: if Gradio is not there, or the first model does not load.
        OSError: the address or the port cannot be had.
    """
    try:
        import gradio as gr
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
    except ModuleNotFoundError as error:
        raise UserError('The page needs Gradio: pip install -e ".[web]" in the clone.') from error
    _load(models[0], None)
    # Other sites whose names lead here, too, get no answer.
    names = list(LOCAL) if address in LOCAL else ["*"]
    guard = Middleware(TrustedHostMiddleware, allowed_hosts=names)
    with tempfile.TemporaryDirectory(prefix="srgan-web-", ignore_cleanup_errors=True) as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        page = build(models, pixels)
        page.queue(max_size=WAITING)
        try:
            _, url, _ = page.launch(
                server_name=address,
                server_port=port,
                share=False,
                prevent_thread_lock=True,
                quiet=True,
                max_file_size=BYTES * pixels,
                app_kwargs={"middleware": [guard]},
                enable_monitoring=False,
                run_history=False,
                mcp_server=False,
                ssr_mode=False,
                pwa=False,
                footer_links=[],
                theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
                css=_STYLE,
            )
            yield url
        finally:
            page.close(verbose=False)

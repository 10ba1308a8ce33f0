"""Draws several methods' results side by side, pixel for pixel, with a detail of each."""

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

DETAIL = 48  # side of the detail, in HR pixels
ZOOM = 5  # by how much it is enlarged, each pixel a block
GAP, LINE, TEXT = 8, 18, 14


def draw_comparison(
    lr: np.ndarray,
    results: Mapping[str, np.ndarray],
    hr: np.ndarray | None,
    scale: int,
    scores: Mapping[str, Mapping[str, float]],
) -> np.ndarray:
    """Draws LR, every method's result and HR side by side; below each its detail and its scores.

    Nothing is resampled: LR and the details are enlarged by repeating their pixels.

    Args:
        lr: `(h, w, 3)` uint8.
        results: dict of methods' names and their results, `(scale * h, scale * w, 3)` uint8.
        hr: the photograph, likewise, or None.
        scale: int.
        scores: dict of methods' names and dicts that may hold "psnr_y", "ssim_y" and "lpips".

    Returns:
        uint8 picture, white where nothing is drawn.
    """
    panels = {"LR": _repeat(lr, scale), **results}
    if hr is not None:
        panels["HR"] = hr
    height, width, _ = panels["LR"].shape
    top, left = choose_detail(panels[list(panels)[-1]])
    detail = min(DETAIL, height, width)
    column = max(width, detail * ZOOM, 170)

    size = (len(panels) * (column + GAP) - GAP, height + detail * ZOOM + 3 * LINE + 2 * GAP)
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(TEXT)
    for index, (name, picture) in enumerate(panels.items()):
        x, y = index * (column + GAP), LINE
        # Names of folders need not be valid text.
        title = name.encode("utf-8", "backslashreplace").decode()
        draw.text((x, 0), title, "black", font)
        canvas.paste(Image.fromarray(picture), (x, y))
        frame = (x + left - 1, y + top - 1, x + left + detail, y + top + detail)
        draw.rectangle(frame, outline="red")
        y += height + GAP
        piece = picture[top : top + detail, left : left + detail]
        canvas.paste(Image.fromarray(_repeat(piece, ZOOM)), (x, y))
        y += detail * ZOOM + GAP
        score = scores.get(name, {})
        if "psnr_y" in score:
            draw.text((x, y), f"{score['psnr_y']:.2f} dB  {score['ssim_y']:.3f}", "black", font)
        if "lpips" in score:
            draw.text((x, y + LINE), f"LPIPS {score['lpips']:.3f}", "black", font)
    return np.asarray(canvas)


def _repeat(picture, factor):
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def choose_detail(picture: np.ndarray) -> tuple[int, int]:
    """Chooses the window that says most: where neighbouring pixels differ most.

    Returns:
        (top, left) of a `DETAIL` wide window in an `(h, w, 3)` uint8 picture.
    """
    luma = picture.astype(np.float64).mean(axis=2)
    down, right = np.abs(np.diff(luma, axis=0)), np.abs(np.diff(luma, axis=1))
    windows = [
        (
            down[y : y + DETAIL, x : x + DETAIL].sum()
            + right[y : y + DETAIL, x : x + DETAIL].sum(),
            y,
            x,
        )
        for y in range(0, max(luma.shape[0] - DETAIL, 0) + 1, DETAIL // 2)
        for x in range(0, max(luma.shape[1] - DETAIL, 0) + 1, DETAIL // 2)
    ]
    return max(windows)[1:]

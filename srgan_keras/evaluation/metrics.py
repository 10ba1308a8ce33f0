"""Picture quality: PSNR and SSIM as the literature measures them, and LPIPS.

`measure` is the exact arithmetic on 8-bit pictures, for evaluation; `PSNR` and `SSIM` are the same
as Keras metrics, for training and validation.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.lib.stride_tricks import sliding_window_view

from srgan_keras.common import pixels
from srgan_keras.common.errors import UserError
from srgan_keras.data.pairs import separable_filter

CHANNELS = ("y", "rgb")
BORDER = 4  # pixels left out on each side, the scale of the published x4 figures
PEAK = 255.0
EQUAL = 100.0  # dB, the PSNR of equal pictures; no other reaches it
K1, K2 = 0.01, 0.03
WINDOW = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
WINDOW /= WINDOW.sum()
LPIPS_HINT = 'pip install -e ".[lpips]" in the clone'


def measure(
    hr: np.ndarray, sr: np.ndarray, channels: str = "y", border: int = BORDER
) -> tuple[float, float]:
    """Measures PSNR and SSIM (Wang et al. 2004) between two pictures, in float64.

    SSIM has an 11x11 Gaussian window with sigma 1.5, K1 .01, K2 .03 and population covariance.

    Args:
        hr: the photograph, `(h, w, 3)` uint8.
        sr: what was made of it, likewise.
        channels: "y" compares luma, as published figures do; "rgb" the mean over R, G and B.
        border: pixels left out on each side.

    Returns:
        (PSNR in dB, SSIM).

    Raises:
        ValueError: if the pictures are not uint8 of one shape, or too small for the window.
    """
    if hr.shape != sr.shape or hr.dtype != np.uint8 or sr.dtype != np.uint8:
        raise ValueError(
            "hr and sr must be uint8 pictures of one shape. "
            f"Received: {hr.dtype} {hr.shape} and {sr.dtype} {sr.shape}"
        )
    least = len(WINDOW) + 2 * border
    if min(hr.shape[:2]) < least:
        raise ValueError(f"pictures must be {least}x{least} or larger. Received: {hr.shape}")
    x, y = (_planes(picture.astype(np.float64), channels, border) for picture in (hr, sr))
    mse = np.mean((x - y) ** 2)
    psnr = 10 * np.log10(PEAK**2 / mse) if mse else EQUAL
    return float(psnr), float(np.mean(_ssim(x, y, _blur_numpy)))


def load_lpips() -> Callable[[np.ndarray, np.ndarray], float]:
    """Loads LPIPS (Zhang et al. 2018, AlexNet) of the package lpips.

    Returns:
        function of two `(h, w, 3)` uint8 pictures; lower is more alike.

    Raises:
        UserError: if the package or its weights are not there.
    """
    try:
        import lpips
        import torch

        network = lpips.LPIPS(net="alex", verbose=False)  # Downloads AlexNet at first.
    except ImportError as error:
        raise UserError(LPIPS_HINT) from error
    except OSError as error:
        raise UserError(f"AlexNet's weights cannot be downloaded: {error}") from error

    def distance(hr, sr):
        images = (np.asarray(pixels.from_8bit(picture[None])) for picture in (hr, sr))
        pair = [torch.from_numpy(image.transpose(0, 3, 1, 2).copy()) for image in images]
        with torch.no_grad():
            return float(network(*pair))

    return distance


class _PictureMetric(keras.metrics.Mean):
    """The mean over pictures of a measure between images in [-1, 1], as if saved as 8 bits."""

    def __init__(
        self, channels: str = "y", border: int = BORDER, name: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.channels = channels
        self.border = border

    def update_state(self, hr: Any, sr: Any, sample_weight: Any = None) -> None:
        x, y = (
            _planes(ops.cast(pixels.to_8bit(images), "float32"), self.channels, self.border)
            for images in (hr, sr)
        )
        return super().update_state(self.compare(x, y), sample_weight)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "channels": self.channels, "border": self.border}


@keras.saving.register_keras_serializable("srgan_keras")
class PSNR(_PictureMetric):
    """Peak signal-to-noise ratio in dB, the mean over pictures.

    Args:
        channels: as for `measure`.
        border: as for `measure`.

    Call arguments of `update_state`:
        hr, sr: `(batch, h, w, 3)` float32 in [-1, 1].
    """

    def __init__(
        self, channels: str = "y", border: int = BORDER, name: str = "psnr", **kwargs: Any
    ) -> None:
        super().__init__(channels, border, name=name, **kwargs)

    def compare(self, x: Any, y: Any) -> Any:
        """Returns the PSNR of each picture."""
        mse = ops.mean(ops.square(x - y), axis=(1, 2, 3))
        return 10.0 * ops.log10(PEAK**2 / ops.maximum(mse, PEAK**2 * 10 ** (-EQUAL / 10)))


@keras.saving.register_keras_serializable("srgan_keras")
class SSIM(_PictureMetric):
    """Structural similarity, the mean over pictures; arguments as for `PSNR`."""

    def __init__(
        self, channels: str = "y", border: int = BORDER, name: str = "ssim", **kwargs: Any
    ) -> None:
        super().__init__(channels, border, name=name, **kwargs)

    def compare(self, x: Any, y: Any) -> Any:
        """Returns the SSIM of each picture."""
        return ops.mean(_ssim(x, y, _blur_keras), axis=(1, 2, 3))


def _planes(pictures, channels, border):
    """Cuts the border off `(..., h, w, 3)` pixels in 0..255 and takes luma if asked for."""
    if channels not in CHANNELS:
        raise ValueError(f"channels must be one of {CHANNELS}. Received: {channels!r}")
    inside = slice(border, -border or None)
    pictures = pictures[..., inside, inside, :]
    if channels == "rgb":
        return pictures
    return 16.0 + pixels.luma(pictures) * (219.0 / 255.0)  # ITU-R BT.601's Y, 16 to 235


def _ssim(x, y, blur):
    c1, c2 = (K1 * PEAK) ** 2, (K2 * PEAK) ** 2
    mean_x, mean_y = blur(x), blur(y)
    variances = blur(x * x) - mean_x * mean_x + blur(y * y) - mean_y * mean_y
    covariance = blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    return luminance * (2 * covariance + c2) / (variances + c2)


def _blur_numpy(planes):
    """Gaussian mean around each pixel of `(h, w, c)` float64 whose window lies inside."""
    for axis in (0, 1):
        planes = sliding_window_view(planes, len(WINDOW), axis) @ WINDOW
    return planes


def _blur_keras(planes):
    """The same of `(batch, h, w, c)` float32 tensors."""
    return separable_filter(planes, WINDOW)

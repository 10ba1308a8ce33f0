"""SRGAN for Keras 3: photographs four times as wide and as high, with believable detail."""

import importlib
import os

# TensorFlow's start-up chatter would bury what the commands say; set the variable to see it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

__version__ = "0.1.0"

# Loaded at first use: upscaling needs none of the model code, and --help none of TensorFlow.
_HOMES = {
    "Logistic": "parts.adversarial",
    "PSNR": "evaluation.metrics",
    "PixelShuffle": "parts.layers",
    "Recipe": "recipe",
    "SRGAN": "training.gan",
    "Upscaler": "inference.upscaler",
    "VGGLoss": "parts.content",
    "Wasserstein": "parts.adversarial",
    "batches": "data.batches",
    "build_discriminator": "systems.srgan",
    "build_generator": "systems.srgan",
    "get_recipe": "systems",
    "load_generator": "inference.pretrained",
    "make_arrays": "data.pairs",
}
__all__ = sorted(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)

"""Data: folders of crops or COCO itself to batches of (LR, HR) pairs."""

from pathlib import Path

#: Sixteen photographs that ship with the package, with splits `train` and `test`.
SAMPLE_IMAGES = Path(__file__).parents[1] / "sample_images"

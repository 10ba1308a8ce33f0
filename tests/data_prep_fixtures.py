"""Small photographs, a small COCO folder, and a server for it."""

import contextlib
import http.server
import json
import threading
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def save_photo(path: Path, width: int = 40, height: int = 40, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def png_header(width: int, height: int) -> bytes:
    """A PNG file that claims a size and holds no pixels."""
    ihdr = b"IHDR" + width.to_bytes(4) + height.to_bytes(4) + bytes([8, 2, 0, 0, 0])
    crc = zlib.crc32(ihdr).to_bytes(4)
    return b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4) + ihdr + crc + (99).to_bytes(4) + b"IDAT"


class SmallCoco:
    """COCO's layout with `count` photographs of one size, an animal at the left edge of each."""

    def __init__(
        self,
        root: Path,
        count: int = 10,
        split: str = "train2017",
        width: int = 48,
        height: int = 40,
    ) -> None:
        self.root, self.split = root, split
        self.images = [
            {
                "id": i,
                "file_name": f"{i:012d}.jpg",
                "width": width,
                "height": height,
                "license": 4,
                "flickr_url": f"http://flickr/{i}",
            }
            for i in range(1, count + 1)
        ]
        self.annotations = [
            {"id": i, "image_id": i, "category_id": 1 + i % 2, "iscrowd": 0, "bbox": [0, 0, 10, 10]}
            for i in range(1, count + 1)
        ]
        self.categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
        for i in range(1, count + 1):
            save_photo(self.photo(i), width, height, seed=i)
        self.save()

    def photo(self, i: int) -> Path:
        return self.root / self.split / f"{i:012d}.jpg"

    def add(self, file_name: object) -> None:
        """Lists one more photograph, in front of the others."""
        row = {"id": 1000 + len(self.images), "file_name": file_name, "width": 48, "height": 40}
        self.images.insert(0, row)
        self.save()

    def save(self) -> None:
        file = self.root / "annotations" / f"instances_{self.split}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        licenses = [{"id": 4, "name": "Attribution", "url": "http://licence/by"}]
        data = {"images": self.images, "annotations": self.annotations}
        data |= {"categories": self.categories, "licenses": licenses}
        file.write_text(json.dumps(data))


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        asked = self.headers.get("Range")
        server.requests.append((self.path, asked))
        file = server.root / self.path.lstrip("/")
        if server.failures:
            self.send_error(server.failures.pop())
            return
        if not file.is_file():
            self.send_error(404)
            return
        data, begin = file.read_bytes(), 0
        if asked and server.ranges:
            begin = int(asked.removeprefix("bytes=").removesuffix("-"))
            if begin >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        end = begin + 100 if server.cut_short else len(data)
        self.wfile.write(data[begin:end])
        server.cut_short = False

    def log_message(self, *args) -> None:
        pass


@contextlib.contextmanager
def file_server(root: Path):
    """Serves a folder; `requests` lists what was asked, the other attributes make it misbehave."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.root, server.requests = root, []
    server.ranges, server.cut_short, server.failures = True, False, []
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

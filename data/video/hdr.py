"""Tone mapping: pictures of high dynamic range (PQ and HLG, ITU-R BT.2100) as a standard screen shows them.

Light up to the reference white of 203 cd/m2 (ITU-R BT.2408) keeps its place; what is brighter is compressed into what
lies between KNEE and white, in equal proportion for the three colours, so that hues stay. The colours of BT.2020 that
BT.709 does not have are cut.
"""

from functools import lru_cache

import numpy as np

PQ, HLG = 16, 18  # FFmpeg's numbers of the two transfer functions (ITU-T H.273)
TRANSFERS = (PQ, HLG)
WHITE_NITS = 203.0
HLG_PEAK_NITS = 1000.0  # of the screen that HLG's system gamma of 1.2 is for
KNEE = 0.9  # of white: where compression begins
BT2020_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
BT2020_LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)


def tone_map(rgb: np.ndarray, transfer: int) -> np.ndarray:
    """Return uint8 [H, W, 3] in BT.709 of rgb, uint16 [H, W, 3] in BT.2020 with the transfer function PQ or HLG."""
    light = _light(transfer)[rgb]
    if transfer == HLG:  # what the screen adds: brightness to the power of 0.2 (BT.2100, gamma 1.2)
        light *= (np.maximum(light @ BT2020_LUMA, 1e-6) ** 0.2)[..., None] * (HLG_PEAK_NITS / WHITE_NITS)
    light = light @ BT2020_TO_BT709.T
    brightest = np.maximum(light.max(-1, keepdims=True), 1e-6)
    over = np.maximum(brightest - KNEE, 0) / (1 - KNEE)
    kept = np.minimum(brightest, KNEE) + (1 - KNEE) * over / (1 + over)
    levels = np.clip(light * (kept / brightest), 0, 1) * (len(_encoded()) - 1)
    return _encoded()[levels.astype(np.uint16)]


@lru_cache(maxsize=2)
def _light(transfer: int) -> np.ndarray:
    """Light of each of 65,536 levels, float32: of PQ, 1 is WHITE_NITS; of HLG, the scene's, at most 1."""
    level = np.linspace(0, 1, 2**16)
    if transfer == PQ:
        root = level ** (32 / 2523)
        light = np.maximum(root - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * root)
        return (light ** (8192 / 1305) * (10000 / WHITE_NITS)).astype(np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(level <= 0.5, level**2 / 3, (np.exp((level - c) / a) + b) / 12).astype(np.float32)


@lru_cache(maxsize=1)
def _encoded() -> np.ndarray:
    """The byte for each of 65,536 levels of light: the inverse of a screen's gamma of 2.4 (ITU-R BT.1886)."""
    return np.round(np.linspace(0, 1, 2**16) ** (1 / 2.4) * 255).astype(np.uint8)

"""Mel-frequency cepstral coefficients, as the package python_speech_features computes them: what Light-ASD hears."""

import functools

import numpy as np
from scipy.fft import dct

RATE = 16000
PER_SECOND = 100
WINDOW, STEP, N_FFT = 400, RATE // PER_SECOND, 512  # samples: 25 ms every 10 ms
N_FILTERS, N_COEFFICIENTS, LIFTER, PRE_EMPHASIS = 26, 13, 22, 0.97
FULL_SCALE = 32768  # the network was trained on 16-bit samples


def mfcc(sound: np.ndarray, n_rows: int) -> np.ndarray:
    """Coefficients float32 [n_rows, 13], 100 rows a second, of sound float32 [n] at 16 kHz between -1 and 1.

    The first coefficient is the logarithm of the energy. Sound that ends before the last row is followed by silence.
    """
    samples = np.clip(np.round(sound.astype(np.float64) * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1)
    emphasised = np.append(samples[:1], samples[1:] - PRE_EMPHASIS * samples[:-1])
    n_needed = (n_rows - 1) * STEP + WINDOW
    emphasised = np.pad(emphasised, (0, max(0, n_needed - len(emphasised))))
    frames = np.lib.stride_tricks.sliding_window_view(emphasised, WINDOW)[::STEP][:n_rows]
    power = np.abs(np.fft.rfft(frames, N_FFT)) ** 2 / N_FFT
    tiny = np.finfo(float).eps
    energy, filtered = power.sum(1), power @ _mel_filters().T
    cepstrum = dct(np.log(np.where(filtered == 0, tiny, filtered)), norm="ortho")[:, :N_COEFFICIENTS]
    cepstrum *= 1 + LIFTER / 2 * np.sin(np.pi * np.arange(N_COEFFICIENTS) / LIFTER)
    cepstrum[:, 0] = np.log(np.where(energy == 0, tiny, energy))
    return cepstrum.astype(np.float32)


@functools.cache
def _mel_filters() -> np.ndarray:
    """Triangles [26, 257] between points that are evenly spaced in mel (2595 log10(1 + f / 700)), on whole bins."""
    mels = np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), N_FILTERS + 2)
    bins = np.floor((N_FFT + 1) * 700 * (10 ** (mels / 2595) - 1) / RATE)
    filters = np.zeros((N_FILTERS, N_FFT // 2 + 1))
    for row, (left, top, right) in zip(filters, zip(bins, bins[1:], bins[2:], strict=False), strict=True):
        rising, falling = np.arange(left, top), np.arange(top, right)
        row[rising.astype(int)] = (rising - left) / (top - left)
        row[falling.astype(int)] = (right - falling) / (right - top)
    return filters

"""Which net for sounds is there, and how does a recording become its input?

The mel cepstra are those of librosa's `feature.mfcc` of 2021, the package that the net was trained with:
Hann window, reflected edges, Slaney's mel scale and areas, decibels 80 below the loudest at least, cosine
transform of unit norm.
"""

from __future__ import annotations

import io
import wave
from functools import partial

import numpy as np
from scipy.fft import dct

from benchmarks.science.fit.public.keras_file import convert
from benchmarks.science.fit.public.net import Made, Net, Tools
from benchmarks.science.fit.public.repositories import Repository

DIGITS = Repository(
    "Jakobovski/free-spoken-digit-dataset", "26eb9aaf76e81b692f806f9140c2d2777410d7a1", "CC BY-SA 4.0"
)
ROBOT = Repository(
    "Bot-Ro-Bot/Digit-Recognition-Using-Audio-Dataset",
    "ae640863cc3bd98229c89ff1f1faa178ed7e06c9",
    "none stated",
)
RATE, LENGTH = 8000, 4000  # samples a second, samples that the net looks at
WINDOW, HOP, BANDS, CEPSTRA = 256, 125, 128, 20
TRIM = (256, 64, 20.0)  # window, step, decibels below the loudest that are silence


def recording(blob: bytes) -> np.ndarray:
    """(samples,) float32 in -1 .. 1, the mean of the channels."""
    with wave.open(io.BytesIO(blob)) as file:
        if file.getframerate() != RATE or file.getsampwidth() != 2:
            raise ValueError("a recording is not 16 bits at 8 kHz")
        frames = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return frames.reshape(-1, file.getnchannels()).mean(1).astype(np.float32) / 32768


def windows(sound: np.ndarray, size: int, step: int) -> np.ndarray:
    padded = np.pad(sound, size // 2, mode="reflect")
    return np.lib.stride_tricks.sliding_window_view(padded, size)[::step]


def trimmed(sound: np.ndarray) -> np.ndarray:
    """Without silence at its ends."""
    size, step, below = TRIM
    loudness = 10 * np.log10(np.maximum((windows(sound, size, step) ** 2).mean(1), 1e-10))
    loud = np.flatnonzero(loudness > loudness.max() - below)
    return sound[loud[0] * step : (loud[-1] + 1) * step]


def mel_bands() -> np.ndarray:
    """(bands, frequencies): triangles of area one, their corners equally far apart on Slaney's scale."""
    knee, slope = 15.0, np.log(6.4) / 27  # linear up to 1 kHz, logarithmic above
    steps = np.linspace(0, knee + np.log(RATE / 2 / 1000) / slope, BANDS + 2)
    corners = np.where(steps < knee, steps * 1000 / knee, 1000 * np.exp(slope * (steps - knee)))
    distance = corners[:, None] - np.fft.rfftfreq(WINDOW, 1 / RATE)
    width = np.diff(corners)[:, None]
    triangles = np.maximum(0, np.minimum(-distance[:-2] / width[:-1], distance[2:] / width[1:]))
    return triangles * 2 / (corners[2:] - corners[:-2])[:, None]


def cepstra(sound: np.ndarray, bands: np.ndarray) -> np.ndarray:
    """(time, CEPSTRA) float32."""
    hann = np.hanning(WINDOW + 1)[:-1]
    power = np.abs(np.fft.rfft(windows(sound, WINDOW, HOP) * hann)) ** 2 @ bands.T
    decibels = 10 * np.log10(np.maximum(power, 1e-10))
    decibels = np.maximum(decibels, decibels.max() - 80)
    return dct(decibels, axis=1, norm="ortho")[:, :CEPSTRA].astype(np.float32)


def spoken_digits(tools: Tools, model: str, trim: bool) -> Made:
    bands, x, y = mel_bands(), [], []
    for name, blob in tools.clones.read_all(DIGITS, "recordings").items():
        if not name.endswith(".wav"):
            continue
        sound = recording(blob)
        sound = (trimmed(sound) if trim else sound)[:LENGTH]
        x.append(cepstra(np.pad(sound, (0, LENGTH - len(sound))), bands))
        y.append(int(name.split("/")[1][0]))
    return Made(convert(tools.clones.read(ROBOT, f"Models/{model}.h5")), np.array(x)[..., None], np.array(y))


SOURCE = f"{ROBOT.name}, Models/{{}}.h5; recordings: {DIGITS.name} ({DIGITS.licence})"
NETS = (
    Net(
        "spoken_digits",
        partial(spoken_digits, model="model4", trim=True),
        SOURCE.format("model4"),
        ROBOT.licence,
        claimed=None,
        kind="sound, spoken digits of six speakers, CNN over mel cepstra, softmax",
        note="cepstra of what is left without silence at the ends; trained on most of these",
    ),
    Net(
        "spoken_digits_untrimmed",
        partial(spoken_digits, model="model3", trim=False),
        SOURCE.format("model3"),
        ROBOT.licence,
        claimed=None,
        kind="the same, another CNN, fed recordings with the silence that it was trained without",
        note="cepstra of the recordings as they are: a change between training and use",
    ),
)

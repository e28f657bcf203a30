"""Music to try `fit` on with a transcriber of notes: short pieces of synthetic instruments, and their notes.

    python benchmarks/science/positions/music.py music.npz [--pieces 150] [--seed 0]
    unzip -j basic_pitch-0.4.0-py2.py3-none-any.whl '*nmp.onnx'     # of the PyPI package basic-pitch
    onnxtweak fit nmp.onnx --logits StatefulPartitionedCall:1 -d music.npz --group recording -o music.onnx

A piece has up to three instruments of six kinds, each a sum of overtones with an envelope, which play notes
and chords around a pitch of their own, and noise. It is cut into the windows that the model takes, 43,844
samples at 22,050 a second, with labels of 172 frames x 88 pitches. `recording` numbers the pieces.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

RATE, WINDOW, HOP, FRAMES, LOWEST, PITCHES = 22050, 43844, 256, 172, 21, 88
SECONDS, OVERTONES = 6, 24
# Attack in seconds, and the strength of overtone k of a note of frequency f.
KINDS = {
    "plucked": (0.004, lambda k, f: 1 / k**1.2),
    "organ": (0.02, lambda k, f: (k in (1, 2, 3, 4, 6, 8)) / k**0.5),
    "bowed": (0.08, lambda k, f: 1 / k**0.8),
    "bell": (0.003, lambda k, f: 1 / k**0.6),
    "reed": (0.03, lambda k, f: (k % 2 == 1) / k**0.7),
    "voice": (0.06, lambda k, f: np.exp(-(((k * f - 700) / 600) ** 2)) + 0.5 / k**1.5),
}
STRETCHED = {"bell": 4e-4, "plucked": 5e-5}  # how much sharper the second overtone is than twice the first
INTERVALS = (-12, -7, -5, -4, -3, -2, 0, 2, 3, 4, 5, 7, 9, 12)


def tone(rng: np.random.Generator, kind: str, pitch: int, count: int) -> np.ndarray:
    """A note, (count,) float64 within -1 and 1. pitch : as MIDI numbers it."""
    attack, strength = KINDS[kind]
    frequency, t = 440 * 2 ** ((pitch - 69) / 12) * (1 + rng.normal(0, 0.002)), np.arange(count) / RATE
    vibrato: np.ndarray | float = 0.0
    if kind in ("bowed", "voice"):
        depth = rng.uniform(0.003, 0.01)
        vibrato = depth * np.sin(2 * np.pi * rng.uniform(4, 7) * t + rng.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(frequency * (1 + vibrato) * np.ones(count)) / RATE
    sound = np.zeros(count)
    for k in range(1, OVERTONES + 1):
        multiple = k * (1 + STRETCHED.get(kind, 0.0) * k * k)
        if multiple * frequency > 0.475 * RATE:
            break
        amplitude = float(strength(k, frequency))
        if not amplitude:
            continue
        decay = np.exp(-t * rng.uniform(1, 3) * k**0.5) if kind in ("plucked", "bell") else 1.0
        sound += amplitude * decay * np.sin(phase * multiple + rng.uniform(0, 6))
    rise, fall = int(RATE * attack), int(RATE * 0.03)
    sound[:rise] *= np.linspace(0, 1, rise)[:count]
    if fall < count:
        sound[-fall:] *= np.linspace(1, 0, fall)
    return sound / (np.abs(sound).max() + 1e-9)


def piece(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sound (samples,) float32 and notes (frames, 88) int8."""
    count = SECONDS * RATE
    sound, notes = np.zeros(count), np.zeros((count // HOP + 2, PITCHES), np.int8)
    for kind in rng.choice([*KINDS], rng.integers(1, 4), replace=False):
        time, around = rng.uniform(0, 0.3), rng.integers(40, 80)
        while time < SECONDS - 0.15:
            length = rng.choice([0.15, 0.25, 0.4, 0.6, 1.0]) * rng.uniform(0.8, 1.2)
            for _ in range(rng.integers(1, 4) if rng.random() < 0.5 else 1):
                pitch = int(around + rng.choice(INTERVALS) + rng.integers(-4, 5))
                pitch = min(max(pitch, LOWEST), LOWEST + PITCHES - 1)
                start = int(time * RATE)
                span = min(int(length * RATE), count - start)
                if span < 600:
                    continue
                sound[start : start + span] += tone(rng, kind, pitch, span) * 10 ** rng.uniform(-1, 0)
                notes[round(start / HOP) : round((start + span) / HOP), pitch - LOWEST] = 1
            time += length if rng.random() < 0.8 else length * rng.uniform(0.3, 1)
    sound += rng.normal(0, 10 ** rng.uniform(-4, -2), count)
    return (sound / np.abs(sound).max() * rng.uniform(0.3, 0.95)).astype(np.float32), notes


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("file", type=Path)
    asked.add_argument("--pieces", type=int, default=150)
    asked.add_argument("--seed", type=int, default=0)
    given = asked.parse_args()
    rng, x, y, of = np.random.default_rng(given.seed), [], [], []
    for number in range(given.pieces):
        sound, notes = piece(rng)
        for start in range(0, len(sound) - WINDOW + 1, FRAMES * HOP):
            x.append(sound[start : start + WINDOW, None])
            y.append(notes[start // HOP : start // HOP + FRAMES])
            of.append(number)
    np.savez(given.file, x=np.stack(x), y=np.stack(y), recording=np.array(of))
    print(f"{len(x):,} windows, of whose frames x pitches {np.mean(y):.1%} are notes")


if __name__ == "__main__":
    main()

#!/bin/sh
# Samples from a function; the commands as functions.
set -eu
cd "$(dirname "$0")"
rm -rf out && mkdir out

onnxtweak evaluate ../../models/digits_cnn3.onnx -d samples.py:noisy_test --worst 2 -q
python patch.py

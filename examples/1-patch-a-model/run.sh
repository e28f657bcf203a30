#!/bin/sh
# The main job, start to end.
set -eu
cd "$(dirname "$0")"
rm -rf out && mkdir out
model=../../models/digits_cnn3.onnx
samples=../../models/digits.npz

onnxtweak evaluate $model -d $samples#test -t 8 -q
onnxtweak join $model -d $samples#fit --test $samples#test -t 8 \
    -o out/tweaked.onnx --tweak out/eight.safetensors --report out/report.html -q
onnxtweak verify out/tweaked.onnx --base $model -d $samples#test -q
onnxtweak revert out/tweaked.onnx -o out/original.onnx -q
cmp $model out/original.onnx && echo "the original is back, byte for byte"

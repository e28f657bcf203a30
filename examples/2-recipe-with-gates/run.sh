#!/bin/sh
# One recipe, twice: gates that pass, and one that cannot.
set -eu
cd "$(dirname "$0")"
rm -rf out

onnxtweak run tweak.toml -q
ls out
(cd out && sha256sum --check --quiet SHA256SUMS && echo "all digests agree")

code=0
onnxtweak run tweak.toml --set gates.min-target-gain=99 -q 2>&1 || code=$?
echo "exit code $code"
ls out

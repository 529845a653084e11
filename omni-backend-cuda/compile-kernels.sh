#!/bin/sh
# Compiles the kernels to the PTX that travels in the jar; needs nvcc. An argument names another output directory.
#
# A driver refuses PTX whose .version is newer than its own CUDA: nvcc 13 writes 9.0, which CUDA 12 drivers reject. The
# kernels use nothing newer than PTX 8.0, which every CUDA 12 driver takes, so the version is lowered to that; ptxas
# refuses what a version does not have, and each file is assembled below under the lowered version.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/src/main/resources/io/omni/backend/cuda}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

compile() {
    mkdir -p "$out/compute_$1"
    for source in "$here"/src/main/cuda/*.cu; do
        name=$(basename "$source" .cu)
        nvcc -std=c++17 -arch=compute_$1 -ptx -o "$scratch/$1.ptx" "$source"
        # comments name the compiler's build and would make the files differ from machine to machine
        sed -e 's/^\.version .*/.version 8.0/' -e '/^[[:space:]]*\/\//d' -e '/^[[:space:]]*$/d' "$scratch/$1.ptx" \
            > "$out/compute_$1/$name.ptx"
        ptxas -arch=sm_$1 -o "$scratch/$1.cubin" "$out/compute_$1/$name.ptx"
    done
}

compile 80 &
first=$!
compile 90
wait $first

#!/bin/sh
# Compiles the kernels to the PTX that travels in the jar; needs nvcc. An argument names another output directory.
#
# A driver refuses PTX whose .version is newer than its own CUDA: nvcc 13 writes 9.0, which CUDA 12 drivers reject. The
# kernels use nothing newer than PTX 8.0, which every CUDA 12 driver takes, so the version is lowered to that; ptxas
# refuses what a version does not have, and each file is assembled below under the lowered version. The kernels use nothing
# that cards of compute capability 8.0 lack either, so newer ones take the same file.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/src/main/resources/io/omni/backend/cuda}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

mkdir -p "$out"
compile() {
    nvcc -std=c++17 -arch=compute_80 -ptx -o "$scratch/$1.ptx" "$here/src/main/cuda/$1.cu"
    # comments name the compiler's build and would make the files differ from machine to machine
    sed -e 's/^\.version .*/.version 8.0/' -e '/^[[:space:]]*\/\//d' -e '/^[[:space:]]*$/d' "$scratch/$1.ptx" > "$out/$1.ptx"
    ptxas -arch=sm_80 -o "$scratch/$1.cubin" "$out/$1.ptx"
}
for source in "$here"/src/main/cuda/*.cu; do
    compile "$(basename "$source" .cu)" &
    jobs="${jobs:-} $!"
    set -- $jobs
    if [ $# -ge 2 ]; then
        wait "$1"
        shift
        jobs=$*
    fi
done
for job in $jobs; do
    wait "$job"
done

#!/bin/sh
# What only a machine with an NVIDIA card can tell: that the kernels do on it what they do in emulation, that none of them
# reads or writes where it should not or races, and how fast they are. Run from anywhere; needs Maven, JDK 25 and the
# driver, and compute-sanitizer of the CUDA toolkit for the second part. Results go to target/gpu.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$here/..
out=$here/target/gpu
mkdir -p "$out"
nvidia-smi > "$out/card.txt"

cd "$root"
# -Dtest matches what there is; the conformance suite is added by its name once it is in omni-api
tests='OperationsTest,CudaBackendTest,*Conformance*Test'
echo '== operations and conformance on the card, in float32 and bfloat16, with graphs and without'
mvn -B -pl omni-backend-cuda -am test -Dtest="$tests" -Dsurefire.failIfNoSpecifiedTests=false \
    | tee "$out/tests.txt"
if grep -q 'not run on a card' "$here"/target/surefire-reports/*.xml; then
    echo 'tests were skipped: there is no card that the backend can use' >&2
    exit 1
fi

classes=$(mktemp)
trap 'rm -f "$classes"' EXIT
mvn -q -B -pl omni-backend-cuda -am test-compile dependency:build-classpath -DincludeScope=test \
    -Dmdep.outputFile="$classes" -Dmdep.regenerateFile=true
path=$here/target/classes:$here/target/test-classes:$root/omni-api/target/classes:$(cat "$classes")
java=${JAVA_HOME:+$JAVA_HOME/bin/}java

if command -v compute-sanitizer > /dev/null; then
    for tool in memcheck racecheck synccheck initcheck; do
        echo "== compute-sanitizer $tool"
        # the launched JVM is a process of Maven's; emulated settings would tell nothing here
        compute-sanitizer --tool "$tool" --target-processes all --error-exitcode 9 --log-file "$out/$tool.txt" \
            mvn -q -B -pl omni-backend-cuda -am test -Dtest="$tests" -Dsurefire.failIfNoSpecifiedTests=false \
            -Domni.cuda.cardOnly=true
        tail -n 1 "$out/$tool.txt"
    done
else
    echo 'compute-sanitizer not found, kernels are not checked with it' >&2
fi

echo '== bench'
"$java" -Xmx8g --enable-native-access=ALL-UNNAMED -cp "$path" io.omni.backend.cuda.Bench | tee "$out/bench.txt"

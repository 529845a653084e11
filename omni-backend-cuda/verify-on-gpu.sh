#!/bin/sh
# What only a machine with an NVIDIA card can tell: that the kernels do on it what they do in emulation, that none of them
# reads or writes where it should not or races, that a whole model gives upstream's results, and how fast all that is.
#
#   verify-on-gpu.sh              from a checkout: needs JDK 25 and the driver
#   verify-on-gpu.sh --pack DIR   makes a folder of this script and bundle.tar.xz, below 64 MiB, with Java, all jars, the
#                                 tests and the small checkpoint; on a machine with a card, DIR/verify-on-gpu.sh needs the
#                                 driver and xz or Python, and no Java
#
# compute-sanitizer of the CUDA toolkit, and Python with torch and transformers, are used where they are there. Results go
# to the folder gpu-results in the current one. Ends with 0 if all that was run passed, and with 2 if there is no card.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)

# Folder $1 gets what the checks need.
stage() {
    root=$(dirname -- "$here")
    bundle=$1
    rm -rf "$bundle"
    mkdir -p "$bundle/jars"
    echo '== building' >&2
    (cd "$root" && ./mvnw -q -B -ntp -DskipTests -Dspotless.check.skip package &&
        ./mvnw -q -B -ntp -DskipTests -Dspotless.check.skip -pl omni-backend-cuda -am package dependency:copy-dependencies \
            -DincludeScope=test -DoutputDirectory="$bundle/jars") >&2
    cp "$root"/omni-examples/target/lib/*.jar "$bundle/jars"
    # another backend, and larger than all else
    rm -f "$bundle"/jars/onnxruntime-*.jar "$bundle"/jars/omni-backend-onnx-*.jar "$bundle"/jars/protobuf-*.jar
    (cd "$here/target/test-classes" && "$jdk/bin/jar" --create --file "$bundle/jars/omni-backend-cuda-tests.jar" .)
    cp -r "$root/reference" "$bundle/reference"
}

# Packs the staged folder $1 into folder $2.
pack() {
    bundle=$1
    echo '== packing' >&2
    "$jdk/bin/jlink" --add-modules java.base,java.desktop,java.logging,java.management,java.xml,jdk.incubator.vector,jdk.unsupported \
        --strip-debug --no-header-files --no-man-pages --output "$bundle/java"
    # what other systems need, and programs; stored rather than compressed, which xz does better
    work=$bundle/work
    for jar in "$bundle"/jars/*.jar; do
        mkdir "$work"
        (cd "$work" && "$jdk/bin/jar" --extract --file "$jar" &&
            rm -rf native/lib/linux-aarch64 native/lib/osx* native/lib/win* lib/libJNvPTXCompiler* lib/libJNvrtc* \
                lib/libJCudaRuntime* org/bytedeco/ffmpeg/linux-x86_64/ffmpeg org/bytedeco/ffmpeg/linux-x86_64/ffprobe \
                org/bytedeco/ffmpeg/linux-x86_64/*avfilter* org/bytedeco/ffmpeg/linux-x86_64/*avdevice*)
        mv "$work/META-INF/MANIFEST.MF" "$bundle/manifest"
        "$jdk/bin/jar" --create --no-compress --file "$jar" --manifest "$bundle/manifest" -C "$work" .
        rm -rf "$work" "$bundle/manifest"
    done
    rm -rf "$bundle/reference/qwen3-tokenizer"
    mkdir -p "$2"
    cp "$here/verify-on-gpu.sh" "$2"
    tar -C "$bundle" -cJf "$2/bundle.tar.xz" .
    size=$(wc -c < "$2/bundle.tar.xz")
    echo "$2: $((size / 1048576)) MiB" >&2
    [ "$size" -lt $((63 * 1048576)) ]
}

# Each check prints its name and its outcome, and one that fails does not keep the others from running.
failed=
check() {
    name=$1
    shift
    echo "== $name"
    if "$@" > "$out/$name.txt" 2>&1; then
        tail -n 3 "$out/$name.txt"
    else
        echo "FAILED with $?:"
        tail -n 20 "$out/$name.txt"
        failed="$failed $name"
    fi
}

# Compares the answers of both backends to the conversations of case $1.
same_answer() {
    answered=$1
    case_file=$bundle/reference/tiny/cases/$answered.json
    { echo '['; sed -n '/^ "conversations": \[$/,/^ \],$/p' "$case_file" | sed '1d;$d'; echo ']'; } > "$out/$answered.conversation"
    set -- --speaker "$(sed -n 's/^ "speaker": "\(.*\)",$/\1/p' "$case_file")"
    fps=$(sed -n 's/^ *"fps": \([0-9.]*\),*$/\1/p' "$case_file")
    [ -z "$fps" ] || set -- "$@" --fps "$fps"
    ! grep -q '"use_audio_in_video": true' "$case_file" || set -- "$@" --use-audio-in-video
    for backend in cpu cuda; do
        omni run --backend $backend --model "$bundle/reference/tiny/model" --media "$bundle/reference/media" --greedy --json \
            --conversation "$out/$answered.conversation" --thinker-max-new-tokens 12 --talker-max-new-tokens 14 "$@" \
            > "$out/$answered.$backend.json" || return 1
    done
    cmp "$out/$answered.cpu.json" "$out/$answered.cuda.json"
}

omni() {
    java -Domni.cuda.precision=f32 io.omni.examples.OmniCli "$@"
}

java() {
    "$javaHome/bin/java" --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
        --sun-misc-unsafe-memory-access=allow -XX:+UseSerialGC -cp "$bundle/jars/*" "$@"
}

sanitized() {
    tool=$1
    shift
    compute-sanitizer --tool "$tool" --error-exitcode 9 "$javaHome/bin/java" --enable-native-access=ALL-UNNAMED \
        -Domni.conformance.seed=1 -cp "$bundle/jars/*" io.omni.backend.cuda.RunOnCard "$@"
}

verify() {
    out=$PWD/gpu-results
    rm -rf "$out"
    mkdir -p "$out"
    # says why if there is none
    java io.omni.backend.cuda.RunOnCard --ask || exit $?
    { nvidia-smi || true; } > "$out/card.txt" 2>&1
    # compilation of the kernels by the driver is part of the first of these
    for tests in OperationsTest CardConformanceTest CardBf16ConformanceTest CardF16ConformanceTest; do
        # one seed: half precision is declared for most arguments, and not for the worst
        check "$tests" java -Domni.conformance.seed=1 io.omni.backend.cuda.RunOnCard $tests
    done
    if command -v compute-sanitizer > /dev/null; then
        for tool in memcheck racecheck; do
            for tests in OperationsTest CardConformanceTest CardBf16ConformanceTest CardF16ConformanceTest; do
                check "$tool-$tests" sanitized $tool $tests
            done
        done
    else
        echo '== no compute-sanitizer: kernels are not checked with it'
    fi
    tiny=$bundle/reference/tiny
    check parity omni parity --backend cuda --model "$tiny/model" --cases "$tiny/cases" --media "$bundle/reference/media"
    for case_file in "$tiny"/cases/*.json; do
        ! grep -q '^ "rendered"' "$case_file" || check "answer-$(basename "$case_file" .json)" same_answer "$(basename "$case_file" .json)"
    done
    check kernels-bench java -Xmx8g io.omni.backend.cuda.Bench
    for graphs in false true; do
        for weights in bf16 q8 q4; do
            check "bench-$weights-graphs-$graphs" java -Domni.cuda.graphs=$graphs io.omni.examples.OmniCli bench --backend cuda \
                --weights $weights
        done
    done
    check bench-encoders-and-speech java io.omni.examples.OmniCli bench audio vision speech --backend cuda
    check bench-growth java io.omni.examples.OmniCli bench growth --backend cuda --plot "$out/growth.svg"
    check bench-thinker java io.omni.examples.OmniCli bench --backend cuda --layers 48 --prompt 2048
    if python3 -c 'import torch, transformers; assert torch.cuda.is_available()' 2> /dev/null; then
        check upstream-bench upstream
    else
        echo '== no Python with torch and transformers that sees the card: upstream is not measured'
    fi
    if [ -n "$failed" ]; then
        echo "FAILED:$failed; see $out"
        exit 1
    fi
    echo "all passed; see $out"
}

# Upstream's decoder layers at the same widths, prompt and cache as omni bench.
upstream() {
    python3 - <<'PYTHON'
import time, torch
from transformers.models.qwen3_omni_moe import modeling_qwen3_omni_moe as m
from transformers.models.qwen3_omni_moe.configuration_qwen3_omni_moe import Qwen3OmniMoeTextConfig

config = Qwen3OmniMoeTextConfig(
    hidden_size=2048, num_hidden_layers=2, num_attention_heads=32, num_key_value_heads=4, head_dim=128,
    moe_intermediate_size=768, num_experts=128, num_experts_per_tok=8, norm_topk_prob=True, vocab_size=1024)
torch.set_default_dtype(torch.bfloat16)
with torch.device('cuda'):
    model = m.Qwen3OmniMoeThinkerTextModel(config).eval()


def timed(f, rounds=20):
    for _ in range(3):
        f()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(rounds):
        f()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / rounds


with torch.inference_mode():
    prompt = torch.randn(1, 256, 2048, device='cuda')
    seconds = timed(lambda: model(inputs_embeds=prompt, use_cache=False))
    print(f'prefill of 256: {256 * 2 / seconds:.0f} token-layers a second')
    cache = model(inputs_embeds=prompt, use_cache=True).past_key_values
    token = torch.randn(1, 1, 2048, device='cuda')

    def step():
        model(inputs_embeds=token, past_key_values=cache, use_cache=True)
        cache.crop(256)

    print(f'decode: {timed(step, 100) / 2 * 1e3:.3f} ms a layer')
PYTHON
}

if [ "${1:-}" = --pack ]; then
    [ $# -eq 2 ] || { echo "usage: $0 --pack DIR" >&2; exit 64; }
    jdk=${JAVA_HOME:?set JAVA_HOME to a JDK 25}
    stage "$here/target/bundle"
    pack "$here/target/bundle" "$2"
elif [ -f "$here/bundle.tar.xz" ]; then
    bundle=$here/bundle
    if [ ! -d "$bundle" ]; then
        mkdir "$bundle"
        tar -C "$bundle" -xJf "$here/bundle.tar.xz" 2> /dev/null ||
            python3 -m tarfile -e "$here/bundle.tar.xz" "$bundle" ||
            { rm -rf "$bundle"; echo 'cannot unpack bundle.tar.xz: needs xz, or Python' >&2; exit 1; }
    fi
    javaHome=$bundle/java
    verify
else
    jdk=${JAVA_HOME:?set JAVA_HOME to a JDK 25}
    bundle=$here/target/bundle
    stage "$bundle"
    javaHome=$jdk
    verify
fi

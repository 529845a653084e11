#!/bin/sh
# What only a machine with an NVIDIA card can tell: that the kernels do on it what they do in emulation, that none of them
# reads or writes where it should not or races, that a whole model gives upstream's results, and how fast all that is.
#
#   verify-on-gpu.sh              from a checkout: needs JDK 25 and the driver
#   verify-on-gpu.sh --pack DIR   makes a folder of this script and bundle.tar.xz, below 64 MiB, with Java, all jars, the
#                                 tests and the small checkpoint; on a machine with a card, DIR/verify-on-gpu.sh needs the
#                                 driver and xz or Python, and no Java
#
# compute-sanitizer of the CUDA toolkit, and Python with torch and transformers, are used where they are there. The whole model
# is measured in bfloat16, 8 and 4 bits, in each of them that host and card have room for. Results go to the folder
# gpu-results in the current one; the last of them is a table of what was asked for beside what was measured. Ends with 0 if
# all that was run passed, and with 2 if there is no card.
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
        # without what differs between backends
        sed -e 's/"backend":"[a-z]*",//' -e 's/,"timings":.*//' "$out/$answered.$backend.json" > "$out/$answered.$backend.answer"
    done
    [ -s "$out/$answered.cuda.answer" ] && cmp "$out/$answered.cpu.answer" "$out/$answered.cuda.answer"
}

omni() {
    java -Domni.cuda.precision=f32 io.omni.examples.OmniCli "$@"
}

# omni bench; $1 is whether launches are replayed as graphs.
bench() {
    replayed=$1
    shift
    java -Domni.cuda.graphs="$replayed" io.omni.examples.OmniCli bench --backend cuda "$@"
}

java() {
    "$javaHome/bin/java" --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
        --sun-misc-unsafe-memory-access=allow -XX:+UseSerialGC -cp "$bundle/jars/*" "$@"
}

# The tests; in front of them, what runs them.
tests() {
    "$@" "$javaHome/bin/java" --enable-native-access=ALL-UNNAMED -Domni.conformance.seed=1 -cp "$bundle/jars/*" \
        io.omni.backend.cuda.RunOnCard $which
}

# Whether $1 GiB are free on the host and $2 GiB on the card; if not, says so for $3.
fits() {
    onHost=$(awk '/^MemAvailable/ { print int($2 / 1048576) }' /proc/meminfo)
    onCard=$(nvidia-smi --id=0 --query-gpu=memory.free --format=csv,noheader,nounits 2> /dev/null |
        awk '{ print int($1 / 1024) }')
    if [ "$onHost" -lt "$1" ] || [ "${onCard:-999}" -lt "$2" ]; then
        echo "== $3 needs $1 GiB on the host, where it is made, and $2 on the card; free: $onHost, ${onCard:-?}: not measured"
        return 1
    fi
}

verify() {
    out=$PWD/gpu-results
    rm -rf "$out"
    mkdir -p "$out"
    # says why if there is none
    which=--ask
    tests || exit $?
    { nvidia-smi || true; } > "$out/card.txt" 2>&1
    # compilation of the kernels by the driver is part of the first of these
    for class in OperationsTest CardConformanceTest CardBf16ConformanceTest CardF16ConformanceTest; do
        # one seed: half precision is declared for most arguments, and not for the worst
        which=$class
        check "$class" tests
    done
    if command -v compute-sanitizer > /dev/null; then
        for tool in memcheck racecheck; do
            for class in OperationsTest CardConformanceTest CardBf16ConformanceTest CardF16ConformanceTest; do
                which=$class
                check "$tool-$class" tests compute-sanitizer --tool $tool --error-exitcode 9
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
    check bench-encoders-and-speech bench false audio vision speech
    check bench-growth bench false growth --plot "$out/growth.svg"
    for weights in bf16 q8 q4; do
        case $weights in
            bf16) host=72 card=75 ;;
            q8) host=40 card=46 ;;
            q4) host=24 card=30 ;;
        esac
        for graphs in false true; do
            check "layers-$weights-graphs-$graphs" bench $graphs decoder --weights $weights
            fits $host $card "the whole model in $weights" || continue
            check "thinker-$weights-graphs-$graphs" bench $graphs decoder --weights $weights --layers 48 --prompt 2048 \
                --batches 1,8,32
            check "latency-$weights-graphs-$graphs" bench $graphs latency --weights $weights --model "$tiny/model" --decode 64
        done
    done
    if python3 -c 'import torch, transformers; assert torch.cuda.is_available()' 2> /dev/null; then
        check upstream upstream
    else
        echo '== no Python with torch and transformers that sees the card: upstream is not measured'
    fi
    table | tee "$out/table.txt"
    if [ -n "$failed" ]; then
        echo "FAILED:$failed; see $out"
        exit 1
    fi
    echo "all passed; see $out"
}

# The number after what matches $2, which begins a line, in what check $1 printed; nothing if that did not run.
figure() {
    sed -n "s/$2 *\\([0-9.]*\\).*/\\1/p" "$out/$1.txt" 2> /dev/null | head -n 1
}

# A line of the table: what, measured, target, floor or limit of the same run.
row() {
    printf '%-36s %12s %12s %12s\n' "$1" "${2:-not run}" "${3:--}" "${4:--}"
}

# What was asked of the backend beside what was measured. Upstream's figure is bfloat16's always.
table() {
    echo
    for weights in bf16 q8 q4; do
        for graphs in false true; do
            thinker=thinker-$weights-graphs-$graphs
            latency=latency-$weights-graphs-$graphs
            row "$weights, graphs $graphs" measured target 'memory floor'
            for n in 1 8 32; do
                target=
                [ $n -gt 1 ] || target='> 300'
                row "tokens/s, batch $n" "$(figure $thinker "^batch *$n: .* step")" "$target" \
                    "$(figure $thinker "^batch *$n: .* floor .* ms,")"
            done
            row 'tokens/s of a prompt of 2048' "$(figure $thinker '^prompt of 2048 .* ms,')" '> 20000'
            row 'first text, ms' "$(figure $latency '^first text:')"
            row 'first sound, ms' "$(figure $latency '^first sound:')" '< 150'
            row 'real-time factor of speech' "$(figure $latency '^speech:.*real-time factor')" '< 0.15'
            for n in 1 8 32; do
                row "times upstream's tokens/s, batch $n" "$(awk -v ours="$(figure $thinker "^batch *$n: .* step")" \
                    -v theirs="$(figure upstream "^upstream batch *$n:")" \
                    'BEGIN { if (ours > 0 && theirs > 0) printf "%.1f", ours / theirs }')" '> 10'
            done
            echo
        done
    done
    sed -n '/^upstream/p' "$out/upstream.txt" 2> /dev/null || echo 'upstream was not measured'
}

# Upstream at the same widths, prompts and batches as omni bench: two layers as its decoder section has them, then the whole
# Thinker as generate runs it, or as many layers as the card has room for.
upstream() {
    python3 - <<'PYTHON'
import time
import torch
from transformers.models.qwen3_omni_moe import modeling_qwen3_omni_moe as m
from transformers.models.qwen3_omni_moe.configuration_qwen3_omni_moe import Qwen3OmniMoeThinkerConfig

CARD, LAYERS, PROMPT, NEW, BATCHES, VOCABULARY = 'cuda', 48, 2048, 64, (1, 8, 32), 152064
text = dict(
    hidden_size=2048, num_attention_heads=32, num_key_value_heads=4, head_dim=128, moe_intermediate_size=768,
    num_experts=128, num_experts_per_tok=8, norm_topk_prob=True, vocab_size=VOCABULARY)
LAYER_BYTES = 2 * 2048 * (128 * (32 + 4 + 4 + 32) + 128 * 3 * 768 + 128)
OTHER_BYTES = 2 * 2 * VOCABULARY * 2048 + 2 * 8 * PROMPT * 2048
torch.set_default_dtype(torch.bfloat16)


def made(layers):
    config = Qwen3OmniMoeThinkerConfig(
        text_config=dict(text, num_hidden_layers=layers), audio_config=dict(encoder_layers=1),
        vision_config=dict(depth=1, deepstack_visual_indexes=[]), vision_start_token_id=151652)
    with torch.device(CARD):
        return m.Qwen3OmniMoeThinkerForConditionalGeneration(config).eval()


def synchronized():
    if CARD == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(f, rounds=20):
    for _ in range(3):
        f()
    start = synchronized()
    for _ in range(rounds):
        f()
    return (synchronized() - start) / rounds


def layers():
    model = made(2).model
    prompt = torch.randn(1, 256, 2048, device=CARD)
    seconds = timed(lambda: model(inputs_embeds=prompt, use_cache=False))
    print(f'upstream prefill of 256: {256 * 2 / seconds:.0f} token-layers a second')
    cache = model(inputs_embeds=prompt, use_cache=True).past_key_values
    token = torch.randn(1, 1, 2048, device=CARD)

    def step():
        model(inputs_embeds=token, past_key_values=cache, use_cache=True)
        cache.crop(256)

    print(f'upstream decode: {timed(step, 100) / 2 * 1e3:.3f} ms a layer')


def whole():
    count = LAYERS
    if CARD == 'cuda':
        torch.cuda.empty_cache()
        free = torch.cuda.mem_get_info()[0]
        count = min(LAYERS, int((0.95 * free - OTHER_BYTES) / LAYER_BYTES))
    if count < LAYERS:
        print(f'upstream: the card has room for {count} of {LAYERS} layers, so all that follows is with {count}')
    model = made(count)

    def generate(batch, new):
        ids = torch.randint(0, VOCABULARY // 2, (batch, PROMPT), device=CARD)
        start = synchronized()
        model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, min_new_tokens=new,
            do_sample=False, eos_token_id=None, pad_token_id=0)
        return synchronized() - start

    for batch in BATCHES:
        try:
            generate(batch, 4)
            first = min(generate(batch, 1) for _ in range(3))
            rest = generate(batch, NEW + 1) - first
        except torch.OutOfMemoryError:
            print(f'upstream batch {batch}: does not fit')
            continue
        if batch == 1:
            print(f'upstream prompt of {PROMPT} through {count} layers: {PROMPT / first:.0f} tokens/s')
        print(f'upstream batch {batch}: {batch * NEW / rest:.1f} tokens/s through {count} layers')


with torch.inference_mode():
    layers()
    whole()
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

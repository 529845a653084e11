package io.omni.core;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import io.omni.api.Backend;
import io.omni.api.DType;
import io.omni.api.HostTensor;
import io.omni.api.Quantization;
import io.omni.processor.Conversations;
import io.omni.processor.Message;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.FileTime;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

class QuantizerTest {
    @TempDir
    private Path folder;

    private Path quantize(DType type) {
        Path out = folder.resolve(type.name());
        Quantizer.quantize(Reference.MODEL, out, type, progress -> {
        });
        return out;
    }

    @ParameterizedTest
    @ValueSource(strings = {"thinker.model.layers.0.self_attn.q_proj.weight",
            "thinker.model.layers.47.mlp.experts.127.down_proj.weight", "model.layers.3.mlp.gate_proj.weight",
            "talker.model.layers.0.mlp.shared_expert.up_proj.weight",
            "talker.code_predictor.model.layers.4.self_attn.o_proj.weight", "talker.code_predictor.lm_head.14.weight",
            "talker.codec_head.weight", "thinker.lm_head.weight"})
    void coversWhatEachTokenReads(String name) {
        assertThat(Quantizer.covers(name, new int[]{64, 96}, DType.Q8)).isTrue();
        assertThat(Quantizer.covers(name, new int[]{64, 48}, DType.Q8)).isFalse();
        assertThat(Quantizer.covers(name, new int[]{48, 64}, DType.Q8)).isFalse();
    }

    @ParameterizedTest
    @ValueSource(strings = {"thinker.model.layers.0.mlp.gate.weight", "thinker.model.embed_tokens.weight",
            "talker.model.layers.0.mlp.shared_expert_gate.weight", "talker.model.codec_embedding.weight",
            "talker.text_projection.linear_fc1.weight", "thinker.audio_tower.layers.0.self_attn.q_proj.weight",
            "thinker.visual.blocks.0.mlp.linear_fc1.weight", "code2wav.pre_transformer.layers.0.mlp.up_proj.weight"})
    void leavesTheRest(String name) {
        assertThat(Quantizer.covers(name, new int[]{64, 96}, DType.Q8)).isFalse();
    }

    @ParameterizedTest
    @EnumSource(names = {"Q8", "Q4"})
    void writesWhatTheDefinitionSays(DType type) throws IOException {
        Path out = quantize(type);
        int quantised = 0;
        try (Checkpoint from = Checkpoint.open(Reference.MODEL, name -> true);
                Checkpoint to = Checkpoint.open(out, name -> true)) {
            assertThat(to.names()).isEqualTo(from.names());
            for (String name : from.names()) {
                HostTensor before = from.find(name);
                HostTensor after = to.find(name);
                assertThat(after.shape()).isEqualTo(before.shape());
                if (Quantizer.covers(name, before.shape(), type)) {
                    quantised++;
                    assertThat(after.dtype()).isEqualTo(type);
                    byte[] expected = new byte[(int) type.bytes(before.size())];
                    Quantization.quantize(before.toFloats(), before.shape()[1], type,
                            MemorySegment.ofArray(expected), 0);
                    assertThat(after.data().toArray(ValueLayout.JAVA_BYTE)).isEqualTo(expected);
                } else {
                    assertThat(after.dtype()).isEqualTo(before.dtype());
                    assertThat(after.data().mismatch(before.data())).isEqualTo(-1);
                }
            }
        }
        assertThat(quantised).isEqualTo(25);
        assertThat(out.resolve("config.json")).hasSameBinaryContentAs(Reference.MODEL.resolve("config.json"));
        assertThat(out.resolve("tokenizer.json")).exists();
    }

    @Test
    void shardsAreSafetensorsOfBytes() throws IOException {
        Path shard = quantize(DType.Q4).resolve(Reference.shardOf(Reference.MODEL, "thinker.lm_head.weight"));
        ByteBuffer bytes = ByteBuffer.wrap(Files.readAllBytes(shard)).order(ByteOrder.LITTLE_ENDIAN);
        Fields header = Fields.parse("header",
                new String(bytes.array(), 8, (int) bytes.getLong(0), StandardCharsets.UTF_8));
        Fields head = header.at("thinker.lm_head.weight");
        assertThat(head.string("dtype", "")).isEqualTo("U8");
        assertThat(head.integers("shape")).containsExactly(104, 1152);
        Fields metadata = header.at("__metadata__");
        assertThat(metadata.string("omni.quantization", "")).isEqualTo("q4");
        assertThat(metadata.string("omni.blocks.thinker.lm_head.weight", "")).isEqualTo("Q4 3328 64");
    }

    @Test
    void goesOnWhereItStopped() throws IOException {
        Path out = quantize(DType.Q8);
        String lost = Reference.shardOf(Reference.MODEL, "thinker.lm_head.weight");
        String kept = Reference.shardOf(Reference.MODEL, "talker.codec_head.weight");
        byte[] shard = Files.readAllBytes(out.resolve(lost));
        Files.delete(out.resolve(lost));
        Files.delete(out.resolve("model.safetensors.index.json"));
        Files.writeString(out.resolve(lost + ".part"), "half of it");
        FileTime past = FileTime.fromMillis(1_000_000_000);
        Files.setLastModifiedTime(out.resolve(kept), past);
        List<Quantizer.Progress> progress = new ArrayList<>();
        Quantizer.quantize(Reference.MODEL, out, DType.Q8, progress::add);
        assertThat(Files.getLastModifiedTime(out.resolve(kept))).isEqualTo(past);
        assertThat(out.resolve(lost)).hasBinaryContent(shard);
        assertThat(out.resolve(lost + ".part")).doesNotExist();
        assertThat(out.resolve("model.safetensors.index.json")).exists();
        assertThat(progress.getLast().bytes()).isEqualTo(progress.getLast().totalBytes());
        assertThatThrownBy(() -> Quantizer.quantize(Reference.MODEL, out, DType.Q4, progress::add))
                .isInstanceOf(CheckpointException.class).hasMessageContaining(" in q4: choose an empty folder");
        assertThatThrownBy(() -> Quantizer.quantize(out, folder.resolve("again"), DType.Q8, progress::add))
                .isInstanceOf(CheckpointException.class).hasMessageContaining("is quantised already, to Q8");
        assertFails(folder.resolve("nowhere"), folder.resolve("new"), "nowhere: no such folder");
        assertThat(folder.resolve("new")).doesNotExist();
        assertThatThrownBy(() -> Quantizer.quantize(out, out, DType.Q8, progress::add))
                .isInstanceOf(CheckpointException.class).hasMessageContaining("the same folder");
    }

    @ParameterizedTest
    @EnumSource
    void quantisesWhatOtherToolsQuantised(QuantizedCopy.Layout layout) throws IOException {
        Path model = folder.resolve("model");
        QuantizedCopy.write(layout, model, folder.resolve("twin"));
        for (DType type : new DType[]{DType.Q8, DType.Q4}) {
            Path out = folder.resolve(type.name());
            Quantizer.Summary summary = Quantizer.quantize(model, out, type, progress -> {
            });
            int quantised = 0;
            try (Checkpoint from = Checkpoint.open(model, name -> true);
                    Checkpoint to = Checkpoint.open(out, name -> true);
                    Arena memory = Arena.ofShared()) {
                assertThat(to.names()).isEqualTo(from.names());
                for (String name : to.names()) {
                    HostTensor after = to.find(name);
                    HostTensor before = from.get(memory, name, after.shape());
                    boolean again = before.dtype() != DType.Q4 && before.dtype() != type
                            && Quantizer.covers(name, after.shape(), type);
                    assertThat(after.dtype()).as(name).isEqualTo(again ? type : before.dtype());
                    byte[] expected = again
                            ? new byte[(int) type.bytes(before.size())]
                            : before.data().toArray(ValueLayout.JAVA_BYTE);
                    if (again)
                        Quantization.quantize(before.toFloats(), after.shape()[1], type,
                                MemorySegment.ofArray(expected), 0);
                    assertThat(after.data().toArray(ValueLayout.JAVA_BYTE)).as(name).isEqualTo(expected);
                    quantised += after.dtype().isQuantized() ? 1 : 0;
                }
                assertThat(quantised).isGreaterThan(20).isEqualTo(summary.quantised());
                assertThat(to.names()).hasSize(quantised + summary.kept());
            }
            assertThat(out.resolve("config.json")).content().doesNotContain("quantization_config");
            try (Backend backend = Reference.cpu(); Omni omni = Omni.builder().backend(backend).load(out)) {
                assertThat(omni.chat(Message.user("Hi"), Options.text().thinkerMaxNewTokens(2)).sequence())
                        .isNotEmpty();
            }
        }
    }

    @Test
    void foldersThatHoldSomethingElseAreLeftAlone() throws IOException {
        Path out = Files.createDirectory(folder.resolve("out"));
        Files.writeString(out.resolve("config.json"), "{}");
        assertFails(Reference.MODEL, out, "config.json: differs from ", "choose an empty folder");
        assertThat(out.resolve("config.json")).content().isEqualTo("{}");
        Files.delete(out.resolve("config.json"));
        String shard = Reference.shardOf(Reference.MODEL, "thinker.lm_head.weight");
        Files.copy(Reference.MODEL.resolve(shard), out.resolve(shard));
        assertFails(Reference.MODEL, out, shard + ": holds something else than ", "choose an empty folder");
        assertThat(out.resolve(shard)).hasSameBinaryContentAs(Reference.MODEL.resolve(shard));
    }

    @Test
    void whatIsNoCheckpointIsRefusedBeforeAnythingIsWritten() throws IOException {
        Path model = Reference.copy(Files.createDirectory(folder.resolve("model")));
        Path out = folder.resolve("out");
        Path index = model.resolve("model.safetensors.index.json");
        for (String text : List.of("{}", "{\"weight_map\": null}")) {
            Files.writeString(index, text);
            assertFails(model, out, index + ": weight_map is missing, expected the file of each tensor");
        }
        Files.writeString(index, "{\"weight_map\": {}}");
        assertFails(model, out, model + ": holds no tensors");
        Reference.edit(model.resolve("config.json"), config -> config.put("model_type", "llama"));
        assertFails(model, out, "config.json: model_type is 'llama', expected qwen3_omni_moe");
        Files.delete(model.resolve("config.json"));
        assertFails(model, out, model.resolve("config.json") + ": no such file");
        assertThat(out).doesNotExist();
    }

    @Test
    void aFileInTheFoldersPlaceIsLeftAlone() throws IOException {
        Path out = Files.writeString(folder.resolve("out"), "kept");
        assertFails(Reference.MODEL, out, out + ": is a file, expected a folder");
        assertThat(out).hasContent("kept");
    }

    /** A file with a hole, larger than the disk has room for. */
    @Test
    void filesBesideTheShardsNeedRoomToo() throws IOException {
        Path model = Reference.copy(Files.createDirectory(folder.resolve("model")));
        long free = Files.getFileStore(folder).getUsableSpace();
        try (FileChannel large = FileChannel.open(model.resolve("large.bin"), StandardOpenOption.CREATE_NEW,
                StandardOpenOption.WRITE, StandardOpenOption.SPARSE)) {
            large.write(ByteBuffer.allocate(1), free + (1L << 30));
        }
        Path out = folder.resolve("out");
        assertFails(model, out, "GB free, expected ", "for what is still to be written");
        assertThat(out).isEmptyDirectory();
    }

    @Test
    void aSecondRunIntoAFolderIsRefusedWhileTheFirstWorks() throws IOException {
        Path out = folder.resolve("out");
        // of a run that was killed
        Files.writeString(Files.createDirectory(out).resolve(".omni-quantize.lock"), "");
        List<Quantizer.Progress> seen = new ArrayList<>();
        Quantizer.quantize(Reference.MODEL, out, DType.Q8, progress -> {
            if (seen.isEmpty())
                assertFails(Reference.MODEL, out, out + ": another run is writing to this folder");
            seen.add(progress);
        });
        assertThat(seen).isNotEmpty();
        assertThat(out.resolve(".omni-quantize.lock")).doesNotExist();
        assertThat(out.resolve("model.safetensors.index.json")).exists();
        Quantizer.Summary again = Quantizer.quantize(Reference.MODEL, out, DType.Q8, progress -> {
        });
        assertThat(again.thereAlready()).isEqualTo(again.shards());
    }

    /** Another checkpoint of the same shapes: one whose tensors differ in a single byte. */
    @Test
    void shardsOfAnotherCheckpointAreRefused() throws IOException {
        Path out = quantize(DType.Q8);
        Path other = Reference.copy(Files.createDirectory(folder.resolve("other")));
        String shard = Reference.shardOf(other, "thinker.lm_head.weight");
        byte[] bytes = Files.readAllBytes(other.resolve(shard));
        int header = (int) ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).getLong(0);
        bytes[8 + header + 3] ^= 1;
        Files.write(other.resolve(shard), bytes);
        assertFails(other, out, shard + ": holds something else than ", "choose an empty folder");
    }

    /** The same integers with other scales are other weights. */
    @Test
    void shardsOfOtherScalesAreRefused() throws IOException {
        Path model = folder.resolve("model");
        QuantizedCopy.write(QuantizedCopy.Layout.INT8, model, folder.resolve("twin"));
        Path out = folder.resolve("out");
        Quantizer.quantize(model, out, DType.Q4, progress -> {
        });
        Path shard;
        byte[] bytes;
        try (Checkpoint checkpoint = Checkpoint.open(model, name -> true)) {
            Checkpoint.Entry entry = checkpoint.entry("thinker.lm_head.weight_scale");
            shard = entry.file();
            bytes = Files.readAllBytes(shard);
            String scales = new String(entry.tensor().data().toArray(ValueLayout.JAVA_BYTE),
                    StandardCharsets.ISO_8859_1);
            bytes[new String(bytes, StandardCharsets.ISO_8859_1).indexOf(scales)] ^= 1;
        }
        Files.write(shard, bytes);
        assertThatThrownBy(() -> Quantizer.quantize(model, out, DType.Q4, progress -> {
        })).isInstanceOf(CheckpointException.class).hasMessageContaining("holds something else than ");
    }

    @Test
    void followsALinkToTheModel() throws IOException {
        Path model = Reference.copy(Files.createDirectory(folder.resolve("model")));
        Path link = Files.createSymbolicLink(folder.resolve("link"), model);
        Path out = folder.resolve("out");
        Quantizer.quantize(link, out, DType.Q8, progress -> {
        });
        try (Stream<Path> files = Files.list(model)) {
            assertThat(files.map(Path::getFileName)).allSatisfy(name -> assertThat(out.resolve(name)).exists());
        }
    }

    @Test
    void failuresLeaveNothingHalfWritten() throws IOException {
        Path model = Reference.copy(Files.createDirectory(folder.resolve("model")));
        String shard = Reference.shardOf(model, "thinker.lm_head.weight");
        byte[] bytes = Files.readAllBytes(model.resolve(shard));
        Fields header = Fields.parse("header",
                new String(bytes, 8, (int) ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).getLong(0),
                        StandardCharsets.UTF_8));
        int at = header.at("thinker.lm_head.weight").integers("data_offsets")[0];
        int start = 8 + (int) ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).getLong(0) + at;
        bytes[start] = (byte) 0xc0;
        bytes[start + 1] = 0x7f;
        Files.write(model.resolve(shard), bytes);
        Path out = folder.resolve("out");
        assertFails(model, out, model.resolve(shard) + ": thinker.lm_head.weight: rows from 0 on: element 0");
        try (var files = Files.list(out)) {
            assertThat(files).noneMatch(file -> file.toString().endsWith(".part"));
        }
        assertThat(out.resolve("model.safetensors.index.json")).doesNotExist();
    }

    private static void assertFails(Path model, Path out, String... message) {
        assertThatThrownBy(() -> Quantizer.quantize(model, out, DType.Q8, progress -> {
        })).isInstanceOf(CheckpointException.class).message().contains(message);
    }

    /** The bounds are loose: this checkpoint's weights are random, and most of its matrices are no whole blocks. */
    @ParameterizedTest
    @EnumSource(names = {"Q8", "Q4"})
    void generatesAndStaysNear(DType type) {
        Path out = quantize(type);
        try (Backend backend = Reference.cpu(); Omni omni = Omni.builder().backend(backend).load(out)) {
            List<Double> errors = new ArrayList<>();
            int first = 0;
            int leading = 0;
            int tokens = 0;
            Parity parity = new Parity(omni, Reference.CASES, Reference.MEDIA);
            for (String name : parity.names()) {
                Fields json = Files.exists(Reference.CASES.resolve(name + ".json"))
                        ? Fields.read(Reference.CASES.resolve(name + ".json"))
                        : Fields.NONE;
                if (!json.has("conversations") || json.node().path("conversations").size() != 1)
                    continue;
                List<Parity.Result> results = new ArrayList<>();
                parity.run(name, results::add);
                for (Parity.Result result : results)
                    if (result.tensor().equals("thinker.logits_last"))
                    errors.add(result.relativeError());
                int[] expected;
                int prompt;
                try (Checkpoint golden = Checkpoint.file(Reference.CASES.resolve(name + ".safetensors"))) {
                    HostTensor sequence = golden.find("generate.sequences");
                    if (sequence == null)
                        continue;
                    prompt = golden.find("processor.input_ids").shape()[1];
                    expected = java.util.stream.IntStream.range(0, (int) sequence.size())
                            .map(i -> (int) sequence.getLong(i)).toArray();
                }
                int[] actual = greedy(omni, json);
                int same = prompt;
                while (same < Math.min(actual.length, expected.length) && actual[same] == expected[same])
                    same++;
                first += same > prompt ? 1 : 0;
                leading += same - prompt;
                tokens += expected.length - prompt;
            }
            Collections.sort(errors);
            System.out.printf(
                    "%s: relative logit errors %s; first token as upstream %d; %d of %d tokens before the first other one%n",
                    type, errors.stream().map("%.4f"::formatted).toList(), first, leading, tokens);
            assertThat(errors).hasSizeGreaterThan(5);
            // not the largest: where a router's choice is close, another expert may answer, and these are random
            assertThat(errors.get(errors.size() / 2)).isLessThan(type == DType.Q8 ? 0.03 : 0.3);
            Reply reply = omni.chat(List.of(Message.user("Who are you?")),
                    Options.speech().seed(5).thinkerMaxNewTokens(6).talkerMaxNewTokens(9));
            assertThat(reply.audio().samples()).isNotEmpty();
        }
    }

    /** Blocks and the same weights as floats differ in nothing but the order in which products are added up. */
    @ParameterizedTest
    @EnumSource(names = {"Q8", "Q4"})
    void blocksComputeWhatTheirFloatsDo(DType type) {
        Path out = quantize(type);
        Fields json = Fields.read(Reference.CASES.resolve("text.json"));
        List<List<Parity.Result>> results = new ArrayList<>();
        List<int[]> sequences = new ArrayList<>();
        for (DType weights : new DType[]{null, DType.F32})
            try (Backend backend = Reference.cpu();
                    Omni omni = Omni.builder().backend(backend).weights(weights).load(out)) {
                        List<Parity.Result> errors = new ArrayList<>();
                        new Parity(omni, Reference.CASES, Reference.MEDIA).run("text", errors::add);
                        results.add(errors);
                        sequences.add(greedy(omni, json));
                    }
        for (int i = 0; i < results.getFirst().size(); i++) {
            Parity.Result blocks = results.getFirst().get(i);
            Parity.Result floats = results.getLast().get(i);
            assertThat(blocks.tensor()).isEqualTo(floats.tensor());
            assertThat(blocks.relativeError()).as(blocks.tensor()).isCloseTo(floats.relativeError(), within(1e-4));
        }
        assertThat(sequences.getFirst()).isEqualTo(sequences.getLast());
    }

    private static int[] greedy(Omni omni, Fields json) {
        Fields arguments = json.at("arguments");
        Options options = Options.text().greedy().thinkerMaxNewTokens(json.integer("thinker_max_new_tokens", 12))
                .processor(p -> {
                    p.fps(arguments.number("fps", 1)).useAudioInVideo(arguments.bool("use_audio_in_video", false));
                    if (arguments.has("enable_thinking"))
                        p.enableThinking(arguments.bool("enable_thinking", true));
                });
        return omni.chat(Conversations.read(json.node().path("conversations").toString(), Reference.MEDIA).getFirst(),
                options).sequence();
    }
}

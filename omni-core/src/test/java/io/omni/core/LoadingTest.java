package io.omni.core;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowable;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.omni.api.Backend;
import io.omni.api.BackendException;
import io.omni.api.Backends;
import io.omni.api.DType;
import io.omni.api.Scope;
import io.omni.api.Tensor;
import io.omni.processor.Message;
import io.omni.processor.ProcessorException;
import io.omni.processor.VisualFeatures;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class LoadingTest {
    private static final List<String> SPEECH = List.of("talker.", "code2wav.");

    @TempDir
    private Path folder;
    private Path model;
    private Backend backend;

    @BeforeEach
    void copy() throws IOException {
        model = Reference.copy(folder);
        backend = Reference.cpu();
    }

    @AfterEach
    void close() {
        backend.close();
    }

    private Omni load() {
        return Omni.builder().backend(backend).load(model);
    }

    /** Loading fails with one line that names the culprit, and leaks nothing. */
    private void assertFails(String... culprit) {
        Throwable failure = catchThrowable(() -> load().close());
        assertThat(failure).isInstanceOfAny(CheckpointException.class, io.omni.processor.ProcessorException.class);
        assertThat(failure.getMessage()).contains(culprit).doesNotContain("\n");
        // what was freed stays in the backend's pool, so a second failure finds all it needs there
        long before = backend.allocatedBytes();
        catchThrowable(() -> load().close());
        assertThat(backend.allocatedBytes()).isEqualTo(before);
    }

    @Test
    void aThinkerAloneWritesAndRefusesToSpeak() throws IOException {
        Reference.deleteShards(model, SPEECH);
        Reference.removeTensors(model, SPEECH);
        Reference.edit(model.resolve("config.json"), config -> {
            config.put("enable_audio_output", false);
            config.remove(List.of("talker_config", "code2wav_config"));
        });
        try (Omni omni = load()) {
            Message question = Message.user("Who are you?");
            assertThat(omni.model().canSpeak()).isFalse();
            assertThat(omni.chat(question, Options.defaults().thinkerMaxNewTokens(3)).audio()).isNull();
            assertThatThrownBy(() -> omni.chat(question, Options.speech())).isInstanceOf(IllegalStateException.class)
                    .hasMessageContaining("cannot speak");
            assertThatThrownBy(() -> omni.model().talker()).isInstanceOf(IllegalStateException.class);
        }
    }

    @Test
    void withoutSpeechTheTalkersShardsAreNotRead() throws IOException {
        assertThat(Reference.deleteShards(model, SPEECH)).isPositive();
        try (Omni omni = Omni.builder().backend(backend).speech(false).load(model)) {
            assertThat(omni.model().canSpeak()).isFalse();
            assertThat(omni.chat(Message.user("Hi"), Options.text().thinkerMaxNewTokens(2)).sequence()).isNotEmpty();
        }
        assertFails(".safetensors: no such file");
    }

    @Test
    void closingGivesEverythingBack() {
        load().close();
        long before = backend.allocatedBytes();
        load().close();
        assertThat(backend.allocatedBytes()).isEqualTo(before);
    }

    @Test
    void aLoadThatFailsKeepsNothing() throws IOException {
        long before = backend.allocatedBytes();
        Files.writeString(model.resolve("tokenizer.json"), "{broken");
        for (int i = 0; i < 3; i++)
            assertThatThrownBy(() -> Omni.builder().backend(backend).weights(DType.F32).load(model))
                    .isInstanceOf(ProcessorException.class).hasMessageContaining("tokenizer.json");
        Files.delete(model.resolve(Reference.shardOf(model, "thinker.lm_head.weight")));
        assertThatThrownBy(() -> Omni.builder().backend(backend).weights(DType.F32).load(model));
        assertThat(backend.allocatedBytes()).isEqualTo(before);
    }

    @Test
    void layersAndVoicesThatAreNotThereAreNamed() throws IOException {
        Reference.edit(model.resolve("config.json"),
                config -> ((ObjectNode) config.get("talker_config")).put("accept_hidden_layer", -1));
        assertFails("accept_hidden_layer is -1, expected 0 to ");
        Reference.edit(model.resolve("config.json"), config -> {
            ((ObjectNode) config.get("talker_config")).put("accept_hidden_layer", 1);
            ((ObjectNode) config.get("talker_config").get("speaker_id")).put("ethan", 1_000_000);
        });
        assertFails("speaker_id: ethan is 1000000, expected 0 to ");
    }

    @Test
    void missingFilesAreNamed() throws IOException {
        String shard = Reference.shardOf(model, "thinker.lm_head.weight");
        Files.delete(model.resolve(shard));
        assertFails(shard, "no such file");
        Files.delete(model.resolve("model.safetensors.index.json"));
        assertFails("model.safetensors.index.json");
        Files.delete(model.resolve("config.json"));
        assertFails("config.json", "no such file");
        assertThatThrownBy(() -> Omni.load(model.resolve("nowhere"))).isInstanceOf(CheckpointException.class)
                .hasMessageContaining("nowhere: no such folder");
    }

    @Test
    void truncatedShardsAreNamed() throws IOException {
        Path shard = model.resolve(Reference.shardOf(model, "thinker.lm_head.weight"));
        byte[] bytes = Files.readAllBytes(shard);
        for (int length : new int[]{0, 5, 100, bytes.length / 2, bytes.length - 1}) {
            Files.write(shard, java.util.Arrays.copyOf(bytes, length));
            assertFails(shard.getFileName().toString(), "truncated");
        }
    }

    private void editHeader(String tensor, String from, String to) throws IOException {
        Path shard = model.resolve(Reference.shardOf(model, tensor));
        byte[] bytes = Files.readAllBytes(shard);
        String text = new String(bytes, StandardCharsets.ISO_8859_1);
        int at = text.indexOf(from, text.indexOf('"' + tensor + '"'));
        assertThat(from).hasSameSizeAs(to);
        text = text.substring(0, at) + to + text.substring(at + from.length());
        Files.write(shard, text.getBytes(StandardCharsets.ISO_8859_1));
    }

    @Test
    void badTensorsAreNamed() throws IOException {
        editHeader("thinker.lm_head.weight", "BF16", "F8_X");
        assertFails("thinker.lm_head.weight", "F8_X", "expected F32");
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', textBlock = """
            {'dtype':'F32','shape':[2,-2],'data_offsets':[0,16]}                   | shape [2, -2], expected sizes
            {'dtype':'F32','shape':[2147483647,2147483647,4],'data_offsets':[0,16]}| 4], expected sizes of what fits into the file's 32 bytes
            {'dtype':'F32','shape':[1099511627776],'data_offsets':[0,16]}          | shape is [1099511627776], expected a list of integers
            {'dtype':'F32','data_offsets':[0,16]}                                  | shape is missing
            {'dtype':'F32','shape':4,'data_offsets':[0,16]}                        | shape is missing, expected a list of sizes
            {'dtype':'F32','shape':[4]}                                            | data_offsets is missing, expected two numbers
            {'dtype':'F32','shape':[4],'data_offsets':['0','16']}                  | data_offsets is ["0","16"], expected two numbers
            {'dtype':'F32','shape':[4],'data_offsets':[0,18446744073709551632]}    | data_offsets is [0,18446744073709551632], expected two numbers
            {'dtype':'F32','shape':[4],'data_offsets':[0,16,32]}                   | data_offsets is [0,16,32], expected two numbers
            {'dtype':'F32','shape':[4],'data_offsets':[16,0]}                      | bytes 16 to 0
            {'dtype':'F32','shape':[4],'data_offsets':[24,40]}                     | bytes 24 to 40, but the file holds 32 bytes of data: truncated
            {'dtype':'F32','shape':[4],'data_offsets':[0,12]}                      | 12 bytes for F32 [4], expected 16
            {'shape':[4],'data_offsets':[0,16]}                                    | dtype missing, expected F32
            {'dtype':'F32','shape':[4],'data_offsets':[12,28]}                     | lies where a does
            {'dtype':'F32','shape':[4],'data_offsets':[0,16]},'b':{}               | malformed JSON at line 1, column 59: Duplicate field 'b'
            """)
    void tensorsThatAFileCannotHoldAreNamed(String header, String message) throws IOException {
        Path file = folder.resolve("b.safetensors");
        byte[] text = "{'b':%s,'a':{'dtype':'F32','shape':[4],'data_offsets':[0,16]},'empty':{'dtype':'F32','shape':[0,4],'data_offsets':[16,16]}}"
                .formatted(header).replace('\'', '"').getBytes(StandardCharsets.UTF_8);
        Files.write(file, ByteBuffer.allocate(8 + text.length + 32).order(ByteOrder.LITTLE_ENDIAN).putLong(text.length)
                .put(text).array());
        assertThatThrownBy(() -> Checkpoint.file(file).close()).isInstanceOf(CheckpointException.class).message()
                .startsWith(file + ": ").contains("b", message);
    }

    @Test
    void tensorsOfAnotherSizeAreNamed() throws IOException {
        editHeader("thinker.lm_head.weight", ",64]", ",63]");
        assertFails("thinker.lm_head.weight", "63");
    }

    @Test
    void misshapenTensorsAreNamed() throws IOException {
        Reference.edit(model.resolve("config.json"),
                config -> ((ObjectNode) config.at("/thinker_config/text_config")).put("moe_intermediate_size", 44));
        assertFails("thinker.model.layers.0.mlp.experts.0.gate_proj.weight", "[48, 64]", "[44, 64]");
    }

    @Test
    void missingTensorsAreNamed() throws IOException {
        Reference.edit(model.resolve("config.json"),
                config -> ((ObjectNode) config.at("/talker_config/text_config")).put("num_hidden_layers", 4));
        assertFails("tensor talker.model.layers.3.input_layernorm.weight is missing");
    }

    @Test
    void tensorsThatTheShardLacksAreNamed() throws IOException {
        Reference.edit(model.resolve("model.safetensors.index.json"), index -> ((ObjectNode) index.get("weight_map"))
                .put("thinker.more", "model-00001-of-00007.safetensors"));
        assertFails("thinker.more", "model-00001-of-00007.safetensors");
    }

    /** A copy would be written under that name too, outside of its folder. */
    @ParameterizedTest
    @ValueSource(strings = {"/model.safetensors", "../model.safetensors", "a/../../model.safetensors", "", "a\0b"})
    void shardsOutsideTheFolderAreRefused(String shard) throws IOException {
        Reference.edit(model.resolve("model.safetensors.index.json"),
                index -> ((ObjectNode) index.get("weight_map")).put("thinker.lm_head.weight", shard));
        assertFails("model.safetensors.index.json: weight_map: thinker.lm_head.weight is \"",
                "expected a file in the folder");
    }

    @Test
    void textInAnotherEncodingIsNamed() throws IOException {
        Files.writeString(model.resolve("config.json"), "{\"é\": 1}", StandardCharsets.ISO_8859_1);
        assertFails("config.json: is no text in UTF-8");
    }

    @Test
    void malformedJsonIsNamed() throws IOException {
        for (String file : List.of("model.safetensors.index.json", "generation_config.json", "config.json")) {
            byte[] good = Files.readAllBytes(model.resolve(file));
            Files.writeString(model.resolve(file), "{\n \"model_type\": oops\n}");
            assertFails(file, "line 2");
            Files.write(model.resolve(file), good);
        }
    }

    @Test
    void fieldsOfTheWrongTypeAreNamed() throws IOException {
        Reference.edit(model.resolve("config.json"),
                config -> ((ObjectNode) config.at("/thinker_config/text_config")).put("hidden_size", "wide"));
        assertFails("config.json", "hidden_size is \"wide\"", "an integer");
    }

    @Test
    void otherModelsAreRefused() throws IOException {
        Reference.edit(model.resolve("config.json"), config -> config.put("model_type", "llama"));
        assertFails("config.json", "model_type is 'llama'");
    }

    @Test
    void promptsLongerThanTheContextAreRefused() throws IOException {
        Reference.edit(model.resolve("config.json"),
                config -> ((ObjectNode) config.at("/thinker_config/text_config")).put("max_position_embeddings", 8));
        try (Omni omni = load()) {
            long before = backend.allocatedBytes();
            assertThatThrownBy(() -> omni.chat(Message.user("one two three four"), Options.defaults()))
                    .isInstanceOf(IllegalArgumentException.class).hasMessageContaining("context holds 8");
            assertThat(backend.allocatedBytes()).isEqualTo(before);
        }
    }

    /** The DeepStack features of a plain image, with these layers in the configuration. */
    private List<float[]> deepstack(int... layers) throws IOException {
        Reference.edit(model.resolve("config.json"), config -> ((ObjectNode) config.at("/thinker_config/vision_config"))
                .set("deepstack_visual_indexes", new ObjectMapper().valueToTree(layers)));
        float[] pixels = new float[4 * 4 * 3 * 2 * 16 * 16];
        for (int i = 0; i < pixels.length; i++)
            pixels[i] = (float) Math.sin(i);
        try (Omni omni = load(); Scope scope = backend.scope()) {
            return omni.model().thinker().visualFeatures(List.of(new VisualFeatures(pixels, 1, 4, 4, 0))).deepstack()
                    .stream().map(Tensor::toFloats).toList();
        }
    }

    @Test
    void deepstackFeaturesComeInTheOrderOfTheirLayers() throws IOException {
        List<float[]> mixed = deepstack(1, 0, 2);
        assertThat(mixed.get(0)).isEqualTo(deepstack(3, 0, 1).get(0)); // layer 0 through merger 1
        assertThat(mixed.get(1)).isEqualTo(deepstack(1, 2, 3).get(0)); // layer 1 through merger 0
    }

    @Test
    void unknownBackendsAreRefused() {
        assertThatThrownBy(() -> Backends.load("tpu")).isInstanceOf(BackendException.class)
                .hasMessageContaining("'tpu'").hasMessageContaining("cpu");
    }
}

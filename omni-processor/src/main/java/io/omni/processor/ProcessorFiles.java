package io.omni.processor;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.MissingNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * What a checkpoint says about processing. Newer checkpoints nest it in processor_config.json, older ones keep it in
 * preprocessor_config.json and perhaps video_preprocessor_config.json; all are read.
 */
record ProcessorFiles(VisionConfig image, VisionConfig video, AudioConfig audio, String chatTemplate,
        Map<String, Object> specialTokens) {

    /** @param window half the mel frames of a chunk of the audio encoder, {@code n_window} */
    record AudioConfig(int melBins, int rate, int hop, int fftSize, int window) {

        /** Tokens that the audio encoder makes of so many mel frames: each chunk is halved three times, rounding up. */
        int tokens(int frames) {
            int chunk = 2 * window;
            return frames / chunk * halvedThrice(chunk) + halvedThrice(frames % chunk);
        }

        private static int halvedThrice(int frames) {
            return Math.ceilDiv(frames, 8);
        }
    }

    static ProcessorFiles read(Path dir) {
        if (!Files.isDirectory(dir))
            throw new ProcessorException(dir + ": is no folder, expected a checkpoint's");
        JsonNode nested = JsonFiles.readIfThere(dir.resolve("processor_config.json"));
        JsonNode flat = JsonFiles.readIfThere(dir.resolve("preprocessor_config.json"));
        if (nested.isMissingNode() && flat.isMissingNode()) {
            throw new ProcessorException(dir.resolve("preprocessor_config.json") + ": no such file");
        }
        JsonNode image = firstThere(nested.path("image_processor"), flat);
        JsonNode video = firstThere(
                nested.path("video_processor"), JsonFiles.readIfThere(dir.resolve("video_preprocessor_config.json")),
                flat);
        JsonNode audio = firstThere(nested.path("feature_extractor"), flat);
        JsonNode encoder = JsonFiles.readIfThere(dir.resolve("config.json")).path("thinker_config")
                .path("audio_config");
        JsonNode tokenizer = JsonFiles.readIfThere(dir.resolve("tokenizer_config.json"));
        return new ProcessorFiles(VisionConfig.image(image, dir + ": image processor"),
                VisionConfig.video(video, dir + ": video processor"),
                new AudioConfig(audio.path("feature_size").asInt(128), audio.path("sampling_rate").asInt(16000),
                        audio.path("hop_length").asInt(160), audio.path("n_fft").asInt(400),
                        encoder.path("n_window").asInt(50)),
                chatTemplate(dir, tokenizer), specialTokens(tokenizer));
    }

    private static JsonNode firstThere(JsonNode... nodes) {
        for (JsonNode node : nodes) if (node.isObject())
            return node;
        return MissingNode.getInstance();
    }

    private static String chatTemplate(Path dir, JsonNode tokenizer) {
        JsonNode json = JsonFiles.readIfThere(dir.resolve("chat_template.json")).path("chat_template");
        if (json.isTextual())
            return json.textValue();
        Path jinja = dir.resolve("chat_template.jinja");
        try {
            if (Files.exists(jinja))
                return Files.readString(jinja);
        } catch (IOException e) {
            throw new ProcessorException(jinja + ": cannot be read: " + e, e);
        }
        JsonNode template = tokenizer.path("chat_template");
        for (JsonNode named : template) { // a list of {name, template}
            if (named.path("name").asText().equals("default"))
                template = named.path("template");
        }
        if (template.isTextual())
            return template.textValue();
        throw new ProcessorException(
                dir + ": no chat template, expected chat_template.json, chat_template.jinja or one in tokenizer_config.json");
    }

    /** The tokens that tokenizer_config.json names, such as {@code image_token}, at its top or as extra special tokens. */
    private static Map<String, Object> specialTokens(JsonNode tokenizer) {
        Map<String, Object> tokens = new LinkedHashMap<>();
        for (JsonNode group : List.of(tokenizer, tokenizer.path("extra_special_tokens"),
                tokenizer.path("model_specific_special_tokens"))) {
            group.properties().forEach(entry -> {
                JsonNode value = entry.getValue().isObject() ? entry.getValue().path("content") : entry.getValue();
                if (entry.getKey().endsWith("_token") && value.isTextual())
                    tokens.put(entry.getKey(), value.textValue());
            });
        }
        return tokens;
    }

    String specialToken(String name) {
        if (specialTokens.get(name) instanceof String token)
            return token;
        throw new ProcessorException("tokenizer_config.json: " + name + ": found nothing, expected a special token");
    }
}

package io.omni.processor;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonLocation;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.exc.MismatchedInputException;
import com.fasterxml.jackson.databind.node.MissingNode;
import java.io.IOException;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;

/** JSON, of a checkpoint's files and of conversations. */
final class JsonFiles {
    /** Takes strings of any length, for a conversation may hold its media. */
    static final ObjectMapper JSON = new ObjectMapper(JsonFactory.builder()
            .streamReadConstraints(StreamReadConstraints.builder().maxStringLength(Integer.MAX_VALUE).build())
            .build()).enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS);

    private JsonFiles() {}

    static JsonNode read(Path file) {
        try {
            String text = Files.readString(file);
            boolean marked = text.startsWith("\uFEFF"); // as some editors begin UTF-8
            return parse(marked ? text.substring(1) : text, file.toString());
        } catch (NoSuchFileException e) {
            throw new ProcessorException(file + ": no such file", e);
        } catch (CharacterCodingException e) {
            throw new ProcessorException(file + ": is no text in UTF-8", e);
        } catch (IOException e) {
            throw new ProcessorException(file + ": cannot be read: " + e.getMessage(), e);
        }
    }

    static JsonNode readIfThere(Path file) {
        return Files.exists(file) ? read(file) : MissingNode.getInstance();
    }

    /** @param what what to call the text in messages */
    static JsonNode parse(String json, String what) {
        try {
            return JSON.readTree(json);
        } catch (MismatchedInputException e) {
            throw wrong(what, e, "found more behind the end of the JSON, expected nothing");
        } catch (JsonProcessingException e) {
            // not where a bracket was opened or which setting of the parser has a limit, which Jackson adds
            throw wrong(what, e, e.getOriginalMessage().replaceAll(" \\(start marker at .*|, from `[^`]*`", ""));
        }
    }

    private static ProcessorException wrong(String what, JsonProcessingException e, String problem) {
        JsonLocation at = e.getLocation();
        String place = at == null ? "" : ", line " + at.getLineNr() + ", column " + at.getColumnNr();
        return new ProcessorException(what + place + ": " + problem, e);
    }
}

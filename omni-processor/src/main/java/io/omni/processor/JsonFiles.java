package io.omni.processor;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.MissingNode;
import java.io.IOException;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;

/** The JSON files of a checkpoint. */
final class JsonFiles {
    static final ObjectMapper JSON = new ObjectMapper();

    private JsonFiles() {}

    static JsonNode read(Path file) {
        try {
            return JSON.readTree(Files.readString(file));
        } catch (JsonProcessingException e) {
            var at = e.getLocation();
            throw new ProcessorException(
                    file + ", line " + at.getLineNr() + ", column " + at.getColumnNr() + ": " + e.getOriginalMessage(),
                    e);
        } catch (NoSuchFileException e) {
            throw new ProcessorException(file + ": no such file", e);
        } catch (CharacterCodingException e) {
            throw new ProcessorException(file + ": is no text in UTF-8", e);
        } catch (IOException e) {
            throw new ProcessorException(file + ": cannot be read: " + e, e);
        }
    }

    static JsonNode readIfThere(Path file) {
        return Files.exists(file) ? read(file) : MissingNode.getInstance();
    }
}

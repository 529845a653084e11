package io.omni.core;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.node.MissingNode;
import java.io.IOException;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.stream.StreamSupport;

/** Reads the fields of one JSON object, with a default for each; errors name the file and the field. */
record Fields(String where, JsonNode node) {
    private static final ObjectReader JSON = new ObjectMapper().reader();
    private static final ObjectReader NO_NAME_TWICE = JSON.with(StreamReadFeature.STRICT_DUPLICATE_DETECTION);

    static final Fields NONE = new Fields("", MissingNode.getInstance());

    /** The object in a file. */
    static Fields read(Path file) {
        try {
            return parse(file.toString(), Files.readString(file));
        } catch (NoSuchFileException e) {
            throw new CheckpointException(file + ": no such file", e);
        } catch (CharacterCodingException e) {
            throw new CheckpointException(file + ": is no text in UTF-8", e);
        } catch (IOException e) {
            throw new CheckpointException(file + ": cannot be read: " + e.getMessage(), e);
        }
    }

    /** The object in a text that errors call {@code where}; of a name that is there twice the last counts, as in Python. */
    static Fields parse(String where, String json) {
        return parse(where, json, JSON);
    }

    /** The same, in a format that allows no name twice. */
    static Fields parseUnique(String where, String json) {
        return parse(where, json, NO_NAME_TWICE);
    }

    private static Fields parse(String where, String json, ObjectReader reader) {
        try {
            JsonNode node = reader.readTree(json);
            if (!node.isObject())
                throw new CheckpointException(where + ": expected a JSON object");
            return new Fields(where, node);
        } catch (JsonProcessingException e) {
            var at = e.getLocation(); // of what breaks a limit there is none
            throw new CheckpointException(where + ": malformed JSON"
                    + (at == null ? "" : " at line " + at.getLineNr() + ", column " + at.getColumnNr()) + ": "
                    + e.getOriginalMessage().lines().findFirst().orElse(""), e);
        }
    }

    boolean has(String name) {
        return node.hasNonNull(name);
    }

    Fields at(String name) {
        JsonNode child = node.path(name);
        if (child.isMissingNode() || child.isNull())
            return new Fields(where + ": " + name, MissingNode.getInstance());
        return new Fields(where + ": " + name, expect(name, child, child.isObject(), "an object"));
    }

    int integer(String name, int otherwise) {
        JsonNode value = node.path(name);
        if (value.isMissingNode() || value.isNull())
            return otherwise;
        return expect(name, value, value.canConvertToExactIntegral() && value.canConvertToInt(), "an integer")
                .intValue();
    }

    double number(String name, double otherwise) {
        JsonNode value = node.path(name);
        if (value.isMissingNode() || value.isNull())
            return otherwise;
        return expect(name, value, value.isNumber(), "a number").doubleValue();
    }

    boolean bool(String name, boolean otherwise) {
        JsonNode value = node.path(name);
        if (value.isMissingNode() || value.isNull())
            return otherwise;
        return expect(name, value, value.isBoolean(), "true or false").booleanValue();
    }

    String string(String name, String otherwise) {
        JsonNode value = node.path(name);
        if (value.isMissingNode() || value.isNull())
            return otherwise;
        return expect(name, value, value.isTextual(), "a string").textValue();
    }

    /** A list of integers, or one integer. */
    int[] integers(String name, int... otherwise) {
        JsonNode value = node.path(name);
        if (value.isMissingNode() || value.isNull())
            return otherwise;
        if (value.canConvertToInt())
            return new int[]{value.intValue()};
        boolean fits = value.isArray()
                && StreamSupport.stream(value.spliterator(), false).allMatch(JsonNode::canConvertToInt);
        expect(name, value, fits, "a list of integers");
        int[] result = new int[value.size()];
        for (int i = 0; i < result.length; i++)
            result[i] = value.get(i).intValue();
        return result;
    }

    Map<String, Integer> integerMap(String name) {
        Map<String, Integer> map = new LinkedHashMap<>();
        Fields entries = at(name);
        for (var names = entries.node.fieldNames(); names.hasNext();) {
            String key = names.next();
            map.put(key, entries.integer(key, 0));
        }
        return map;
    }

    private JsonNode expect(String name, JsonNode value, boolean fits, String expected) {
        if (!fits)
            throw new CheckpointException(where + ": " + name + " is " + value + ", expected " + expected);
        return value;
    }
}

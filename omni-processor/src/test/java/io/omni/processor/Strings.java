package io.omni.processor;

import com.fasterxml.jackson.core.type.TypeReference;
import java.util.List;

/** The type of a JSON list of strings. */
final class Strings {
    static final TypeReference<List<String>> TYPE = new TypeReference<>() {
    };

    private Strings() {}
}

package io.omni.processor;

import java.util.Map;
import java.util.Objects;

/**
 * A function that the assistant asked for.
 *
 * @param name the function
 * @param arguments by name, as JSON values (String, Boolean, Number, List, Map or null)
 */
public record ToolCall(String name, Map<String, Object> arguments) {
    /**
     * Copies the arguments.
     *
     * @throws NullPointerException for null
     */
    public ToolCall {
        Objects.requireNonNull(name, "name");
        arguments = Message.copy(Objects.requireNonNull(arguments, "arguments"));
    }
}

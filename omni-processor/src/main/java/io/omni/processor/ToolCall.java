package io.omni.processor;

import java.util.Map;

/**
 * A function that the assistant asked for.
 *
 * @param name the function
 * @param arguments by name, as JSON values (String, Boolean, Number, List, Map or null)
 */
public record ToolCall(String name, Map<String, Object> arguments) {}

package io.omni.processor;

import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;

/**
 * One turn of a conversation.
 *
 * @param role {@code system}, {@code user}, {@code assistant} or {@code tool}
 * @param content text and media in order
 * @param reasoningContent the assistant's thoughts, or null
 * @param toolCalls what the assistant asked to call
 * @param json what the chat template sees; empty for a message made in code, whose view follows from the other
 *        components
 */
public record Message(String role, List<Part> content, String reasoningContent, List<ToolCall> toolCalls,
        Map<String, Object> json) {

    /**
     * Copies the lists and the map.
     *
     * @throws NullPointerException for null, but for the reasoning
     */
    public Message {
        Objects.requireNonNull(role, "role");
        content = List.copyOf(Objects.requireNonNull(content, "content"));
        toolCalls = List.copyOf(Objects.requireNonNull(toolCalls, "toolCalls"));
        json = copy(Objects.requireNonNull(json, "json"));
    }

    /** A message without thoughts and tool calls. */
    public Message(String role, List<Part> content) {
        this(role, content, null, List.of(), Map.of());
    }

    /** What the assistant is told beforehand; the first message of a conversation. */
    public static Message system(String text) {
        return new Message("system", List.of(Part.text(text)));
    }

    /** A question of text alone. */
    public static Message user(String text) {
        return new Message("user", List.of(Part.text(text)));
    }

    /** A question of text and media, in this order. */
    public static Message user(Part... parts) {
        return new Message("user", List.of(Objects.requireNonNull(parts, "parts")));
    }

    /** An earlier answer. */
    public static Message assistant(String text) {
        return new Message("assistant", List.of(Part.text(text)));
    }

    /**
     * An earlier answer that thinks or calls functions.
     *
     * @param text what it says, empty for nothing
     * @param reasoning the thoughts before the text, or null
     * @param calls the functions asked for, or none
     */
    public static Message assistant(String text, String reasoning, List<ToolCall> calls) {
        return new Message("assistant", List.of(Part.text(text)), reasoning, calls, Map.of());
    }

    /** What a called function returned. */
    public static Message tool(String text) {
        return new Message("tool", List.of(Part.text(text)));
    }

    /** The message as the chat template sees it. Content that is one text is a string, other content a list of parts. */
    Map<String, Object> templateView() {
        if (!json.isEmpty())
            return json;
        Map<String, Object> view = new LinkedHashMap<>();
        view.put("role", role);
        view.put("content",
                content.size() == 1 && content.getFirst() instanceof Part.Text text ? text.text() : parts());
        if (reasoningContent != null)
            view.put("reasoning_content", reasoningContent);
        if (!toolCalls.isEmpty()) {
            List<Object> calls = new ArrayList<>();
            for (ToolCall call : toolCalls) {
                calls.add(ordered("type", "function", "function",
                        ordered("name", call.name(), "arguments", call.arguments())));
            }
            view.put("tool_calls", calls);
        }
        return view;
    }

    private List<Object> parts() {
        List<Object> parts = new ArrayList<>();
        for (Part part : content) {
            parts.add(switch (part) {
                case Part.Text text -> ordered("type", "text", "text", text.text());
                case Part.Image image -> ordered("type", "image", "image", image.source().toString());
                case Part.Audio audio -> ordered("type", "audio", "audio", audio.source().toString());
                case Part.Video video -> ordered("type", "video", "video", video.source().toString());
            });
        }
        return parts;
    }

    /** A copy in the same order, which may hold null. */
    static Map<String, Object> copy(Map<String, Object> map) {
        return Collections.unmodifiableMap(new LinkedHashMap<>(map));
    }

    /** A map that a template prints in this order. */
    static Map<String, Object> ordered(String key, Object value, String otherKey, Object otherValue) {
        Map<String, Object> map = new LinkedHashMap<>();
        map.put(key, value);
        map.put(otherKey, otherValue);
        return map;
    }
}

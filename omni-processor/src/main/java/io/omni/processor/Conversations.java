package io.omni.processor;

import static io.omni.processor.ProcessorException.quoted;
import static java.util.Map.entry;

import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.JsonNode;
import java.net.URI;
import java.net.URISyntaxException;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/**
 * Reads conversations in upstream's JSON format: a list of messages, or a list of such lists. Content is a string or a
 * list of parts, a part one of {@code text}, {@code image}, {@code image_url}, {@code audio}, {@code audio_url},
 * {@code video} and {@code video_url}, its media an address or a path. A part has no options of its own.
 */
public final class Conversations {
    private static final TypeReference<Map<String, Object>> OBJECT = new TypeReference<>() {
    };

    /** What qwen-omni-utils reads of a part, and what there is here instead, for all parts. */
    private static final Map<String, String> PART_OPTIONS = Map.ofEntries(
            entry("fps", "; for all videos: --fps or ProcessorOptions.fps"),
            entry("nframes", "; for all videos: ProcessorOptions.minFrames and maxFrames"),
            entry("min_frames", "; for all videos: ProcessorOptions.minFrames"),
            entry("max_frames", "; for all videos: ProcessorOptions.maxFrames"),
            entry("min_pixels", "; for all media: ProcessorOptions.imageMinPixels and videoMinPixels"),
            entry("max_pixels", "; for all media: ProcessorOptions.imageMaxPixels and videoMaxPixels"),
            entry("total_pixels", ""), entry("resized_height", ""), entry("resized_width", ""),
            entry("video_start", ""), entry("video_end", ""), entry("audio_start", ""), entry("audio_end", ""));

    private final Path mediaDir;

    private Conversations(Path mediaDir) {
        this.mediaDir = mediaDir;
    }

    /**
     * Reads the conversations of a file. Their media may name any file and any http(s) address that this process can
     * read, relative to {@code mediaDir} or not: a server must not pass on conversations of strangers unchecked.
     *
     * @param file a JSON file
     * @param mediaDir what relative media paths are relative to
     * @throws ProcessorException if the file cannot be read or does not hold conversations
     */
    public static List<List<Message>> read(Path file, Path mediaDir) {
        return new Conversations(mediaDir).conversations(JsonFiles.read(file));
    }

    /**
     * Reads the conversations of a text. Their media may name any file and any http(s) address that this process can
     * read, relative to {@code mediaDir} or not: a server must not pass on conversations of strangers unchecked.
     *
     * @param json JSON text
     * @param mediaDir what relative media paths are relative to
     * @throws ProcessorException if the text does not hold conversations
     */
    public static List<List<Message>> read(String json, Path mediaDir) {
        return new Conversations(mediaDir).conversations(JsonFiles.parse(json, "messages"));
    }

    private List<List<Message>> conversations(JsonNode root) {
        if (!root.isArray())
            throw wrong("messages", root, "a list of messages or a list of conversations");
        if (root.isEmpty() || root.get(0).isObject())
            return List.of(messages(root, "messages"));
        List<List<Message>> conversations = new ArrayList<>();
        for (int i = 0; i < root.size(); i++) conversations.add(messages(root.get(i), "messages[" + i + "]"));
        return conversations;
    }

    private List<Message> messages(JsonNode list, String at) {
        if (!list.isArray())
            throw wrong(at, list, "a list of messages");
        List<Message> messages = new ArrayList<>();
        for (int i = 0; i < list.size(); i++) messages.add(message(list.get(i), at + "[" + i + "]"));
        return messages;
    }

    private Message message(JsonNode node, String at) {
        if (!node.isObject())
            throw wrong(at, node, "an object with role and content");
        JsonNode role = node.path("role");
        if (!role.isTextual())
            throw wrong(at + ".role", role, "a string");
        Map<String, Object> json = JsonFiles.JSON.convertValue(node, OBJECT);
        List<ToolCall> calls = toolCalls(node.path("tool_calls"), at + ".tool_calls");
        boolean callsAlone = role.textValue().equals("assistant") && !calls.isEmpty() && !node.hasNonNull("content");
        List<Part> content = callsAlone ? noContent(json) : content(node.path("content"), json, at + ".content");
        JsonNode reasoning = node.path("reasoning_content");
        return new Message(role.textValue(), content, reasoning.isTextual() ? reasoning.textValue() : null, calls,
                json);
    }

    /** Beside tool calls templates take content that is left out, and not the null that other formats have there. */
    private static List<Part> noContent(Map<String, Object> json) {
        json.remove("content");
        return List.of();
    }

    private List<Part> content(JsonNode content, Map<String, Object> json, String at) {
        if (content.isTextual())
            return List.of(Part.text(content.textValue()));
        if (!content.isArray())
            throw wrong(at, content, "a string or a list of parts");
        List<Part> parts = new ArrayList<>();
        List<Object> views = new ArrayList<>();
        for (int i = 0; i < content.size(); i++) {
            JsonNode part = content.get(i);
            parts.add(part(part, at + "[" + i + "]"));
            views.add(view(part));
        }
        json.put("content", views);
        return parts;
    }

    /**
     * Upstream turns {@code image_url} parts into {@code image} parts before the template sees them. Templates do not
     * know {@code video_url} either, and pass over a part that is a string.
     */
    private static Map<String, Object> view(JsonNode part) {
        if (part.isTextual())
            return Message.ordered("type", "text", "text", part.textValue());
        String type = part.path("type").asText("");
        for (String kind : List.of("image", "video")) {
            JsonNode url = part.path(kind + "_url");
            if (!url.isMissingNode() && (type.isEmpty() || type.equals(kind + "_url")))
                return Message.ordered("type", kind, "url", (url.isObject() ? url.path("url") : url).asText());
        }
        return JsonFiles.JSON.convertValue(part, OBJECT);
    }

    private Part part(JsonNode part, String at) {
        if (part.isTextual())
            return Part.text(part.textValue());
        if (!part.isObject())
            throw wrong(at, part, "a part such as {\"type\": \"text\", \"text\": …}");
        for (String kind : List.of("image", "audio", "video")) {
            String type = part.path("type").asText("");
            boolean named = type.equals(kind) || type.equals(kind + "_url");
            boolean untyped = type.isEmpty() && (part.has(kind) || part.has(kind + "_url"));
            if (!named && !untyped)
                continue;
            refuseOptions(part, at);
            MediaSource source = source(part, kind, at);
            return switch (kind) {
                case "image" -> new Part.Image(source);
                case "audio" -> new Part.Audio(source);
                default -> new Part.Video(source);
            };
        }
        if (part.has("text") || part.path("type").asText("").equals("text")) {
            if (!part.path("text").isTextual())
                throw wrong(at + ".text", part.path("text"), "a string");
            return Part.text(part.get("text").textValue());
        }
        throw wrong(at + ".type", part.path("type"), "text, image, audio or video");
    }

    /** Rather than answering as if an option were not there. */
    private static void refuseOptions(JsonNode part, String at) {
        part.properties().forEach(field -> {
            String instead = PART_OPTIONS.get(field.getKey());
            if (instead != null && !field.getValue().isNull())
                throw wrong(at + "." + field.getKey(), field.getValue(), "no such option of a single part" + instead);
        });
    }

    private MediaSource source(JsonNode part, String kind, String at) {
        for (String key : List.of(kind, kind + "_url", "url", "path", "base64")) {
            JsonNode value = part.path(key);
            if (value.isObject())
                value = value.path("url");
            if (!value.isTextual())
                continue;
            try {
                return key.equals("base64")
                        ? new MediaSource.Encoded(MediaSource.data(";base64," + value.textValue()))
                        : source(value.textValue());
            } catch (ProcessorException e) {
                throw new ProcessorException(at + "." + key + ": " + e.getMessage(), e);
            }
        }
        throw wrong(at + "." + kind, part.path(kind), "a path or an address");
    }

    private MediaSource source(String text) {
        int colon = text.indexOf(':');
        String scheme = colon < 0 ? "" : text.substring(0, colon).toLowerCase(Locale.ROOT);
        String rest = text.substring(colon + 1);
        try {
            if (scheme.equals("data"))
                return new MediaSource.Encoded(MediaSource.data(rest));
            if (scheme.equals("file"))
                return new MediaSource.File(decoded(rest.replaceFirst("^//((?i)localhost(?=/))?", "")));
            if (scheme.length() > 1 && rest.startsWith("//")) // C://a.png is on a drive
                return MediaSource.of(new URI(text.replace(" ", "%20")));
            Path path = mediaDir.resolve(text);
            if (text.length() < 256 || Files.exists(path))
                return new MediaSource.File(path);
        } catch (InvalidPathException | URISyntaxException e) {
            throw new ProcessorException("found '" + quoted(text) + "', expected a path or an address", e);
        }
        throw new ProcessorException("found '" + quoted(text) + "' of " + text.length()
                + " characters, expected a path or an address; base64 needs data:;base64, before it");
    }

    /** Addresses of files have %20 for a space, unless file:// was only put before a path. */
    private Path decoded(String path) {
        Path literal = mediaDir.resolve(path);
        if (Files.exists(literal))
            return literal;
        try {
            return mediaDir.resolve(URLDecoder.decode(path.replace("+", "%2B"), StandardCharsets.UTF_8));
        } catch (IllegalArgumentException e) { // a % that stands for itself
            return literal;
        }
    }

    private static List<ToolCall> toolCalls(JsonNode calls, String at) {
        if (!calls.isArray() && !calls.isNull() && !calls.isMissingNode())
            throw wrong(at, calls, "a list");
        List<ToolCall> list = new ArrayList<>();
        for (int i = 0; i < calls.size(); i++) {
            JsonNode call = calls.get(i).path("function").isObject() ? calls.get(i).get("function") : calls.get(i);
            if (!call.path("name").isTextual())
                throw wrong(at + "[" + i + "].name", call.path("name"), "a string");
            JsonNode arguments = call.path("arguments");
            if (arguments.isTextual())
                arguments = JsonFiles.parse(arguments.textValue(), at + "[" + i + "].arguments");
            list.add(new ToolCall(call.get("name").textValue(),
                    arguments.isObject() ? JsonFiles.JSON.convertValue(arguments, OBJECT) : Map.of()));
        }
        return list;
    }

    private static ProcessorException wrong(String at, JsonNode found, String expected) {
        String shown = found.isMissingNode() ? "nothing" : quoted(found.toString());
        return new ProcessorException(at + ": found " + shown + ", expected " + expected);
    }
}

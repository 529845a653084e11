package io.omni.core;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.omni.api.Backend;
import io.omni.api.BackendOptions;
import io.omni.api.Backends;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import java.util.stream.Stream;

/** The reference checkpoint, its media and what upstream computed for them. */
final class Reference {
    static final Path DIR = find();
    static final Path MEDIA = DIR.resolve("media");
    static final Path MODEL = DIR.resolve("tiny/model");
    static final Path CASES = DIR.resolve("tiny/cases");

    private static final ObjectMapper JSON = new ObjectMapper();

    private Reference() {}

    private static Path find() {
        String given = System.getProperty("omni.reference");
        if (given != null)
            return Path.of(given);
        for (Path dir = Path.of("").toAbsolutePath(); dir != null; dir = dir.getParent())
            if (Files.isDirectory(dir.resolve("reference/tiny")))
            return dir.resolve("reference");
        throw new IllegalStateException("no folder 'reference' above " + Path.of("").toAbsolutePath());
    }

    static Backend cpu() {
        return Backends.load("cpu", new BackendOptions(2, Map.of()));
    }

    static Omni omni(Backend backend) {
        return Omni.builder().backend(backend).load(MODEL);
    }

    /** A copy of the checkpoint that a test may damage. */
    static Path copy(Path folder) throws IOException {
        try (Stream<Path> files = Files.list(MODEL)) {
            for (Path file : files.toList())
                Files.copy(file, folder.resolve(file.getFileName()));
        }
        return folder;
    }

    static void edit(Path file, Consumer<ObjectNode> change) throws IOException {
        ObjectNode json = (ObjectNode) JSON.readTree(file.toFile());
        change.accept(json);
        JSON.writeValue(file.toFile(), json);
    }

    /** Takes tensors whose names start with one of the prefixes out of the index. */
    static void removeTensors(Path model, List<String> prefixes) throws IOException {
        edit(model.resolve("model.safetensors.index.json"), index -> {
            ObjectNode map = (ObjectNode) index.get("weight_map");
            List<String> names = map.propertyStream().map(Map.Entry::getKey).toList();
            names.stream().filter(name -> prefixes.stream().anyMatch(name::startsWith)).forEach(map::remove);
        });
    }

    /** The shard that the index names for a tensor. */
    static String shardOf(Path model, String tensor) throws IOException {
        JsonNode index = JSON.readTree(model.resolve("model.safetensors.index.json").toFile());
        return index.path("weight_map").path(tensor).asText();
    }

    /** Deletes the shards that hold nothing but tensors whose names start with one of the prefixes. */
    static int deleteShards(Path model, List<String> prefixes) throws IOException {
        JsonNode map = JSON.readTree(model.resolve("model.safetensors.index.json").toFile()).path("weight_map");
        List<String> kept = map.propertyStream().filter(e -> prefixes.stream().noneMatch(e.getKey()::startsWith))
                .map(e -> e.getValue().asText()).distinct().toList();
        List<String> dropped = map.propertyStream().map(e -> e.getValue().asText()).distinct()
                .filter(shard -> !kept.contains(shard)).toList();
        for (String shard : dropped)
            Files.delete(model.resolve(shard));
        return dropped.size();
    }
}

package io.omni.processor;

import java.nio.file.Files;
import java.nio.file.Path;

/** The reference checkpoint, its media and what upstream computed for them. */
final class Reference {
    static final Path DIR = find();
    static final Path MEDIA = DIR.resolve("media");
    static final Path MODEL = DIR.resolve("tiny/model");
    static final Path CASES = DIR.resolve("tiny/cases");

    private Reference() {}

    private static Path find() {
        String given = System.getProperty("omni.reference");
        if (given != null)
            return Path.of(given);
        for (Path dir = Path.of("").toAbsolutePath(); dir != null; dir = dir.getParent()) {
            if (Files.isDirectory(dir.resolve("reference/tiny")))
                return dir.resolve("reference");
        }
        throw new IllegalStateException("no folder 'reference' above " + Path.of("").toAbsolutePath());
    }

    static SafetensorsFile golden(String name) {
        return SafetensorsFile.read(CASES.resolve(name + ".safetensors"));
    }

    static Path resource(String name) {
        return Path.of("src/test/resources", name);
    }
}

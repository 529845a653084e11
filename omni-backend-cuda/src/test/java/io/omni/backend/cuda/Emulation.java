package io.omni.backend.cuda;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.stream.Stream;

/** The kernels compiled for the host, with g++. */
final class Emulation {
    private static Path library;

    private Emulation() {}

    /** Why kernels cannot be run on this host, or null. */
    static String missing() {
        if (!System.getProperty("os.arch").equals("amd64"))
            return "kernels are emulated on x86-64 only";
        return Tools.has("g++") ? null : "g++ not found, which compiles the kernels for the host";
    }

    static synchronized Path library() throws IOException {
        if (library != null)
            return library;
        Path sources = Path.of("src/main/cuda").toAbsolutePath();
        Path emulation = Path.of("src/test/cuda").toAbsolutePath();
        Path build = Files.createDirectories(Path.of("target/emulation").toAbsolutePath());
        Path made = build.resolve("kernels-" + digest(sources, emulation) + ".so");
        if (!Files.exists(made)) {
            List<Process> compilers = new ArrayList<>();
            List<Path> objects = new ArrayList<>();
            List<Path> units = new ArrayList<>(List.of(emulation.resolve("emulation.cpp")));
            for (String file : Kernels.FILES) {
                Path unit = build.resolve(file + ".cpp");
                StringBuilder text = new StringBuilder("#define OMNI_EMULATION\n#include \"" + file + ".cu\"\n");
                Kernels.load().entries().forEach((name, entry) -> {
                    if (entry.file().equals(file))
                        text.append("static emulation::Register register_" + name + "(\"" + name
                                + "\", [](void** a) { emulation::apply(" + name + ", a); });\n");
                });
                Files.writeString(unit, text);
                units.add(unit);
            }
            for (Path unit : units) {
                Path object = build.resolve(unit.getFileName() + ".o");
                objects.add(object);
                compilers
                        .add(Tools.start("g++", "-std=c++17", "-O2", "-ffp-contract=off", "-fPIC", "-w", "-I" + sources,
                                "-I" + emulation, "-c", unit.toString(), "-o", object.toString()));
                if (compilers.size() % 2 == 0)
                    Tools.await(compilers);
            }
            Tools.await(compilers);
            List<String> link = new ArrayList<>(List.of("g++", "-shared", "-o", made.toString()));
            objects.forEach(o -> link.add(o.toString()));
            Tools.await(new ArrayList<>(List.of(Tools.start(link.toArray(String[]::new)))));
        }
        library = made;
        return made;
    }

    /** A folder with a libcuda.so.1 that runs kernels on the host. */
    static synchronized Path driver() throws IOException {
        Path kernels = library();
        Path folder = kernels.resolveSibling(kernels.getFileName().toString().replace(".so", "-driver"));
        Path made = Files.createDirectories(folder).resolve(DriverProbe.LIBRARY);
        if (!Files.exists(made))
            Tools.output("g++", "-std=c++17", "-O2", "-fPIC", "-shared", "-Wl,-soname," + DriverProbe.LIBRARY,
                    "-Wl,-rpath," + kernels.getParent(), "-o", made.toString(), "src/test/cuda/driver.cpp",
                    kernels.toString());
        return folder;
    }

    private static String digest(Path... folders) throws IOException {
        try {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            for (Path folder : folders)
                try (Stream<Path> files = Files.list(folder)) {
                    for (Path file : files.sorted().toList()) {
                        digest.update(file.getFileName().toString().getBytes(StandardCharsets.UTF_8));
                        digest.update(Files.readAllBytes(file));
                    }
                }
            return HexFormat.of().formatHex(digest.digest(), 0, 8);
        } catch (NoSuchAlgorithmException e) {
            throw new AssertionError(e);
        }
    }
}

package io.omni.core;

import static org.assertj.core.api.Assertions.assertThat;

import io.omni.api.Backend;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Every tensor that upstream computed for the reference cases. */
class ParityTest {
    private static Backend backend;
    private static Omni omni;

    @BeforeAll
    static void load() {
        backend = Reference.cpu();
        omni = Reference.omni(backend);
    }

    @AfterAll
    static void close() {
        omni.close();
        backend.close();
    }

    static List<String> cases() {
        return new Parity(null, Reference.CASES, Reference.MEDIA).names();
    }

    @ParameterizedTest
    @MethodSource("cases")
    void matchesUpstream(String name) {
        List<Parity.Result> results = new ArrayList<>();
        new Parity(omni, Reference.CASES, Reference.MEDIA).run(name, results::add);
        assertThat(results).isNotEmpty().allSatisfy(result -> assertThat(result.ok()).as("%s", result).isTrue());
    }
}

package io.omni.core;

import static org.assertj.core.api.Assertions.assertThat;

import io.omni.api.Backend;
import io.omni.api.PlainBackend;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * The model on a backend that has nothing but the definitions: it asks no more of a backend than the SPI says. Slow, as
 * every operation runs in plain loops over float64.
 */
class PlainBackendTest {
    @ParameterizedTest
    @ValueSource(strings = {"audio_short", "images_two"})
    void theDefinitionsAloneMatchUpstream(String name) {
        try (Backend backend = new PlainBackend(); Omni omni = Reference.omni(backend)) {
            new Parity(omni, Reference.CASES, Reference.MEDIA)
                    .run(name, result -> assertThat(result.ok()).as(result.toString()).isTrue());
        }
    }
}

package io.omni.core;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import org.junit.jupiter.api.Test;

class ConfigTest {
    private static OmniConfig parse(String fields) {
        return OmniConfig.parse("config.json", "{\"model_type\": \"qwen3_omni_moe\", " + fields + "}");
    }

    @Test
    void readsReleasedAndNewerNames() {
        OmniConfig released = parse("""
                "thinker_config": {"text_config": {"num_experts": 5, "rope_theta": 7.5,
                  "rope_scaling": {"mrope_section": [3, 2, 1]}}}""");
        OmniConfig newer = parse("""
                "thinker_config": {"text_config": {"num_local_experts": 5,
                  "rope_parameters": {"rope_theta": 7.5, "mrope_section": [3, 2, 1]}}}""");
        for (OmniConfig config : new OmniConfig[]{released, newer}) {
            DecoderConfig text = config.thinker().text();
            assertThat(text.numExperts()).isEqualTo(5);
            assertThat(text.ropeTheta()).isEqualTo(7.5);
            assertThat(text.mropeSection()).containsExactly(3, 2, 1);
        }
    }

    @Test
    void onlyTheThinkerHasDenseLayers() {
        String fields = "{\"text_config\": {\"mlp_only_layers\": [1], \"decoder_sparse_step\": 2}}";
        OmniConfig config = parse("\"thinker_config\": " + fields + ", \"talker_config\": " + fields);
        assertThat(config.thinker().text().isSparse(0)).isFalse();
        assertThat(config.thinker().text().isSparse(1)).isFalse();
        assertThat(config.thinker().text().isSparse(3)).isTrue();
        assertThat(config.talker().text().isSparse(0)).isTrue();
        assertThat(config.talker().text().isSparse(1)).isTrue();
    }

    @Test
    void onlyCode2WavHasAWindow() {
        String fields = "{\"text_config\": {\"sliding_window\": 8, \"use_sliding_window\": true}}";
        OmniConfig config = parse("\"thinker_config\": " + fields + ", \"talker_config\": " + fields
                + ", \"code2wav_config\": {\"sliding_window\": 9}");
        assertThat(config.thinker().text().slidingWindow()).isZero();
        assertThat(config.talker().text().slidingWindow()).isZero();
        assertThat(config.code2Wav().transformer().slidingWindow()).isEqualTo(9);
    }

    @Test
    void refusesWhatItCannotRun() {
        assertThatThrownBy(() -> parse(
                "\"thinker_config\": {\"text_config\": {\"rope_parameters\": {\"rope_type\": \"yarn\"}}}"))
                .isInstanceOf(CheckpointException.class).hasMessageContaining("rope_type is 'yarn'");
    }
}

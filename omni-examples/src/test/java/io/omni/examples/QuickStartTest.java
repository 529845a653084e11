package io.omni.examples;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class QuickStartTest {
    @Test
    void answersAPictureInSpeech(@TempDir Path folder) {
        Path wav = folder.resolve("answer.wav");
        QuickStart.main(new String[]{"../reference/tiny/model", "../reference/media/scene.png", wav.toString()});
        assertThat(wav).isNotEmptyFile();
    }
}

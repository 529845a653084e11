package io.omni.processor;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatNullPointerException;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.net.URI;
import java.nio.file.Path;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.assertj.core.api.ThrowableAssert.ThrowingCallable;
import org.junit.jupiter.api.Test;

class ProcessorOptionsTest {
    private static ProcessorOptions.Builder options() {
        return ProcessorOptions.builder();
    }

    private static void refused(ProcessorOptions.Builder builder, String message) {
        assertThatThrownBy(builder::build).isInstanceOf(ProcessorException.class).hasMessage(message);
    }

    @Test
    void numbersThatMakeNoSense() {
        refused(options().fps(0), "fps: found 0.0, expected a positive number");
        refused(options().positionIdPerSeconds(Double.NaN),
                "positionIdPerSeconds: found NaN, expected a positive number");
        refused(options().frames(0, null), "pixel and frame limits: found 0, expected positive numbers");
        refused(options().maxDownloadBytes(0), "maxDownloadBytes: found 0, expected a positive number");
        refused(options().downloadTimeout(null), "downloadTimeout: found null, expected a positive duration");
        refused(options().downloadTimeout(Duration.ZERO), "downloadTimeout: found PT0S, expected a positive duration");
        refused(options().downloadTimeout(Duration.ofSeconds(-1)),
                "downloadTimeout: found PT-1S, expected a positive duration");
    }

    @Test
    void theLeastThatMakesSense() {
        ProcessorOptions least = options().maxDownloadBytes(1).downloadTimeout(Duration.ofNanos(1)).build();
        assertThat(least.maxDownloadBytes()).isEqualTo(1);
        assertThat(least.downloadTimeout()).isEqualTo(Duration.ofNanos(1));
    }

    @Test
    void laterChangesOfMapsDoNotShow() {
        Map<String, Object> map = new LinkedHashMap<>();
        map.put("b", null);
        map.put("a", 1);
        ProcessorOptions.Builder builder = options().templateVariable("b", null).templateVariable("a", 1);
        ProcessorOptions options = builder.build();
        ToolCall call = new ToolCall("f", map);
        Message message = new Message("user", List.of(), null, List.of(), map);
        builder.templateVariable("c", 2);
        map.put("c", 2);
        for (Map<String, Object> kept : List.of(options.templateVariables(), call.arguments(), message.json())) {
            assertThat(kept).hasToString("{b=null, a=1}");
            assertThatThrownBy(() -> kept.put("c", 2)).isInstanceOf(UnsupportedOperationException.class);
        }
    }

    private static void named(String argument, ThrowingCallable call) {
        assertThatNullPointerException().isThrownBy(call).withMessage(argument);
    }

    @Test
    void nullIsRefusedByName() {
        named("text", () -> Part.text(null));
        named("file", () -> Part.image((Path) null));
        named("file", () -> Part.audio((Path) null));
        named("file", () -> Part.video((Path) null));
        named("uri", () -> Part.image((URI) null));
        named("uri", () -> Part.audio((URI) null));
        named("uri", () -> Part.video((URI) null));
        named("image", () -> Part.image((java.awt.image.BufferedImage) null));
        named("samples", () -> Part.audio(null, 16000));
        named("source", () -> new Part.Image(null));
        named("bytes", () -> new MediaSource.Encoded(null));
        named("text", () -> Message.user((String) null));
        named("role", () -> new Message(null, List.of()));
        named("arguments", () -> new ToolCall("f", null));
    }
}

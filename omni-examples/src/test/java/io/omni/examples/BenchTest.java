package io.omni.examples;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;
import static org.assertj.core.api.Assertions.withinPercentage;

import io.omni.api.Backend;
import io.omni.api.BackendOptions;
import io.omni.api.Backends;
import io.omni.api.DType;
import io.omni.core.OmniConfig;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.file.Path;
import java.util.Map;
import java.util.function.Consumer;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;

/** Sections of the benchmark, at the bundled model's small widths. */
class BenchTest {
    private static final Path MODEL = Path.of("..", "reference", "tiny", "model");
    private static final OmniConfig SMALL = OmniConfig.read(MODEL);

    private static String output(Consumer<Bench> section) {
        StringWriter out = new StringWriter();
        try (Backend backend = Backends.load("cpu", new BackendOptions(2, Map.of()))) {
            section.accept(
                    new Bench(backend, DType.BF16, DType.F32, 1, 2, new Roofline(10, 10, 100), new PrintWriter(out)));
        }
        return out.toString();
    }

    private static Matcher match(String text, String pattern) {
        Matcher found = Pattern.compile(pattern).matcher(text);
        assertThat(found.find()).as(text).isTrue();
        return found;
    }

    private static double number(Matcher found, int group) {
        return Double.parseDouble(found.group(group));
    }

    @Test
    void decoderGivesTheRateOfEachBatchBesideItsFloor() {
        String out = output(bench -> new DecoderBench(bench, SMALL, 400, 4, new int[]{1, 3}).run());
        for (int n : new int[]{1, 3}) {
            Matcher batch = match(out, "batch  " + n
                    + ": +([0-9.]+) ms a step +([0-9.]+) tokens/s +memory floor ([0-9.]+) ms, ([0-9.]+) tokens/s, ([0-9.]+) %");
            double rate = number(batch, 2);
            assertThat(1000 * n / rate).isCloseTo(number(batch, 1), withinPercentage(1));
            assertThat(1000 * n / number(batch, 4)).isCloseTo(number(batch, 3), within(0.006));
            assertThat(100 * rate / number(batch, 4)).isCloseTo(number(batch, 5), within(0.6));
        }
        assertThat(out).containsPattern("prompt of 400 through \\d layers: [0-9.]+ ms, \\d+ tokens/s");
    }

    @Test
    void latencyGivesTextBeforeSoundAndSoundBeforeAllOfIt() {
        String out = output(bench -> new LatencyBench(bench, SMALL, MODEL, 6).run());
        double read = number(match(out, "10 s of sound, 1\\d\\d tokens, read after ([0-9.]+) ms"), 1);
        double text = number(match(out, "first text: +([0-9.]+) ms"), 1);
        double sound = number(match(out, "first sound: +([0-9.]+) ms"), 1);
        Matcher speech = match(out, "speech: +([0-9.]+) s in ([0-9.]+) s, real-time factor ([0-9.]+)");
        assertThat(read).isPositive().isLessThanOrEqualTo(text);
        assertThat(text).isLessThan(sound);
        assertThat(sound).isLessThanOrEqualTo(1000 * number(speech, 2) + 5);
        assertThat(number(speech, 1)).isPositive();
        assertThat(number(match(out, "text: +([0-9.]+) tokens/s beside speech, [0-9.]+ alone"), 1)).isPositive();
    }

    @Test
    void latencyHasTheReleasedWidthsWithTheFoldersTokens() {
        OmniConfig config = LatencyBench.config(MODEL, 3);
        assertThat(config.imStart()).isEqualTo(SMALL.imStart());
        assertThat(config.thinker().tokens().audio()).isEqualTo(SMALL.thinker().tokens().audio());
        assertThat(config.thinker().text().hiddenSize()).isEqualTo(2048);
        assertThat(config.thinker().text().numHiddenLayers()).isEqualTo(3);
        assertThat(config.talker().text().numHiddenLayers()).isEqualTo(3);
        assertThat(LatencyBench.config(MODEL, 99).thinker().text().numHiddenLayers()).isEqualTo(48);
        assertThat(LatencyBench.config(MODEL, 99).talker().text().numHiddenLayers()).isEqualTo(20);
    }

    @Test
    void latencyNeedsAFolder() {
        StringWriter err = new StringWriter();
        int status = OmniCli.run(new PrintWriter(new StringWriter()), new PrintWriter(err, true), "bench", "latency");
        assertThat(status).isEqualTo(2);
        assertThat(err.toString()).contains("latency needs --model, a folder with a tokenizer");
    }
}

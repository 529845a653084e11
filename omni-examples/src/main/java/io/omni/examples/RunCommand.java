package io.omni.examples;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.omni.api.DType;
import io.omni.core.Code2WavConfig;
import io.omni.core.Event;
import io.omni.core.Omni;
import io.omni.core.Options;
import io.omni.core.Reply;
import io.omni.core.ReplyStream;
import io.omni.core.Timings;
import io.omni.processor.Conversations;
import io.omni.processor.Message;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.function.ToDoubleFunction;
import java.util.stream.DoubleStream;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code omni run}: answers conversations from a file. */
@Command(name = "run", description = "Answer a conversation, or a batch of them, from a JSON file in upstream's format.", mixinStandardHelpOptions = true)
final class RunCommand implements Callable<Integer> {
    /** Seconds beside the loading in which the JVM compiles what the request needs. */
    static final double WARM_UP = Double.parseDouble(System.getProperty("omni.warmUp", "2"));

    /** How attention keeps keys and values. */
    enum Cache {
        F32(DType.F32), Q8(DType.I8);

        final DType type;

        Cache(DType type) {
            this.type = type;
        }
    }

    @Option(names = "--model", required = true, paramLabel = "DIR", description = "Checkpoint folder.")
    private Path model;

    @Option(names = "--conversation", required = true, paramLabel = "FILE", description = "A list of messages, or a list of such lists.")
    private Path conversation;

    @Option(names = "--media", paramLabel = "DIR", description = "Where relative media paths start; else the conversation's folder.")
    private Path media;

    @Option(names = "--backend", paramLabel = "NAME", converter = BackendsCommand.Name.class, description = "See 'omni backends'; else the best available.")
    private String backend;

    @Option(names = "--kv-cache", paramLabel = "TYPE", defaultValue = "f32", description = "Keys and values of attention: f32, or q8, 8 bits, for long conversations (default: ${DEFAULT-VALUE}).")
    private Cache kvCache;

    @Option(names = "--fps", paramLabel = "N", description = "Video frames to read a second (default: 1).")
    private Double fps;

    @Option(names = "--use-audio-in-video", description = "Hear the videos' own sound.")
    private boolean useAudioInVideo;

    @Option(names = "--speaker", paramLabel = "NAME", description = "Voice (default: Ethan).")
    private String speaker;

    @Option(names = "--no-audio", description = "Text only; what speaks is not loaded.")
    private boolean noAudio;

    @Option(names = "--greedy", description = "Always take the most likely token.")
    private boolean greedy;

    @Option(names = "--seed", paramLabel = "N", description = "Start of what is drawn at random (default: 0).")
    private long seed;

    @Option(names = "--thinker-max-new-tokens", paramLabel = "N", description = "Text tokens at most.")
    private Integer thinkerMaxNewTokens;

    @Option(names = "--talker-max-new-tokens", paramLabel = "N", description = "Frames of speech at most.")
    private Integer talkerMaxNewTokens;

    @Option(names = "--audio-out", paramLabel = "FILE-or-DIR", description = "Where speech goes: a file, or a folder for 0.wav, 1.wav, …")
    private Path audioOut;

    @Option(names = "--json", description = "Print one JSON object instead of the text.")
    private boolean json;

    @Spec
    private CommandSpec spec;

    @Override
    public Integer call() {
        if (noAudio && speaker != null)
            throw new ParameterException(spec.commandLine(), "--speaker with --no-audio");
        if (noAudio && audioOut != null)
            throw new ParameterException(spec.commandLine(), "--audio-out with --no-audio");
        expectPositive("--fps", fps);
        expectPositive("--thinker-max-new-tokens", thinkerMaxNewTokens);
        expectPositive("--talker-max-new-tokens", talkerMaxNewTokens);
        Path mediaDir = media != null ? media : conversation.toAbsolutePath().getParent();
        List<List<Message>> conversations = Conversations.read(conversation, mediaDir);
        List<Path> audioFiles = audioOut == null ? List.of() : audioFiles(conversations.size());
        long start = System.nanoTime();
        Omni.Builder builder = Omni.builder().speech(!noAudio).kvCache(kvCache.type).warmUp(WARM_UP);
        if (backend != null)
            builder.backend(backend);
        builder.processor(settings -> {
            if (fps != null)
                settings.fps(fps);
            settings.useAudioInVideo(useAudioInVideo);
        });
        try (Omni omni = builder.load(model)) {
            double load = (System.nanoTime() - start) / 1e9;
            if (audioOut != null && !omni.model().canSpeak())
                throw new IllegalArgumentException("--audio-out: " + model + " has no Talker, so there is no speech");
            List<Reply> replies = answer(omni, conversations);
            List<Path> written = new ArrayList<>();
            try {
                for (Path file : audioFiles) {
                    replies.get(written.size()).audio().write(file);
                    written.add(file);
                }
            } finally {
                if (json)
                    spec.commandLine().getOut().println(json(omni, replies, written, load));
            }
            if (!json)
                tell(replies, written);
            return 0;
        }
    }

    private void expectPositive(String option, Number value) {
        if (value == null)
            return;
        if (!(value.doubleValue() > 0))
            throw new ParameterException(spec.commandLine(), option + " is " + value + ", expected more than 0");
        if (Double.isInfinite(value.doubleValue()))
            throw new ParameterException(spec.commandLine(), option + " is " + value + ", expected a finite number");
    }

    /** Where the speech of each answer goes. */
    private List<Path> audioFiles(int answers) {
        boolean folder = Files.isDirectory(audioOut)
                || !Files.exists(audioOut) && !audioOut.getFileName().toString().contains(".");
        if (!folder && answers > 1)
            throw new IllegalArgumentException(
                    "--audio-out: found the file " + audioOut + ", expected a folder for " + answers + " answers");
        try {
            if (folder)
                Files.createDirectories(audioOut);
        } catch (IOException e) {
            throw new UncheckedIOException(audioOut + ": cannot be made a folder", e);
        }
        List<Path> files = new ArrayList<>();
        for (int i = 0; i < answers; i++) {
            files.add(folder ? audioOut.resolve(i + ".wav") : audioOut);
            OmniCli.expectWritable(files.getLast());
        }
        return files;
    }

    private Options options() {
        Options options = noAudio ? Options.text() : speaker != null ? Options.speech(speaker) : Options.defaults();
        if (greedy)
            options = options.greedy();
        if (thinkerMaxNewTokens != null)
            options = options.thinkerMaxNewTokens(thinkerMaxNewTokens);
        if (talkerMaxNewTokens != null)
            options = options.talkerMaxNewTokens(talkerMaxNewTokens);
        return options.seed(seed);
    }

    private List<Reply> answer(Omni omni, List<List<Message>> conversations) {
        PrintWriter out = spec.commandLine().getOut();
        boolean live = !json && conversations.size() == 1;
        try (ReplyStream stream = omni.streamBatch(conversations, options())) {
            for (Event event : stream)
                switch (event) {
                case Event.TextDelta delta when live -> {
                    out.print(delta.text());
                    if (out.checkError()) // which flushes
                        throw new IllegalStateException(OmniCli.LOST_OUTPUT);
                }
                case Event.TextDone done when live -> out.println();
                default -> {
                }
                }
            List<Reply> replies = stream.replies();
            if (!json && !live)
                for (int i = 0; i < replies.size(); i++)
                    out.println("[" + i + "] " + replies.get(i).text());
            return replies;
        }
    }

    private void tell(List<Reply> replies, List<Path> audio) {
        PrintWriter err = spec.commandLine().getErr();
        for (int i = 0; i < replies.size(); i++) {
            if (replies.get(i).audio() == null)
                continue;
            String seconds = String.format("%.2f s of speech", replies.get(i).audio().seconds());
            err.println(audio.isEmpty() ? seconds + "; --audio-out writes it" : seconds + " in " + audio.get(i));
        }
    }

    private static String json(Omni omni, List<Reply> replies, List<Path> audio, double load) {
        ObjectMapper mapper = new ObjectMapper();
        ObjectNode object = mapper.createObjectNode();
        object.put("backend", omni.model().backend().name());
        ArrayNode text = object.putArray("text");
        ArrayNode sequences = object.putArray("sequences");
        ArrayNode promptTokens = object.putArray("prompt_tokens");
        ArrayNode codes = object.putArray("codes");
        for (Reply reply : replies) {
            text.add(reply.text());
            sequences.add(mapper.valueToTree(reply.sequence()));
            promptTokens.add(reply.promptTokens());
            if (reply.codes() != null)
                codes.add(mapper.valueToTree(reply.codes()));
        }
        ArrayNode paths = object.putArray("audio");
        audio.forEach(file -> paths.add(file.toString()));
        object.put("sample_rate", Code2WavConfig.SAMPLE_RATE);
        List<Timings> all = replies.stream().map(Reply::timings).toList();
        ObjectNode timings = object.putObject("timings");
        put(timings, "load", DoubleStream.of(load));
        put(timings, "prefill", times(all, Timings::prefill));
        put(timings, "first_text", DoubleStream.of(times(all, Timings::firstText).min().orElse(Double.NaN)));
        put(timings, "text_done", times(all, Timings::textDone));
        put(timings, "first_audio", DoubleStream.of(times(all, Timings::firstAudio).min().orElse(Double.NaN)));
        put(timings, "audio_done", times(all, Timings::audioDone));
        try {
            return mapper.writeValueAsString(object);
        } catch (JsonProcessingException e) {
            throw new IllegalStateException("the answer cannot be written as JSON", e);
        }
    }

    private static DoubleStream times(List<Timings> all, ToDoubleFunction<Timings> time) {
        return all.stream().mapToDouble(time).filter(t -> !Double.isNaN(t));
    }

    /** The last of the times, or null. */
    private static void put(ObjectNode timings, String name, DoubleStream times) {
        double last = times.max().orElse(Double.NaN);
        if (Double.isNaN(last))
            timings.putNull(name);
        else
            timings.put(name, last);
    }
}

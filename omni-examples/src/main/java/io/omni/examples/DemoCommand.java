package io.omni.examples;

import io.omni.core.Event;
import io.omni.core.Omni;
import io.omni.core.Options;
import io.omni.core.Reply;
import io.omni.core.ReplyStream;
import io.omni.processor.Message;
import io.omni.processor.Part;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** {@code omni demo}: the main job on the bundled small checkpoint and files. */
@Command(name = "demo", description = "Answer a question about bundled files with the bundled small model.", mixinStandardHelpOptions = true)
final class DemoCommand implements Callable<Integer> {
    private static final Path WAV = Path.of("omni-demo.wav");

    @Option(names = "--model", paramLabel = "DIR", description = "A checkpoint of your own instead of the small one.")
    private Path model;

    @Option(names = "--backend", paramLabel = "NAME", converter = BackendsCommand.Name.class, description = "See 'omni backends'; else the best available.")
    private String backend;

    @Spec
    private CommandSpec spec;

    @Override
    public Integer call() {
        PrintWriter out = spec.commandLine().getOut();
        Path reference = Path.of(System.getProperty("omni.home", ".")).resolve("reference");
        Path media = reference.resolve("media");
        boolean small = model == null;
        Omni.Builder builder = Omni.builder().warmUp(RunCommand.WARM_UP);
        if (backend != null)
            builder.backend(backend);
        try (Omni omni = builder.load(small ? reference.resolve("tiny/model") : model)) {
            Message question = Message.user(Part.image(media.resolve("scene.png")),
                    Part.audio(media.resolve("speech_16k.wav")), Part.video(media.resolve("clip.mp4")),
                    Part.text("What do you see and hear?"));
            out.println("Backend:  " + omni.model().backend().name() + ", " + omni.model().backend().device().name());
            out.println("Question: scene.png, speech_16k.wav, clip.mp4, \"What do you see and hear?\"");
            out.print("Answer:   ");
            Options options = small
                    ? Options.speech().seed(7).thinkerMaxNewTokens(40).talkerMaxNewTokens(40)
                    : Options.defaults();
            Reply reply = answer(omni, question, options, out);
            if (reply.audio() != null) {
                reply.audio().write(WAV);
                out.printf(
                        "Speech:   %.1f s in %s; the first sound came %.2f s after the question, the text ended at %.2f s%n",
                        reply.audio().seconds(), WAV, reply.timings().firstAudio(), reply.timings().textDone());
            }
        }
        if (small) {
            out.println();
            out.println(
                    "The bundled checkpoint has the real one's layout but random weights, so its answer is noise: it");
            out.println("shows that everything runs. With the real model, of 30 billion parameters:");
            out.println(
                    "  huggingface-cli download Qwen/Qwen3-Omni-30B-A3B-Instruct --local-dir Qwen3-Omni-30B-A3B-Instruct");
            out.println("  ./omni demo --model Qwen3-Omni-30B-A3B-Instruct");
        }
        return 0;
    }

    private static Reply answer(Omni omni, Message question, Options options, PrintWriter out) {
        try (ReplyStream stream = omni.stream(question, options)) {
            for (Event event : stream)
                switch (event) {
                case Event.TextDelta delta -> {
                    out.print(delta.text());
                    out.flush();
                }
                case Event.TextDone done -> out.println();
                case Event.Sound sound -> {
                }
                case Event.Done done -> {
                    return done.reply();
                }
                }
            return stream.replies().getFirst();
        }
    }
}

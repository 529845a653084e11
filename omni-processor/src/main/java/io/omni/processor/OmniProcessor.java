package io.omni.processor;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Function;

/**
 * Turns conversations with text, images, sounds and videos into the Thinker's inputs; upstream's
 * {@code Qwen3OmniMoeProcessor}. Safe for use by several threads until closed.
 */
public final class OmniProcessor implements AutoCloseable {
    private final ProcessorFiles files;
    private final ChatTemplate template;
    private final Placeholders placeholders;
    private final MelSpectrogram mel;
    private final Tokenizer tokenizer;

    private OmniProcessor(ProcessorFiles files, Tokenizer tokenizer) {
        this.files = files;
        this.tokenizer = tokenizer;
        template = new ChatTemplate(files.chatTemplate());
        placeholders = new Placeholders(files);
        ProcessorFiles.AudioConfig audio = files.audio();
        mel = new MelSpectrogram(audio.melBins(), audio.fftSize(), audio.hop(), audio.rate());
    }

    /**
     * Reads the tokenizer, the chat template and the processor's settings of a checkpoint.
     *
     * @throws ProcessorException if a file is missing or malformed
     */
    public static OmniProcessor load(Path modelDir) {
        ProcessorFiles files = ProcessorFiles.read(modelDir);
        Tokenizer tokenizer = Tokenizer.load(modelDir);
        try {
            return new OmniProcessor(files, tokenizer);
        } catch (RuntimeException e) {
            tokenizer.close();
            throw e;
        }
    }

    /** The checkpoint's tokenizer; closed with this processor. */
    public Tokenizer tokenizer() {
        return tokenizer;
    }

    /**
     * A special token by its name in tokenizer_config.json, such as {@code image_token}.
     *
     * @throws ProcessorException if the checkpoint names no such token
     */
    public String specialToken(String name) {
        return files.specialToken(name);
    }

    /** The conversation in the words of the chat template, one placeholder to a medium. */
    public String render(List<Message> conversation, ProcessorOptions options) {
        Map<String, Object> context = new LinkedHashMap<>(files.specialTokens());
        context.put("messages", conversation.stream().map(Message::templateView).toList());
        context.put("add_generation_prompt", options.addGenerationPrompt());
        context.put("tools", options.tools().isEmpty() ? null : options.tools());
        context.put("documents", null);
        if (options.enableThinking() != null)
            context.put("enable_thinking", options.enableThinking());
        if (options.addVisionId())
            context.put("add_vision_id", true);
        if (options.addAudioId())
            context.put("add_audio_id", true);
        context.putAll(options.templateVariables());
        return template.render(context);
    }

    /**
     * Prepares each conversation as upstream does for it alone. In a batch upstream pads every sound with silence to the
     * longest of all conversations before it takes the spectrogram. That gives a shorter one a frame more where its length
     * is no multiple of the hop, and its last frame silence instead of a reflection. Here only sounds of the same
     * conversation have that effect on each other.
     *
     * @return unpadded inputs, in order
     * @throws ProcessorException if a medium cannot be read or the template gives it no place
     */
    public List<ModelInputs> process(List<List<Message>> conversations, ProcessorOptions options) {
        List<ModelInputs> inputs = new ArrayList<>();
        for (int i = 0; i < conversations.size(); i++) {
            String at = conversations.size() == 1 ? "messages" : "messages[" + i + "]";
            inputs.add(processOne(conversations.get(i), at, options));
        }
        return inputs;
    }

    /** A sound and what to call it in messages. */
    private record Sound(String name, float[] samples) {}

    private ModelInputs processOne(List<Message> conversation, String at, ProcessorOptions options) {
        if (conversation.isEmpty())
            throw new ProcessorException(at + ": found none, expected at least one");
        String prompt = render(conversation, options);
        MediaFetcher fetcher = new MediaFetcher(options);
        VisionConfig imageConfig = files.image().withPixels(options.imageMinPixels(), options.imageMaxPixels());
        VisionConfig videoConfig = files.video().withPixels(options.videoMinPixels(), options.videoMaxPixels())
                .withFrames(options.minFrames(), options.maxFrames());
        List<Sound> sounds = new ArrayList<>();
        List<VisualFeatures> images = new ArrayList<>();
        List<VisualFeatures> videos = new ArrayList<>();
        for (int m = 0; m < conversation.size(); m++) {
            List<Part> parts = conversation.get(m).content();
            for (int p = 0; p < parts.size(); p++) {
                String place = at + "[" + m + "].content[" + p + "]";
                switch (parts.get(p)) {
                    case Part.Text _ -> {
                    }
                    case Part.Image image ->
                        images.add(image(image.source(), name(image.source(), place), fetcher, imageConfig));
                    case Part.Audio audio -> sounds.add(sound(audio.source(), name(audio.source(), place), fetcher));
                    case Part.Video video -> {
                        String name = name(video.source(), place);
                        Function<Path, VisualFeatures> read = file -> {
                            VisualFeatures frames = VideoReader.read(file, name, videoConfig, options.fps());
                            if (options.useAudioInVideo())
                                sounds.add(new Sound(name, AudioReader.readTrack(file, name, files.audio().rate())));
                            return frames;
                        };
                        videos.add(fetcher.withFile(video.source(), read));
                    }
                }
            }
        }
        List<AudioFeatures> audios = spectrograms(sounds);
        String expanded = placeholders.expand(
                prompt, audios, images, videos, options.useAudioInVideo(), options.positionIdPerSeconds());
        return new ModelInputs(prompt, tokenizer.encode(expanded), audios, images, videos, options.useAudioInVideo());
    }

    /** What to call a medium in messages: its address, or where it stands. */
    private static String name(MediaSource source, String place) {
        return source instanceof MediaSource.File || source instanceof MediaSource.Remote
                ? source.toString()
                : place + ", " + source;
    }

    private static VisualFeatures image(MediaSource source, String name, MediaFetcher fetcher, VisionConfig config) {
        RgbImage image = source instanceof MediaSource.Pixels pixels
                ? ImageReader.rgb(pixels.image())
                : ImageReader.read(fetcher.bytes(source), name);
        int[] size = ImageResize.targetSize(
                image.height(), image.width(), config.factor(), config.minPixels(), config.maxPixels(), name);
        return Patches.cut(List.of(ImageResize.resize(image, size[1], size[0])), config, 0);
    }

    private Sound sound(MediaSource source, String name, MediaFetcher fetcher) {
        int rate = files.audio().rate();
        if (!(source instanceof MediaSource.Samples given))
            return new Sound(name, fetcher.withFile(source, file -> AudioReader.read(file, name, rate)));
        if (given.samples().length == 0)
            throw new ProcessorException(name + ": found no samples");
        return new Sound(name, Resampler.resample(given.samples(), given.sampleRate(), rate));
    }

    private List<AudioFeatures> spectrograms(List<Sound> sounds) {
        int longest = 0;
        for (Sound sound : sounds) longest = Math.max(longest, sound.samples().length);
        if (!sounds.isEmpty() && longest < mel.shortest()) {
            throw new ProcessorException(sounds.getFirst().name() + ": too short, found "
                    + sounds.getFirst().samples().length + " samples at " + files.audio().rate()
                    + " Hz, expected at least " + mel.shortest());
        }
        int padded = longest;
        return sounds.stream().map(sound -> mel.features(sound.samples(), padded)).toList();
    }

    /** The inputs in upstream's padded layout. */
    public Batch pad(List<ModelInputs> inputs) {
        return BatchPadding.pad(inputs, paddingId());
    }

    private int paddingId() {
        return files.specialTokens().get("pad_token") instanceof String token ? tokenizer.id(token) : 0;
    }

    /** The text of ids; see {@link Tokenizer#decode}. */
    public String decode(int[] ids, boolean skipSpecialTokens) {
        return tokenizer.decode(ids, skipSpecialTokens);
    }

    /** The texts of several sequences. */
    public List<String> batchDecode(List<int[]> sequences, boolean skipSpecialTokens) {
        return tokenizer.batchDecode(sequences, skipSpecialTokens);
    }

    /**
     * What the model wrote: the texts of generated sequences without special tokens, as upstream's
     * {@code post_process_image_text_to_text}.
     *
     * @param sequences prompt and generated ids, or generated ids alone
     * @param promptLength ids to leave out at the front of each
     */
    public List<String> postProcess(List<int[]> sequences, int promptLength) {
        return batchDecode(
                sequences.stream().map(ids -> Arrays.copyOfRange(ids, Math.min(promptLength, ids.length), ids.length))
                        .toList(),
                true);
    }

    /**
     * Cuts ascending token positions into chunks of {@code tokensPerChunk} positions; upstream's
     * {@code get_chunked_index}.
     *
     * @return {start, end} indexes into {@code positions}, end exclusive
     */
    public static List<int[]> getChunkedIndex(double[] positions, double tokensPerChunk) {
        List<int[]> chunks = new ArrayList<>();
        int start = 0;
        for (int i = 0; i < positions.length; i++) {
            if (positions[i] >= (chunks.size() + 1) * tokensPerChunk) {
                chunks.add(new int[]{start, i});
                start = i;
            }
        }
        chunks.add(new int[]{start, positions.length});
        return chunks;
    }

    @Override
    public void close() {
        tokenizer.close();
    }
}

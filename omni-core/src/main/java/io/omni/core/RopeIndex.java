package io.omni.core;

import io.omni.api.KvCache;
import io.omni.processor.AudioFeatures;
import io.omni.processor.VisualFeatures;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;

/**
 * Time, height and width positions of a prompt. Upstream: {@code get_rope_index}, whose rules this follows to the letter:
 * what comes after media starts at one more than the largest position of the media's last piece, which for sound merged
 * into video is whichever of the two is left over.
 *
 * @param positions
 *            {@code [3][tokens]}: time, height, width
 * @param delta
 *            what is added to a later token's index to get its position
 */
public record RopeIndex(float[][] positions, float delta) {
    /**
     * The positions of one sequence.
     *
     * @param ids
     *            the prompt, media tokens repeated
     * @param audioTokens
     *            tokens of each sound, in order of appearance, a video's track among them
     * @param images
     *            in order of appearance
     * @param videos
     *            in order of appearance
     * @param merge
     *            patches that become one token, along one side
     */
    public static RopeIndex of(int[] ids, MediaTokens tokens, int merge, int[] audioTokens, List<Grid> images,
            List<Grid> videos, boolean useAudioInVideo) {
        Builder builder = new Builder(ids.length);
        float perSecond = (float) tokens.positionIdPerSeconds();
        int imagesLeft = count(ids, tokens::opensImage);
        int videosLeft = count(ids, useAudioInVideo ? tokens::opensMerged : tokens::opensVideo);
        int audiosLeft = count(ids, tokens::opensSound);
        int media = imagesLeft + audiosLeft + (useAudioInVideo ? 0 : videosLeft);
        int image = 0;
        int video = 0;
        int audio = 0;
        int at = 0;
        for (int i = 0; i < media; i++) {
            int vision = imagesLeft > 0 || videosLeft > 0 ? find(ids, tokens::opensVisual, at) : ids.length;
            int sound = audiosLeft > 0 ? find(ids, tokens::opensSound, at) : ids.length;
            int start = Math.min(vision, sound);
            if (start == ids.length)
                break;
            builder.line(start - at);
            if (start == sound) {
                int n = audioTokens[audio++];
                builder.line(1);
                builder.line(n);
                builder.line(1);
                at = start + n + 2;
                audiosLeft--;
            } else if (vision + 1 == sound) {
                Grid grid = videos.get(video++);
                int n = audioTokens[audio++];
                builder.line(2);
                builder.merged(grid, merge, (float) grid.secondsPerGrid(), perSecond, n);
                builder.line(2);
                at = start + grid.tokens(merge) + n + 4;
                videosLeft--;
                audiosLeft--;
            } else {
                boolean still = ids[start + 1] == tokens.image();
                Grid grid = still ? images.get(image++) : videos.get(video++);
                builder.line(1);
                builder.grid(grid, merge, still ? 1 : (float) grid.secondsPerGrid(), perSecond);
                builder.line(1);
                at = start + grid.tokens(merge) + 2;
                if (still)
                    imagesLeft--;
                else
                    videosLeft--;
            }
        }
        builder.line(ids.length - at);
        return builder.build();
    }

    /**
     * An image's or a video's grid of patches.
     *
     * @param secondsPerGrid
     *            seconds from one pair of frames to the next; 0 for an image
     */
    public record Grid(int t, int h, int w, double secondsPerGrid) {
        static List<Grid> of(List<VisualFeatures> visuals) {
            return visuals.stream().map(v -> new Grid(v.gridT(), v.gridH(), v.gridW(), v.secondsPerGrid())).toList();
        }

        int tokens(int merge) {
            return t * (h / merge) * (w / merge);
        }
    }

    /** The positions of a prompt whose media are at hand. */
    static RopeIndex of(int[] ids, ThinkerConfig config, List<AudioFeatures> audios, List<VisualFeatures> images,
            List<VisualFeatures> videos, boolean useAudioInVideo) {
        int[] audioTokens = audios.stream().mapToInt(a -> config.audio().tokens(a.frames())).toArray();
        return of(ids, config.tokens(), config.vision().spatialMergeSize(), audioTokens, Grid.of(images),
                Grid.of(videos), useAudioInVideo);
    }

    /** The positions of tokens {@code from} to {@code to}. */
    RopeIndex slice(int from, int to) {
        return new RopeIndex(
                Arrays.stream(positions).map(row -> Arrays.copyOfRange(row, from, to)).toArray(float[][]::new),
                delta);
    }

    /** The positions of packed prompts, {@code [3][tokens]}. */
    static float[][] joined(List<RopeIndex> prompts) {
        int tokens = prompts.stream().mapToInt(p -> p.positions[0].length).sum();
        float[][] all = new float[3][tokens];
        int at = 0;
        for (RopeIndex prompt : prompts) {
            int n = prompt.positions[0].length;
            for (int row = 0; row < 3; row++)
                System.arraycopy(prompt.positions[row], 0, all[row], at, n);
            at += n;
        }
        return all;
    }

    /** The position of each sequence's next token, {@code [3][sequences]}, the same in all three rows. */
    static float[][] next(List<RopeIndex> prompts, List<KvCache> caches) {
        float[] next = new float[prompts.size()];
        for (int i = 0; i < next.length; i++)
            next[i] = caches.get(i).length(0) + prompts.get(i).delta;
        return new float[][]{next, next, next};
    }

    /**
     * Splits positions into runs, each within the next range of {@code perChunk}: pairs of start (inclusive) and end
     * (exclusive). Upstream: {@code get_chunked_index}.
     *
     * @param positions
     *            non-decreasing
     * @param offset
     *            subtracted from each position first
     */
    public static List<int[]> chunkedIndex(float[] positions, int perChunk, float offset) {
        List<int[]> chunks = new ArrayList<>();
        int start = 0;
        int chunk = 1;
        for (int i = 0; i < positions.length; i++)
            if (positions[i] - offset >= (long) chunk * perChunk) {
                chunks.add(new int[]{start, i});
                start = i;
                chunk++;
            }
        chunks.add(new int[]{start, positions.length});
        return chunks;
    }

    private interface Opening {
        boolean isAt(int[] ids, int i);
    }

    private static int count(int[] ids, Opening opening) {
        return (int) IntStream.range(0, ids.length).filter(i -> opening.isAt(ids, i)).count();
    }

    private static int find(int[] ids, Opening opening, int from) {
        int at = from;
        while (at < ids.length && !opening.isAt(ids, at))
            at++;
        return at;
    }

    private static final class Builder {
        private final float[][] positions;
        private int n;
        /** What the next piece starts at: one more than the largest position of the last piece. */
        private float next;
        private float max = -1;

        Builder(int tokens) {
            positions = new float[3][tokens];
        }

        /** The same number in all three rows, one more for each token. */
        void line(int count) {
            float start = next;
            for (int i = 0; i < count; i++)
                addLine(start + i);
        }

        void grid(Grid grid, int merge, float secondsPerGrid, float perSecond) {
            float start = next;
            for (int i = 0; i < grid.tokens(merge); i++)
                addCell(grid, merge, secondsPerGrid, perSecond, start, i);
        }

        /** Video and sound in the order of their times, the video first on a tie. */
        void merged(Grid grid, int merge, float secondsPerGrid, float perSecond, int audioTokens) {
            float start = next;
            int cells = grid.tokens(merge);
            int cell = 0;
            int audio = 0;
            while (cell < cells && audio < audioTokens)
                if (start + time(grid, merge, secondsPerGrid, perSecond, cell) <= start + audio)
                    addCell(grid, merge, secondsPerGrid, perSecond, start, cell++);
                else
                    addLine(start + audio++);
            // only what is left over of one of them counts for where the text goes on
            next = 0;
            while (cell < cells)
                addCell(grid, merge, secondsPerGrid, perSecond, start, cell++);
            while (audio < audioTokens)
                addLine(start + audio++);
        }

        private void addCell(Grid grid, int merge, float secondsPerGrid, float perSecond, float start, int cell) {
            int width = grid.w() / merge;
            int height = grid.h() / merge;
            add(start + time(grid, merge, secondsPerGrid, perSecond, cell), start + cell / width % height,
                    start + cell % width);
        }

        private void addLine(float position) {
            add(position, position, position);
        }

        /** Upstream's rounding: each product in float32. */
        private static float time(Grid grid, int merge, float secondsPerGrid, float perSecond, int cell) {
            int frame = cell / ((grid.w() / merge) * (grid.h() / merge));
            return frame * secondsPerGrid * perSecond;
        }

        private void add(float time, float height, float width) {
            positions[0][n] = time;
            positions[1][n] = height;
            positions[2][n++] = width;
            float largest = Math.max(time, Math.max(height, width));
            max = Math.max(max, largest);
            next = Math.max(next, largest + 1);
        }

        RopeIndex build() {
            return new RopeIndex(positions, max + 1 - n);
        }
    }
}

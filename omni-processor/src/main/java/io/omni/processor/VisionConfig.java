package io.omni.processor;

import com.fasterxml.jackson.databind.JsonNode;

/**
 * How images or frames are prepared.
 *
 * @param mean of each channel, full scale at 1
 * @param deviation of each channel
 */
record VisionConfig(int patchSize, int temporalPatchSize, int mergeSize, long minPixels, long maxPixels, double[] mean,
        double[] deviation, double rescaleFactor, int minFrames, int maxFrames) {

    /** Both sides of a resized image are multiples of this. */
    int factor() {
        return patchSize * mergeSize;
    }

    VisionConfig withPixels(Integer min, Integer max) {
        return new VisionConfig(patchSize, temporalPatchSize, mergeSize, min == null ? minPixels : min,
                max == null ? maxPixels : max, mean, deviation, rescaleFactor, minFrames, maxFrames);
    }

    VisionConfig withFrames(Integer min, Integer max) {
        return new VisionConfig(patchSize, temporalPatchSize, mergeSize, minPixels, maxPixels, mean, deviation,
                rescaleFactor, min == null ? minFrames : min, max == null ? maxFrames : max);
    }

    /** Defaults, where the file is silent, are Qwen2VLImageProcessor's. */
    static VisionConfig image(JsonNode file, String name) {
        JsonNode size = file.path("size");
        Fields fields = new Fields(file, name);
        return new VisionConfig(fields.integer("patch_size", 14), fields.integer("temporal_patch_size", 2),
                fields.integer("merge_size", 2),
                file.path("min_pixels")
                        .asLong(size.path("shortest_edge").asLong(size.path("min_pixels").asLong(56 * 56))),
                file.path("max_pixels")
                        .asLong(size.path("longest_edge").asLong(size.path("max_pixels").asLong(28 * 28 * 1280))),
                fields.three("image_mean", 0.48145466, 0.4578275, 0.40821073),
                fields.three("image_std", 0.26862954, 0.26130258, 0.27577711),
                file.path("rescale_factor").asDouble(1 / 255.0), fields.integer("min_frames", 4),
                fields.integer("max_frames", 768));
    }

    /**
     * As for images, but the pixel limits of videos are the same for every checkpoint: Qwen3OmniMoeProcessor hands its
     * own default to the video processor, whatever size that was loaded with.
     */
    static VisionConfig video(JsonNode file, String name) {
        return image(file, name).withPixels(128 * 32 * 32, 768 * 32 * 32);
    }

    private record Fields(JsonNode file, String name) {
        int integer(String field, int preset) {
            JsonNode value = file.path(field);
            if (value.isMissingNode() || value.isNull())
                return preset;
            if (!value.isIntegralNumber() || value.intValue() <= 0) {
                throw new ProcessorException(
                        name + ": " + field + ": found " + value + ", expected a positive whole number");
            }
            return value.intValue();
        }

        double[] three(String field, double... preset) {
            JsonNode value = file.path(field);
            if (value.isMissingNode() || value.isNull())
                return preset;
            if (!value.isArray() || value.size() != 3 || !value.get(0).isNumber()) {
                throw new ProcessorException(name + ": " + field + ": found " + value + ", expected three numbers");
            }
            return new double[]{value.get(0).asDouble(), value.get(1).asDouble(), value.get(2).asDouble()};
        }
    }
}

package io.omni.processor;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

/** Golden tensors: float32 and int64. */
record SafetensorsFile(JsonNode header, ByteBuffer data) {
    static SafetensorsFile read(Path file) {
        try {
            ByteBuffer bytes = ByteBuffer.wrap(Files.readAllBytes(file)).order(ByteOrder.LITTLE_ENDIAN);
            int length = (int) bytes.getLong(0);
            String header = StandardCharsets.UTF_8.decode(bytes.slice(8, length)).toString();
            ByteBuffer data = bytes.slice(8 + length, bytes.capacity() - 8 - length).order(ByteOrder.LITTLE_ENDIAN);
            return new SafetensorsFile(new ObjectMapper().readTree(header), data);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    boolean has(String name) {
        return header.has(name);
    }

    int[] shape(String name) {
        JsonNode shape = header.path(name).path("shape");
        int[] sizes = new int[shape.size()];
        for (int i = 0; i < sizes.length; i++) sizes[i] = shape.get(i).intValue();
        return sizes;
    }

    private ByteBuffer bytes(String name) {
        JsonNode offsets = header.path(name).path("data_offsets");
        int begin = offsets.get(0).intValue();
        return data.slice(begin, offsets.get(1).intValue() - begin).order(ByteOrder.LITTLE_ENDIAN);
    }

    float[] floats(String name) {
        var buffer = bytes(name).asFloatBuffer();
        float[] values = new float[buffer.remaining()];
        buffer.get(values);
        return values;
    }

    int[] ints(String name) {
        var buffer = bytes(name).asLongBuffer();
        int[] values = new int[buffer.remaining()];
        for (int i = 0; i < values.length; i++) values[i] = Math.toIntExact(buffer.get(i));
        return values;
    }
}

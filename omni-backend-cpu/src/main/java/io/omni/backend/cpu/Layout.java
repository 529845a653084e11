package io.omni.backend.cpu;

import io.omni.api.DType;
import io.omni.api.HostTensor;
import io.omni.api.WeightRole;

/** How the elements of a weight lie in memory: as on disk, or with the taps of a convolution moved. */
enum Layout {
    /** Row-major in the tensor's shape. */
    PLAIN,
    /**
     * From [out, in, kernel]: [out, kernel, in], so that a convolution is a matrix product; with one input channel a
     * group, [kernel, out], so that it is a few multiply-adds of whole rows.
     */
    CONV1D,
    /** From [in, out, kernel]: [kernel, out, in], a matrix for each tap. */
    CONV_TRANSPOSE1D,
    /** From [out, in, kernelHeight, kernelWidth]: [out, kernelHeight, kernelWidth, in]. */
    CONV2D;

    static Layout of(WeightRole role) {
        return switch (role) {
            case CONV1D -> CONV1D;
            case CONV_TRANSPOSE1D -> CONV_TRANSPOSE1D;
            case CONV2D -> CONV2D;
            case MATRIX, EMBEDDING, VECTOR, CONV3D -> PLAIN;
        };
    }

    /** Copies a tensor to {@code address} in a layout, in its own type. */
    static void pack(Layout layout, HostTensor from, long address) {
        if (layout == PLAIN) {
            Memory.ALL.asSlice(address, from.data().byteSize()).copyFrom(from.data());
            return;
        }
        if (from.dtype() == DType.F32)
            each(layout, from.shape(), (disk, packed) -> Lanes.putInt(address + 4 * packed,
                    from.data().get(Lanes.INT, 4 * disk)));
        else
            each(layout, from.shape(), (disk, packed) -> Lanes.putShort(address + 2 * packed,
                    from.data().get(Lanes.SHORT, 2 * disk)));
    }

    /** The elements of a packed tensor in their order on disk. */
    static float[] unpack(Layout layout, HostTensor packedTensor, float[] values) {
        each(layout, packedTensor.shape(), (disk, packed) -> values[(int) disk] = packedTensor.getFloat(packed));
        return values;
    }

    private interface Move {
        void element(long disk, long packed);
    }

    private static void each(Layout layout, int[] shape, Move move) {
        int a = shape[0];
        int b = shape[1];
        int taps = 1;
        for (int i = 2; i < shape.length; i++)
            taps *= shape[i];
        long disk = 0;
        for (int i = 0; i < a; i++)
            for (int j = 0; j < b; j++)
                for (int tap = 0; tap < taps; tap++)
                    move.element(disk++, switch (layout) {
                        case PLAIN -> disk;
                        case CONV1D -> b == 1 ? (long) tap * a + i : ((long) i * taps + tap) * b + j;
                        case CONV_TRANSPOSE1D -> ((long) tap * b + j) * a + i;
                        case CONV2D -> ((long) i * taps + tap) * b + j;
                    });
    }
}

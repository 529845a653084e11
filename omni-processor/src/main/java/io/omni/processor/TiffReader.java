package io.omni.processor;

import static javax.imageio.plugins.tiff.BaselineTIFFTagSet.*;

import java.awt.image.BufferedImage;
import java.awt.image.IndexColorModel;
import java.awt.image.Raster;
import java.io.IOException;
import javax.imageio.plugins.tiff.TIFFDirectory;
import javax.imageio.plugins.tiff.TIFFField;

/** TIFF files in the modes that PIL knows, where their samples are not what ImageIO takes them for. */
final class TiffReader {
    private TiffReader() {}

    static RgbImage read(javax.imageio.ImageReader reader, String name) throws IOException {
        TIFFDirectory tags = TIFFDirectory.createFromMetadata(reader.getImageMetadata(0));
        int colours = number(tags, TAG_PHOTOMETRIC_INTERPRETATION, PHOTOMETRIC_INTERPRETATION_BLACK_IS_ZERO);
        int bits = number(tags, TAG_BITS_PER_SAMPLE, 1);
        check(tags, colours, bits, name);
        BufferedImage image = reader.read(0);
        Raster raster = image.getRaster();
        if (colours == PHOTOMETRIC_INTERPRETATION_PALETTE_COLOR)
            return ImageReader.lookUp(raster, palette(tags));
        if (colours == PHOTOMETRIC_INTERPRETATION_CMYK)
            return inks(raster, bits);
        return bits > 8 && raster.getNumBands() == 1 ? ImageReader.copy(raster, true, false) : ImageReader.rgb(image);
    }

    /** Refuses what ImageIO would give wrong colours for. */
    private static void check(TIFFDirectory tags, int colours, int bits, String name) {
        int samples = number(tags, TAG_SAMPLES_PER_PIXEL, 1);
        boolean unsigned = number(tags, TAG_SAMPLE_FORMAT, 1) == SAMPLE_FORMAT_UNSIGNED_INTEGER;
        boolean jpeg = number(tags, TAG_COMPRESSION, COMPRESSION_NONE) == COMPRESSION_JPEG;
        String found = name + ": has pixels of " + samples + " times " + bits + " bits"
                + (jpeg ? " in JPEG's compression" : "");
        if (samples == 1 && bits > 8 && bits != 16 && bits != 32)
            throw new ProcessorException(found + ", expected at most 8, or 16 or 32 bits");
        if (samples > 1 && !(unsigned && (bits == 8 || bits == 16)))
            throw new ProcessorException(found + ", expected 8 or 16 bits without sign");
        if (jpeg && samples != 1 && samples != 3)
            throw new ProcessorException(found + ", expected 1 or 3 times");
        if (colours == PHOTOMETRIC_INTERPRETATION_WHITE_IS_ZERO && bits > 8)
            throw new ProcessorException(found + " where 0 is white, expected 0 to be black");
        if (colours > PHOTOMETRIC_INTERPRETATION_Y_CB_CR) {
            throw new ProcessorException(name + ": has PhotometricInterpretation " + colours
                    + ", expected grey, RGB, a palette, CMYK or YCbCr");
        }
    }

    private static int number(TIFFDirectory tags, int tag, int otherwise) {
        TIFFField field = tags.getTIFFField(tag);
        return field == null ? otherwise : field.getAsInt(0);
    }

    /** The high bytes of the colour map, reds first. */
    private static IndexColorModel palette(TIFFDirectory tags) {
        char[] map = tags.getTIFFField(TAG_COLOR_MAP).getAsChars();
        int n = map.length / 3;
        byte[][] levels = new byte[3][n];
        for (int i = 0; i < 3 * n; i++) levels[i / n][i % n] = (byte) (map[i] >> 8);
        return new IndexColorModel(8, n, levels[0], levels[1], levels[2]);
    }

    private static RgbImage inks(Raster raster, int bits) {
        int bands = raster.getNumBands();
        byte[] out = new byte[3 * raster.getWidth() * raster.getHeight()];
        int[] row = new int[bands * raster.getWidth()];
        for (int y = 0, at = 0; y < raster.getHeight(); y++) {
            raster.getPixels(0, y, raster.getWidth(), 1, row);
            for (int i = 0; i < row.length; i += bands) {
                int light = 255 - (row[i + 3] >> bits - 8);
                for (int c = 0; c < 3; c++) out[at++] = CmykJpeg.shade(row[i + c] >> bits - 8, light);
            }
        }
        return new RgbImage(out, raster.getWidth(), raster.getHeight());
    }
}

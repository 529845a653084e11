package io.omni.processor;

import java.awt.image.BufferedImage;
import java.awt.image.ColorModel;
import java.awt.image.DataBuffer;
import java.awt.image.IndexColorModel;
import java.awt.image.Raster;
import java.io.ByteArrayInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import javax.imageio.ImageIO;
import javax.imageio.stream.ImageInputStream;
import javax.imageio.stream.MemoryCacheImageInputStream;
import org.w3c.dom.Node;

/**
 * Image files to 8-bit RGB with PIL's meaning of {@code convert("RGB")}: alpha is dropped, not blended, embedded colour
 * profiles are ignored, and EXIF's orientation is applied.
 */
final class ImageReader {
    private static final long MOST_PIXELS = 178_956_970; // where PIL refuses, too

    private ImageReader() {}

    static RgbImage read(byte[] file, String name) {
        try {
            if (WebpChunks.isWebp(file))
                return WebpReader.read(file, name).turned(ExifOrientation.of(file));
        } catch (IOException e) {
            throw new ProcessorException(name + ": no temporary file for it: " + e, e);
        }
        // not ImageIO's own choice, which writes to a temporary file
        try (ImageInputStream in = new MemoryCacheImageInputStream(new ByteArrayInputStream(PlainColours.of(file)))) {
            Iterator<javax.imageio.ImageReader> readers = ImageIO.getImageReaders(in);
            if (!readers.hasNext())
                throw new ProcessorException(name + ": is no image of a known format");
            javax.imageio.ImageReader reader = readers.next();
            try {
                reader.setInput(in);
                checkSize(reader.getWidth(0), reader.getHeight(0), name);
                List<String> warnings = new ArrayList<>();
                reader.addIIOReadWarningListener((_, warning) -> warnings.add(warning));
                RgbImage image = decode(reader, file, name);
                for (String warning : warnings) { // ImageIO fills up what a cut JPEG lacks; PIL refuses
                    if (warning.contains("Truncated"))
                        throw new ProcessorException(name + ": " + warning);
                }
                return image.turned(ExifOrientation.of(file));
            } finally {
                reader.dispose();
            }
        } catch (ProcessorException e) {
            throw e;
        } catch (IOException | RuntimeException e) {
            throw new ProcessorException(name + ": cannot be decoded as an image: " + reason(e), e);
        }
    }

    /** What lies beneath ImageIO's wrapping, which may say nothing. */
    private static String reason(Throwable e) {
        Throwable deepest = ProcessorException.root(e);
        if (deepest instanceof EOFException)
            return "it ends too early";
        return deepest.getMessage() == null ? deepest.getClass().getSimpleName() : deepest.getMessage();
    }

    static void checkSize(int width, int height, String name) {
        long pixels = (long) width * height;
        if (pixels > MOST_PIXELS) {
            throw new ProcessorException(name + ": has " + pixels + " pixels, expected at most " + MOST_PIXELS);
        }
    }

    private static RgbImage decode(javax.imageio.ImageReader reader, byte[] file, String name) throws IOException {
        String format = reader.getFormatName().toLowerCase(java.util.Locale.ROOT);
        if (format.startsWith("jp")) {
            int adobe = CmykJpeg.transform(file);
            if (adobe != CmykJpeg.NOT_CMYK)
                return CmykJpeg.rgb(reader.readRaster(0, null), adobe);
            if (Jpeg440.is(file))
                return Jpeg440.rgb(reader.readRaster(0, null));
        }
        if (format.startsWith("tif"))
            return TiffReader.read(reader, name);
        BufferedImage image = reader.read(0);
        if (format.equals("png") && file[24] == 16 && file[25] == 0) // greys of 16 bits: ImageIO may add alpha
            return copy(greys(image.getRaster()), true, false);
        return format.equals("gif") ? onCanvas(image, reader) : rgb(image);
    }

    /** A GIF's first frame may be smaller than its screen. */
    private static RgbImage onCanvas(BufferedImage frame, javax.imageio.ImageReader reader) throws IOException {
        RgbImage pixels = rgb(frame);
        Node screen = child(reader.getStreamMetadata().getAsTree("javax_imageio_gif_stream_1.0"),
                "LogicalScreenDescriptor");
        Node place = child(reader.getImageMetadata(0).getAsTree("javax_imageio_gif_image_1.0"), "ImageDescriptor");
        if (screen == null || place == null)
            return pixels;
        int width = Math.max(number(screen, "logicalScreenWidth"), pixels.width());
        int height = Math.max(number(screen, "logicalScreenHeight"), pixels.height());
        int left = number(place, "imageLeftPosition");
        int top = number(place, "imageTopPosition");
        if (width == pixels.width() && height == pixels.height())
            return pixels;
        byte[] canvas = new byte[3 * width * height];
        if (frame.getColorModel() instanceof IndexColorModel palette) { // PIL's filling
            int color = palette.getRGB(Math.max(palette.getTransparentPixel(), 0));
            for (int i = 0; i < canvas.length; i += 3) set(canvas, i, color >> 16, color >> 8, color);
        }
        return pixels.placed(left, top, new RgbImage(canvas, width, height));
    }

    private static Node child(Node parent, String name) {
        for (Node node = parent.getFirstChild(); node != null; node = node.getNextSibling()) {
            if (node.getNodeName().equals(name))
                return node;
        }
        return null;
    }

    private static int number(Node node, String attribute) {
        return Integer.parseInt(node.getAttributes().getNamedItem(attribute).getNodeValue());
    }

    /** The stored values of the pixels, whatever colour space they claim. */
    static RgbImage rgb(BufferedImage image) {
        ColorModel model = image.getColorModel();
        Raster raster = image.getRaster();
        if (model instanceof IndexColorModel palette)
            return lookUp(raster, palette);
        boolean wide = raster.getTransferType() == DataBuffer.TYPE_USHORT && model.getComponentSize(0) == 16;
        return wide || model.getComponentSize(0) == 8
                ? copy(raster, wide, model.isAlphaPremultiplied())
                : convert(image);
    }

    static RgbImage lookUp(Raster raster, IndexColorModel palette) {
        byte[] out = new byte[Math.toIntExact(3L * raster.getWidth() * raster.getHeight())];
        int[] indexes = new int[raster.getWidth()];
        for (int y = 0, at = 0; y < raster.getHeight(); y++) {
            raster.getSamples(0, y, indexes.length, 1, 0, indexes);
            for (int index : indexes) {
                int color = palette.getRGB(index);
                set(out, at, color >> 16, color >> 8, color);
                at += 3;
            }
        }
        return new RgbImage(out, raster.getWidth(), raster.getHeight());
    }

    private static Raster greys(Raster raster) {
        return raster.createChild(0, 0, raster.getWidth(), raster.getHeight(), 0, 0, new int[1]);
    }

    /**
     * The stored values.
     *
     * @param wide whether they have 16 bits, or more where there is one a pixel
     */
    static RgbImage copy(Raster raster, boolean wide, boolean premultiplied) {
        byte[] out = new byte[Math.toIntExact(3L * raster.getWidth() * raster.getHeight())];
        int bands = raster.getNumBands();
        int green = bands < 3 ? 0 : 1; // grey stands for all three
        int blue = bands < 3 ? 0 : 2;
        int[] row = new int[raster.getWidth() * bands];
        for (int y = 0, at = 0; y < raster.getHeight(); y++) {
            raster.getPixels(0, y, raster.getWidth(), 1, row);
            for (int i = 0; i < row.length; i++) row[i] = level(row[i], wide, bands);
            for (int i = 0; i < row.length; i += bands, at += 3) {
                if (premultiplied)
                    divide(row, i, i + bands - 1);
                set(out, at, row[i], row[i + green], row[i + blue]);
            }
        }
        return new RgbImage(out, raster.getWidth(), raster.getHeight());
    }

    /** PIL keeps the high byte of 16-bit colours, but clips greys of 16 and 32 bits. */
    private static int level(int value, boolean wide, int bands) {
        if (!wide)
            return value;
        return bands == 1 ? Math.clamp(value, 0, 255) : value >> 8;
    }

    private static void divide(int[] row, int begin, int alpha) {
        for (int i = begin; i < alpha; i++) row[i] = row[alpha] == 0 ? 0 : Math.min(row[i] * 255 / row[alpha], 255);
    }

    private static RgbImage convert(BufferedImage image) {
        byte[] out = new byte[Math.toIntExact(3L * image.getWidth() * image.getHeight())];
        for (int y = 0, at = 0; y < image.getHeight(); y++) {
            for (int x = 0; x < image.getWidth(); x++, at += 3) {
                int color = image.getRGB(x, y);
                set(out, at, color >> 16, color >> 8, color);
            }
        }
        return new RgbImage(out, image.getWidth(), image.getHeight());
    }

    private static void set(byte[] out, int at, int red, int green, int blue) {
        out[at] = (byte) red;
        out[at + 1] = (byte) green;
        out[at + 2] = (byte) blue;
    }
}

package io.omni.processor;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import java.awt.image.BufferedImage;
import java.io.IOException;
import java.nio.file.Files;
import java.util.Arrays;
import java.util.Base64;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class ImageReaderTest {
    /** The pixels that PIL 12.3 gives after exif_transpose and convert("RGB"). */
    private static final JsonNode EXPECTED = JsonFiles.read(Reference.resource("images/images.json"));

    @ParameterizedTest
    @ValueSource(strings = {"lossless.webp", "frame.gif", "animated.gif", "rgb.bmp", "palette.bmp", "exif3.jpg",
            "exif5.jpg",
            "exif6.jpg", "exif8.jpg", "exif6.png", "exif6.webp", "gray.jpg", "progressive.jpg", "sampling444.jpg",
            "sampling422.jpg", "sampling440.jpg", "palette.png", "la.png", "gray16.png", "bilevel.png", "p2.png",
            "rgba.png", "rgba.webp",
            "rgb16.png",
            "la16.png", "cmyk.jpg", "lossy.webp", "icc_srgb.jpg", "icc_wide.jpg", "icc_wide.png", "icc_wide.webp",
            "offset.gif", "odd_lossy.webp", "alpha_lossy.webp", "animated.webp", "lossy_animated.webp",
            "gray16_key.png", "cmyk.tif", "palette.tif", "int32.tif", "float32.tif",
            "premultiplied.tif", "exif6.tif", "exif8_big_endian.tif", "exif6_long.jpg"})
    void equalsPil(String name) throws IOException {
        JsonNode expected = EXPECTED.get(name);
        RgbImage image = ImageReader.read(Files.readAllBytes(Reference.resource("images/" + name)), name);
        assertThat(new int[]{image.width(), image.height()})
                .containsExactly(expected.get("width").intValue(), expected.get("height").intValue());
        byte[] pixels = Base64.getDecoder().decode(expected.get("rgb").asText());
        int worst = 0;
        for (int i = 0; i < pixels.length; i++) {
            int d = Math.abs((image.data()[i] & 0xff) - (pixels[i] & 0xff));
            worst = Math.max(worst, d);
        }
        assertThat(worst).isZero();
    }

    @Test
    void drawnImagesKeepTheirStoredColours() {
        BufferedImage image = new BufferedImage(2, 1, BufferedImage.TYPE_INT_ARGB);
        image.setRGB(0, 0, 0x40102030);
        image.setRGB(1, 0, 0x00ff0001);
        assertThat(ImageReader.rgb(image).data()).containsExactly(0x10, 0x20, 0x30, -1, 0, 1);
        BufferedImage gray = new BufferedImage(1, 1, BufferedImage.TYPE_BYTE_GRAY);
        gray.getRaster().setSample(0, 0, 0, 77);
        assertThat(ImageReader.rgb(gray).data()).containsExactly(77, 77, 77);
        BufferedImage bgr = new BufferedImage(1, 1, BufferedImage.TYPE_3BYTE_BGR);
        bgr.setRGB(0, 0, 0x010203);
        assertThat(ImageReader.rgb(bgr).data()).containsExactly(1, 2, 3);
    }

    @Test
    void refusesTruncatedJpegs() throws IOException {
        byte[] jpeg = Files.readAllBytes(Reference.MEDIA.resolve("scene.jpg"));
        assertThatThrownBy(() -> ImageReader.read(Arrays.copyOf(jpeg, jpeg.length / 2), "cut.jpg"))
                .isInstanceOf(ProcessorException.class).hasMessageContainingAll("cut.jpg", "Truncated");
    }

    @Test
    void saysWhatIsWrongWithAFile() throws IOException {
        byte[] png = Files.readAllBytes(Reference.MEDIA.resolve("scene.png"));
        assertThatThrownBy(() -> ImageReader.read(Arrays.copyOf(png, 900), "cut.png"))
                .isInstanceOf(ProcessorException.class)
                .hasMessage("cut.png: cannot be decoded as an image: Invalid chunk length 3435");
        byte[] bmp = Files.readAllBytes(Reference.resource("images/rgb.bmp"));
        assertThatThrownBy(() -> ImageReader.read(Arrays.copyOf(bmp, 900), "cut.bmp"))
                .hasMessage("cut.bmp: cannot be decoded as an image: it ends too early");
        assertThatThrownBy(() -> ImageReader.read(new byte[100], "zeros.png")).isInstanceOf(ProcessorException.class)
                .hasMessageContaining("zeros.png");
        assertThatThrownBy(() -> ImageReader.read(new byte[0], "empty.png")).isInstanceOf(ProcessorException.class);
    }

    @Test
    void refusesPixelsThatPilDoesNotKnow() throws IOException {
        byte[] deep = Files.readAllBytes(Reference.resource("images/rgb32.tif"));
        assertThatThrownBy(() -> ImageReader.read(deep, "rgb32.tif")).isInstanceOf(ProcessorException.class)
                .hasMessageContainingAll("rgb32.tif", "3 times 32 bits", "expected 8 or 16 bits");
    }

    /** From upstream's smart_resize: ties round to even, and only then the limits of pixels count. */
    @ParameterizedTest
    @CsvSource({"98,150,4096,65536,96,160", "48,80,4096,65536,64,64", "16,16,4096,65536,64,64",
            "200,64,4096,65536,192,64",
            "1080,1920,3136,12845056,1088,1920", "4000,6000,3136,12845056,2912,4384", "5,900,4096,65536,32,864"})
    void targetSizes(int height, int width, int min, int max, int expectedHeight, int expectedWidth) {
        assertThat(ImageResize.targetSize(height, width, 32, min, max, "image")).containsExactly(expectedHeight,
                expectedWidth);
    }

    @Test
    void refusesExtremeShapes() {
        assertThatThrownBy(() -> ImageResize.targetSize(10, 2010, 32, 4096, 65536, "strip.png"))
                .isInstanceOf(ProcessorException.class).hasMessageContaining("strip.png").hasMessageContaining("200");
    }
}

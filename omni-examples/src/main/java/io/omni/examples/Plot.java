package io.omni.examples;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;

/** Curves as an SVG file, two in a row, with x axes that double and y axes that start at 0. */
final class Plot {
    private static final int WIDTH = 420;
    private static final int HEIGHT = 280;
    private static final int LEFT = 64;
    private static final int RIGHT = 24;
    private static final int TOP = 40;
    private static final int BOTTOM = 52;

    private final StringBuilder svg = new StringBuilder();

    private Plot() {}

    /** Points joined by a line; axes are named with their units. */
    record Curve(String title, String xAxis, String yAxis, double[] x, double[] y) {}

    static void write(Path file, List<Curve> curves) {
        try {
            Files.writeString(file, new Plot().draw(curves));
        } catch (IOException e) {
            throw new UncheckedIOException(file + " cannot be written: " + e.getMessage(), e);
        }
    }

    private String draw(List<Curve> curves) {
        int columns = Math.min(2, curves.size());
        int rows = (curves.size() + 1) / 2;
        add("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\""
                + " font-size=\"12\" fill=\"#333\">", columns * WIDTH, rows * HEIGHT);
        add("<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>");
        for (int i = 0; i < curves.size(); i++) {
            add("<g transform=\"translate(%d %d)\">", i % 2 * WIDTH, i / 2 * HEIGHT);
            draw(curves.get(i));
            add("</g>");
        }
        add("</svg>");
        return svg.toString();
    }

    private void draw(Curve curve) {
        double first = Math.log(Arrays.stream(curve.x).min().orElse(1));
        double last = Math.log(Arrays.stream(curve.x).max().orElse(1));
        double step = roundStep(Arrays.stream(curve.y).max().orElse(1) / 4);
        int steps = Math.max(1, (int) Math.ceil(Arrays.stream(curve.y).max().orElse(1) / step));
        int right = WIDTH - RIGHT;
        int bottom = HEIGHT - BOTTOM;
        text((LEFT + right) / 2.0, TOP - 16, "middle", curve.title, " font-weight=\"bold\"");
        text((LEFT + right) / 2.0, HEIGHT - 14, "middle", curve.xAxis, "");
        text(0, 0, "middle", curve.yAxis,
                " transform=\"translate(16 %d) rotate(-90)\"".formatted((TOP + bottom) / 2));
        for (int i = 0; i <= steps; i++) {
            double y = bottom - (double) i / steps * (bottom - TOP);
            add("<path d=\"M%d %.1fH%d\" stroke=\"%s\"/>", LEFT, y, right, i == 0 ? "#333" : "#ddd");
            text(LEFT - 6, y + 4, "end", number(i * step), "");
        }
        StringBuilder line = new StringBuilder();
        for (int i = 0; i < curve.x.length; i++) {
            double at = last == first ? 0.5 : (Math.log(curve.x[i]) - first) / (last - first);
            double x = LEFT + at * (right - LEFT);
            double y = bottom - curve.y[i] / (steps * step) * (bottom - TOP);
            line.append(i == 0 ? "M" : "L").append(String.format(Locale.ROOT, "%.1f %.1f", x, y));
            add("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"#1f6fb4\"/>", x, y);
            text(x, bottom + 16, "middle", number(curve.x[i]), "");
        }
        add("<path d=\"%s\" fill=\"none\" stroke=\"#1f6fb4\" stroke-width=\"2\"/>", line);
    }

    /** The next of 1, 2, 5 times a power of ten. */
    private static double roundStep(double least) {
        double power = Math.pow(10, Math.floor(Math.log10(least)));
        for (double factor : new double[]{1, 2, 5})
            if (factor * power >= least)
            return factor * power;
        return 10 * power;
    }

    private static String number(double value) {
        return value >= 1000 && value % 1000 == 0
                ? String.format(Locale.ROOT, "%.0fk", value / 1000)
                : value == Math.rint(value)
                        ? String.format(Locale.ROOT, "%.0f", value)
                        : String.format(Locale.ROOT, "%.3g", value);
    }

    private void text(double x, double y, String anchor, String text, String attributes) {
        add("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\"%s>%s</text>", x, y, anchor, attributes, text);
    }

    private void add(String format, Object... values) {
        svg.append(String.format(Locale.ROOT, format, values)).append('\n');
    }
}

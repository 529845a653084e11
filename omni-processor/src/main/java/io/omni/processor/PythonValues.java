package io.omni.processor;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Objects;

/**
 * Python's view of Java values, for templates: null is None; String, Boolean, Number, List and Map are what they look
 * like.
 */
final class PythonValues {
    /** What Jinja makes of a name or attribute that does not exist: empty and false, and an error to look into. */
    record Undefined(String name) {}

    private PythonValues() {}

    static boolean isTrue(Object value) {
        return switch (value) {
            case null -> false;
            case Undefined _ -> false;
            case Boolean b -> b;
            case Number n -> n.doubleValue() != 0;
            case String s -> !s.isEmpty();
            case List<?> list -> !list.isEmpty();
            case Map<?, ?> map -> !map.isEmpty();
            default -> true;
        };
    }

    /** str(value) */
    static String str(Object value) {
        return switch (value) {
            case Undefined _ -> "";
            case String s -> s;
            case null, default -> repr(value);
        };
    }

    private static String repr(Object value) {
        return switch (value) {
            case null -> "None";
            case Boolean b -> b ? "True" : "False";
            case Number n -> number(n);
            case String s -> quoted(s);
            case List<?> list -> {
                StringBuilder text = new StringBuilder("[");
                for (Object item : list) text.append(text.length() > 1 ? ", " : "").append(repr(item));
                yield text.append(']').toString();
            }
            case Map<?, ?> map -> {
                StringBuilder text = new StringBuilder("{");
                map.forEach((k, v) -> text.append(text.length() > 1 ? ", " : "").append(repr(k)).append(": ")
                        .append(repr(v)));
                yield text.append('}').toString();
            }
            default -> value.toString();
        };
    }

    private static String quoted(String s) {
        char quote = s.indexOf('\'') >= 0 && s.indexOf('"') < 0 ? '"' : '\'';
        StringBuilder text = new StringBuilder().append(quote);
        for (char c : s.toCharArray()) {
            switch (c) {
                case '\n' -> text.append("\\n");
                case '\t' -> text.append("\\t");
                case '\r' -> text.append("\\r");
                case '\\' -> text.append("\\\\");
                default -> text.append(c == quote ? "\\" : "").append(c);
            }
        }
        return text.append(quote).toString();
    }

    /** repr of an int or float: floats take the shortest digits, in scientific notation below 1e-4 and from 1e16 on. */
    static String number(Number n) {
        if (!(n instanceof Double || n instanceof Float))
            return n.toString();
        double d = n.doubleValue();
        if (Double.isNaN(d))
            return "nan";
        if (Double.isInfinite(d))
            return d > 0 ? "inf" : "-inf";
        if (d == 0)
            return 1 / d < 0 ? "-0.0" : "0.0";
        BigDecimal exact = new BigDecimal(n.toString()).stripTrailingZeros();
        int exponent = exact.precision() - exact.scale() - 1;
        if (exponent >= -4 && exponent < 16) {
            String plain = exact.toPlainString();
            return plain.indexOf('.') < 0 ? plain + ".0" : plain;
        }
        String digits = exact.unscaledValue().abs().toString();
        String mantissa = digits.length() == 1 ? digits : digits.charAt(0) + "." + digits.substring(1);
        return (d < 0 ? "-" : "") + mantissa + (exponent < 0 ? "e-" : "e+") + (Math.abs(exponent) < 10 ? "0" : "")
                + Math.abs(exponent);
    }

    static boolean equal(Object a, Object b) {
        if (a instanceof Number x && b instanceof Number y)
            return compare(x, y) == 0;
        if (a instanceof List<?> x && b instanceof List<?> y) {
            if (x.size() != y.size())
                return false;
            Iterator<?> other = y.iterator();
            for (Object item : x) if (!equal(item, other.next()))
                return false;
            return true;
        }
        if (a instanceof Undefined && b instanceof Undefined)
            return true;
        return Objects.equals(a, b);
    }

    static int compare(Object a, Object b) {
        if (a instanceof Number x && b instanceof Number y) {
            return isFloat(x) || isFloat(y)
                    ? Double.compare(x.doubleValue(), y.doubleValue())
                    : integer(x).compareTo(integer(y));
        }
        if (a instanceof String x && b instanceof String y)
            return x.compareTo(y);
        throw new ProcessorException("chat template: cannot compare " + str(a) + " and " + str(b));
    }

    static boolean isFloat(Number n) {
        return n instanceof Double || n instanceof Float;
    }

    static BigInteger integer(Number n) {
        return n instanceof BigInteger big ? big : BigInteger.valueOf(n.longValue());
    }

    /** json.dumps with ensure_ascii=False; {@code indent} is null for one line. */
    static String json(Object value, Integer indent, boolean sortKeys) {
        StringBuilder out = new StringBuilder();
        json(value, indent, sortKeys, 0, out);
        return out.toString();
    }

    private static void json(Object value, Integer indent, boolean sortKeys, int depth, StringBuilder out) {
        switch (value) {
            case null -> out.append("null");
            case Boolean b -> out.append(b);
            case Number n -> out.append(switch (number(n)) {
                case "nan" -> "NaN";
                case "inf" -> "Infinity";
                case "-inf" -> "-Infinity";
                case String s -> s;
            });
            case String s -> jsonString(s, out);
            case List<?> list -> {
                out.append('[');
                boolean first = true;
                for (Object item : list) {
                    separator(first, indent, depth + 1, out);
                    json(item, indent, sortKeys, depth + 1, out);
                    first = false;
                }
                if (!first)
                    newline(indent, depth, out);
                out.append(']');
            }
            case Map<?, ?> map -> {
                out.append('{');
                boolean first = true;
                var entries = map.entrySet().stream();
                if (sortKeys)
                    entries = entries.sorted((a, b) -> compare(a.getKey(), b.getKey()));
                for (var entry : entries.toList()) {
                    separator(first, indent, depth + 1, out);
                    jsonString(str(entry.getKey()), out);
                    out.append(": ");
                    json(entry.getValue(), indent, sortKeys, depth + 1, out);
                    first = false;
                }
                if (!first)
                    newline(indent, depth, out);
                out.append('}');
            }
            case Undefined u ->
                throw new ProcessorException("chat template: tojson of the undefined '" + u.name() + "'");
            default -> throw new ProcessorException("chat template: tojson of a " + value.getClass().getSimpleName());
        }
    }

    private static void separator(boolean first, Integer indent, int depth, StringBuilder out) {
        if (!first)
            out.append(indent == null ? ", " : ",");
        newline(indent, depth, out);
    }

    private static void newline(Integer indent, int depth, StringBuilder out) {
        if (indent != null)
            out.append('\n').append(" ".repeat(indent * depth));
    }

    private static void jsonString(String s, StringBuilder out) {
        out.append('"');
        for (char c : s.toCharArray()) {
            switch (c) {
                case '"' -> out.append("\\\"");
                case '\\' -> out.append("\\\\");
                case '\n' -> out.append("\\n");
                case '\r' -> out.append("\\r");
                case '\t' -> out.append("\\t");
                case '\b' -> out.append("\\b");
                case '\f' -> out.append("\\f");
                default -> {
                    if (c < 0x20) {
                        out.append(String.format("\\u%04x", (int) c));
                    } else {
                        out.append(c);
                    }
                }
            }
        }
        out.append('"');
    }
}

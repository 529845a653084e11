package io.omni.processor;

import java.util.ArrayList;
import java.util.List;

/** Python's arithmetic on ints, floats, strings and lists. */
final class TemplateArithmetic {
    private TemplateArithmetic() {}

    static Object apply(String operator, Object left, Object right, int line) {
        if (left instanceof Boolean b)
            left = b ? 1L : 0L;
        if (right instanceof Boolean b)
            right = b ? 1L : 0L;
        if (left instanceof Number a && right instanceof Number b) {
            return PythonValues.isFloat(a) || PythonValues.isFloat(b) || operator.equals("/")
                    ? (Object) floats(operator, a.doubleValue(), b.doubleValue())
                    : (Object) integers(operator, a.longValue(), b.longValue(), line);
        }
        if (operator.equals("+") && left instanceof String a && right instanceof String b)
            return a + b;
        if (operator.equals("+") && left instanceof List<?> a && right instanceof List<?> b) {
            List<Object> sum = new ArrayList<>(a);
            sum.addAll(b);
            return sum;
        }
        if (operator.equals("*") && left instanceof String a && right instanceof Number n) {
            return a.repeat(Math.max(0, n.intValue()));
        }
        throw new ProcessorException(
                "chat template, line " + line + ": cannot compute " + shown(left) + " " + operator + " "
                        + shown(right));
    }

    private static double floats(String operator, double a, double b) {
        return switch (operator) {
            case "+" -> a + b;
            case "-" -> a - b;
            case "*" -> a * b;
            case "/" -> a / b;
            case "//" -> Math.floor(a / b);
            case "%" -> a - b * Math.floor(a / b);
            default -> Math.pow(a, b);
        };
    }

    private static long integers(String operator, long a, long b, int line) {
        if (b == 0 && (operator.equals("//") || operator.equals("%"))) {
            throw new ProcessorException("chat template, line " + line + ": division by zero");
        }
        return switch (operator) {
            case "+" -> a + b;
            case "-" -> a - b;
            case "*" -> a * b;
            case "//" -> Math.floorDiv(a, b);
            case "%" -> Math.floorMod(a, b);
            default -> Math.round(Math.pow(a, b));
        };
    }

    private static String shown(Object value) {
        return value instanceof PythonValues.Undefined u
                ? "the undefined '" + u.name() + "'"
                : "'" + PythonValues.str(value) + "'";
    }
}

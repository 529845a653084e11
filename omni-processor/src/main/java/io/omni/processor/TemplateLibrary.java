package io.omni.processor;

import static io.omni.processor.PythonValues.isTrue;
import static io.omni.processor.PythonValues.str;

import io.omni.processor.PythonValues.Undefined;
import java.time.LocalDateTime;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.IntPredicate;

/** The filters, tests, functions and methods of strings and dicts that chat templates use. */
final class TemplateLibrary {
    interface Function {
        Object call(List<Object> arguments, Map<String, Object> named);
    }

    private TemplateLibrary() {}

    static Map<String, Object> globals() {
        Map<String, Object> globals = new LinkedHashMap<>();
        globals.put("range", (Function) (a, _) -> range(a));
        globals.put("namespace", (Function) (_, named) -> new ChatTemplate.Namespace(new LinkedHashMap<>(named)));
        globals.put("dict", (Function) (_, named) -> new LinkedHashMap<>(named));
        globals.put("raise_exception", (Function) (a, _) -> {
            throw new ProcessorException("chat template: " + str(a.getFirst()));
        });
        globals.put("strftime_now", (Function) (a, _) -> strftime(str(a.getFirst()), LocalDateTime.now()));
        return globals;
    }

    private static List<Object> range(List<Object> a) {
        long from = a.size() > 1 ? integer(a.get(0)) : 0;
        long to = integer(a.get(a.size() > 1 ? 1 : 0));
        long step = a.size() > 2 ? integer(a.get(2)) : 1;
        List<Object> numbers = new ArrayList<>();
        for (long i = from; step > 0 ? i < to : i > to; i += step) numbers.add(i);
        return numbers;
    }

    static String strftime(String format, LocalDateTime time) {
        StringBuilder text = new StringBuilder();
        for (int i = 0; i < format.length(); i++) {
            char c = format.charAt(i);
            if (c != '%' || i + 1 == format.length()) {
                text.append(c);
                continue;
            }
            char code = format.charAt(++i);
            boolean bare = code == '-' && i + 1 < format.length(); // %-d: no leading zero
            if (bare)
                code = format.charAt(++i);
            String pattern = switch (code) {
                case 'Y' -> "yyyy";
                case 'y' -> "yy";
                case 'm' -> bare ? "M" : "MM";
                case 'd' -> bare ? "d" : "dd";
                case 'H' -> bare ? "H" : "HH";
                case 'I' -> bare ? "h" : "hh";
                case 'M' -> bare ? "m" : "mm";
                case 'S' -> bare ? "s" : "ss";
                case 'j' -> bare ? "D" : "DDD";
                case 'B' -> "MMMM";
                case 'b' -> "MMM";
                case 'A' -> "EEEE";
                case 'a' -> "EEE";
                case 'p' -> "a";
                case '%' -> "'%'";
                default -> throw new ProcessorException("chat template: strftime_now does not know %" + code);
            };
            text.append(time.format(DateTimeFormatter.ofPattern(pattern, Locale.ENGLISH)));
        }
        return text.toString();
    }

    static Object filter(String name, Object value, List<Object> a, Map<String, Object> named, int line) {
        return switch (name) {
            case "tojson" -> PythonValues.json(
                    value,
                    named.get("indent") instanceof Number n ? (Integer) n.intValue() : null,
                    isTrue(named.get("sort_keys")));
            case "length", "count" -> length(value);
            case "trim" -> strip(str(value), a.isEmpty() ? null : str(a.getFirst()), true, true);
            case "upper" -> str(value).toUpperCase(Locale.ROOT);
            case "lower" -> str(value).toLowerCase(Locale.ROOT);
            case "capitalize" -> capitalize(str(value));
            case "title" -> title(str(value));
            case "string" -> str(value);
            case "safe" -> value;
            case "e", "escape" -> str(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
                    .replace("\"", "&#34;").replace("'", "&#39;");
            case "int" -> toInt(value, a);
            case "float" -> value instanceof Number n ? n.doubleValue() : Double.parseDouble(str(value).strip());
            case "abs" -> value instanceof Double d ? (Object) Math.abs(d) : Math.abs(integer(value));
            case "default", "d" -> value instanceof Undefined || (a.size() > 1 && isTrue(a.get(1)) && !isTrue(value))
                    ? (a.isEmpty() ? "" : a.getFirst())
                    : value;
            case "first" -> items(value).isEmpty() ? new Undefined("first") : items(value).getFirst();
            case "last" -> items(value).isEmpty() ? new Undefined("last") : items(value).getLast();
            case "list" -> new ArrayList<>(items(value));
            case "reverse" -> value instanceof String s
                    ? new StringBuilder(s).reverse().toString()
                    : new ArrayList<>(items(value).reversed());
            case "join" -> join(value, a, named);
            case "replace" -> str(value).replace(str(a.get(0)), str(a.get(1)));
            case "items" -> value instanceof Undefined ? List.of() : pairs(map(value));
            case "dictsort" -> pairs(map(value)).stream()
                    .sorted((x, y) -> PythonValues.compare(items(x).getFirst(), items(y).getFirst())).toList();
            case "sort" -> items(value).stream().sorted(PythonValues::compare).toList();
            case "unique" -> items(value).stream().distinct().toList();
            case "sum" -> items(value).stream().mapToLong(TemplateLibrary::integer).sum();
            case "indent" -> indent(str(value), a, named);
            case "map" -> items(value).stream().map(item -> mapped(item, a, named, line)).toList();
            case "select" -> selected(value, null, a, true, line);
            case "reject" -> selected(value, null, a, false, line);
            case "selectattr" -> selected(value, str(a.getFirst()), a.subList(1, a.size()), true, line);
            case "rejectattr" -> selected(value, str(a.getFirst()), a.subList(1, a.size()), false, line);
            default -> throw new ProcessorException("chat template, line " + line + ": no filter '" + name + "'");
        };
    }

    private static Object mapped(Object item, List<Object> a, Map<String, Object> named, int line) {
        if (named.containsKey("attribute")) {
            Object value = member(item, str(named.get("attribute")));
            return value instanceof Undefined && named.containsKey("default") ? named.get("default") : value;
        }
        return filter(str(a.getFirst()), item, a.subList(1, a.size()), Map.of(), line);
    }

    private static List<Object> selected(Object value, String attribute, List<Object> a, boolean keep, int line) {
        List<Object> chosen = new ArrayList<>();
        for (Object item : items(value)) {
            Object subject = attribute == null ? item : member(item, attribute);
            boolean passes = a.isEmpty()
                    ? isTrue(subject)
                    : test(str(a.getFirst()), subject, a.subList(1, a.size()), line);
            if (passes == keep)
                chosen.add(item);
        }
        return chosen;
    }

    private static String join(Object value, List<Object> a, Map<String, Object> named) {
        String separator = a.isEmpty() ? str(named.getOrDefault("d", "")) : str(a.getFirst());
        Object attribute = named.get("attribute");
        List<String> parts = new ArrayList<>();
        for (Object item : items(value)) parts.add(str(attribute == null ? item : member(item, str(attribute))));
        return String.join(separator, parts);
    }

    private static String indent(String text, List<Object> a, Map<String, Object> named) {
        Object width = a.isEmpty() ? named.getOrDefault("width", 4L) : a.getFirst();
        boolean first = isTrue(a.size() > 1 ? a.get(1) : named.get("first"));
        String margin = width instanceof String s ? s : " ".repeat((int) integer(width));
        StringBuilder out = new StringBuilder();
        String[] lines = text.split("\n", -1);
        for (int i = 0; i < lines.length; i++) {
            if (i > 0)
                out.append('\n');
            if ((i > 0 && !lines[i].isEmpty()) || (i == 0 && first))
                out.append(margin);
            out.append(lines[i]);
        }
        return out.toString();
    }

    private static Object toInt(Object value, List<Object> a) {
        if (value instanceof Number n)
            return n.longValue();
        if (value instanceof Boolean b)
            return b ? 1L : 0L;
        try {
            return (long) Double.parseDouble(str(value).strip());
        } catch (NumberFormatException e) {
            return a.isEmpty() ? 0L : a.getFirst();
        }
    }

    static boolean test(String name, Object value, List<Object> a, int line) {
        return switch (name) {
            case "defined" -> !(value instanceof Undefined);
            case "undefined" -> value instanceof Undefined;
            case "none" -> value == null;
            case "string" -> value instanceof String;
            case "boolean" -> value instanceof Boolean;
            case "true" -> Boolean.TRUE.equals(value);
            case "false" -> Boolean.FALSE.equals(value);
            case "number" -> value instanceof Number || value instanceof Boolean;
            case "integer" -> value instanceof Number n && !PythonValues.isFloat(n);
            case "float" -> value instanceof Number n && PythonValues.isFloat(n);
            case "mapping" -> value instanceof Map;
            case "sequence", "iterable" -> value instanceof List || value instanceof String || value instanceof Map
                    || value instanceof Undefined;
            case "callable" -> value instanceof Function;
            case "odd" -> Math.floorMod(integer(value), 2L) == 1;
            case "even" -> Math.floorMod(integer(value), 2L) == 0;
            case "divisibleby" -> Math.floorMod(integer(value), integer(a.getFirst())) == 0;
            case "eq", "equalto", "==" -> PythonValues.equal(value, a.getFirst());
            case "ne", "!=" -> !PythonValues.equal(value, a.getFirst());
            case "lt", "lessthan", "<" -> PythonValues.compare(value, a.getFirst()) < 0;
            case "le", "<=" -> PythonValues.compare(value, a.getFirst()) <= 0;
            case "gt", "greaterthan", ">" -> PythonValues.compare(value, a.getFirst()) > 0;
            case "ge", ">=" -> PythonValues.compare(value, a.getFirst()) >= 0;
            case "in" -> contains(a.getFirst(), value);
            case "lower" -> str(value).equals(str(value).toLowerCase(Locale.ROOT));
            case "upper" -> str(value).equals(str(value).toUpperCase(Locale.ROOT));
            default -> throw new ProcessorException("chat template, line " + line + ": no test '" + name + "'");
        };
    }

    static boolean contains(Object container, Object value) {
        return switch (container) {
            case String s -> s.contains(str(value));
            case Map<?, ?> map -> map.containsKey(value);
            case null, default -> items(container).stream().anyMatch(item -> PythonValues.equal(item, value));
        };
    }

    /** object.name: a method of strings and dicts, or else a dict's entry; Undefined when there is none. */
    static Object attribute(Object object, String name) {
        Function method = switch (object) {
            case String s -> stringMethod(s, name);
            case Map<?, ?> map -> dictMethod(map, name);
            case List<?> list -> listMethod(list, name);
            case null, default -> null;
        };
        return method != null ? method : member(object, name);
    }

    /** object[name]: a dict's entry or a list's item; Undefined when there is none. */
    static Object member(Object object, Object key) {
        return switch (object) {
            case Undefined u -> throw new ProcessorException(
                    "chat template: '" + u.name() + "' is undefined, so it has no '" + str(key) + "'");
            case ChatTemplate.Namespace space ->
                space.values().containsKey(key) ? space.values().get(key) : new Undefined(str(key));
            case Map<?, ?> map -> map.containsKey(key) ? map.get(key) : new Undefined(str(key));
            case List<?> list when key instanceof Number n -> {
                int i = n.intValue() < 0 ? n.intValue() + list.size() : n.intValue();
                yield i >= 0 && i < list.size() ? list.get(i) : new Undefined("[" + n + "]");
            }
            case String s when key instanceof Number n -> {
                int length = s.codePointCount(0, s.length());
                int i = n.intValue() < 0 ? n.intValue() + length : n.intValue();
                yield i >= 0 && i < length
                        ? Character.toString(s.codePointAt(s.offsetByCodePoints(0, i)))
                        : new Undefined("[" + n + "]");
            }
            case null, default -> new Undefined(str(key));
        };
    }

    private static Function dictMethod(Map<?, ?> map, String name) {
        return switch (name) {
            case "items" -> (_, _) -> pairs(map);
            case "keys" -> (_, _) -> new ArrayList<>(map.keySet());
            case "values" -> (_, _) -> new ArrayList<>(map.values());
            case "get" ->
                (a, _) -> map.containsKey(a.getFirst()) ? map.get(a.getFirst()) : a.size() > 1 ? a.get(1) : null;
            default -> null;
        };
    }

    private static Function listMethod(List<?> list, String name) {
        return switch (name) {
            case "index" -> (a, _) -> (long) list.indexOf(a.getFirst());
            case "count" -> (a, _) -> list.stream().filter(item -> PythonValues.equal(item, a.getFirst())).count();
            default -> null;
        };
    }

    private static Function stringMethod(String s, String name) {
        return switch (name) {
            case "strip" -> (a, _) -> strip(s, characters(a), true, true);
            case "lstrip" -> (a, _) -> strip(s, characters(a), true, false);
            case "rstrip" -> (a, _) -> strip(s, characters(a), false, true);
            case "split" -> (a, _) -> split(s, a);
            case "rsplit" -> (a, _) -> rsplit(s, a);
            case "splitlines" -> (_, _) -> new ArrayList<Object>(s.lines().toList());
            case "startswith" -> (a, _) -> anyOf(a.getFirst()).stream().anyMatch(x -> s.startsWith(str(x)));
            case "endswith" -> (a, _) -> anyOf(a.getFirst()).stream().anyMatch(x -> s.endsWith(str(x)));
            case "replace" -> (a, _) -> replace(s, a);
            case "upper" -> (_, _) -> s.toUpperCase(Locale.ROOT);
            case "lower" -> (_, _) -> s.toLowerCase(Locale.ROOT);
            case "title" -> (_, _) -> title(s);
            case "capitalize" -> (_, _) -> capitalize(s);
            case "find" -> (a, _) -> codePointIndex(s, s.indexOf(str(a.getFirst())));
            case "rfind" -> (a, _) -> codePointIndex(s, s.lastIndexOf(str(a.getFirst())));
            case "count" -> (a, _) -> (long) (s.split(java.util.regex.Pattern.quote(str(a.getFirst())), -1).length - 1);
            case "join" -> (a, _) -> join(a.getFirst(), List.of(s), Map.of());
            case "removeprefix" ->
                (a, _) -> s.startsWith(str(a.getFirst())) ? s.substring(str(a.getFirst()).length()) : s;
            case "removesuffix" -> (a, _) -> s.endsWith(str(a.getFirst()))
                    ? s.substring(0, s.length() - str(a.getFirst()).length())
                    : s;
            case "isdigit" -> (_, _) -> !s.isEmpty() && s.codePoints().allMatch(Character::isDigit);
            case "isspace" -> (_, _) -> !s.isEmpty() && s.codePoints().allMatch(Character::isWhitespace);
            case "isupper" -> (_, _) -> !s.equals(s.toLowerCase(Locale.ROOT)) && s.equals(s.toUpperCase(Locale.ROOT));
            case "islower" -> (_, _) -> !s.equals(s.toUpperCase(Locale.ROOT)) && s.equals(s.toLowerCase(Locale.ROOT));
            default -> null;
        };
    }

    private static List<Object> anyOf(Object prefixes) {
        return prefixes instanceof List<?> ? items(prefixes) : List.of(prefixes);
    }

    private static String characters(List<Object> a) {
        return a.isEmpty() || a.getFirst() == null ? null : str(a.getFirst());
    }

    private static String strip(String s, String characters, boolean left, boolean right) {
        IntPredicate goes = characters == null
                ? c -> Character.isWhitespace(c) || Character.isSpaceChar(c)
                : c -> characters.indexOf(c) >= 0;
        int[] points = s.codePoints().toArray();
        int begin = 0;
        int end = points.length;
        while (left && begin < end && goes.test(points[begin]))
            begin++;
        while (right && end > begin && goes.test(points[end - 1]))
            end--;
        return new String(points, begin, end - begin);
    }

    private static List<Object> split(String s, List<Object> a) {
        long limit = a.size() > 1 ? integer(a.get(1)) : -1;
        if (characters(a) == null) {
            String stripped = strip(s, null, true, limit < 0);
            if (stripped.isEmpty())
                return List.of();
            return new ArrayList<>(Arrays.asList((Object[]) stripped.split("\\s+", limit < 0 ? 0 : (int) limit + 1)));
        }
        String separator = characters(a);
        List<Object> parts = new ArrayList<>();
        int from = 0;
        for (int i = s.indexOf(separator); i >= 0 && parts.size() != limit; i = s.indexOf(separator, from)) {
            parts.add(s.substring(from, i));
            from = i + separator.length();
        }
        parts.add(s.substring(from));
        return parts;
    }

    private static List<Object> rsplit(String s, List<Object> a) {
        long limit = a.size() > 1 ? integer(a.get(1)) : -1;
        if (limit < 0 || characters(a) == null)
            return split(s, a);
        String separator = characters(a);
        List<Object> parts = new ArrayList<>();
        int to = s.length();
        for (int i = s.lastIndexOf(separator); i >= 0
                && parts.size() != limit; i = s.lastIndexOf(separator, to - separator.length())) {
            parts.add(s.substring(i + separator.length(), to));
            to = i;
            if (to < separator.length())
                break;
        }
        parts.add(s.substring(0, to));
        Collections.reverse(parts);
        return parts;
    }

    private static String replace(String s, List<Object> a) {
        String from = str(a.get(0));
        String to = str(a.get(1));
        long times = a.size() > 2 ? integer(a.get(2)) : Long.MAX_VALUE;
        if (times == Long.MAX_VALUE || from.isEmpty())
            return s.replace(from, to);
        String result = s;
        int at = 0;
        for (long i = 0; i < times && (at = result.indexOf(from, at)) >= 0; i++) {
            result = result.substring(0, at) + to + result.substring(at + from.length());
            at += to.length();
        }
        return result;
    }

    private static long codePointIndex(String s, int index) {
        return index < 0 ? -1 : s.codePointCount(0, index);
    }

    private static String capitalize(String s) {
        return s.isEmpty() ? s : s.substring(0, 1).toUpperCase(Locale.ROOT) + s.substring(1).toLowerCase(Locale.ROOT);
    }

    private static String title(String s) {
        StringBuilder text = new StringBuilder();
        boolean inWord = false;
        for (char c : s.toCharArray()) {
            text.append(inWord ? Character.toLowerCase(c) : Character.toUpperCase(c));
            inWord = Character.isLetter(c);
        }
        return text.toString();
    }

    static long length(Object value) {
        return value instanceof String s ? s.codePointCount(0, s.length()) : items(value).size();
    }

    static long integer(Object value) {
        return switch (value) {
            case Number n -> n.longValue();
            case Boolean b -> b ? 1 : 0;
            case null, default -> throw new ProcessorException("chat template: '" + str(value) + "' is not a number");
        };
    }

    /** What iterating over the value gives. */
    static List<Object> items(Object value) {
        return switch (value) {
            case List<?> list -> Collections.unmodifiableList(list);
            case Map<?, ?> map -> new ArrayList<>(map.keySet());
            case String s -> new ArrayList<>(s.codePoints().mapToObj(Character::toString).toList());
            case Undefined _ -> List.of();
            case null, default -> throw new ProcessorException("chat template: '" + str(value) + "' is not a list");
        };
    }

    private static Map<?, ?> map(Object value) {
        if (value instanceof Map<?, ?> map)
            return map;
        throw new ProcessorException("chat template: '" + str(value) + "' is not a mapping");
    }

    private static List<Object> pairs(Map<?, ?> map) {
        List<Object> pairs = new ArrayList<>();
        map.forEach((k, v) -> pairs.add(Arrays.asList(k, v)));
        return pairs;
    }
}

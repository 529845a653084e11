package io.omni.processor;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.regex.Pattern;

/**
 * Cuts a Jinja template into text and the tokens of its tags, and settles all white space questions: {@code trim_blocks}
 * (the newline after a block tag goes) and {@code lstrip_blocks} (the indentation before one goes) are on, as
 * transformers sets them, and {@code -} and {@code +} beside a delimiter override them.
 */
final class TemplateLexer {
    enum Kind {
        TEXT, OUTPUT_BEGIN, OUTPUT_END, BLOCK_BEGIN, BLOCK_END, NAME, STRING, NUMBER, OPERATOR, EOF
    }

    record Token(Kind kind, String text, int line) {
        boolean is(Kind kind, String text) {
            return this.kind == kind && this.text.equals(text);
        }
    }

    private static final Set<String> LONG_OPERATORS = Set.of("==", "!=", "<=", ">=", "//", "**");

    private static final Pattern NUMBER = Pattern.compile("[0-9_]+(\\.[0-9]+)?([eE][-+]?[0-9]+)?");

    private final String source;
    private final List<Token> tokens = new ArrayList<>();
    private int at;
    private int line = 1;
    private boolean stripNext;
    private boolean trimNext;

    private TemplateLexer(String source) {
        this.source = source;
    }

    static List<Token> tokens(String template) {
        String source = template.replace("\r\n", "\n").replace('\r', '\n');
        if (source.endsWith("\n"))
            source = source.substring(0, source.length() - 1); // as keep_trailing_newline=False
        TemplateLexer lexer = new TemplateLexer(source);
        lexer.run();
        return lexer.tokens;
    }

    private void run() {
        while (at < source.length()) {
            int tag = nextTag(at);
            text(at, tag);
            if (tag == source.length())
                break;
            at = tag + 2;
            boolean sign = at < source.length() && (source.charAt(at) == '-' || source.charAt(at) == '+');
            char kind = source.charAt(tag + 1);
            if (kind == '#') {
                comment();
            } else {
                if (sign)
                    at++;
                if (kind == '%' && rawBlock())
                    continue;
                tokens.add(new Token(kind == '%' ? Kind.BLOCK_BEGIN : Kind.OUTPUT_BEGIN, "", line));
                code(kind == '%' ? '%' : '}');
            }
        }
        tokens.add(new Token(Kind.EOF, "end of template", line));
    }

    private int nextTag(int from) {
        for (int i = source.indexOf('{', from); i >= 0 && i + 1 < source.length(); i = source.indexOf('{', i + 1)) {
            char c = source.charAt(i + 1);
            if (c == '{' || c == '%' || c == '#')
                return i;
        }
        return source.length();
    }

    /** Emits source[from, to) after the strips that the tags on both sides ask for. */
    private void text(int from, int to) {
        int begin = from;
        if (stripNext) {
            while (begin < to && Character.isWhitespace(source.charAt(begin)))
                begin++;
        } else if (trimNext && begin < to && source.charAt(begin) == '\n') {
            begin++;
        }
        int end = to;
        if (to < source.length()) {
            char sign = to + 2 < source.length() ? source.charAt(to + 2) : ' ';
            if (sign == '-') {
                while (end > begin && Character.isWhitespace(source.charAt(end - 1)))
                    end--;
            } else if (sign != '+' && source.charAt(to + 1) != '{') {
                int bol = end;
                while (bol > begin && (source.charAt(bol - 1) == ' ' || source.charAt(bol - 1) == '\t'))
                    bol--;
                boolean startsLine = bol == 0 || source.charAt(bol - 1) == '\n';
                if (startsLine)
                    end = bol;
            }
        }
        if (end > begin)
            tokens.add(new Token(Kind.TEXT, source.substring(begin, end), line));
        countLines(from, to);
        stripNext = false;
        trimNext = false;
    }

    private void comment() {
        int end = source.indexOf("#}", at);
        if (end < 0)
            throw error("comment is not closed");
        closed(source.charAt(end - 1), true);
        countLines(at, end);
        at = end + 2;
    }

    /** {% raw %} … {% endraw %}: at is just behind the opening delimiter. */
    private boolean rawBlock() {
        var open = Pattern.compile("\\s*raw\\s*([-+]?)%\\}").matcher(source).region(at,
                source.length());
        if (!open.lookingAt())
            return false;
        var close = Pattern.compile("\\{%([-+]?)\\s*endraw\\s*([-+]?)%\\}").matcher(source);
        if (!close.find(open.end()))
            throw error("raw is not closed");
        closed(open.group(1).isEmpty() ? ' ' : open.group(1).charAt(0), true);
        text(open.end(), close.start());
        closed(close.group(2).isEmpty() ? ' ' : close.group(2).charAt(0), true);
        countLines(close.start(), close.end());
        at = close.end();
        return true;
    }

    private void closed(char sign, boolean block) {
        stripNext = sign == '-';
        trimNext = block && sign != '+';
    }

    private void code(char closer) {
        int depth = 0;
        while (true) {
            if (at >= source.length())
                throw error("tag is not closed");
            char c = source.charAt(at);
            if (Character.isWhitespace(c)) {
                if (c == '\n')
                    line++;
                at++;
                continue;
            }
            int sign = c == '-' || c == '+' ? 1 : 0;
            if (depth == 0 && source.startsWith(closer + "}", at + sign)) {
                tokens.add(new Token(closer == '%' ? Kind.BLOCK_END : Kind.OUTPUT_END, "end of tag", line));
                closed(c, closer == '%');
                at += sign + 2;
                return;
            }
            if (c == '\'' || c == '"') {
                string(c);
            } else if (Character.isDigit(c)) {
                number();
            } else if (Character.isJavaIdentifierStart(c)) {
                int begin = at;
                while (at < source.length() && Character.isJavaIdentifierPart(source.charAt(at)))
                    at++;
                tokens.add(new Token(Kind.NAME, source.substring(begin, at), line));
            } else {
                String two = source.substring(at, Math.min(at + 2, source.length()));
                String operator = LONG_OPERATORS.contains(two) ? two : String.valueOf(c);
                if (!LONG_OPERATORS.contains(two) && "()[]{}.,:|=+-*/%~<>".indexOf(c) < 0) {
                    throw error("unexpected character '" + c + "'");
                }
                if ("([{".indexOf(c) >= 0)
                    depth++;
                if (")]}".indexOf(c) >= 0)
                    depth--;
                tokens.add(new Token(Kind.OPERATOR, operator, line));
                at += operator.length();
            }
        }
    }

    private void number() {
        var number = NUMBER.matcher(source).region(at, source.length());
        if (!number.lookingAt())
            throw error("bad number");
        tokens.add(new Token(Kind.NUMBER, number.group().replace("_", ""), line));
        at = number.end();
    }

    private void string(char quote) {
        StringBuilder text = new StringBuilder();
        for (at++; at < source.length() && source.charAt(at) != quote; at++) {
            char c = source.charAt(at);
            if (c == '\n')
                line++;
            if (c != '\\' || at + 1 >= source.length()) {
                text.append(c);
                continue;
            }
            char escaped = source.charAt(++at);
            switch (escaped) {
                case 'n' -> text.append('\n');
                case 't' -> text.append('\t');
                case 'r' -> text.append('\r');
                case 'b' -> text.append('\b');
                case 'f' -> text.append('\f');
                case '\\', '\'', '"' -> text.append(escaped);
                case '\n' -> line++;
                case 'x' -> text.appendCodePoint(hex(2));
                case 'u' -> text.appendCodePoint(hex(4));
                case 'U' -> text.appendCodePoint(hex(8));
                default -> text.append('\\').append(escaped);
            }
        }
        if (at >= source.length())
            throw error("string is not closed");
        at++;
        tokens.add(new Token(Kind.STRING, text.toString(), line));
    }

    private int hex(int digits) {
        if (at + digits >= source.length())
            throw error("bad escape in a string");
        String code = source.substring(at + 1, at + 1 + digits);
        at += digits;
        try {
            return Integer.parseInt(code, 16);
        } catch (NumberFormatException e) {
            throw error("bad escape in a string: " + code);
        }
    }

    private void countLines(int from, int to) {
        for (int i = from; i < to; i++) if (source.charAt(i) == '\n')
            line++;
    }

    private ProcessorException error(String what) {
        return new ProcessorException("chat template, line " + line + ": " + what);
    }
}

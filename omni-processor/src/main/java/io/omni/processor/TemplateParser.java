package io.omni.processor;

import io.omni.processor.TemplateLexer.Kind;
import io.omni.processor.TemplateLexer.Token;
import io.omni.processor.TemplateTree.*;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** Recursive descent over the tokens of a template, one method for each level of precedence, loosest first. */
final class TemplateParser {
    private static final Set<String> COMPARISONS = Set.of("==", "!=", "<", "<=", ">", ">=");

    private final List<Token> tokens;
    private int at;

    private TemplateParser(List<Token> tokens) {
        this.tokens = tokens;
    }

    static List<Node> parse(String template) {
        TemplateParser parser = new TemplateParser(TemplateLexer.tokens(template));
        List<Node> nodes = parser.body(Set.of());
        if (parser.peek().kind() != Kind.EOF)
            throw parser.unexpected("a statement");
        return nodes;
    }

    /** Statements up to, and not including, a block tag whose name is one of {@code ends}. */
    private List<Node> body(Set<String> ends) {
        List<Node> nodes = new ArrayList<>();
        while (true) {
            Token token = peek();
            switch (token.kind()) {
                case TEXT -> nodes.add(new Text(next().text()));
                case OUTPUT_BEGIN -> {
                    next();
                    nodes.add(new Output(tupleOrExpression(), token.line()));
                    expect(Kind.OUTPUT_END);
                }
                case BLOCK_BEGIN -> {
                    if (ends.contains(peekAfter().text()))
                        return nodes;
                    next();
                    nodes.add(statement());
                }
                default -> {
                    return nodes;
                }
            }
        }
    }

    private Node statement() {
        Token keyword = expect(Kind.NAME);
        return switch (keyword.text()) {
            case "if" -> ifStatement();
            case "for" -> forStatement(keyword.line());
            case "set" -> setStatement(keyword.line());
            case "macro" -> macro();
            case "generation" -> {
                expect(Kind.BLOCK_END);
                List<Node> body = body(Set.of("endgeneration"));
                end("endgeneration");
                yield new Group(body);
            }
            case "break" -> {
                expect(Kind.BLOCK_END);
                yield new Break();
            }
            case "continue" -> {
                expect(Kind.BLOCK_END);
                yield new Continue();
            }
            default -> throw error(keyword, "statement '" + keyword.text() + "' is not supported");
        };
    }

    private Node ifStatement() {
        List<Branch> branches = new ArrayList<>();
        List<Node> otherwise = List.of();
        Set<String> ends = Set.of("elif", "else", "endif");
        Expr condition = tupleOrExpression();
        expect(Kind.BLOCK_END);
        branches.add(new Branch(condition, body(ends)));
        while (true) {
            expect(Kind.BLOCK_BEGIN);
            String keyword = expect(Kind.NAME).text();
            if (keyword.equals("elif")) {
                condition = tupleOrExpression();
                expect(Kind.BLOCK_END);
                branches.add(new Branch(condition, body(ends)));
            } else if (keyword.equals("else")) {
                expect(Kind.BLOCK_END);
                otherwise = body(Set.of("endif"));
            } else {
                expect(Kind.BLOCK_END);
                return new If(branches, otherwise);
            }
        }
    }

    private Node forStatement(int line) {
        List<String> targets = new ArrayList<>();
        do {
            targets.add(expect(Kind.NAME).text());
        } while (accept(Kind.OPERATOR, ","));
        if (!accept(Kind.NAME, "in"))
            throw unexpected("'in'");
        Expr items = or();
        Expr filter = accept(Kind.NAME, "if") ? expression() : null;
        expect(Kind.BLOCK_END);
        List<Node> body = body(Set.of("else", "endfor"));
        List<Node> otherwise = List.of();
        if (peekAfter().text().equals("else")) {
            end("else");
            otherwise = body(Set.of("endfor"));
        }
        end("endfor");
        return new For(targets, items, filter, body, otherwise, line);
    }

    private Node setStatement(int line) {
        List<String> targets = new ArrayList<>();
        do {
            String target = expect(Kind.NAME).text();
            if (accept(Kind.OPERATOR, "."))
                target += "." + expect(Kind.NAME).text();
            targets.add(target);
        } while (accept(Kind.OPERATOR, ","));
        if (accept(Kind.OPERATOR, "=")) {
            Expr value = tupleOrExpression();
            expect(Kind.BLOCK_END);
            return new Assign(targets, value, line);
        }
        List<Filter> filters = new ArrayList<>();
        while (accept(Kind.OPERATOR, "|"))
            filters.add(filter(null));
        expect(Kind.BLOCK_END);
        List<Node> body = body(Set.of("endset"));
        end("endset");
        return new AssignBlock(targets.getFirst(), filters, body);
    }

    private Node macro() {
        String name = expect(Kind.NAME).text();
        List<Parameter> parameters = new ArrayList<>();
        if (!accept(Kind.OPERATOR, "("))
            throw unexpected("'('");
        while (!accept(Kind.OPERATOR, ")")) {
            String parameter = expect(Kind.NAME).text();
            parameters.add(new Parameter(parameter, accept(Kind.OPERATOR, "=") ? expression() : null));
            accept(Kind.OPERATOR, ",");
        }
        expect(Kind.BLOCK_END);
        List<Node> body = body(Set.of("endmacro"));
        end("endmacro");
        return new Macro(name, parameters, body);
    }

    private void end(String keyword) {
        expect(Kind.BLOCK_BEGIN);
        if (!accept(Kind.NAME, keyword))
            throw unexpected("'" + keyword + "'");
        if (peek().kind() == Kind.NAME)
            next(); // {% endmacro name %}
        expect(Kind.BLOCK_END);
    }

    private Expr tupleOrExpression() {
        Expr first = expression();
        if (!peek().is(Kind.OPERATOR, ","))
            return first;
        List<Expr> items = new ArrayList<>(List.of(first));
        while (accept(Kind.OPERATOR, ","))
            items.add(expression());
        return new ListOf(items);
    }

    private Expr expression() {
        Expr value = or();
        while (accept(Kind.NAME, "if")) {
            Expr condition = or();
            value = new Choice(condition, value, accept(Kind.NAME, "else") ? expression() : null);
        }
        return value;
    }

    private Expr or() {
        Expr left = and();
        while (accept(Kind.NAME, "or"))
            left = new Or(left, and());
        return left;
    }

    private Expr and() {
        Expr left = not();
        while (accept(Kind.NAME, "and"))
            left = new And(left, not());
        return left;
    }

    private Expr not() {
        return accept(Kind.NAME, "not") ? new Not(not()) : comparison();
    }

    private Expr comparison() {
        int line = peek().line();
        Expr first = sum();
        List<String> operators = new ArrayList<>();
        List<Expr> operands = new ArrayList<>();
        while (true) {
            Token token = peek();
            if (token.kind() == Kind.OPERATOR && COMPARISONS.contains(token.text())) {
                operators.add(next().text());
            } else if (accept(Kind.NAME, "in")) {
                operators.add("in");
            } else if (token.is(Kind.NAME, "not") && peekAfter().is(Kind.NAME, "in")) {
                at += 2;
                operators.add("not in");
            } else {
                return operators.isEmpty() ? first : new Compare(first, operators, operands, line);
            }
            operands.add(sum());
        }
    }

    private Expr sum() {
        Expr left = concat();
        while (peek().is(Kind.OPERATOR, "+") || peek().is(Kind.OPERATOR, "-")) {
            Token operator = next();
            left = new Arithmetic(operator.text(), left, concat(), operator.line());
        }
        return left;
    }

    private Expr concat() {
        Expr first = product();
        if (!peek().is(Kind.OPERATOR, "~"))
            return first;
        List<Expr> parts = new ArrayList<>(List.of(first));
        while (accept(Kind.OPERATOR, "~"))
            parts.add(product());
        return new Concat(parts);
    }

    private Expr product() {
        Expr left = power();
        while (peek().kind() == Kind.OPERATOR && Set.of("*", "/", "//", "%").contains(peek().text())) {
            Token operator = next();
            left = new Arithmetic(operator.text(), left, power(), operator.line());
        }
        return left;
    }

    private Expr power() {
        Expr left = unary(true);
        while (peek().is(Kind.OPERATOR, "**")) {
            Token operator = next();
            left = new Arithmetic("**", left, unary(true), operator.line());
        }
        return left;
    }

    private Expr unary(boolean filters) {
        Expr value;
        if (accept(Kind.OPERATOR, "-")) {
            value = new Sign(unary(false), true);
        } else if (accept(Kind.OPERATOR, "+")) {
            value = new Sign(unary(false), false);
        } else {
            value = postfix(primary());
        }
        return filters ? filtersAndTests(value) : value;
    }

    private Expr primary() {
        Token token = next();
        return switch (token.kind()) {
            case NAME -> switch (token.text()) {
                case "true", "True" -> new Literal(true);
                case "false", "False" -> new Literal(false);
                case "none", "None" -> new Literal(null);
                default -> new Name(token.text());
            };
            case NUMBER -> new Literal(
                    token.text().matches(".*[.eE].*")
                            ? (Object) Double.valueOf(token.text())
                            : Long.valueOf(token.text()));
            case STRING -> {
                StringBuilder text = new StringBuilder(token.text());
                while (peek().kind() == Kind.STRING)
                    text.append(next().text());
                yield new Literal(text.toString());
            }
            case OPERATOR -> switch (token.text()) {
                case "(" -> parenthesis();
                case "[" -> new ListOf(items("]"));
                case "{" -> dict();
                default -> throw error(token, "'" + token.text() + "' where a value was expected");
            };
            default -> throw error(token, token.text() + " where a value was expected");
        };
    }

    private Expr parenthesis() {
        if (accept(Kind.OPERATOR, ")"))
            return new ListOf(List.of());
        Expr first = expression();
        if (accept(Kind.OPERATOR, ")"))
            return first;
        List<Expr> items = new ArrayList<>(List.of(first));
        if (!accept(Kind.OPERATOR, ","))
            throw unexpected("')'");
        items.addAll(items(")"));
        return new ListOf(items);
    }

    private List<Expr> items(String closer) {
        List<Expr> items = new ArrayList<>();
        while (!accept(Kind.OPERATOR, closer)) {
            items.add(expression());
            if (!peek().is(Kind.OPERATOR, closer) && !accept(Kind.OPERATOR, ","))
                throw unexpected("'" + closer + "'");
        }
        return items;
    }

    private Expr dict() {
        List<Expr> keys = new ArrayList<>();
        List<Expr> values = new ArrayList<>();
        while (!accept(Kind.OPERATOR, "}")) {
            keys.add(expression());
            if (!accept(Kind.OPERATOR, ":"))
                throw unexpected("':'");
            values.add(expression());
            if (!peek().is(Kind.OPERATOR, "}") && !accept(Kind.OPERATOR, ","))
                throw unexpected("'}'");
        }
        return new DictOf(keys, values);
    }

    private Expr postfix(Expr value) {
        while (true) {
            Token token = peek();
            if (accept(Kind.OPERATOR, ".")) {
                Token name = next();
                if (name.kind() == Kind.NUMBER) {
                    value = new Item(value, new Literal(Long.valueOf(name.text())));
                } else if (name.kind() == Kind.NAME) {
                    value = new Attribute(value, name.text());
                } else {
                    throw error(name, name.text() + " where a name was expected");
                }
            } else if (accept(Kind.OPERATOR, "[")) {
                value = subscript(value);
            } else if (accept(Kind.OPERATOR, "(")) {
                Map<String, Expr> named = new LinkedHashMap<>();
                value = new Call(value, arguments(named), named, token.line());
            } else {
                return value;
            }
        }
    }

    private Expr subscript(Expr value) {
        Expr[] bounds = new Expr[3];
        int colons = 0;
        while (!accept(Kind.OPERATOR, "]")) {
            if (accept(Kind.OPERATOR, ":")) {
                if (++colons > 2)
                    throw unexpected("']'");
            } else if (bounds[colons] == null) {
                bounds[colons] = expression();
            } else {
                throw unexpected("']'");
            }
        }
        if (colons > 0)
            return new Slice(value, bounds[0], bounds[1], bounds[2]);
        if (bounds[0] == null)
            throw unexpected("a subscript");
        return new Item(value, bounds[0]);
    }

    /** The arguments behind an opening parenthesis; named ones go to {@code named}. */
    private List<Expr> arguments(Map<String, Expr> named) {
        List<Expr> arguments = new ArrayList<>();
        while (!accept(Kind.OPERATOR, ")")) {
            if (peek().kind() == Kind.NAME && peekAfter().is(Kind.OPERATOR, "=")) {
                String name = next().text();
                next();
                named.put(name, expression());
            } else {
                arguments.add(expression());
            }
            if (!peek().is(Kind.OPERATOR, ")") && !accept(Kind.OPERATOR, ","))
                throw unexpected("')'");
        }
        return arguments;
    }

    private Expr filtersAndTests(Expr value) {
        while (true) {
            if (accept(Kind.OPERATOR, "|")) {
                value = filter(value);
            } else if (accept(Kind.NAME, "is")) {
                value = test(value);
            } else if (peek().is(Kind.OPERATOR, "(")) {
                value = postfix(value);
            } else {
                return value;
            }
        }
    }

    private Filter filter(Expr value) {
        Token name = expect(Kind.NAME);
        Map<String, Expr> named = new LinkedHashMap<>();
        List<Expr> arguments = accept(Kind.OPERATOR, "(") ? arguments(named) : List.of();
        return new Filter(value, name.text(), arguments, named, name.line());
    }

    private Expr test(Expr value) {
        boolean negated = accept(Kind.NAME, "not");
        Token name = next();
        if (name.kind() != Kind.NAME && !COMPARISONS.contains(name.text()))
            throw error(name, "no test '" + name.text() + "'");
        List<Expr> arguments = List.of();
        if (accept(Kind.OPERATOR, "(")) {
            arguments = arguments(new LinkedHashMap<>());
        } else if (startsArgument(peek())) {
            arguments = List.of(postfix(primary()));
        }
        return new Is(value, name.text(), arguments, negated, name.line());
    }

    private static boolean startsArgument(Token token) {
        return switch (token.kind()) {
            case STRING, NUMBER -> true;
            case NAME -> !Set.of("else", "or", "and", "is", "if", "in", "not").contains(token.text());
            case OPERATOR -> token.text().equals("[") || token.text().equals("{");
            default -> false;
        };
    }

    private Token peek() {
        return tokens.get(at);
    }

    private Token peekAfter() {
        return tokens.get(Math.min(at + 1, tokens.size() - 1));
    }

    private Token next() {
        Token token = tokens.get(at);
        if (token.kind() != Kind.EOF)
            at++;
        return token;
    }

    private boolean accept(Kind kind, String text) {
        boolean found = peek().is(kind, text);
        if (found)
            at++;
        return found;
    }

    private Token expect(Kind kind) {
        if (peek().kind() != kind)
            throw unexpected(kind.name().toLowerCase(java.util.Locale.ROOT).replace('_', ' '));
        return next();
    }

    private ProcessorException unexpected(String expected) {
        return error(peek(), "'" + peek().text() + "' where " + expected + " was expected");
    }

    private static ProcessorException error(Token token, String what) {
        return new ProcessorException("chat template, line " + token.line() + ": " + what);
    }
}

package io.omni.processor;

import java.util.List;
import java.util.Map;

/** What a parsed template is made of. */
final class TemplateTree {
    private TemplateTree() {}

    sealed interface Node {}

    record Text(String text) implements Node {}

    record Output(Expr value, int line) implements Node {}

    record If(List<Branch> branches, List<Node> otherwise) implements Node {}

    record Branch(Expr condition, List<Node> body) {}

    record For(List<String> targets, Expr items, Expr filter, List<Node> body, List<Node> otherwise, int line)
            implements
                Node {}

    /** {% set a, b = value %}; one dotted target writes to a namespace. */
    record Assign(List<String> targets, Expr value, int line) implements Node {}

    record AssignBlock(String target, List<Filter> filters, List<Node> body) implements Node {}

    record Macro(String name, List<Parameter> parameters, List<Node> body) implements Node {}

    record Parameter(String name, Expr preset) {}

    /** {% generation %} and {% filter %}-less groups: the body as it is. */
    record Group(List<Node> body) implements Node {}

    record Break() implements Node {}

    record Continue() implements Node {}

    sealed interface Expr {}

    record Literal(Object value) implements Expr {}

    record Name(String name) implements Expr {}

    record Attribute(Expr object, String name) implements Expr {}

    record Item(Expr object, Expr key) implements Expr {}

    record Slice(Expr object, Expr from, Expr to, Expr step) implements Expr {}

    record Call(Expr function, List<Expr> arguments, Map<String, Expr> named, int line) implements Expr {}

    /** {@code value} is null for the filters of a set block. */
    record Filter(Expr value, String name, List<Expr> arguments, Map<String, Expr> named, int line) implements Expr {}

    record Is(Expr value, String test, List<Expr> arguments, boolean negated, int line) implements Expr {}

    record Not(Expr value) implements Expr {}

    record Sign(Expr value, boolean minus) implements Expr {}

    record And(Expr left, Expr right) implements Expr {}

    record Or(Expr left, Expr right) implements Expr {}

    record Arithmetic(String operator, Expr left, Expr right, int line) implements Expr {}

    record Concat(List<Expr> parts) implements Expr {}

    /** a &lt; b &lt;= c; an operator is one of == != &lt; &lt;= &gt; &gt;= in, not in. */
    record Compare(Expr first, List<String> operators, List<Expr> operands, int line) implements Expr {}

    record Choice(Expr condition, Expr then, Expr otherwise) implements Expr {}

    record ListOf(List<Expr> items) implements Expr {}

    record DictOf(List<Expr> keys, List<Expr> values) implements Expr {}
}

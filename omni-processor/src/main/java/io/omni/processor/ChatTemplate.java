package io.omni.processor;

import static io.omni.processor.PythonValues.isTrue;
import static io.omni.processor.PythonValues.str;

import io.omni.processor.PythonValues.Undefined;
import io.omni.processor.TemplateTree.*;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A checkpoint's chat template. This is a small interpreter of the Jinja that chat templates are written in rather than
 * jinjava, because jinjava 2.8.4 cannot render them: it rejects {@code namespace(value=0)} and {@code messages[::-1]},
 * leaves indentation that {@code lstrip_blocks} removes, and writes JSON without Python's spaces.
 */
final class ChatTemplate {
    /** The only mutable value of a template. */
    record Namespace(Map<String, Object> values) {}

    private enum Flow {
        NEXT, BREAK, CONTINUE
    }

    private static final class Scope {
        final Scope parent;
        final Map<String, Object> variables = new LinkedHashMap<>();

        Scope(Scope parent) {
            this.parent = parent;
        }

        Object get(String name) {
            for (Scope scope = this; scope != null; scope = scope.parent) {
                if (scope.variables.containsKey(name))
                    return scope.variables.get(name);
            }
            return new Undefined(name);
        }
    }

    private final List<Node> nodes;

    ChatTemplate(String source) {
        try {
            nodes = TemplateParser.parse(source);
        } catch (StackOverflowError e) {
            throw new ProcessorException("chat template: it is nested too deep", e);
        }
    }

    /** @param context what the template may name: messages, tools, add_generation_prompt and so on */
    String render(Map<String, Object> context) {
        Scope builtins = new Scope(null);
        builtins.variables.putAll(TemplateLibrary.globals());
        Scope top = new Scope(builtins);
        top.variables.putAll(context);
        StringBuilder out = new StringBuilder();
        try {
            run(nodes, top, top, out);
        } catch (StackOverflowError e) {
            throw new ProcessorException("chat template: it or what it writes is nested too deep", e);
        }
        return out.toString();
    }

    private Flow run(List<Node> body, Scope scope, Scope top, StringBuilder out) {
        for (Node node : body) {
            Flow flow = switch (node) {
                case Text text -> {
                    out.append(text.text());
                    yield Flow.NEXT;
                }
                case Output output -> {
                    out.append(str(evaluate(output.value(), scope)));
                    yield Flow.NEXT;
                }
                case If choice -> runIf(choice, scope, top, out);
                case For loop -> runFor(loop, scope, top, out);
                case Assign assign -> {
                    assign(assign, scope);
                    yield Flow.NEXT;
                }
                case AssignBlock block -> {
                    StringBuilder text = new StringBuilder();
                    run(block.body(), new Scope(scope), top, text);
                    Object value = text.toString();
                    for (Filter filter : block.filters()) value = apply(filter, value, scope);
                    store(block.target(), value, scope, 0);
                    yield Flow.NEXT;
                }
                case Macro macro -> {
                    scope.variables.put(macro.name(), function(macro, top));
                    yield Flow.NEXT;
                }
                case Group group -> run(group.body(), scope, top, out);
                case Break _ -> Flow.BREAK;
                case Continue _ -> Flow.CONTINUE;
            };
            if (flow != Flow.NEXT)
                return flow;
        }
        return Flow.NEXT;
    }

    private Flow runIf(If choice, Scope scope, Scope top, StringBuilder out) {
        for (Branch branch : choice.branches()) {
            if (isTrue(evaluate(branch.condition(), scope)))
                return run(branch.body(), scope, top, out);
        }
        return run(choice.otherwise(), scope, top, out);
    }

    private Flow runFor(For loop, Scope scope, Scope top, StringBuilder out) {
        List<Object> items = new ArrayList<>();
        for (Object item : TemplateLibrary.items(evaluate(loop.items(), scope))) {
            Scope inner = new Scope(scope);
            bind(loop.targets(), item, inner, loop.line());
            if (loop.filter() == null || isTrue(evaluate(loop.filter(), inner)))
                items.add(item);
        }
        if (items.isEmpty())
            return run(loop.otherwise(), new Scope(scope), top, out);
        for (int i = 0; i < items.size(); i++) {
            Scope inner = new Scope(scope);
            inner.variables.put("loop", loopVariable(items, i));
            bind(loop.targets(), items.get(i), inner, loop.line());
            if (run(loop.body(), inner, top, out) == Flow.BREAK)
                break;
        }
        return Flow.NEXT;
    }

    private static Map<String, Object> loopVariable(List<Object> items, int i) {
        Map<String, Object> loop = new LinkedHashMap<>();
        int n = items.size();
        loop.put("index", i + 1L);
        loop.put("index0", (long) i);
        loop.put("revindex", (long) n - i);
        loop.put("revindex0", n - i - 1L);
        loop.put("first", i == 0);
        loop.put("last", i == n - 1);
        loop.put("length", (long) n);
        if (i > 0)
            loop.put("previtem", items.get(i - 1));
        if (i < n - 1)
            loop.put("nextitem", items.get(i + 1));
        loop.put("cycle", (TemplateLibrary.Function) (a, _) -> a.get(i % a.size()));
        return loop;
    }

    private void assign(Assign assign, Scope scope) {
        Object value = evaluate(assign.value(), scope);
        if (assign.targets().size() == 1) {
            store(assign.targets().getFirst(), value, scope, assign.line());
        } else {
            bind(assign.targets(), value, scope, assign.line());
        }
    }

    private static void bind(List<String> targets, Object value, Scope scope, int line) {
        if (targets.size() == 1) {
            scope.variables.put(targets.getFirst(), value);
            return;
        }
        List<Object> parts = TemplateLibrary.items(value);
        if (parts.size() != targets.size()) {
            throw error(line, parts.size() + " values for " + targets.size() + " names");
        }
        for (int i = 0; i < parts.size(); i++) store(targets.get(i), parts.get(i), scope, line);
    }

    private static void store(String target, Object value, Scope scope, int line) {
        int dot = target.indexOf('.');
        if (dot < 0) {
            scope.variables.put(target, value);
        } else if (scope.get(target.substring(0, dot)) instanceof Namespace space) {
            space.values().put(target.substring(dot + 1), value);
        } else {
            throw error(line, "'" + target.substring(0, dot) + "' is not a namespace");
        }
    }

    private TemplateLibrary.Function function(Macro macro, Scope top) {
        return (arguments, named) -> {
            Scope scope = new Scope(top);
            for (int i = 0; i < macro.parameters().size(); i++) {
                Parameter parameter = macro.parameters().get(i);
                Object value = i < arguments.size()
                        ? arguments.get(i)
                        : named.containsKey(parameter.name())
                                ? named.get(parameter.name())
                                : parameter.preset() != null
                                        ? evaluate(parameter.preset(), scope)
                                        : new Undefined(parameter.name());
                scope.variables.put(parameter.name(), value);
            }
            StringBuilder out = new StringBuilder();
            run(macro.body(), scope, top, out);
            return out.toString();
        };
    }

    private Object evaluate(Expr expression, Scope scope) {
        return switch (expression) {
            case Literal literal -> literal.value();
            case Name name -> scope.get(name.name());
            case Attribute attribute ->
                TemplateLibrary.attribute(evaluate(attribute.object(), scope), attribute.name());
            case Item item -> TemplateLibrary.member(evaluate(item.object(), scope), evaluate(item.key(), scope));
            case Slice slice -> slice(slice, scope);
            case Call call -> call(call, scope);
            case Filter filter -> apply(filter, evaluate(filter.value(), scope), scope);
            case Is is -> is.negated() != TemplateLibrary.test(
                    is.test(), evaluate(is.value(), scope), evaluateAll(is.arguments(), scope), is.line());
            case Not not -> !isTrue(evaluate(not.value(), scope));
            case Sign sign -> sign.minus()
                    ? TemplateArithmetic.apply("-", 0L, evaluate(sign.value(), scope), 0)
                    : evaluate(sign.value(), scope);
            case And and -> {
                Object left = evaluate(and.left(), scope);
                yield isTrue(left) ? evaluate(and.right(), scope) : left;
            }
            case Or or -> {
                Object left = evaluate(or.left(), scope);
                yield isTrue(left) ? left : evaluate(or.right(), scope);
            }
            case Arithmetic a -> TemplateArithmetic.apply(
                    a.operator(), evaluate(a.left(), scope), evaluate(a.right(), scope), a.line());
            case Concat concat -> {
                StringBuilder text = new StringBuilder();
                for (Expr part : concat.parts()) text.append(str(evaluate(part, scope)));
                yield text.toString();
            }
            case Compare compare -> compare(compare, scope);
            case Choice choice -> isTrue(evaluate(choice.condition(), scope))
                    ? evaluate(choice.then(), scope)
                    : choice.otherwise() == null ? new Undefined("else") : evaluate(choice.otherwise(), scope);
            case ListOf list -> evaluateAll(list.items(), scope);
            case DictOf dict -> {
                Map<Object, Object> map = new LinkedHashMap<>();
                for (int i = 0; i < dict.keys().size(); i++) {
                    map.put(evaluate(dict.keys().get(i), scope), evaluate(dict.values().get(i), scope));
                }
                yield map;
            }
        };
    }

    private List<Object> evaluateAll(List<Expr> expressions, Scope scope) {
        Object[] values = new Object[expressions.size()];
        for (int i = 0; i < values.length; i++) values[i] = evaluate(expressions.get(i), scope);
        return Arrays.asList(values);
    }

    private Map<String, Object> evaluateAll(Map<String, Expr> named, Scope scope) {
        Map<String, Object> values = new LinkedHashMap<>();
        named.forEach((name, value) -> values.put(name, evaluate(value, scope)));
        return values;
    }

    private Object apply(Filter filter, Object value, Scope scope) {
        return TemplateLibrary.filter(
                filter.name(), value, evaluateAll(filter.arguments(), scope), evaluateAll(filter.named(), scope),
                filter.line());
    }

    private Object call(Call call, Scope scope) {
        Object function = evaluate(call.function(), scope);
        if (function instanceof TemplateLibrary.Function f) {
            return f.call(evaluateAll(call.arguments(), scope), evaluateAll(call.named(), scope));
        }
        String name = function instanceof Undefined u ? u.name() : str(function);
        throw error(call.line(), "'" + name + "' is not a function");
    }

    private Object slice(Slice slice, Scope scope) {
        Object object = evaluate(slice.object(), scope);
        List<Object> items = TemplateLibrary.items(object);
        int n = items.size();
        int step = slice.step() == null ? 1 : (int) TemplateLibrary.integer(evaluate(slice.step(), scope));
        if (step == 0)
            throw error(0, "slice step is zero");
        int from = bound(slice.from(), step > 0 ? 0 : n - 1, n, step, scope);
        int to = bound(slice.to(), step > 0 ? n : -1, n, step, scope);
        List<Object> chosen = new ArrayList<>();
        for (int i = from; step > 0 ? i < to : i > to; i += step) chosen.add(items.get(i));
        if (!(object instanceof String))
            return chosen;
        StringBuilder text = new StringBuilder();
        chosen.forEach(text::append);
        return text.toString();
    }

    private int bound(Expr bound, int preset, int n, int step, Scope scope) {
        Object value = bound == null ? null : evaluate(bound, scope);
        if (value == null)
            return preset;
        int i = (int) TemplateLibrary.integer(value);
        if (i < 0)
            i += n;
        return step > 0 ? Math.clamp(i, 0, n) : Math.clamp(i, -1, n - 1);
    }

    private boolean compare(Compare compare, Scope scope) {
        Object left = evaluate(compare.first(), scope);
        for (int i = 0; i < compare.operators().size(); i++) {
            Object right = evaluate(compare.operands().get(i), scope);
            boolean holds = switch (compare.operators().get(i)) {
                case "==" -> PythonValues.equal(left, right);
                case "!=" -> !PythonValues.equal(left, right);
                case "<" -> PythonValues.compare(left, right) < 0;
                case "<=" -> PythonValues.compare(left, right) <= 0;
                case ">" -> PythonValues.compare(left, right) > 0;
                case ">=" -> PythonValues.compare(left, right) >= 0;
                case "in" -> TemplateLibrary.contains(right, left);
                default -> !TemplateLibrary.contains(right, left);
            };
            if (!holds)
                return false;
            left = right;
        }
        return true;
    }

    private static ProcessorException error(int line, String what) {
        return new ProcessorException("chat template, line " + line + ": " + what);
    }
}

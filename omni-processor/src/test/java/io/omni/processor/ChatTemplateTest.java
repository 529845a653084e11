package io.omni.processor;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.JsonNode;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

class ChatTemplateTest {
    private static final TypeReference<Map<String, Object>> OBJECT = new TypeReference<>() {
    };

    static Stream<JsonNode> cases() {
        return StreamSupport.stream(JsonFiles.read(Reference.CASES.resolve("chat_template.json")).spliterator(), false);
    }

    @ParameterizedTest
    @MethodSource("cases")
    void rendersAsUpstream(JsonNode testCase) {
        String source = JsonFiles.read(Reference.MODEL.resolve("chat_template.json")).get("chat_template").asText();
        String rendered = new ChatTemplate(source).render(JsonFiles.JSON.convertValue(testCase, OBJECT));
        assertThat(rendered).isEqualTo(testCase.get("rendered").asText());
    }

    /** Templates, their variables and what Jinja 3.1.6 with transformers' settings makes of them. */
    static Stream<JsonNode> snippets() {
        return StreamSupport.stream(JsonFiles.read(Reference.resource("templates.json")).spliterator(), false);
    }

    @ParameterizedTest
    @MethodSource("snippets")
    void rendersAsJinja(JsonNode snippet) {
        Map<String, Object> context = JsonFiles.JSON.convertValue(snippet.get("context"), OBJECT);
        assertThat(new ChatTemplate(snippet.get("template").asText()).render(context))
                .isEqualTo(snippet.get("rendered").asText());
    }

    @Test
    void refusesEndlessNesting() {
        assertThatThrownBy(() -> new ChatTemplate("{{ " + "(".repeat(100_000) + "1" + ")".repeat(100_000) + " }}"))
                .isInstanceOf(ProcessorException.class).hasMessageContaining("nested too deep");
        ChatTemplate calling = new ChatTemplate("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}");
        assertThatThrownBy(() -> calling.render(Map.of())).isInstanceOf(ProcessorException.class)
                .hasMessageContaining("nested too deep");
    }

    @Test
    void namesTheLineOfAMistake() {
        assertThatThrownBy(() -> new ChatTemplate("a\nb\n{% if x %}")).isInstanceOf(ProcessorException.class)
                .hasMessageContaining("line 3");
        assertThatThrownBy(() -> new ChatTemplate("{{ x + }}")).hasMessageContaining("line 1");
        assertThatThrownBy(() -> new ChatTemplate("{{ 'a' | nothing }}").render(Map.of()))
                .hasMessageContaining("nothing");
    }

    @Test
    void raisesWhatTheTemplateRaises() {
        assertThatThrownBy(() -> new ChatTemplate("{{ raise_exception('no system turn') }}").render(Map.of()))
                .isInstanceOf(ProcessorException.class).hasMessageContaining("no system turn");
    }

    @ParameterizedTest
    @CsvSource({"%Y-%m-%d,2024-07-04", "%d %b %Y,04 Jul 2024", "%-d %B,4 July", "%H:%M:%S,09:05:00"})
    void tellsTheTime(String format, String expected) {
        assertThat(TemplateLibrary.strftime(format, java.time.LocalDateTime.of(2024, 7, 4, 9, 5))).isEqualTo(expected);
    }

    @Test
    void messagesMadeInCodeRenderLikeJson() {
        try (OmniProcessor processor = OmniProcessor.load(Reference.MODEL)) {
            Map<String, Object> arguments = new LinkedHashMap<>();
            arguments.put("city", "Paris");
            List<Message> messages = List.of(
                    Message.user("Weather?"),
                    Message.assistant("", "thinking", List.of(new ToolCall("get_weather", arguments))),
                    Message.tool("21"));
            assertThat(processor.render(messages, ProcessorOptions.defaults())).isEqualTo(
                    "<|im_start|>user\nWeather?<|im_end|>\n<|im_start|>assistant\n<think>\nthinking\n</think>\n\n"
                            + "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call><|im_end|>\n"
                            + "<|im_start|>user\n<tool_response>\n21\n</tool_response><|im_end|>\n<|im_start|>assistant\n");
        }
    }
}

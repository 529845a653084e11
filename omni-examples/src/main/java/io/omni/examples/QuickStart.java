package io.omni.examples;

import static io.omni.core.Options.speech;
import static io.omni.processor.Message.assistant;
import static io.omni.processor.Message.user;
import static io.omni.processor.Part.image;
import static io.omni.processor.Part.text;

import io.omni.core.Event;
import io.omni.core.Omni;
import io.omni.core.Options;
import io.omni.core.Reply;
import io.omni.core.ReplyStream;
import io.omni.processor.Message;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** The library in one file: a question about a picture with a spoken answer, then a second turn as a stream. */
final class QuickStart {
    private QuickStart() {}

    /** Takes a checkpoint folder, a picture, and where to write the answer's WAV file. */
    public static void main(String[] args) {
        try (Omni omni = Omni.load(Path.of(args[0]))) {
            List<Message> conversation = new ArrayList<>();
            conversation.add(user(image(Path.of(args[1])), text("What is this?")));
            Reply reply = omni.chat(conversation, speech("Ethan").thinkerMaxNewTokens(64).talkerMaxNewTokens(64));
            System.out.println(reply.text());
            reply.audio().write(Path.of(args[2]));

            conversation.add(assistant(reply.text()));
            conversation.add(user("Say it in one word."));
            try (ReplyStream stream = omni.stream(conversation, Options.text().thinkerMaxNewTokens(16))) {
                for (Event event : stream)
                    if (event instanceof Event.TextDelta delta)
                    System.out.print(delta.text());
            }
            System.out.println();
        }
    }
}

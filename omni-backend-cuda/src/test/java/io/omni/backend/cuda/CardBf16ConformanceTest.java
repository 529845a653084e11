package io.omni.backend.cuda;

import io.omni.api.Backend;
import io.omni.api.conformance.BackendConformance;

/** The suite on a card, in bfloat16 and with graphs; skipped, with the reason, where there is none. */
class CardBf16ConformanceTest extends BackendConformance {
    @Override
    protected Backend start() {
        return Setting.BF16_CARD_GRAPHS.open();
    }
}

package io.omni.backend.cuda;

import io.omni.api.Backend;
import io.omni.api.conformance.BackendConformance;

/** The suite on a card, in float16; skipped, with the reason, where there is none. */
class CardF16ConformanceTest extends BackendConformance {
    @Override
    protected Backend start() {
        return Setting.F16_CARD.open();
    }
}

/**
 * The SPI on ONNX Runtime. Operations are recorded into a pending graph of the calling thread; where data must leave, the
 * graph runs as one session, which is made once for each structure and reused for every length.
 */
package io.omni.backend.onnx;

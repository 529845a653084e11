/**
 * The SPI in native memory and Vector API kernels. Activations are float32; worker threads share the tasks of an
 * operation with the thread that called it.
 */
package io.omni.backend.cpu;

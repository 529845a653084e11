/**
 * The SPI on one NVIDIA card, with kernels that the jar has as PTX. Operations are queued on a stream of the calling
 * thread, which waits where data must leave.
 */
package io.omni.backend.cuda;

package io.omni.api;

/**
 * What a backend computes on.
 *
 * @param name
 *            for people, such as the processor's or the card's name
 * @param detail
 *            what decides its speed, such as the vector width or the compute capability; may be empty
 * @param totalMemory
 *            bytes, or −1 if unknown
 * @param freeMemory
 *            bytes available now, or −1 if unknown
 */
public record Device(String name, String detail, long totalMemory, long freeMemory) {}

/**
 * The service provider interface of Omni: tensors, the operations on them, and how backends are found. A backend extends
 * nothing: it implements {@link io.omni.api.Backend} and the four operation interfaces, whose defaults are the plain
 * definitions.
 */
package io.omni.api;

/** The longest `NAME=value` that the kernel hands to a program: MAX_ARG_STRLEN of execve(2), which counts a NUL behind it. */
export const MAX_VARIABLE_BYTES = 32 * 4096 - 1;

/** Size of `NAME=value`. */
export function variableBytes(name: string, value: string): number {
  const encoder = new TextEncoder();
  return encoder.encode(name).length + 1 + encoder.encode(value).length;
}

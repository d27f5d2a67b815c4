/** The longest `NAME=value` that the kernel hands to a program: MAX_ARG_STRLEN of execve(2), which counts a NUL behind it. */
export const MAX_VARIABLE_BYTES = 32 * 4096 - 1;

/** What all variables of a sandbox may take together: with its arguments, a program may get 2 MiB (execve(2)). */
export const MAX_ENVIRONMENT_BYTES = 2 ** 20;

/** What the kernel needs for each variable and each argument besides its text: a NUL and a pointer. */
export const TEXT_OVERHEAD_BYTES = 1 + 8;

/** Size of `NAME=value`. */
export function variableBytes(name: string, value: string): number {
  const encoder = new TextEncoder();
  return encoder.encode(name).length + 1 + encoder.encode(value).length;
}

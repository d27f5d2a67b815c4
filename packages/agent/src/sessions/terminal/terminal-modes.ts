/** Where `struct termios` of Linux has its words of flags, and its characters (asm-generic/termbits.h). */
const WORD = { input: 0, output: 4, local: 12 } as const;
const CHARACTERS = 17;
const DISABLED = 0xff;

/** Characters of RFC 4254 section 8, by their place in `c_cc`. */
const CHARACTER_PLACES: Readonly<Record<string, number>> = {
  VINTR: 0,
  VQUIT: 1,
  VERASE: 2,
  VKILL: 3,
  VEOF: 4,
  VSTART: 8,
  VSTOP: 9,
  VSUSP: 10,
  VEOL: 11,
  VREPRINT: 12,
  VDISCARD: 13,
  VWERASE: 14,
  VLNEXT: 15,
  VEOL2: 16,
};

type Flag = readonly [word: number, bit: number];

const FLAGS: Readonly<Record<string, Flag>> = {
  IGNPAR: [WORD.input, 0o4],
  PARMRK: [WORD.input, 0o10],
  INPCK: [WORD.input, 0o20],
  ISTRIP: [WORD.input, 0o40],
  INLCR: [WORD.input, 0o100],
  IGNCR: [WORD.input, 0o200],
  ICRNL: [WORD.input, 0o400],
  IUCLC: [WORD.input, 0o1000],
  IXON: [WORD.input, 0o2000],
  IXANY: [WORD.input, 0o4000],
  IXOFF: [WORD.input, 0o10000],
  IMAXBEL: [WORD.input, 0o20000],
  IUTF8: [WORD.input, 0o40000],
  ISIG: [WORD.local, 0o1],
  ICANON: [WORD.local, 0o2],
  XCASE: [WORD.local, 0o4],
  ECHO: [WORD.local, 0o10],
  ECHOE: [WORD.local, 0o20],
  ECHOK: [WORD.local, 0o40],
  ECHONL: [WORD.local, 0o100],
  NOFLSH: [WORD.local, 0o200],
  TOSTOP: [WORD.local, 0o400],
  ECHOCTL: [WORD.local, 0o1000],
  ECHOKE: [WORD.local, 0o4000],
  PENDIN: [WORD.local, 0o40000],
  IEXTEN: [WORD.local, 0o100000],
  OPOST: [WORD.output, 0o1],
  OLCUC: [WORD.output, 0o2],
  ONLCR: [WORD.output, 0o4],
  OCRNL: [WORD.output, 0o10],
  ONOCR: [WORD.output, 0o20],
  ONLRET: [WORD.output, 0o40],
};

/** Sets what a client has asked for in a `struct termios`. What Linux does not have, such as speeds of a line, is left alone. */
export function applyModes(termios: Uint8Array<ArrayBuffer>, modes: Readonly<Record<string, number>>): void {
  const view = new DataView(termios.buffer);
  for (const [name, value] of Object.entries(modes)) {
    const place = CHARACTER_PLACES[name];
    if (place !== undefined) termios[CHARACTERS + place] = value === DISABLED ? 0 : value;
    const flag = FLAGS[name];
    if (flag === undefined) continue;
    const [word, bit] = flag;
    const flags = view.getUint32(word, true);
    view.setUint32(word, value === 0 ? flags & ~bit : flags | bit, true);
  }
}

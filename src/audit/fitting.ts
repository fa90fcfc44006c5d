/** As many entries as a share of an audit event holds. */

/** @returns the leading entries whose JSON, written once more as text inside JSON, is within `bytes` */
export function takeFitting<T>(entries: readonly T[], bytes: number): readonly T[] {
  let room = bytes;
  const over = entries.findIndex((entry) => {
    room -= Buffer.byteLength(JSON.stringify(JSON.stringify(entry)));
    return room < 0;
  });
  return over < 0 ? entries : entries.slice(0, over);
}

/**
 * The names of the classes in a `.tflite`: a zip archive at the end of the file whose `labels.txt` is stored, not
 * compressed. Nothing here needs a browser.
 */

const NAME = "labels.txt";
const END = { signature: 0x06054b50, size: 22, longestComment: 0xffff };
const ENTRY = { signature: 0x02014b50, size: 46 };
const LOCAL = { signature: 0x04034b50, size: 30 };

/**
 * Return the labels of a model's classes, in their order, or null for a file without them.
 *
 * @param {Uint8Array} content the whole file.
 * @throws {Error} for an archive that is damaged, or labels that are compressed or no UTF-8.
 */
export function readLabels(content) {
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  const end = findEnd(view);
  if (end === null) {
    return null;
  }
  try {
    const entry = findEntry(view, end);
    return entry === null ? null : lines(stored(view, entry));
  } catch (error) {
    const reason = error instanceof RangeError ? "it is cut short" : error.message;
    throw new Error(`its labels cannot be read: ${reason}`);
  }
}

/** Return where the archive's last record begins: a comment may follow it. */
function findEnd(view) {
  const last = view.byteLength - END.size;
  for (let at = last; at >= Math.max(0, last - END.longestComment); at--) {
    if (view.getUint32(at, true) === END.signature && at + END.size + view.getUint16(at + 20, true) === view.byteLength) {
      return at;
    }
  }
  return null;
}

/** Return what the archive's directory says of the labels; `start` is that of the archive inside the file. */
function findEntry(view, end) {
  const size = view.getUint32(end + 12, true);
  const start = end - size - view.getUint32(end + 16, true);
  for (let at = end - size; at < end; ) {
    expect(view, at, ENTRY.signature);
    const nameLength = view.getUint16(at + 28, true);
    if (text(view, at + ENTRY.size, nameLength) === NAME) {
      return {
        method: view.getUint16(at + 10, true),
        size: view.getUint32(at + 24, true),
        at: start + view.getUint32(at + 42, true),
      };
    }
    at += ENTRY.size + nameLength + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
  }
  return null;
}

function stored(view, entry) {
  if (entry.method !== 0) {
    throw new Error(`${NAME} is compressed, expected it stored`);
  }
  expect(view, entry.at, LOCAL.signature);
  const names = view.getUint16(entry.at + 26, true) + view.getUint16(entry.at + 28, true);
  return text(view, entry.at + LOCAL.size + names, entry.size);
}

function expect(view, at, signature) {
  if (view.getUint32(at, true) !== signature) {
    throw new Error("the archive at its end is damaged");
  }
}

function text(view, at, length) {
  const bytes = new Uint8Array(view.buffer, view.byteOffset + at, length); // a RangeError beyond the buffer
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new Error(`${NAME} is no UTF-8`);
  }
}

/** Return the lines of a text; its last one may end with a line break. */
function lines(whole) {
  return whole.replace(/\r?\n$/, "").split(/\r?\n/);
}

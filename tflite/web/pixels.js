/**
 * From a picture to the pixels that a model sees, byte for byte as Pillow computes them for `mixnet-tf evaluate`:
 * resize by bicubic interpolation (with antialiasing) until size / crop fraction is covered, and crop the centre.
 *
 * A picture is {width, height, rgb}: 3 bytes a pixel, row by row. Nothing here needs a browser.
 */

const SUPPORT = 2; // pixels to either side that the bicubic kernel reads
const PRECISION_BITS = 22; // of Pillow's fixed-point weights for 8-bit channels
const HALF = 1 << (PRECISION_BITS - 1);

/** Return what a model of images of `height` x `width` sees of a picture; `cropFraction` of it is kept. */
export function evaluationPixels(picture, { height, width, cropFraction }) {
  const size = coveringSize(picture, height / cropFraction, width / cropFraction, height === width);
  const resized = resize(picture, size.width, size.height);
  const left = roundHalfToEven((size.width - width) / 2);
  const top = roundHalfToEven((size.height - height) / 2);
  return crop(resized, left, top, width, height);
}

/** Return the size to resize a picture to: for a square, fractions are cut off, else rounded, as timm does it. */
function coveringSize(picture, height, width, square) {
  const [coverHeight, coverWidth] = [Math.floor(height), Math.floor(width)];
  const whole = square ? Math.trunc : roundHalfToEven;
  if (picture.height * coverWidth <= picture.width * coverHeight) {
    return { width: whole((coverHeight * picture.width) / picture.height), height: coverHeight };
  }
  return { width: coverWidth, height: whole((coverWidth * picture.height) / picture.width) };
}

/** Round as Python does: 2.5 becomes 2, and 3.5 becomes 4. */
function roundHalfToEven(value) {
  const below = Math.floor(value);
  const rest = value - below;
  return below + (rest > 0.5 || (rest === 0.5 && below % 2 !== 0) ? 1 : 0);
}

/** Cut a rectangle out of a picture. */
export function crop(picture, left, top, width, height) {
  const rgb = new Uint8Array(3 * width * height);
  for (let y = 0; y < height; y++) {
    const start = 3 * ((top + y) * picture.width + left);
    rgb.set(picture.rgb.subarray(start, start + 3 * width), 3 * y * width);
  }
  return { width, height, rgb };
}

/** Resize a picture as Pillow's `Image.resize(size, BICUBIC)` does: first its rows, then its columns. */
export function resize(picture, width, height) {
  const narrowed = width === picture.width ? picture : resizeRows(picture, width);
  return height === picture.height ? narrowed : resizeColumns(narrowed, height);
}

function resizeRows(picture, width) {
  const taps = resamplingTaps(picture.width, width);
  const rgb = new Uint8Array(3 * width * picture.height);
  for (let y = 0, to = 0; y < picture.height; y++) {
    const row = 3 * y * picture.width;
    for (let x = 0; x < width; x++, to += 3) {
      mix(picture.rgb, row + 3 * taps[x].first, 3, taps[x].weights, rgb, to);
    }
  }
  return { width, height: picture.height, rgb };
}

function resizeColumns(picture, height) {
  const taps = resamplingTaps(picture.height, height);
  const stride = 3 * picture.width;
  const rgb = new Uint8Array(stride * height);
  for (let y = 0, to = 0; y < height; y++) {
    const start = stride * taps[y].first;
    for (let x = 0; x < picture.width; x++, to += 3) {
      mix(picture.rgb, start + 3 * x, stride, taps[y].weights, rgb, to);
    }
  }
  return { width: picture.width, height, rgb };
}

/** Write the weighted mean of pixels that are `step` bytes apart. */
function mix(source, from, step, weights, target, to) {
  let red = HALF;
  let green = HALF;
  let blue = HALF;
  for (let i = 0; i < weights.length; i++, from += step) {
    red += weights[i] * source[from];
    green += weights[i] * source[from + 1];
    blue += weights[i] * source[from + 2];
  }
  target[to] = toByte(red);
  target[to + 1] = toByte(green);
  target[to + 2] = toByte(blue);
}

function toByte(sum) {
  return Math.min(255, Math.max(0, sum >> PRECISION_BITS));
}

/** Return, for every pixel of a resized line, the first one of the old line that it reads, and the weights. */
function resamplingTaps(before, after) {
  const scale = before / after;
  const stretch = Math.max(scale, 1); // a smaller image is antialiased: the kernel covers what a pixel stands for
  const support = SUPPORT * stretch;
  return Array.from({ length: after }, (_, i) => {
    const center = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const last = Math.min(before, Math.trunc(center + support + 0.5));
    const exact = Array.from({ length: last - first }, (_, j) => bicubic((first + j - center + 0.5) * (1 / stretch)));
    const total = exact.reduce((sum, weight) => sum + weight, 0);
    return { first, weights: Int32Array.from(exact, (weight) => fixedPoint(weight / total)) };
  });
}

/** Keys' cubic with a = -1/2, in the order of operations that Pillow computes it in. */
function bicubic(x) {
  const a = -0.5;
  x = Math.abs(x);
  if (x < 1) {
    return ((a + 2) * x - (a + 3)) * x * x + 1;
  }
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

function fixedPoint(weight) {
  return Math.trunc(weight * (1 << PRECISION_BITS) + (weight < 0 ? -0.5 : 0.5));
}

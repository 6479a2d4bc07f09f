/** From a file or a camera to a picture {width, height, rgb}, as Pillow reads it: no color is converted. */

const MOST_PIXELS = 89_478_485; // Pillow refuses more, and so does mixnet_tf
const MOST_ASPECT_RATIO = 100;

/**
 * Read a picture in any format that the browser knows. EXIF orientation is applied, color profiles are not.
 *
 * @param {Blob} file
 * @returns {Promise<{picture: object, transparent: boolean}>} transparent pixels lose precision in a canvas.
 * @throws {Error} for a file that is no picture, or one that mixnet_tf refuses, too.
 */
export async function readPicture(file) {
  let bitmap;
  try {
    const exact = { colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "from-image" };
    bitmap = await createImageBitmap(file, exact);
  } catch {
    throw new Error("not a picture that this browser can read");
  }
  try {
    check(bitmap.width, bitmap.height);
    return readPixels(bitmap, bitmap.width, bitmap.height);
  } finally {
    bitmap.close();
  }
}

/** Return what a camera shows now. */
export function takePicture(video) {
  return readPixels(video, video.videoWidth, video.videoHeight).picture;
}

/**
 * Read a picture of exactly the size that a model takes: rows of red, green and blue bytes.
 *
 * @throws {Error} for a file of another length.
 */
export async function readRawPixels(file, height, width) {
  if (file.size !== 3 * height * width) {
    const expected = `${height} x ${width} x 3 = ${3 * height * width} bytes`;
    throw new Error(`${file.size} bytes, expected the ${expected} of a picture as the model takes it`);
  }
  return { width, height, rgb: new Uint8Array(await file.arrayBuffer()) };
}

/** Show a picture in a canvas. */
export function draw(picture, canvas) {
  canvas.width = picture.width;
  canvas.height = picture.height;
  const image = new ImageData(picture.width, picture.height);
  for (let from = 0, to = 0; from < picture.rgb.length; from += 3, to += 4) {
    image.data[to] = picture.rgb[from];
    image.data[to + 1] = picture.rgb[from + 1];
    image.data[to + 2] = picture.rgb[from + 2];
    image.data[to + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function check(width, height) {
  if (width * height > MOST_PIXELS) {
    throw new Error(`${width} x ${height} pixels, expected at most ${MOST_PIXELS}`);
  }
  if (Math.max(width, height) > MOST_ASPECT_RATIO * Math.min(width, height)) {
    throw new Error(`${width} x ${height} pixels, expected an aspect ratio up to ${MOST_ASPECT_RATIO}`);
  }
}

function readPixels(source, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true }); // in memory: a graphics card may round
  context.drawImage(source, 0, 0);
  const rgba = context.getImageData(0, 0, width, height).data;
  const rgb = new Uint8Array(3 * width * height);
  let least = 255;
  let most = 0;
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    rgb[to] = rgba[from];
    rgb[to + 1] = rgba[from + 1];
    rgb[to + 2] = rgba[from + 2];
    least = Math.min(least, rgba[from + 3]);
    most = Math.max(most, rgba[from + 3]);
  }
  if (most === 0) { // what a browser shows that has no memory for so large a canvas
    throw new Error(`${width} x ${height} pixels: this browser could not read them; a smaller picture may do`);
  }
  return { picture: { width, height, rgb }, transparent: least < 255 };
}

/** What the page says about numbers: the best classes, the middle of several times. Nothing here needs a browser. */

/** Return the indices of the `count` largest scores, best first; of equal scores, the earlier class. */
export function best(scores, count) {
  const order = Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a] || a - b);
  return order.slice(0, count);
}

/** Return the middle value; of an even number of values, the mean of the two in the middle. */
export function median(values) {
  const sorted = Array.from(values).sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

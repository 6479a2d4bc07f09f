/** What lets the page work without a network: a copy of all that it has loaded, and a service worker that falls back. */

const CACHE = "mixnet-tf"; // the service worker looks there, too

/** Keep a copy of everything that the page has loaded, and nothing else; return whether that worked. */
export async function keepForOffline() {
  try {
    await navigator.serviceWorker.register("sw.js");
    const cache = await caches.open(CACHE);
    const loaded = performance.getEntriesByType("resource").map((entry) => entry.name);
    const addresses = new Set([location.origin + location.pathname, ...loaded]);
    await Promise.all([...addresses].map((address) => keep(cache, address)));
    const old = (await cache.keys()).filter((request) => !addresses.has(request.url));
    await Promise.all(old.map((request) => cache.delete(request)));
    await navigator.serviceWorker.ready;
    return true;
  } catch (error) {
    console.warn("no copy for offline use:", error); // a private window, say
    return false;
  }
}

async function keep(cache, address) {
  const response = await fetch(address);
  await (response.ok ? cache.put(address, response) : cache.delete(address));
}

/** The service worker: what the network does not answer comes from the copy that offline.js keeps. */

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  try {
    return await fetch(request);
  } catch (error) {
    const kept = await (await caches.open("mixnet-tf")).match(request);
    if (kept === undefined && !request.url.includes("/bundle/")) {
      throw error;
    }
    return kept ?? new Response(null, { status: 404 }); // a file that the bundle does not have, or it would be kept
  }
}

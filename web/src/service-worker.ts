// Keeps the page's files, so that it works without a connection.

const worker = self as unknown as ServiceWorkerGlobalScope & { FILES?: Record<string, string> };
const FILES = worker.FILES ?? {}; // path -> hash of its content; written above by whoever publishes the page
const LARGE = /\.wasm$|^gpu\/|^model\//; // kept when the page has asked for them
const CACHE = "esdcodec";

worker.addEventListener("install", (event) => {
  worker.skipWaiting();
  event.waitUntil(Promise.all(Object.keys(FILES).filter((path) => !LARGE.test(path)).map(kept)));
});

worker.addEventListener("activate", (event) => event.waitUntil(deleteOld().then(() => worker.clients.claim())));

worker.addEventListener("fetch", (event) => {
  const scope = worker.registration.scope;
  const url = new URL(event.request.url);
  url.search = url.hash = "";
  if (event.request.method !== "GET" || !url.href.startsWith(scope)) return;
  const path = url.href.slice(scope.length) || "index.html";
  if (path in FILES) event.respondWith(kept(path));
});

/** A file of the page, from the cache or else from the network into the cache. */
async function kept(path: string): Promise<Response> {
  const cache = await caches.open(CACHE);
  const found = await cache.match(keyOf(path));
  if (found) return found;
  const response = await fetch(new URL(path, worker.registration.scope), { cache: "no-cache" });
  if (response.ok) await keep(cache, path, response.clone());
  return response;
}

async function keep(cache: Cache, path: string, response: Response): Promise<void> {
  // not awaited for large files: the page shows how much has come
  const done = cache.put(keyOf(path), response).catch(() => {}); // a full disk is no reason to fail
  if (!LARGE.test(path)) await done;
}

function keyOf(path: string): string {
  return new URL(`${path}?${FILES[path]}`, worker.registration.scope).href;
}

async function deleteOld(): Promise<void> {
  const cache = await caches.open(CACHE);
  const current = new Set(Object.keys(FILES).map(keyOf));
  const old = (await cache.keys()).filter((request) => !current.has(request.url));
  await Promise.all(old.map((request) => cache.delete(request)));
}

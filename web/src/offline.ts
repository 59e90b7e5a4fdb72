// The service worker that keeps the page's files; without one the page works as long as there is a connection.

const PATIENCE = 3000; // milliseconds

/** True where all that is loaded from now on is kept. */
export async function keepFiles(): Promise<boolean> {
  const container = navigator.serviceWorker;
  if (!container) return false;
  const taken = new Promise<void>((resolve) => container.addEventListener("controllerchange", () => resolve(), { once: true }));
  try {
    await container.register("service-worker.js");
    if (!container.controller) await Promise.race([taken, new Promise((resolve) => setTimeout(resolve, PATIENCE))]);
  } catch {
    return false; // private windows, and pages that are not of https, may have none
  }
  return container.controller !== null;
}

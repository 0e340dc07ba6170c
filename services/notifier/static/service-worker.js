// Shows a push, and opens what it is about. It keeps nothing and fetches nothing.
"use strict";
self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("push", (event) => {
  let told = {};
  try { told = event.data.json(); } catch { /* a push without words still deserves a line */ }
  event.waitUntil(self.registration.showNotification(told.title || "There is news for you", {
    body: told.body || "", tag: told.tag, lang: told.lang, data: { url: told.url },
  }));
});
self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  let url;
  try { url = new URL(event.notification.data?.url ?? "/notifier/", self.location.origin); } catch { return; }
  if (url.protocol !== "https:" && url.protocol !== "http:") return;
  event.waitUntil(self.clients.openWindow(url.href));
});
// Where the browser changes its address, the push service ends the old one, and the page offers to subscribe anew.

// The switch that lets this browser be told.
"use strict";
(() => {
  const place = document.getElementById("push");
  if (!place) return;
  const say = (text) => { place.querySelector("[data-state]").textContent = text; };
  const button = place.querySelector("button");
  const { member, key } = place.dataset;
  const address = `/notifier/api/members/${encodeURIComponent(member)}/push-subscriptions`;
  const csrf = document.querySelector('meta[name="csrf-token"]')?.content;
  const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  const call = (method, body) => fetch(address, {
    method, body: body && JSON.stringify(body), headers: { "Content-Type": "application/json", ...(csrf ? { "X-CSRF-Token": csrf } : {}) },
  });
  if (!("serviceWorker" in navigator) || !("PushManager" in window)) { say("This browser cannot be pushed to."); return; }
  let subscription = null;
  // What the browser holds is of use only while we know it, and as this member's.
  async function known(one) {
    if (!one) return null;
    const answer = await call("GET");
    if (!answer.ok) throw new Error((await answer.json()).detail);
    return (await answer.json()).some((told) => told.endpoint === one.endpoint) ? one : null;
  }
  function show() {
    button.hidden = false;
    button.textContent = subscription ? "Stop telling this browser" : "Tell this browser too";
    say(subscription ? "This browser is told." : "This browser is not told.");
  }
  async function begin() {
    const registration = await navigator.serviceWorker.register("/notifier/service-worker.js");
    await navigator.serviceWorker.ready;
    subscription = await known(await registration.pushManager.getSubscription());
    show();
    button.addEventListener("click", async () => {
      button.disabled = true;
      try {
        if (subscription) {
          await call("DELETE", { endpoint: subscription.endpoint });
          await subscription.unsubscribe();
          subscription = null;
        } else {
          // One that we do not know may be dead, or another member's: a new one is neither.
          await (await registration.pushManager.getSubscription())?.unsubscribe();
          const made = await registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: bytes(key) });
          const answer = await call("POST", made.toJSON());
          if (!answer.ok) { await made.unsubscribe(); throw new Error((await answer.json()).detail); }
          subscription = made;
        }
        show();
      } catch (error) {
        say(Notification.permission === "denied" ? "This browser was told not to show anything from here: that is changed in its own settings." : `That did not work: ${error.message}`);
      } finally { button.disabled = false; }
    });
  }
  begin().catch((error) => say(`That did not work: ${error.message}`));
})();

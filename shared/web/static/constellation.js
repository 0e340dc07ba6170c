// What every page can do beyond HTML: theme, shortcuts, times that pass, charts, words about failures.
// Pages work without it, but for what is live.
"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const root = document.documentElement;

  // --- light or dark ---------------------------------------------------------------------------------------------
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const redraw = () => all("[data-chart]").forEach(drawChart);
  dark.addEventListener("change", redraw);
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-theme-toggle]")) return;
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* it holds for this page */ }
    redraw();
  });

  // --- toasts ----------------------------------------------------------------------------------------------------
  function toast(text, seconds = 7) {
    const place = document.getElementById("toasts");
    const box = document.createElement("div");
    box.className = "toast";
    box.append(text);
    place.append(box);
    setTimeout(() => box.remove(), seconds * 1000);
  }

  // --- requests --------------------------------------------------------------------------------------------------
  const csrf = () => document.querySelector('meta[name="csrf-token"]')?.content;
  document.addEventListener("htmx:config:request", (event) => {
    const { ctx } = event.detail;
    // Nobody looks: what is asked every few seconds can wait until somebody does.
    if (document.hidden && ctx.sourceElement?.getAttribute("hx-trigger")?.startsWith("every")) { event.preventDefault(); return; }
    const token = csrf();
    if (token) event.detail.ctx.request.headers["X-CSRF-Token"] = token;
  });
  const quietly = (ctx) => ctx?.sourceElement?.matches("[data-quiet]");
  document.addEventListener("htmx:response:error", async (event) => {
    const { ctx } = event.detail;
    const { raw } = ctx.response;
    if (raw.status === 401) { location.href = `/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`; return; }
    if (quietly(ctx)) return failed(ctx.sourceElement);
    let said;
    try { said = JSON.parse(ctx.text ?? ctx.response.text ?? "").detail; } catch { /* no problem document */ }
    toast(said || (raw.status === 429 ? "Too many requests at once. Wait a moment." : "That did not work. Try again in a moment."));
  });
  document.addEventListener("htmx:error", (event) => {
    const { ctx } = event.detail;
    if (ctx?.response) return;  // an answer came: it was told above
    if (quietly(ctx)) failed(ctx.sourceElement);
    else toast("No answer. Are you connected? Nothing was changed.");
  });
  // A part that could not be loaded says so in its place, and can be tried again.
  function failed(element) {
    const place = element.closest("[data-quiet]");
    if (!place.querySelector(".skeleton")) {
      if ("stale" in place.dataset) return;
      place.dataset.stale = "";
      const said = document.getElementById("stale").content.cloneNode(true);
      place.before(said);
      return;
    }
    const box = document.getElementById("failed").content.cloneNode(true);
    box.querySelector("button").addEventListener("click", () => window.htmx.trigger(place, "again"));
    place.replaceChildren(box);
  }
  document.addEventListener("htmx:after:swap", (event) => {
    const place = event.detail.ctx?.sourceElement?.closest?.("[data-stale]");
    if (!place) return;
    delete place.dataset.stale;
    if (place.previousElementSibling?.matches(".stale-said")) place.previousElementSibling.remove();
  });
  let waiting;
  document.addEventListener("htmx:before:request", (event) => {
    if (quietly(event.detail.ctx)) return;
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      if (document.querySelector(".loading-bar")) return;
      const bar = document.createElement("div");
      bar.className = "loading-bar";
      document.body.append(bar);
    }, 200);
  });
  document.addEventListener("htmx:finally:request", () => { clearTimeout(waiting); document.querySelector(".loading-bar")?.remove(); });

  // --- times that pass -------------------------------------------------------------------------------------------
  // The words are those of shared/web/formats.py.
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  function duration(seconds) {
    let rest = Math.floor(Math.abs(seconds));
    if (rest < 60) return `${rest} s`;
    if (rest >= 2 * 31557600) return `${Math.floor(rest / 31557600)} years`;
    const n = units.findIndex(([size]) => rest >= size);
    const [size, unit] = units[n];
    const whole = Math.floor(rest / size);
    const [below, small] = units[n + 1];
    const fine = Math.floor((rest % size) / below);
    return !fine || unit === "min" || whole >= 10 ? `${whole} ${unit}` : `${whole} ${unit} ${fine} ${small}`;
  }
  const skew = Date.parse(document.querySelector('meta[name="now"]')?.content ?? "") - Date.now() || 0;
  function tick() {
    const now = Date.now() + skew;
    for (const time of all("time[data-left]")) {
      const span = (Date.parse(time.dateTime) - now) / 1000;
      time.textContent = span >= 0 ? `${duration(span)} left` : `${duration(span)} late`;
    }
    for (const time of all("time[data-ago]")) {
      const span = (now - Date.parse(time.dateTime)) / 1000;
      time.textContent = Math.abs(span) < 45 ? "just now" : span > 0 ? `${duration(span)} ago` : `in ${duration(span)}`;
    }
  }
  setInterval(tick, 15000);

  // --- what a stream of events keeps fresh --------------------------------------------------------------------------
  // The place asks again for itself, by htmx, when its stream says that something changed.
  const streams = new Map();
  function listen() {
    for (const [place, stream] of streams) if (!place.isConnected) { stream.close(); streams.delete(place); }
    for (const place of all("[data-live]")) {
      if (streams.has(place)) continue;
      const stream = new EventSource(place.dataset.live);
      const again = () => window.htmx?.trigger(place, "again");
      // It begins anew, after whatever happened since the page was made or somebody looked.
      stream.addEventListener("watching", again);
      stream.addEventListener("changed", again);
      stream.addEventListener("reload", again);
      // A browser comes back by itself after a lost connection, but not after an answer that is an error.
      stream.addEventListener("error", () => {
        if (stream.readyState !== EventSource.CLOSED) return;
        streams.delete(place);
        setTimeout(listen, 5000 + Math.random() * 5000);
      });
      streams.set(place, stream);
    }
  }
  // A tab that nobody looks at holds no connection: browsers allow six of them to a host.
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) { listen(); return; }
    for (const stream of streams.values()) stream.close();
    streams.clear();
  });

  // --- keyboard --------------------------------------------------------------------------------------------------
  // One may switch them off: who speaks to the machine types letters without meaning them (WCAG 2.1.4).
  const shortcuts = () => { try { return localStorage.getItem("shortcuts") !== "off"; } catch { return true; } };
  document.addEventListener("change", (event) => {
    if (event.target.id !== "shortcuts-on") return;
    try { localStorage.setItem("shortcuts", event.target.checked ? "on" : "off"); } catch { /* for this page they stay on */ }
  });
  document.addEventListener("DOMContentLoaded", () => { const box = document.getElementById("shortcuts-on"); if (box) box.checked = shortcuts(); });
  const rows = () => all("[data-rows] > li");
  function choose(step) {
    const found = rows();
    if (!found.length) return;
    const at = found.findIndex((row) => row.hasAttribute("data-chosen"));
    const next = found[Math.min(Math.max(at < 0 ? (step > 0 ? 0 : found.length - 1) : at + step, 0), found.length - 1)];
    found[at]?.removeAttribute("data-chosen");
    next.setAttribute("data-chosen", "");
    next.querySelector("a.title")?.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.target.closest("input, textarea, select, [contenteditable], dialog[open]") || !shortcuts()) return;
    const chosen = document.querySelector("[data-rows] > li[data-chosen]");
    switch (event.key) {
      case "/": event.preventDefault(); document.querySelector('.search input')?.focus(); break;
      case "?": document.getElementById("shortcuts")?.showModal(); break;
      case "j": choose(1); break;
      case "k": choose(-1); break;
      case "Enter": if (chosen && event.target === document.body) chosen.querySelector("a.title")?.click(); break;
      case "c": chosen?.querySelector("[data-claim]")?.click(); break;
    }
  });
  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-opens]");
    if (opener) document.getElementById(opener.dataset.opens)?.showModal();
    if (event.target.closest("[data-closes]")) event.target.closest("dialog")?.close();
    if (event.target.nodeName === "DIALOG") event.target.close();
  });
  document.addEventListener("change", (event) => { if (event.target.closest("[data-submits]")) event.target.form.requestSubmit(); });

  // --- the quiz --------------------------------------------------------------------------------------------------
  // An answer is sent until somebody hears it; the server alone knows when time is up.
  const quiz = document.querySelector("[data-quiz]");
  if (quiz) {
    const clock = quiz.querySelector("[data-countdown]");
    const said = quiz.querySelector("[data-saved]");
    const form = quiz.querySelector("[data-answers]");
    let wanted = null, sending = false, over = false;
    const up = () => {
      if (over) return;
      over = true;
      quiz.replaceChildren(document.getElementById("time-is-up").content.cloneNode(true));
      setTimeout(() => location.replace(quiz.dataset.quiz), 2500);
    };
    const count = () => {
      const left = Number(clock.dataset.countdown) - (Date.now() + skew) / 1000;
      if (left <= 0) return up();
      clock.toggleAttribute("data-last", left <= 10);
      // Calm: minutes while there are many, seconds when they matter.
      clock.lastElementChild.textContent = `${left > 60 ? `${Math.ceil(left / 60)} min` : `${Math.ceil(left)} s`} left`;
      setTimeout(count, left > 60 ? 1000 : 200);
    };
    count();
    async function send() {
      if (sending || wanted === null || over) return;
      sending = true;
      const answer = wanted;
      said.textContent = "Saving…";
      try {
        const body = new URLSearchParams({ answer });
        const reply = await fetch(form.action, { method: "POST", body, headers: { "X-CSRF-Token": csrf() ?? "-", Accept: "application/json" }, signal: AbortSignal.timeout(8000) });
        if (reply.status === 409) return up();
        if (!reply.ok) throw new Error(reply.status);
        if (wanted === answer) wanted = null;
        said.textContent = "Saved";
        quiz.querySelector("[aria-current][data-dot]")?.setAttribute("data-answered", "");
        quiz.querySelector("[data-missing]")?.remove();
      } catch {
        said.textContent = "Not saved yet: no connection. It is tried again.";
        setTimeout(send, 1500);
      } finally {
        sending = false;
        if (wanted !== null && wanted !== answer) send();
      }
    }
    form.addEventListener("change", (event) => { wanted = event.target.value; send(); });
    // Whoever goes on at once waits until the answer is there.
    addEventListener("beforeunload", (event) => { if (wanted !== null && !over) event.preventDefault(); });
  }

  // --- charts ----------------------------------------------------------------------------------------------------
  // {x: [seconds], unit: "share"|"seconds"|"count", series: [{label, values, colour, style: line|dashed|bars|band}], goal, min, max}
  const probe = document.createElement("span");
  probe.hidden = true;
  function colour(name, strength = 1) {
    if (!probe.isConnected) document.body.append(probe);
    probe.style.color = strength === 1 ? `var(--${name})` : `color-mix(in srgb, var(--${name}) ${strength * 100}%, transparent)`;
    return getComputedStyle(probe).color;
  }
  const shown = {
    share: (v) => (v == null ? "–" : `${(Math.floor(v * 1000 + 1e-9) / 10).toFixed(1)}%`),
    seconds: (v) => (v == null ? "–" : duration(v)),
    count: (v) => (v == null ? "–" : Math.round(v).toLocaleString("en")),
  };
  const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
  const dated = (seconds) => { const d = new Date(seconds * 1000); return `${d.getUTCDate()} ${months[d.getUTCMonth()]} ${d.getUTCFullYear()}`; };
  const drawn = new WeakMap();
  const spans = [1, 5, 15, 60, 300, 900, 1800, 3600, 7200, 14400, 28800, 43200, 86400, 172800, 345600, 604800, 1209600, 2592000, 7776000, 31536000];

  function drawChart(figure) {
    const place = figure.querySelector(".plot");
    const given = JSON.parse(figure.querySelector('script[type="application/json"]').textContent);
    drawn.get(figure)?.plot.destroy();
    drawn.get(figure)?.observer.disconnect();
    place.replaceChildren();
    const say = shown[given.unit];
    const mini = figure.classList.contains("mini");
    const axis = { stroke: colour("quiet"), font: "12px Inter, system-ui, sans-serif", grid: { stroke: colour("line"), width: 1 }, ticks: { show: false } };
    const series = given.series.map((one) => {
      const tint = colour(one.colour ?? "accent");
      return {
        label: one.label, stroke: one.style === "band" ? "transparent" : tint, width: one.style === "bars" ? 0 : 2, spanGaps: false,
        dash: one.style === "dashed" ? [5, 4] : undefined,
        fill: one.style === "bars" ? colour(one.colour ?? "accent", one.faint ? 0.35 : 0.85) : undefined,
        paths: one.style === "bars" ? uPlot.paths.bars({ size: [0.72, 44], radius: 0.15 }) : undefined,
        points: { show: one.style === "line" && given.x.length < 3 },
      };
    });
    const bands = given.series.flatMap((one, n) => (one.style === "band" && one.to != null ? [{ series: [n + 1, one.to + 1], fill: colour(one.colour ?? "accent", 0.2) }] : []));
    const height = () => Math.max(place.clientHeight, mini ? 96 : 176);
    const options = {
      width: place.clientWidth, height: height(), legend: { show: false }, bands, pxAlign: 0, padding: [10, 22, 0, 0],
      cursor: { y: false, points: { size: 7 }, drag: { x: false, y: false } },
      scales: { x: { time: true }, y: { range: (_, low, high) => [given.min ?? 0, given.max ?? Math.max(high ?? 1, (given.goal ?? 0)) * 1.08] } },
      tzDate: (ts) => uPlot.tzDate(new Date(ts * 1000), "Etc/UTC"),
      axes: [
        { ...axis, grid: { show: false }, size: 26, space: mini ? 90 : 64,
          values: (_, ticks) => ticks.map((tick, n) => { const d = new Date(tick * 1000); const year = n === 0 || new Date(ticks[n - 1] * 1000).getUTCFullYear() !== d.getUTCFullYear();
            const close = ticks.length > 1 && ticks[1] - ticks[0] < 27 * 86400;
            return (close ? `${d.getUTCDate()} ` : "") + months[d.getUTCMonth()] + (year && !close ? ` ${d.getUTCFullYear()}` : ""); }) },
        { ...axis, size: given.unit === "share" ? 48 : 62, incrs: given.unit === "seconds" ? spans : undefined, space: mini ? 28 : 36, values: (_, ticks) => ticks.map((tick) => (given.unit === "share" ? `${Math.round(tick * 100)}%` : say(tick))) },
      ],
      series: [{}, ...series],
      hooks: {
        draw: [(plot) => {
          if (given.goal == null) return;
          const { ctx, bbox } = plot;
          const y = plot.valToPos(given.goal, "y", true);
          ctx.save();
          ctx.strokeStyle = colour("good"); ctx.lineWidth = 1.5 * devicePixelRatio; ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
          ctx.beginPath(); ctx.moveTo(bbox.left, y); ctx.lineTo(bbox.left + bbox.width, y); ctx.stroke();
          ctx.restore();
        }],
        setCursor: [(plot) => {
          const { idx, left } = plot.cursor;
          tip.hidden = idx == null || left < 0;
          if (tip.hidden) return;
          const lines = given.series.filter((one) => one.label).map((one) => `${one.label}: ${say((one.shown ?? one.values)[idx])}`);
          tip.textContent = [dated(given.x[idx]), ...lines, ...(given.notes?.[idx] ? [given.notes[idx]] : [])].join("\n");
          const right = left > place.clientWidth / 2;
          tip.style.left = right ? "" : `${left + plot.over.offsetLeft + 12}px`;
          tip.style.right = right ? `${place.clientWidth - left - plot.over.offsetLeft + 12}px` : "";
          tip.style.top = "8px";
        }],
      },
    };
    const plot = new uPlot(options, [given.x, ...given.series.map((one) => one.values)], place);
    const tip = document.createElement("div");
    tip.className = "plot-tip";
    tip.hidden = true;
    place.append(tip);
    if (given.links) {
      plot.over.style.cursor = "pointer";
      plot.over.addEventListener("click", () => { const link = given.links[plot.cursor.idx]; if (link) location.href = link; });
    }
    const observer = new ResizeObserver(() => { if (place.clientWidth && plot.width !== place.clientWidth) plot.setSize({ width: place.clientWidth, height: height() }); });
    observer.observe(place);
    drawn.set(figure, { plot, observer });
  }

  // --- beginning, and whatever htmx brings in ----------------------------------------------------------------------
  function begin(scope) {
    listen();
    const charts = all("[data-chart]", scope).filter((figure) => !drawn.has(figure));
    if (charts.length && window.uPlot) document.fonts.ready.then(() => charts.forEach((figure) => figure.isConnected && drawChart(figure)));
  }
  document.addEventListener("htmx:after:swap", () => begin(document));
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", () => begin(document));
  else begin(document);
})();

"use strict";

// Shows what the sidecar sends. Everything goes into the page as text, never as markup: many names in it are foreign.

const place = (id) => document.getElementById(id);

function element(name, text, kind) {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

// A cell is a text, or a pair of a text and its class.
function table(id, heads, rows, nothing) {
  if (rows.length === 0) {
    place(id).replaceChildren(element("p", nothing, "none"));
    return;
  }
  const made = document.createElement("table");
  const head = made.createTHead().insertRow();
  for (const text of heads) {
    const cell = element("th", text);
    cell.scope = "col";
    head.append(cell);
  }
  const body = made.createTBody();
  for (const cells of rows) {
    const row = body.insertRow();
    for (const cell of cells) {
      const [text, kind] = Array.isArray(cell) ? cell : [cell];
      row.append(element("td", text, kind));
    }
  }
  place(id).replaceChildren(made);
}

const time = (milliseconds) => new Date(milliseconds).toLocaleTimeString();

function span(milliseconds) {
  if (milliseconds < 1) return milliseconds.toFixed(3) + " ms";
  if (milliseconds < 1000) return milliseconds.toFixed(1) + " ms";
  const seconds = Math.floor(milliseconds / 1000);
  if (seconds < 120) return seconds + " s";
  const minutes = Math.floor(seconds / 60);
  return minutes < 120 ? minutes + " min" : Math.floor(minutes / 60) + " h";
}

// An enum as serialized by serde: a name, or an object with one name and its content.
function variant(value) {
  if (typeof value === "string") return [value, ""];
  const [name, detail] = Object.entries(value)[0];
  return [name, detail];
}

const LOOKS = { answered: "good", delivered: "good", running: "good", queued: "busy", away: "bad", refused: "bad", failed: "bad" };

function told(value) {
  const [name, detail] = variant(value);
  return [detail ? name + ": " + detail : name, LOOKS[name]];
}

function showAbout(about) {
  const since = new Date(about.beganMs).toLocaleString();
  place("about").textContent = `${about.id} on ${about.hostname}, version ${about.version}, since ${since}`;
  place("settings").textContent = JSON.stringify(about.settings, null, 2);
  resolver = about.resolver;
}

let resolver = null;

function showParts(now) {
  const away = now.backend.away;
  const backend = away ? [`away since ${time(away.sinceMs)}: ${away.why}`, "bad"] : ["answers, as far as known", "good"];
  const sources = now.sources.map((source) => ["event source", source.name, source.listens.join(", "), told(source.state)]);
  table("parts", ["part", "name", "listens on", "state"], [
    ...sources,
    ["resolver", resolver === null ? "none" : resolver, "", ""],
    ["backend", now.backend.name, "", backend],
  ], "");
}

function showServers(servers) {
  table("servers", ["server", "event source", "state", "asks for a match", "last heard", "address", "matches"], servers.map((server) => [
    server.id, server.source, server.state, server.isAsking ? "now" : server.hasAsked ? "has asked" : "never",
    span(server.silentMs) + " ago", server.address === null ? "" : server.address, String(server.matches.length),
  ]), "No server has called or was launched.");
  const matches = servers.flatMap((server) => server.matches.map((game) => [
    game.id, server.id, game.isReady ? ["ready", "good"] : ["taken", "busy"],
    [game.connectionDetails, ...Object.entries(game.perPlayerConnectionDetails).map(([player, details]) => `${player}: ${details}`)]
      .filter((text) => text !== "").join(", "),
    game.isDisowned ? ["the backend no longer knows it", "bad"] : "",
  ]));
  table("matches", ["match", "server", "state", "players connect to", ""], matches, "No match is held.");
}

function showCalls(now) {
  table("queued", ["call", "event source", "server", "match"],
    now.queued.map((call) => [call.call, call.source, call.serverId, call.matchId]), "None.");
  table("calls", ["time", "call", "event source", "server", "match", "outcome", "took"], [...now.calls].reverse().map((call) => [
    time(call.atMs), call.call, call.source, call.serverId, call.matchId, told(call.outcome), span(call.tookUs / 1000),
  ]), "None yet.");
}

function link(text, kind) {
  place("link").textContent = text;
  place("link").className = kind;
}

const events = new EventSource("events");
events.addEventListener("about", (event) => showAbout(JSON.parse(event.data)));
events.addEventListener("now", (event) => {
  const now = JSON.parse(event.data);
  showParts(now);
  showServers(now.servers);
  showCalls(now);
  link("live", "good");
});
events.onerror = () => link("the sidecar does not answer: this is its last known state", "bad");

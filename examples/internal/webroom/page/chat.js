"use strict";

// What was said goes into the page as text nodes only: nothing that anybody sends is read as HTML.

const $ = (id) => document.getElementById(id);
const kept = 1000; // messages on the page
let session, nick, members = [], events;

async function post(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ session, ...body }),
  });
  if (response.status === 410) gone();
  if (!response.ok) throw new Error((await response.text()).trim());
  return response.status === 204 ? null : response.json();
}

function line(className, time, ...parts) {
  const log = $("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  const item = document.createElement("li");
  item.className = className;
  if (time) {
    const clock = document.createElement("time");
    clock.dateTime = time;
    clock.textContent = new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    item.append(clock);
  }
  item.append(...parts);
  log.append(item);
  while (log.childElementCount > kept) log.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

function name(text) {
  const b = document.createElement("b");
  b.textContent = text;
  return b;
}

function show(m) {
  const from = m.via ? `${m.from} (${m.via})` : m.from;
  switch (m.kind) {
    case "said": return line(m.from === nick ? "mine" : "", m.time, name(from), m.text);
    case "acted": return line("news", m.time, `* ${from} ${m.text}`);
    case "told": return line("told", m.time, name(`${from} to you alone`), m.text);
    case "joined": return line("news", m.time, `${from} has come in`);
    case "left": return line("news", m.time, `${from} has left` + (m.text ? `: ${m.text}` : ""));
    case "renamed": return line("news", m.time, `${from} is called ${m.text} now`);
  }
}

function showMembers() {
  $("members").replaceChildren(...members.map((who) => {
    const item = document.createElement("li");
    item.textContent = who === nick ? `${who} (you)` : who;
    return item;
  }));
}

async function showRooms() {
  const response = await fetch("rooms?session=" + session);
  if (!response.ok) return;
  $("rooms").replaceChildren(...(await response.json()).map((room) => {
    const item = document.createElement("li");
    const go = document.createElement("button");
    go.type = "button";
    go.textContent = `${room.name} (${room.members})`;
    go.onclick = () => post("join", { name: room.name }).catch(complain);
    item.append(go);
    return item;
  }));
}

const complain = (error) => line("bad", null, error.message);

function listen() {
  events = new EventSource("events?session=" + session);
  events.onopen = () => { $("state").textContent = ""; };
  events.onerror = () => {
    if (events.readyState === EventSource.CLOSED) return gone();
    $("state").textContent = "The connection is lost; trying again…";
  };
  events.addEventListener("place", (e) => {
    const place = JSON.parse(e.data);
    ({ nick, members } = place);
    $("room").textContent = place.room;
    document.title = `${place.room} – Parley chat`;
    $("log").replaceChildren();
    place.history.forEach(show);
    showMembers();
    showRooms();
  });
  events.addEventListener("message", (e) => {
    const m = JSON.parse(e.data);
    if (m.kind === "joined") members.push(m.from);
    if (m.kind === "left") members = members.filter((who) => who !== m.from);
    if (m.kind === "renamed") {
      members = members.map((who) => (who === m.from ? m.text : who));
      if (m.from === nick) nick = m.text;
    }
    show(m);
    if (["joined", "left", "renamed"].includes(m.kind)) { showMembers(); showRooms(); }
  });
  events.addEventListener("missed", (e) => line("bad", null, `Your connection is slow: ${e.data} messages were skipped.`));
}

// gone: this page is not in the house any more.
function gone() {
  events?.close();
  session = undefined;
  $("chat").hidden = true;
  $("door").hidden = false;
  $("refused").textContent = "You have left.";
  $("nick").focus();
}

$("door").onsubmit = async (e) => {
  e.preventDefault();
  $("refused").textContent = "";
  try {
    const entered = await post("enter", { nick: $("nick").value.trim() });
    ({ session, nick } = entered);
    $("text").maxLength = entered.limit;
    $("door").hidden = true;
    $("chat").hidden = false;
    $("text").focus();
    listen();
  } catch (error) {
    $("refused").textContent = error.message;
  }
};

$("speak").onsubmit = async (e) => {
  e.preventDefault();
  const text = $("text").value.trim();
  if (!text) return;
  const [word, rest] = [text.split(" ", 1)[0], text.slice(text.indexOf(" ") + 1)];
  try {
    if (word === "/me" && rest !== text) {
      await post("act", { text: rest });
    } else if (word === "/msg" && rest.includes(" ")) {
      const to = rest.split(" ", 1)[0];
      await post("tell", { to, text: rest.slice(to.length + 1) });
      line("news", new Date().toISOString(), `To ${to} alone: ${rest.slice(to.length + 1)}`);
    } else if (word === "/nick" && rest !== text) {
      await post("nick", { name: rest });
    } else if (text.startsWith("/") && !text.startsWith("//")) {
      throw new Error("There are /me TEXT, /msg NICK TEXT and /nick NAME. To begin a line with a slash, type two.");
    } else {
      const what = text.startsWith("//") ? text.slice(1) : text;
      await post("say", { text: what });
      show({ kind: "said", time: new Date().toISOString(), from: nick, text: what });
    }
    $("text").value = "";
  } catch (error) {
    complain(error);
  }
};

$("join").onsubmit = async (e) => {
  e.preventDefault();
  try {
    await post("join", { name: $("name").value.trim() });
    $("name").value = "";
  } catch (error) {
    complain(error);
  }
};

$("leave").onclick = () => post("leave").then(gone, complain);
addEventListener("pagehide", () => {
  if (session) fetch("leave", { method: "POST", keepalive: true, headers: { "Content-Type": "application/json" }, body: JSON.stringify({ session }) });
});

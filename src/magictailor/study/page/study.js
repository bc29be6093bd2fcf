// The study's page. It gets all it needs in #data, and nothing from other sites. `arrangement.py` computes the same orders.
"use strict";

(() => {
  const { study, pictures: pictureBase, session } = JSON.parse(document.getElementById("data").textContent);
  const SPECIAL = { tie: "No difference", "cannot-say": "I cannot say" };
  const specials = [...(study.tie ? ["tie"] : []), ...(study.cannotSay ? ["cannot-say"] : [])];
  const $ = (id) => document.getElementById(id);
  const main = $("main"), saved = $("saved"), progress = $("progress"), zoom = $("zoom"), toOverview = $("to-overview");

  // --- small helpers

  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
    return element;
  };
  const paragraphs = (text) => text.trim().split(/\n\s*\n/).map((part) => make("p", {}, part.trim()));
  const letter = (index) => String.fromCharCode(65 + index);
  const show = (title, ...children) => {
    main.replaceChildren(...children);
    document.title = title ? `${title} · ${study.title}` : study.title;
    window.scrollTo(0, 0);
    main.focus({ preventScroll: true });
  };

  // --- what this rater sees

  const draw = (...parts) => {
    let value = 2166136261;
    for (const byte of new TextEncoder().encode(parts.join("/"))) value = Math.imul(value ^ byte, 16777619);
    value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
    value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
    return (value ^ (value >>> 16)) >>> 0;
  };
  const drawnOrder = (names, ...key) => {
    const drawn = names.map((name) => [draw(...key, name), name]);
    return drawn.sort((a, b) => a[0] - b[0] || (a[1] < b[1] ? -1 : 1)).map((pair) => pair[1]);
  };
  const arrange = (rater) => {
    const byName = new Map(study.groups.map((group) => [group.name, group]));
    const practice = study.groups.filter((group) => group.practice).map((group) => group.name);
    const others = study.groups.filter((group) => !group.practice).map((group) => group.name);
    return [...practice, ...drawnOrder(others, study.orderKey, rater)].map((name) => {
      const group = byName.get(name);
      const order = drawnOrder(group.pictures, study.orderKey, rater, name);
      return { ...group, pictures: study.pair ? order.slice(0, 2) : order };
    });
  };

  // --- where answers go: a server, or this browser until they are saved to a file

  const STORAGE = `study-${study.orderKey}`;
  const answers = new Map();  // "group/question" -> {choice, revision, seconds}
  const keyOf = (group, question) => `${group}/${question}`;
  let rater = session.rater || null, screens = [];

  const status = (text, state = "") => { saved.textContent = text; saved.dataset.state = state; };

  const fileStore = {
    load() {
      try {
        const kept = JSON.parse(localStorage.getItem(STORAGE) || "null");
        if (!kept || !/^[0-9a-f]{16}$/.test(kept.rater)) return;
        rater = kept.rater;
        this.consented = kept.consented;
        for (const a of kept.answers) answers.set(keyOf(a.group, a.question), a);
      } catch { status("This browser saves nothing: finish in one go", "waiting"); }
    },
    content() {
      return { format: session.format, version: 1, study: study.orderKey, rater, consented: this.consented, answers: [...answers.values()] };
    },
    keep() {
      try { localStorage.setItem(STORAGE, JSON.stringify(this.content())); status("Saved in this browser"); }
      catch { status("This browser saves nothing: finish in one go", "waiting"); }
    },
    async start() {
      const bytes = crypto.getRandomValues(new Uint8Array(8));
      rater = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
      this.consented = new Date().toISOString().slice(0, 19) + "Z";
      this.keep();
      begin();
    },
    put(group, question, choice, seconds) {
      const key = keyOf(group, question), before = answers.get(key);
      answers.set(key, {
        group, question, choice, revision: (before ? before.revision : 0) + 1,
        seconds: Math.round(((before ? before.seconds : 0) + seconds) * 100) / 100,
        answered: new Date().toISOString().slice(0, 19) + "Z",
      });
      this.keep();
    },
    download() {
      const text = JSON.stringify(this.content(), null, 1);
      const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "application/json" })), download: `answers-${rater}.json` });
      document.body.append(link);
      link.click();
      link.remove();
      setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    },
  };

  const serverStore = {
    waiting: new Map(), sending: false, delay: 500,
    load() { for (const a of session.answers || []) answers.set(keyOf(a.group, a.question), a); },
    async start() {
      const answer = await fetch("/start", {
        method: "POST", headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ consent: true, token: session.token || "" }),
      });
      const body = await answer.json().catch(() => ({}));
      if (!answer.ok) throw new Error(body.error || "The study could not be started. Please try again.");
      location.assign(body.link);
    },
    put(group, question, choice, seconds) {
      const key = keyOf(group, question), before = answers.get(key), unsent = this.waiting.get(key);
      answers.set(key, { group, question, choice, revision: before ? before.revision : 0 });
      this.waiting.set(key, { group, question, choice, seconds: seconds + (unsent ? unsent.seconds : 0) });
      this.send();
    },
    async send() {
      if (this.sending) return;
      this.sending = true;
      while (this.waiting.size) {
        const [key, item] = this.waiting.entries().next().value;
        status("Saving …");
        const outcome = await this.post(key, item);
        if (outcome === "gone") { this.waiting.clear(); this.sending = false; return; }
        if (outcome === "later") {
          status("Not saved yet. Trying again …", "waiting");
          await new Promise((resolve) => setTimeout(resolve, this.delay));
          this.delay = Math.min(this.delay * 2, 8000);
          continue;
        }
        this.delay = 500;
        if (this.waiting.get(key) === item) this.waiting.delete(key);  // it may have been changed meanwhile
      }
      status("Saved");
      this.sending = false;
    },
    async post(key, item) {
      const known = answers.get(key).revision;
      let answer;
      try {
        answer = await fetch(`/r/${session.token}/answers`, {
          method: "POST", keepalive: true, headers: { "Content-Type": "application/json" },
          body: JSON.stringify({ ...item, seconds: Math.round(item.seconds * 100) / 100, revision: known + 1 }),
        });
      } catch { return "later"; }
      if (answer.status >= 500) return "later";
      const body = await answer.json().catch(() => ({}));
      if (answer.ok) { answers.get(key).revision = body.revision; return "stored"; }
      if (answer.status === 409) { answers.get(key).revision = body.revision; return "again"; }
      status(body.error || "Not saved. Please reload the page.", "failed");
      return "gone";
    },
  };
  serverStore.post = ((post) => async function (key, item) {
    const outcome = await post.call(this, key, item);  // answered meanwhile elsewhere: what was pressed last counts
    return outcome === "again" ? post.call(this, key, item).then((second) => (second === "again" ? "later" : second)) : outcome;
  })(serverStore.post);
  const store = session.mode === "file" ? fileStore : serverStore;
  window.addEventListener("beforeunload", (event) => { if (serverStore.waiting.size) event.preventDefault(); });

  // --- time that a screen is looked at

  const clock = {
    since: 0, spent: 0,
    start() { this.since = performance.now(); this.spent = 0; },
    lap() { const seconds = (this.spent + (document.hidden ? 0 : performance.now() - this.since)) / 1000; this.start(); return seconds; },
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clock.spent += performance.now() - clock.since;
    else clock.since = performance.now();
  });

  // --- pages

  const answered = (screen) => study.questions.filter((q) => answers.has(keyOf(screen.name, q.name))).length;
  const isDone = (screen) => answered(screen) === study.questions.length;
  const titleOf = (screen) => screen.practice ? "Practice" : `Screen ${screens.filter((s) => !s.practice).indexOf(screen) + 1}`;
  const updateProgress = () => {
    const counted = screens.filter((screen) => !screen.practice);
    progress.hidden = false;
    progress.max = counted.length * study.questions.length;
    progress.value = counted.reduce((sum, screen) => sum + answered(screen), 0);
    toOverview.hidden = false;
  };
  const firstOpen = () => screens.find((screen) => !isDone(screen));
  const go = (place) => { location.hash = place; };

  const welcome = () => {
    const problem = make("p", { class: "error", role: "alert" });
    const agree = make("input", { type: "checkbox", id: "agree" });
    const start = make("button", { class: "primary", type: "submit" }, "Start");
    const form = make("form", { class: "card stack", onsubmit: async (event) => {
      event.preventDefault();
      if (!agree.checked) { problem.textContent = "Please tick the box if you agree; without it the study cannot start."; agree.focus(); return; }
      start.disabled = true;
      try { await store.start(); }
      catch (error) { problem.textContent = error.message; start.disabled = false; }
    } },
    make("h2", {}, "What is kept"), make("div", { class: "text" }, ...paragraphs(study.consent)),
    make("label", { class: "choice" }, agree, "I have read this, and I take part of my own free will."), problem, start);
    show("", make("div", { class: "stack narrow" }, make("h1", {}, study.title), ...paragraphs(study.welcome), form));
  };

  const overview = () => {
    const next = firstOpen(), begun = answers.size > 0;
    const list = make("ol", { class: "screens" }, ...screens.map((screen) => make("li", { class: isDone(screen) ? "done" : answered(screen) ? "begun" : "" },
      make("a", { href: `#${screen.name}` }, make("strong", {}, screen.practice ? "P" : titleOf(screen).slice(7)),
        make("span", { class: "small" }, isDone(screen) ? "done" : answered(screen) ? `${answered(screen)} of ${study.questions.length}` : "open")))));
    show("All screens", make("div", { class: "stack narrow" },
      make("div", {}, make("h1", {}, begun ? "Continue" : "How it works"), ...paragraphs(study.instructions)),
      make("p", {}, next
        ? make("a", { class: "button primary", href: `#${next.name}` }, begun ? `Continue with ${titleOf(next).toLowerCase()}` : next.practice ? "Start with the practice" : "Start")
        : make("a", { class: "button primary", href: "#end" }, "Finish")),
      make("h2", {}, "All screens"), make("p", { class: "soft" }, "Any order is fine, and every answer can be changed."), list, resume()));
  };

  const resume = () => {
    if (session.mode === "file") return make("p", { class: "soft small" }, "Your answers are saved in this browser. To continue later, open this page again in this browser.");
    const address = `${location.origin}/r/${session.token}`;
    const field = make("input", { readonly: true, value: address, "aria-label": "your link", onfocus: (event) => event.target.select() });
    const copy = make("button", { type: "button", onclick: async () => {
      field.select();
      try { await navigator.clipboard.writeText(address); copy.textContent = "Copied"; } catch { copy.textContent = "Press Ctrl+C"; }
    } }, "Copy");
    return make("div", { class: "card stack" }, make("h2", {}, "To continue later or on another device"),
      make("p", { class: "soft" }, "This link is yours. Whoever has it can see and change your answers."), make("div", { class: "link-row" }, field, copy));
  };

  const source = (file) => pictureBase + file;

  const enlarge = (items, index) => {  // items: [file, name]
    const picture = make("img", { alt: "" }), name = make("strong", {});
    const turn = (step) => { index = (index + step + items.length) % items.length; update(); };
    const update = () => { picture.src = source(items[index][0]); picture.alt = name.textContent = items[index][1]; };
    const button = (text, label, action) => make("button", { type: "button", "aria-label": label, onclick: action }, text);
    zoom.replaceChildren(picture, make("div", { class: "turn" }, button("←", "the picture before", () => turn(-1)), name,
      button("→", "the next picture", () => turn(1)), button("Close", "close", () => zoom.close())));
    zoom.onkeydown = (event) => { if (event.key === "ArrowLeft") turn(-1); if (event.key === "ArrowRight") turn(1); };
    update();
    zoom.showModal();
  };

  const questionBox = (screen, question, onAnswer) => {
    const current = () => answers.get(keyOf(screen.name, question.name));
    const box = make("fieldset", { class: `question card${current() ? " answered" : ""}`, "data-question": question.name }, make("legend", {}, question.text));
    const chip = (choice, label, ...content) => make("label", { class: "chip" },
      make("input", {
        type: "radio", name: question.name, value: choice, "aria-label": label, checked: current() && current().choice === choice,
        onchange: () => { box.classList.add("answered"); onAnswer(question, choice); },
      }), make("span", {}, ...content));
    box.append(make("div", { class: `chips${screen.pictures.length === 2 ? " two" : ""}` }, ...screen.pictures.map((file, i) =>
      chip(file, `picture ${letter(i)}`, make("img", { src: source(file), alt: "" }), letter(i)))));
    if (specials.length) box.append(make("div", { class: "chips special" }, ...specials.map((choice) => chip(choice, SPECIAL[choice], SPECIAL[choice]))));
    return box;
  };

  const screenPage = (screen) => {
    const number = screens.indexOf(screen), next = screens[number + 1];
    const after = () => (next ? next.name : "end");
    const hint = make("p", { class: "small soft", role: "status" });
    const forward = make("a", { class: "button primary", href: `#${after()}` }, next ? "Next" : "Finish");
    const refresh = () => {
      const left = study.questions.length - answered(screen);
      hint.textContent = left ? `${left} of ${study.questions.length} still open` : "";
      updateProgress();
    };
    const onAnswer = (question, choice) => { store.put(screen.name, question.name, choice, clock.lap()); refresh(); };
    const photos = screen.references.map((r) => [r.file, r.caption]), letters = screen.pictures.map((file, i) => [file, `Picture ${letter(i)}`]);
    const captions = [...new Set(screen.references.map((r) => r.caption))];
    const references = captions.map((caption) => make("figure", {}, make("div", { class: "photos" }, ...photos.map(([file, own], i) => own !== caption ? null :
      make("button", { type: "button", "aria-label": `a photo of ${caption}, larger`, onclick: () => enlarge(photos, i) }, make("img", { src: source(file), alt: "" })))),
      make("figcaption", {}, caption)));
    show(titleOf(screen), make("h1", { class: "visually-hidden" }, titleOf(screen)),
      make("div", { class: "screen" },
        make("div", { class: "stack" },
          make("section", { class: "task card", "aria-label": "the task" },
            make("p", { class: "prompt" }, make("span", { class: "prompt-label" }, `${titleOf(screen)} of ${screens.filter((s) => !s.practice).length} · the description`.replace("Practice of", "Practice, then")), screen.prompt),
            references.length ? make("div", { class: "references" }, ...references) : null),
          make("section", { class: `pictures${screen.pictures.length === 2 ? " two" : ""}`, "aria-label": "the pictures" }, ...screen.pictures.map((file, i) =>
            make("button", { type: "button", class: "picture", "aria-label": `picture ${letter(i)}, larger`, onclick: () => enlarge(letters, i) },
              make("img", { src: source(file), alt: `picture ${letter(i)}` }), make("span", { class: "letter", "aria-hidden": "true" }, letter(i)))))),
        make("div", { class: "side" },
          make("section", { class: "questions", "aria-label": "the questions" }, ...study.questions.map((q) => questionBox(screen, q, onAnswer))),
          hint,
          make("div", { class: "turn" }, number > 0 ? make("a", { class: "button", href: `#${screens[number - 1].name}` }, "Back") : make("a", { class: "button", href: "#all" }, "Back"), forward),
          make("p", { class: "keys small soft" }, "By keyboard: ", make("kbd", {}, "1"), " to ", make("kbd", {}, String(screen.pictures.length)),
            " answers the next open question, ", make("kbd", {}, "Enter"), " goes to the next screen."))));
    refresh();
    clock.start();
    current = { screen, after };
  };

  const end = () => {
    const open = screens.filter((screen) => !screen.practice && !isDone(screen));
    if (open.length) {
      show("Not finished", make("div", { class: "stack narrow" }, make("h1", {}, "Almost there"),
        make("p", { class: "notice warn" }, `${open.length} of ${screens.filter((s) => !s.practice).length} screens have open questions.`),
        make("p", {}, make("a", { class: "button primary", href: `#${open[0].name}` }, `Go to ${titleOf(open[0]).toLowerCase()}`)),
        session.mode === "file" ? fileBox(false) : null));
      return;
    }
    show("The end", make("div", { class: "stack narrow" }, make("h1", {}, "Thank you"), ...paragraphs(study.thanks),
      session.code ? make("div", { class: "card" }, make("p", {}, "Your code for the platform that sent you:"), make("p", { class: "code", id: "code" }, session.code)) : null,
      session.mode === "file" ? fileBox(true) : make("p", { class: "soft" }, "All your answers are stored. You can close this page, or change answers as long as the study is open."),
      make("p", { class: "soft small" }, `To have your answers removed, send us this number: `, make("code", {}, rater))));
  };

  const fileBox = (finished) => make("div", { class: "card stack" },
    make("p", {}, finished ? "One more step: save your answers to a file and send it back" : "You can send what you have so far. Save it to a file and send it back",
      study.contact ? `, to ${study.contact}.` : "."),
    make("button", { class: "primary", type: "button", onclick: () => store.download() }, "Save my answers"));

  // --- where the reader is

  let current = null;
  const route = () => {
    current = null;
    if (zoom.open) zoom.close();
    const place = decodeURIComponent(location.hash.slice(1)), screen = screens.find((s) => s.name === place);
    updateProgress();
    if (screen) screenPage(screen);
    else if (place === "end") end();
    else overview();
  };
  toOverview.addEventListener("click", () => go("all"));
  zoom.addEventListener("click", (event) => { if (event.target === zoom) zoom.close(); });
  document.addEventListener("keydown", (event) => {
    if (!current || zoom.open || event.ctrlKey || event.metaKey || event.altKey) return;
    const focused = document.activeElement, { screen, after } = current;
    if (/^[1-9]$/.test(event.key) && Number(event.key) <= screen.pictures.length) {
      const boxes = [...main.querySelectorAll(".question")];
      const box = focused && focused.closest(".question") || boxes.find((b) => !b.querySelector("input:checked")) || boxes[0];
      const input = box.querySelectorAll("input")[Number(event.key) - 1];
      input.click();
      const open = boxes.find((b) => !b.querySelector("input:checked"));
      (open ? open.querySelector("input") : main.querySelector(".turn .primary")).focus();
      event.preventDefault();
    } else if (event.key === "Enter" && !(focused && focused.closest("a, button")) && isDone(screen)) {
      go(after());
    }
  });

  const begin = () => {
    screens = arrange(rater);
    window.addEventListener("hashchange", route);
    route();
  };
  store.load();
  if (rater) begin(); else welcome();
})();

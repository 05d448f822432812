"use strict";
/* What is asked, where the answer comes from (the server, or data.js of an export), and what is shown of it. */

(() => {
  const { el } = draw;
  const at = (id) => document.getElementById(id);
  const exported = window.exported;
  const state = { mode: "text", caption: null, text: null, video: null, a: null, b: null, words: null };
  let about = null;
  let asked = 0;

  // -- where answers come from --------------------------------------------------------------------------------------

  async function ask(path, body) {
    const how = body === undefined ? {} : {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
    };
    let answer;
    try {
      answer = await fetch(path, how);
    } catch {
      throw new Error("the page's server does not answer: is python -m lab.demo still running?");
    }
    const told = await answer.json().catch(() => ({ error: `the server answered ${answer.status}` }));
    if (!answer.ok) throw new Error(told.error || `the server answered ${answer.status}`);
    return told;
  }

  const holds = (text, wanted) => wanted.toLowerCase().split(/\s+/).every((word) => text.toLowerCase().includes(word));
  function filed(list, name, key, wanted) {
    const fitting = list.filter((one) => holds(one[key], wanted));
    return { of: fitting.length, [name]: fitting };
  }
  const stored = (table, key) => {
    if (!table[key]) throw new Error("this is not among the files of the export: python -m lab.demo shows all");
    return table[key];
  };

  const source = exported ? {
    about: async () => exported.about,
    captions: async (wanted) => filed(exported.captions, "captions", "text", wanted),
    videos: async (wanted) => filed(exported.videos, "videos", "id", wanted),
    typed: async () => { throw new Error("typing needs the live page: python -m lab.demo"); },
    picked: async (given) => stored(exported.picked, given.caption),
    told: async (given) => stored(exported.told, given.video),
  } : {
    about: () => ask("api/about"),
    captions: (wanted) => ask(`api/captions?q=${encodeURIComponent(wanted)}`),
    videos: (wanted) => ask(`api/videos?q=${encodeURIComponent(wanted)}`),
    typed: (given) => ask("api/typed", given),
    picked: (given) => ask("api/picked", given),
    told: (given) => ask("api/told_of", given),
  };

  const heads = () => [...new Set([state.a, state.b].filter(Boolean))].map((key) => about.heads.find((one) => one.key === key));

  // -- the address holds what is shown ------------------------------------------------------------------------------

  function remember() {
    const kept = new URLSearchParams();
    for (const [key, value] of Object.entries(state)) if (value !== null && value !== "") kept.set(key, value);
    history.replaceState(null, "", `#${kept}`);
  }

  function recall() {
    const kept = new URLSearchParams(location.hash.slice(1));
    for (const key of Object.keys(state)) {
      const value = kept.get(key);
      if (value !== null) state[key] = ["caption", "video"].includes(key) ? Number(value) : value;
    }
    const known = new Set(about.heads.map((one) => one.key));
    if (!known.has(state.a)) state.a = about.first;
    const other = about.heads.find((one) => one.key === "mean" && one.key !== state.a) || about.heads.find((one) => one.key !== state.a);
    if (state.b === null && !kept.has("a")) state.b = other ? other.key : "";
    if (!known.has(state.b)) state.b = "";
    if (state.mode !== "video") state.mode = "text";
  }

  // -- asking and showing -------------------------------------------------------------------------------------------

  async function show({ focus = false } = {}) {
    const mine = ++asked;
    const slow = setTimeout(() => { if (mine === asked) busy(true); }, 120);
    at("error").hidden = true;
    try {
      const given = { heads: heads().map((one) => one.key), video: state.video };
      let drawn = null;
      if (state.mode === "video") {
        if (state.video === null) state.video = (await source.videos("")).videos[0]?.row ?? null;
        if (state.video !== null) drawn = toldOf(await source.told({ ...given, video: state.video }));
      } else if (state.text !== null) {
        drawn = found(await source.typed({ ...given, text: state.text }));
      } else {
        if (state.caption === null) state.caption = exported ? exported.captions[0].row : await random();
        if (state.caption !== null) drawn = found(await source.picked({ ...given, caption: state.caption }));
      }
      if (mine !== asked) return;
      remember();
      at("answer").replaceChildren(...(drawn || [el("p", { className: "small" }, "There is nothing to show here.")]));
      const said = at("answer").querySelector(".rank");
      at("status").textContent = said ? `Answer: ${said.getAttribute("aria-label")}` : "";
      if (focus) at("answer").focus({ preventScroll: true });
    } catch (error) {
      if (mine === asked) complain(error);
    } finally {
      clearTimeout(slow);
      if (mine === asked) busy(false);
    }
  }

  function complain(error) {
    at("error").textContent = error.message;
    at("error").hidden = false;
  }

  function busy(is) {
    at("answer").setAttribute("aria-busy", String(is));
    at("progress").hidden = !is;
    if (is) at("status").textContent = "Loading";
  }

  async function random() {
    const { captions } = await source.captions("");
    const others = captions.filter((one) => one.row !== state.caption);
    const from = others.length ? others : captions;
    return from.length ? from[Math.floor(Math.random() * from.length)].row : null;
  }

  /** The parts of an answer to a text. */
  function found(answer) {
    const all = heads();
    const shown = all.map((head) => [head, answer.heads[head.key].shown]);
    const first = shown[0][1];
    const seen = stage(answer.video, first, answer);
    const kicker = answer.caption === null ? ["Query"] : ["A caption of ", el("b", {}, nameOfTruth(answer))];
    if (answer.seconds) kicker.push(" · ", el("span", { className: "true" }, `tells of ${answer.seconds[0].toFixed(1)} to ${answer.seconds[1].toFixed(1)} s`));
    if (answer.needs_sound) kicker.push(" · needs the sound");
    const ranking = answer.truth === null || answer.truth === answer.video.row ? "" : " of its own video, which is not the one shown";
    return [
      el("p", { className: "kicker" }, kicker),
      el("h1", { className: answer.text.length > 160 ? "quote long" : "quote" }, `“${answer.text}”`),
      answer.notes.map((note) => el("p", { className: "note" }, note)),
      el("div", { className: "stand" },
        seen.element,
        el("div", {},
          el("h2", { className: ranking ? "" : "hidden" }, `The rank${ranking}`),
          el("div", { className: "scores" }, all.map((head) => draw.standing(head, answer.heads[head.key], answer.of, "video"))))),
      part("What the text looks at", answer.seconds
        ? "What each frame counts for this text. Dotted: all frames alike. Green: the seconds that the caption tells of; at the right, how much of the weight is there."
        : "What each frame counts for this text. Dotted: all frames alike.",
      draw.chart(answer.video, shown, answer.truth === answer.video.row ? answer.seconds : null, seen.go)),
      part("The five best videos", "By the frame that the text looks at most. Under each, what its frames count.",
        el("div", { className: "beside" }, all.map((head) => draw.cards(head, answer.heads[head.key].top,
          exported ? null : (row) => { state.video = row; show({ focus: true }).then(toTop); })))),
      wordsPart(answer, all, first.times_s),
      soundPart(answer, all),
    ].flat(Infinity);
  }

  const toTop = () => at("answer").scrollIntoView({ block: "start" });
  const part = (title, told, ...inside) => el("section", { className: "part" },
    el("h2", {}, title), told ? el("p", { className: "about" }, told) : null, inside);

  function nameOfTruth(answer) {
    if (answer.truth === answer.video.row) return answer.video.id;
    const hit = Object.values(answer.heads).flatMap((one) => one.top).find((one) => one.truth);
    return hit ? hit.video : "another video";
  }

  function wordsPart(answer, all, times) {
    const fitting = all.filter((head) => answer.heads[head.key].words);
    if (!fitting.length) return [];
    const looking = fitting.find((head) => answer.heads[head.key].words.share !== null);
    const chosen = fitting.find((head) => head.key === state.words) || looking || fitting[0];
    const made = part("Words and frames", null);
    const fill = (head) => {
      const { meaning } = answer.heads[head.key].words;
      const attends = answer.heads[head.key].words.share !== null;
      made.replaceChildren(
        el("h2", {}, "Words and frames"),
        el("p", { className: "about" }, attends
          ? "Where each word looks; at the right, what the word counts."
          : `This head looks at the sentence alone, so here is the ${meaning}, from the least to the most.`),
        fitting.length > 1 ? el("div", { className: "switch", role: "group", "aria-label": "Words under which head" },
          fitting.map((one) => el("button", {
            type: "button", className: "head", css: draw.colours(one), "aria-pressed": String(one.key === head.key),
            onclick: () => { state.words = one.key; remember(); fill(one); made.querySelector("[aria-pressed=true]").focus(); },
          }, draw.named(one)))) : "",
        draw.words(answer.video, head, answer.heads[head.key].words, times));
    };
    fill(chosen);
    return [made];
  }

  function soundPart(answer, all) {
    const told = answer.heads[all[0].key].sound.told;
    const hearing = all.filter((head) => answer.heads[head.key].sound.segments.length);
    if (told === "the store holds no sound") return [];
    const lines = {
      sound: hearing.length ? "How close the text is to each stretch of the video's sound, from its start to its end."
        : "The video has sound. These heads do not hear it: cmfi does.",
      silent: `The video is silent.${hearing.length ? " How close the text is to each stretch of this silence." : ""}`, "no sound track": "The video has no sound track.",
    };
    return [part("Sound", lines[told] || "It is not known whether the video has sound.",
      hearing.map((head) => draw.sound(head, answer.heads[head.key].sound)))];
  }

  /** The video from the attended second, where its file is still there; else its frames. */
  function stage(video, hit, answer) {
    const known = hit && hit.times_s.every((time) => time !== null);
    const start = hit && hit.attended.length ? hit.attended[0][0] : answer && answer.seconds ? answer.seconds[0] : 0;
    const seen = el("div", { className: "seen" });
    const under = el("p", { className: "under" },
      answer && answer.truth === video.row ? el("span", { className: "truly" }, "ground truth") : null,
      el("span", { className: "id" }, video.id),
      video.duration === null ? null : el("span", { className: "number" }, draw.seconds(video.duration)));
    const still = (place) => seen.replaceChildren(draw.frame(video.row, place, video.pictures, `A frame of ${video.id}`)
      || el("p", { className: "none" }, "The store has no pictures of this video."));
    let go = still;
    const frames = () => { go = still; still(hit && hit.weights.length ? draw.best(hit.weights) : 0); };
    if (video.file) {
      const player = el("video", { src: `video/${video.row}#t=${start.toFixed(2)}`, controls: true, preload: "metadata", playsInline: true, "aria-label": `The video ${video.id}` });
      player.addEventListener("error", () => { frames(); replay.remove(); }, { once: true });
      const replay = el("button", { type: "button", className: "plain", onclick: () => { player.currentTime = start; player.play().catch(() => {}); } }, `Play from ${draw.seconds(start)}`);
      under.append(replay);
      seen.append(player);
      go = (place) => { if (known) player.currentTime = hit.times_s[place] + 0.01; };
    } else {
      frames();
    }
    return { element: el("div", {}, seen, under), go: (place) => go(place) };
  }

  /** The parts of an answer to a video. */
  function toldOf(answer) {
    const all = heads();
    const captions = exported ? (row) => (exported.picked[row] ? pick(row) : null) : pick;
    function pick(row) {
      return () => { Object.assign(state, { mode: "text", caption: row, text: null, video: null }); mode(); show({ focus: true }).then(toTop); };
    }
    for (const item of at("video-list").querySelectorAll("button")) {
      item.setAttribute("aria-current", String(Number(item.dataset.row) === answer.video.row));
    }
    const ranked = all.filter((head) => answer.heads[head.key].rank !== null);
    return [
      el("p", { className: "kicker" }, "Video"),
      el("h1", { className: "quote name" }, answer.video.id),
      el("div", { className: "stand" },
        stage(answer.video, null, null).element,
        el("div", { className: "scores" }, ranked.map((head) => standingOf(head, answer)))),
      part("The captions that fit it best", "Of all captions of the split. Green: its own.",
        el("div", { className: "beside" }, all.map((head) => draw.ranked(head, answer.heads[head.key], captions)))),
    ];
  }

  function standingOf(head, answer) {
    const { rank } = answer.heads[head.key];
    return el("div", { className: "score head", css: draw.colours(head) },
      el("p", {}, draw.named(head)), el("p", { className: "told" }, head.told),
      el("p", { className: "rank", "aria-label": `its best own caption at rank ${draw.rank(rank)} of ${answer.of}` },
        draw.rank(rank), el("small", {}, `of ${draw.plural(answer.of, "caption")}, its own best`)));
  }

  // -- controls -----------------------------------------------------------------------------------------------------

  function mode() {
    const video = state.mode === "video";
    at("ask-text").hidden = video;
    at("ask-video").hidden = !video;
    at("mode-text").setAttribute("aria-pressed", String(!video));
    at("mode-video").setAttribute("aria-pressed", String(video));
    if (video) listVideos();
  }

  /** Of the lists that were asked for while somebody types, the last alone is shown. */
  const latest = { captions: 0, videos: 0 };

  async function listCaptions() {
    const mine = ++latest.captions;
    const list = await source.captions(at("filter-captions").value).catch(complain);
    if (!list || mine !== latest.captions) return;
    const { of, captions } = list;
    at("caption-list").replaceChildren(...captions.map((one) => el("li", {}, el("button", {
      type: "button", "data-row": one.row,
      onclick: () => { panel(false); Object.assign(state, { caption: one.row, text: null, video: null }); at("query").value = ""; show({ focus: true }); },
    }, el("span", {}, one.text), el("span", { className: "of", title: one.video }, one.video)))));
    at("caption-count").textContent = of > captions.length
      ? `${captions.length} of ${draw.plural(of, "caption")}: type to narrow them down` : draw.plural(of, "caption");
  }

  async function listVideos() {
    const mine = ++latest.videos;
    const list = await source.videos(at("filter-videos").value).catch(complain);
    if (!list || mine !== latest.videos) return;
    const { of, videos } = list;
    at("video-list").replaceChildren(...videos.map((one) => el("li", {}, el("button", {
      type: "button", "data-row": one.row, "aria-current": String(one.row === state.video),
      onclick: () => { state.video = one.row; show(); },
    }, el("span", { className: "picture" }, draw.frame(one.row, 0, one.pictures)), el("span", { className: "name", title: one.id }, one.id)))));
    at("video-count").textContent = of > videos.length ? `${videos.length} of ${draw.plural(of, "video")}: type to narrow them down` : "";
  }

  function panel(open) {
    at("captions").hidden = !open;
    at("open-captions").setAttribute("aria-expanded", String(open));
    if (open) { listCaptions(); at("filter-captions").focus(); }
  }

  function arrows(event) {
    const step = { ArrowDown: 1, ArrowUp: -1, ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const items = [...event.currentTarget.querySelectorAll("button")];
    const next = items[items.indexOf(document.activeElement) + step];
    if (next) { next.focus(); event.preventDefault(); }
  }

  function fillMenu(menu, chosen, empty) {
    const group = (label, some) => (some.length ? el("optgroup", { label }, some.map((one) => el("option", { value: one.key }, one.label))) : null);
    menu.replaceChildren(...[empty ? el("option", { value: "" }, "no other head") : null,
      group("Trained", about.heads.filter((one) => one.trained)),
      group("Without training", about.heads.filter((one) => !one.trained))].filter(Boolean));
    menu.value = chosen;
  }

  function wire() {
    at("typed").addEventListener("submit", (event) => {
      event.preventDefault();
      Object.assign(state, { text: at("query").value, caption: null, video: null });
      panel(false);
      show({ focus: true });
    });
    at("another").addEventListener("click", async () => {
      try {
        Object.assign(state, { caption: await random(), text: null, video: null });
      } catch (error) {
        complain(error);
        return;
      }
      at("query").value = "";
      show();
    });
    at("open-captions").addEventListener("click", () => panel(at("captions").hidden));
    at("captions").addEventListener("keydown", (event) => {
      if (event.key === "Escape") { panel(false); at("open-captions").focus(); }
      if (event.key === "ArrowDown" && event.target === at("filter-captions")) {
        at("caption-list").querySelector("button")?.focus();
        event.preventDefault();
      }
    });
    at("caption-list").addEventListener("keydown", arrows);
    at("video-list").addEventListener("keydown", arrows);
    at("filter-captions").addEventListener("input", listCaptions);
    at("filter-videos").addEventListener("input", listVideos);
    at("head-a").addEventListener("change", () => { state.a = at("head-a").value; show(); });
    at("head-b").addEventListener("change", () => { state.b = at("head-b").value; show(); });
    at("mode-text").addEventListener("click", () => { Object.assign(state, { mode: "text", video: null }); mode(); show(); });
    at("mode-video").addEventListener("click", () => { state.mode = "video"; mode(); show(); });
  }

  /** Pictures of a collection mostly have one shape: that of the first that is seen. */
  function shape(event) {
    const { naturalWidth, naturalHeight } = event.target;
    if (!naturalWidth || !naturalHeight) return;
    document.documentElement.style.setProperty("--ratio", Math.min(1.8, Math.max(0.6, naturalWidth / naturalHeight)));
    document.removeEventListener("load", shape, true);
  }

  async function start() {
    document.addEventListener("load", shape, true);
    busy(true);
    try {
      about = await source.about();
    } catch (error) {
      complain(error);
      busy(false);
      return;
    }
    recall();
    at("where").textContent = `${about.name}, split ${about.split}: ${draw.plural(about.videos, "video")}`;
    document.title = `${about.name} · retrieval-lab`;
    at("notes").replaceChildren(...about.notes.map((note) => el("p", {}, note)));
    at("source").textContent = `${about.store}, protocol ${about.protocol}, split ${about.split}, ${draw.plural(about.captions, "caption")}; passport ${about.fingerprint}. `
      + (exported ? "Files of python -m lab.demo --export." : `No request leaves this machine.${about.others.length ? ` Other splits, by --split: ${about.others.join(", ")}.` : ""}`);
    const out = Object.entries(about.left_out);
    at("left-out").hidden = !out.length;
    at("left-out").querySelector("summary").textContent = `${draw.plural(out.length, "run")} left out`;
    at("left-out").querySelector("ul").replaceChildren(...out.map(([name, why]) => el("li", {}, `${name}: ${why}`)));
    at("typed").hidden = !about.typed;
    fillMenu(at("head-a"), state.a, false);
    fillMenu(at("head-b"), state.b, true);
    if (state.text !== null) at("query").value = state.text;
    wire();
    mode();
    await show();
  }

  start();
})();

"use strict";
/* Marks on the page, from plain data. Text goes in as text nodes only, so that nothing that was typed or read from a
   store is ever taken for markup. */

const draw = (() => {
  /** An element; `has` are properties, `data-`, `aria-` and `role` attributes; children are elements or text. */
  function el(name, has = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(has)) {
      if (value === undefined || value === null) continue;
      if (key === "css") for (const [property, set] of Object.entries(value)) made.style.setProperty(property, set);
      else if (key.includes("-") || key === "role") made.setAttribute(key, value);
      else made[key] = value;
    }
    for (const child of children.flat(Infinity)) {
      if (child !== null && child !== undefined && child !== false) made.append(child);
    }
    return made;
  }

  const seconds = (value) => `${value.toFixed(1)} s`;
  const score = (value) => value.toFixed(3).replace("-", "−");
  const percent = (value) => `${Math.round(100 * value)} %`;
  const rank = (value) => (Number.isInteger(value) ? String(value) : value.toFixed(1));
  const colours = (head) => ({ "--day": head.colour, "--night": head.night });
  const plural = (count, what) => `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;

  function best(weights) {
    return weights.reduce((top, weight, i) => (weight > weights[top] ? i : top), 0);
  }

  /** Where a text looks, in words. */
  function attended(hit) {
    if (!hit.weights.length) return "weighs no frames";
    if (hit.times_s.some((time) => time === null)) return `most at frame ${best(hit.weights) + 1}`;
    if (!hit.attended.length) return "all frames alike";
    const [start, end] = hit.attended[0];
    return `looks at ${start.toFixed(1)}–${end.toFixed(1)} s`;
  }

  function named(head) {
    return [el("span", { className: "swatch", "aria-hidden": "true" }), el("span", { className: "label" }, head.label)];
  }

  function frame(row, place, pictures, alt = "") {
    if (place >= pictures) return null;
    return el("img", { src: `frames/${row}-${place}.jpg`, alt, loading: "lazy", decoding: "async" });
  }

  /** Where a head ranks the video, and where without each modality. */
  function standing(head, found, of, what) {
    const lines = found.without.map((one) => [
      el("dt", {}, `without ${one.what}`),
      el("dd", { className: one.rank !== null && one.rank > found.rank ? "worse" : "" },
        one.rank === null ? "no sound to go by" : `${rank(one.rank)}${one.of === of ? "" : ` of ${one.of}`}`),
    ]);
    return el("div", { className: "score head", css: colours(head), "data-head": head.key },
      el("p", {}, named(head)),
      el("p", { className: "told" }, head.told),
      el("p", { className: "rank", "aria-label": `rank ${rank(found.rank)} of ${of}` },
        rank(found.rank), el("small", {}, `of ${plural(of, what)}`)),
      el("dl", {},
        found.score === undefined ? null : [el("dt", {}, "similarity"), el("dd", {}, score(found.score))],
        lines,
        found.without.length ? null
          : el("p", { className: "nothing" }, "Sentence and frames alone: no modality to leave out.")));
  }

  /** Frames with their times, and a row of bars for each head: `shown` is [[head, hit], ...]. */
  function chart(video, shown, told, onFrame) {
    const times = shown[0][1].times_s;
    const known = times.every((time) => time !== null);
    const inside = times.map((time) => told !== null && time !== null && time + 5e-4 >= told[0] && time + 5e-4 < told[1]);
    const parts = [el("span", { className: "side empty" })];
    times.forEach((time, i) => {
      const name = known ? `frame at ${seconds(time)}` : `frame ${i + 1}`;
      parts.push(el("button", {
        type: "button", className: "frame", "aria-label": `Show the ${name}`, onclick: () => onFrame(i), "data-frame": i,
      }, frame(video.row, i, video.pictures)));
    });
    parts.push(el("span", { className: "end" }));
    if (told !== null && known) {
      parts.push(el("span", { className: "side tag" }, "what it tells of"));
      for (const truth of inside) parts.push(el("span", { className: truth ? "when in" : "when" }));
      parts.push(el("span", { className: "end" }));
    }
    parts.push(el("span", { className: "side empty" }));
    times.forEach((time, i) => parts.push(el("span", { className: "time" }, known ? time.toFixed(1) : `${i + 1}`)));
    parts.push(el("span", { className: "end" }, known ? "seconds" : "frame"));
    const peak = Math.max(...shown.flatMap(([, hit]) => hit.weights), 1e-9);
    for (const [head, hit] of shown) {
      const grid = { className: "head", css: { ...colours(head), display: "contents" }, role: "img" };
      if (!hit.weights.length) {
        parts.push(el("div", grid, el("span", { className: "side" }, named(head)),
          el("span", { className: "time", css: { "grid-column": "2 / -1" } }, "weighs no frames")));
        continue;
      }
      grid["aria-label"] = `Weights of frames under ${head.label}: ` + hit.weights
        .map((weight, i) => `${known ? seconds(times[i]) : i + 1} ${percent(weight)}`).join(", ");
      const even = 100 / hit.weights.length / peak;
      const kept = told === null ? null : hit.weights.reduce((sum, weight, i) => sum + (inside[i] ? weight : 0), 0);
      parts.push(el("div", grid,
        el("span", { className: "side" }, named(head)),
        hit.weights.map((weight, i) => el("span", { className: inside[i] ? "column in" : "column", title: percent(weight) },
          el("b", { css: { bottom: `${even}%` } }),
          el("i", { css: { height: `${100 * weight / peak}%` } }))),
        el("span", { className: "end", title: kept === null ? "the largest weight" : "of the weight is on what it tells of" },
          kept === null ? `≤ ${percent(Math.max(...hit.weights))}` : percent(kept))));
    }
    return el("div", { className: "scroll" },
      el("div", { className: "chart", css: { "--frames": times.length } }, parts));
  }

  /** Words × frames under one head. */
  function words(video, head, found, times) {
    const all = found.values.flat();
    const low = found.share === null ? Math.min(...all) : 0;
    const high = Math.max(...all);
    const share = found.share === null ? 1 : Math.max(...found.share);
    const parts = [el("span", { className: "side empty" })];
    times.forEach((time, i) => parts.push(el("span", { className: "time" }, time === null ? `${i + 1}` : time.toFixed(1))));
    parts.push(el("span", { className: "end" }, found.share === null ? "" : "counts"));
    found.words.forEach((word, row) => {
      const values = found.values[row];
      parts.push(el("div", {
        css: { display: "contents" }, role: "img",
        "aria-label": `${word}: most at frame ${best(values) + 1}` +
          (found.share === null ? "" : `, counts ${percent(found.share[row])}`),
      },
      el("span", { className: "side word", title: word }, word),
      values.map((value) => el("span", {
        className: "cell", title: found.share === null ? score(value) : percent(value),
        css: { "--much": `${(100 * (value - low)) / Math.max(high - low, 1e-9)}%` },
      })),
      found.share === null ? el("span", { className: "end" })
        : el("span", { className: "share", title: percent(found.share[row]), css: { width: `${100 * found.share[row] / share}%` } })));
    });
    return el("div", { className: "scroll" },
      el("div", { className: "chart head", css: { ...colours(head), "--frames": times.length } }, parts));
  }

  /** How close each stretch of the sound is to the text. */
  function sound(head, found) {
    const most = Math.max(...found.segments.map(Math.abs), 1e-9);
    return el("div", {
      className: "sound head", css: colours(head), role: "img",
      "aria-label": `Similarity of the text with each stretch of sound under ${head.label}: ${found.segments.map(score).join(", ")}`,
    },
    el("span", { className: "side" }, named(head)),
    el("span", { className: "bars" }, found.segments.map((value) => el("i", {
      title: score(value), css: { height: `${Math.max(0, 100 * value / most)}%` },
    }))),
    el("span", { className: "end small" }, `≤ ${score(Math.max(...found.segments))}`));
  }

  /** The best videos under a head; `onVideo` makes each a button. */
  function cards(head, hits, onVideo) {
    return el("div", { className: "head", css: colours(head), "data-head": head.key },
      el("h3", {}, named(head)),
      el("ol", { className: "cards" }, hits.map((hit, i) => {
        const place = hit.weights.length ? best(hit.weights) : 0;
        const peak = Math.max(...hit.weights, 1e-9);
        return el("li", {}, el(onVideo ? "button" : "div", {
          type: onVideo ? "button" : undefined, className: hit.truth ? "card true" : "card", "data-row": hit.row,
          onclick: onVideo ? () => onVideo(hit.row) : null,
        },
        el("span", { className: "picture" }, frame(hit.row, place, hit.pictures),
          el("span", { className: "place" }, el("span", { className: "hidden" }, "place "), String(i + 1))),
        el("span", { className: "spark", "aria-hidden": "true" },
          hit.weights.map((weight) => el("i", { css: { height: `${100 * weight / peak}%` } }))),
        el("span", { className: "name" }, el("b", { title: hit.video }, hit.video), el("span", {}, score(hit.score))),
        el("span", { className: "when" }, attended(hit)),
        hit.truth ? el("span", { className: "when tag" }, "ground truth") : null));
      })));
  }

  /** The captions that a head ranks highest for a video. */
  function ranked(head, found, onCaption) {
    return el("div", { className: "head", css: colours(head), "data-head": head.key },
      el("h3", {}, named(head)),
      el("ol", { className: "ranked" }, found.captions.map((caption, i) => el("li", {},
        el(onCaption(caption.row) ? "button" : "div", {
          type: onCaption(caption.row) ? "button" : undefined, onclick: onCaption(caption.row),
          className: `line${caption.own ? " own" : ""}`,
        },
        el("span", { className: "place" }, String(i + 1)),
        el("span", {}, el("em", {}, caption.text), " ",
          caption.own ? el("span", { className: "truly" }, "its own") : el("span", { className: "small" }, caption.video)),
        el("span", { className: "value" }, score(caption.score)))))));
  }

  return { el, seconds, rank, plural, best, colours, named, frame, standing, chart, words, sound, cards, ranked };
})();

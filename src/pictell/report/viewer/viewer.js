/* A picture with its captions: move over a word and see where the model looked.

     const viewer = pictellViewer.mount(element, {
       picture: "photo.jpg", width: 640, height: 480, alt: "two dogs", language: "en",
       models: [{ name: "attention", caption: "two dogs", kind: "attention",
                  words: [{ text: "two", probability: 0.8,
                            alternatives: [{ text: "some", probability: 0.1 }] }, ...],
                  grid: [14, 14], seen: [0, 0, 640, 480],
                  maps: [[196 numbers], ...] }],     // or { scale: [a number a word], data: base64 }
     });
     viewer.destroy();

   `kind` is "attention" (each map sums to one), "occlusion" (how much a word's log-probability
   falls when a patch is greyed) or "none". `seen` is what the maps cover: left, top, right, bottom
   in the picture's pixels. As base64, `data` holds a byte for each word, row and column, where 255
   stands for the word's `scale`. Optional: `captionLanguage` for screen readers, and
   `print: "picture"` to leave the small pictures of all words off paper.

   Nothing is fetched, nothing is evaluated, and no style is written as text, so that it works under
   a strict Content-Security-Policy and inside a single file alike. */
"use strict";

(function () {
  // Colours 0, 16, ... 255 of pictell.report.colours.heat_colours.
  const RAMP = [
    "1b0037 2e0047 450052 5d0059 77005b 900058 a90052 bf1148 d22d3a",
    "e14629 ec6013 f47b00 f7951a f8af3e f7c762 f6de88 f7f3ae",
  ]
    .join(" ")
    .split(" ")
    .map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  const COLOURS = Array.from({ length: 256 }, (_, i) => colourOf(i / 255));
  const UNSEEN_ALPHA = 190;
  const PLAY_MILLISECONDS = 1100;
  const DRAWN_WIDTH = 320; // pixels of the canvas; the page scales it

  const TEXTS = {
    en: {
      attention: "attention",
      occlusion: "occlusion",
      none: "no maps",
      play: "Play",
      pause: "Pause",
      smooth: "Smooth",
      cells: "Cells",
      shape: "How the map is drawn",
      strength: "Strength",
      all: "All words",
      words: (name) => `Words of the caption by ${name}; arrow keys move from word to word`,
      hint: "Point at a word, or tap it.",
      hintNoMaps: "Point at a word to see how sure the model was.",
      instead: "Instead",
      end: "(end)",
      empty: "(no words)",
      controls: "Attention controls",
      percent: (value) => `${value} %`,
      sentence: (word, value) => `${word}: probability ${value}.`,
      runnersUp: (list) => `Instead: ${list}.`,
      looked: (place, share, even) =>
        `Looks most at the ${place}: ${share} of its attention on one cell; even attention would be ${even}.`,
      falls: (place, fall) =>
        `Greying the ${place} costs this word most: its log-probability falls by ${fall}.`,
      noFall: "Greying any patch does not make this word less likely.",
      rows: ["top", "middle", "bottom"],
      columns: ["left", "centre", "right"],
      place: (row, column) =>
        row === "middle" && column === "centre" ? "centre" : `${row} ${column}`,
      separator: ", ",
    },
    zh: {
      attention: "注意力",
      occlusion: "遮挡",
      none: "没有图",
      play: "播放",
      pause: "暂停",
      smooth: "平滑",
      cells: "方格",
      shape: "图的画法",
      strength: "强度",
      all: "所有词",
      words: (name) => `${name} 描述中的词；用方向键逐词移动`,
      hint: "把光标移到词上，或轻点一个词。",
      hintNoMaps: "把光标移到词上，看模型有多大把握。",
      instead: "其他候选",
      end: "（结束）",
      empty: "（没有词）",
      controls: "注意力控件",
      percent: (value) => `${value}%`,
      sentence: (word, value) => `${word}：概率 ${value}。`,
      runnersUp: (list) => `其他候选：${list}。`,
      looked: (place, share, even) =>
        `最注意${place}：一个格子占注意力的 ${share}；平均分配时为 ${even}。`,
      falls: (place, fall) => `遮住${place}对这个词影响最大：对数概率下降 ${fall}。`,
      noFall: "遮住任何一块都不会降低这个词的概率。",
      rows: ["上", "中", "下"],
      columns: ["左", "中", "右"],
      place: (row, column) => (row === "中" && column === "中" ? "中央" : `${column}${row}部`),
      separator: "、",
    },
  };

  let mounted = 0;

  // -- the maps -----------------------------------------------------------------------------------

  /** A colour of the scale, red, green and blue, for a strength of 0 to 1. */
  function colourOf(strength) {
    const place = strength * (RAMP.length - 1);
    const low = Math.min(Math.floor(place), RAMP.length - 2);
    return RAMP[low].map((value, i) => value + (RAMP[low + 1][i] - value) * (place - low));
  }

  /** One {largest, strength} a word: the largest value, and each cell as a share of it, 0 to 1. */
  function readMaps(model) {
    if (model.kind === "none" || !model.maps) return null;
    const cells = model.grid[0] * model.grid[1];
    const maps = Array.isArray(model.maps) ? model.maps.map(fromNumbers) : fromBytes(model.maps, cells);
    if (maps.length !== model.words.length || maps.some((map) => map.strength.length !== cells)) {
      throw new Error(`${model.name}: ${model.words.length} words need as many maps of ${cells} cells`);
    }
    return maps;
  }

  function fromNumbers(values) {
    const largest = Math.max(0, ...values);
    const strength = Float32Array.from(values, (v) => (largest > 0 ? Math.max(0, v) / largest : 0));
    return { largest, strength };
  }

  function fromBytes({ scale, data }, cells) {
    const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
    return scale.map((largest, word) => ({
      largest,
      strength: Float32Array.from(bytes.subarray(word * cells, (word + 1) * cells), (b) => b / 255),
    }));
  }

  /** For each of `pixels` places along one axis: the cells that count there and their weights, or
      null where the maps do not reach.

      Keys (1981), cubic convolution with a = -1/2; the outermost cells go on for ever. */
  function axisWeights(pixels, size, from, to, cells, smooth) {
    return Array.from({ length: pixels }, (_, pixel) => {
      const place = ((((pixel + 0.5) * size) / pixels - from) / (to - from)) * cells;
      if (place < 0 || place >= cells) return null;
      if (!smooth) return { cells: [Math.floor(place)], weights: [1] };
      const four = [0, 1, 2, 3].map((n) => Math.floor(place - 0.5) - 1 + n);
      return {
        cells: four.map((cell) => Math.min(Math.max(cell, 0), cells - 1)),
        weights: four.map((cell) => cubic(Math.abs(place - 0.5 - cell))),
      };
    });
  }

  function cubic(distance) {
    if (distance < 1) return 1.5 * distance ** 3 - 2.5 * distance ** 2 + 1;
    if (distance < 2) return -0.5 * distance ** 3 + 2.5 * distance ** 2 - 4 * distance + 2;
    return 0;
  }

  /** Weighted sum of some of `values`: those at start + stride * cell. */
  function weighted(values, start, stride, { cells, weights }) {
    let total = 0;
    for (let i = 0; i < cells.length; i++) total += weights[i] * values[start + stride * cells[i]];
    return total;
  }

  /** Draw a map over the whole picture; what the encoder did not see becomes dark. */
  function drawMap(canvas, map, view, options) {
    const { width, height, seen } = view;
    const [rows, columns] = view.grid;
    canvas.width = options.width;
    canvas.height = Math.max(1, Math.round((options.width * height) / width));
    const across = axisWeights(canvas.width, width, seen[0], seen[2], columns, options.smooth);
    const down = axisWeights(canvas.height, height, seen[1], seen[3], rows, options.smooth);
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    const line = new Float32Array(columns);
    for (let y = 0; y < canvas.height; y++) {
      if (down[y]) {
        for (let c = 0; c < columns; c++) line[c] = weighted(map.strength, c, columns, down[y]);
      }
      for (let x = 0; x < canvas.width; x++) {
        const at = 4 * (y * canvas.width + x);
        if (!down[y] || !across[x]) image.data[at + 3] = UNSEEN_ALPHA;
        else paint(image.data, at, weighted(line, 0, 1, across[x]), options.strength);
      }
    }
    context.putImageData(image, 0, 0);
  }

  function paint(data, at, strength, overlay) {
    const inside = Math.min(Math.max(strength, 0), 1); // a cubic overshoots
    const colour = COLOURS[Math.round(255 * inside)];
    data[at] = colour[0];
    data[at + 1] = colour[1];
    data[at + 2] = colour[2];
    data[at + 3] = 255 * overlay * (0.35 + 0.65 * inside); // low attention is told by colour too
  }

  /** Where the strongest cell lies, in words: thirds of the picture. */
  function placeOf(map, view, texts) {
    const peak = map.strength.indexOf(Math.max(...map.strength));
    const [rows, columns] = view.grid;
    const [left, top, right, bottom] = view.seen;
    const x = left + (((peak % columns) + 0.5) / columns) * (right - left);
    const y = top + ((Math.floor(peak / columns) + 0.5) / rows) * (bottom - top);
    const third = (share) => Math.min(2, Math.max(0, Math.floor(3 * share)));
    return texts.place(texts.rows[third(y / view.height)], texts.columns[third(x / view.width)]);
  }

  // -- small pieces of the page -------------------------------------------------------------------

  function make(tag, className, attributes = {}, ...children) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  function percent(probability, texts) {
    const value = 100 * probability;
    if (value > 0 && value < 0.1) return `< ${texts.percent("0.1")}`;
    return texts.percent(value < 9.95 ? value.toFixed(1) : value.toFixed(0));
  }

  function fall(value) {
    return value < 0.005 ? "< 0.01" : value.toFixed(2);
  }

  function shownWord(text, texts) {
    return text === "<end>" ? texts.end : text;
  }

  /** The picture with a canvas over it, in the picture's own shape. */
  function makeStage(options, className, alt) {
    const picture = make("img", "pv-picture", { src: options.picture, alt, decoding: "async" });
    const canvas = make("canvas", "pv-map", { "aria-hidden": "true" });
    const stage = make("div", className, {}, picture, canvas);
    stage.style.setProperty("--pv-ratio", `${options.width / options.height}`);
    return { stage, canvas };
  }

  /** A word's probability or a runner-up's as a line with a bar. */
  function probabilityLine(text, probability, className, texts) {
    const bar = make("span", "pv-bar");
    bar.style.setProperty("--pv-p", `${probability}`);
    return make(
      "div",
      `pv-line ${className}`,
      {},
      make("span", "pv-line-word", {}, shownWord(text, texts)),
      bar,
      make("span", "pv-line-value", {}, percent(probability, texts)),
    );
  }

  // -- one model ----------------------------------------------------------------------------------

  /** One model's side of a viewer: picture, words, what is known of the word that is lit. */
  class ModelView {
    constructor(model, options, settings, signal) {
      this.model = model;
      this.options = options;
      this.settings = settings;
      this.texts = settings.texts;
      this.maps = readMaps(model);
      this.view = { ...options, grid: model.grid, seen: model.seen };
      this.pinned = -1;
      this.hovered = -1;
      this.playing = -1;
      this.build(signal);
      this.show();
    }

    build(signal) {
      const { model, texts } = this;
      const { stage, canvas } = makeStage(this.options, "pv-stage", this.options.alt);
      this.stage = stage;
      this.canvas = canvas;
      this.buttons = model.words.map((word, index) => this.makeButton(word, index, signal));
      this.group = make("div", "pv-words", { role: "group", "aria-label": texts.words(model.name) });
      if (this.options.captionLanguage) this.group.lang = this.options.captionLanguage;
      this.group.append(...(this.buttons.length ? this.buttons : [texts.empty]));
      this.group.addEventListener("keydown", (event) => this.onKey(event), { signal });
      this.detail = make("div", "pv-detail", { "aria-hidden": "true" });
      this.status = make("p", "pv-hidden", { role: "status" });
      this.all = make("div", "pv-all");
      this.element = make(
        "div",
        "pv-model",
        { role: "group", "aria-label": model.name },
        make("p", "pv-name", {}, model.name, " ", make("small", "", {}, texts[model.kind])),
        stage,
        make("div", "pv-said", {}, this.group, this.detail, this.status),
        this.all,
      );
      this.all.hidden = true;
    }

    makeButton(word, index, signal) {
      const button = make("button", "pv-word", {
        type: "button",
        tabindex: index === 0 ? "0" : "-1",
        "aria-pressed": "false",
      });
      button.append(word.text);
      button.style.setProperty("--pv-p", `${word.probability}`);
      const on = (name, action) => button.addEventListener(name, action, { signal });
      on("pointerenter", (event) => event.pointerType !== "touch" && this.hover(index));
      on("pointerleave", () => this.hover(-1));
      on("click", () => this.pin(this.pinned === index ? -1 : index));
      // Only what the keyboard brought here: a click does its own.
      on("focus", () => button.matches(":focus-visible") && this.pin(index));
      return button;
    }

    onKey(event) {
      const last = this.buttons.length - 1;
      const at = this.buttons.indexOf(document.activeElement);
      const moves = {
        ArrowRight: Math.min(at + 1, last),
        ArrowDown: Math.min(at + 1, last),
        ArrowLeft: Math.max(at - 1, 0),
        ArrowUp: Math.max(at - 1, 0),
        Home: 0,
        End: last,
      };
      if (event.key === "Escape") this.pin(-1);
      else if (event.key in moves && at >= 0 && !event.altKey && !event.ctrlKey && !event.metaKey) {
        event.preventDefault();
        this.buttons[moves[event.key]].focus();
        this.pin(moves[event.key]);
      }
    }

    hover(index) {
      this.hovered = index;
      this.show();
    }

    pin(index) {
      this.pinned = index;
      this.settings.stop();
      if (index >= 0) this.buttons.forEach((button, i) => (button.tabIndex = i === index ? 0 : -1));
      this.show();
      this.status.textContent = index >= 0 ? this.sentences(index).join(" ") : "";
    }

    play(index) {
      this.playing = index < this.buttons.length ? index : this.buttons.length - 1;
      this.show();
    }

    get shown() {
      if (this.hovered >= 0) return this.hovered;
      return this.playing >= 0 ? this.playing : this.pinned;
    }

    /** Bring the page in line with the word that is lit. */
    show() {
      const shown = this.shown;
      this.buttons.forEach((button, i) => {
        button.setAttribute("aria-pressed", `${i === this.pinned}`);
        button.classList.toggle("pv-lit", i === shown);
      });
      const lit = this.maps !== null && shown >= 0;
      this.stage.classList.toggle("pv-on", lit);
      if (lit) drawMap(this.canvas, this.maps[shown], this.view, { ...this.settings, width: DRAWN_WIDTH });
      this.detail.replaceChildren(...(shown >= 0 ? this.describe(shown) : [this.hint()]));
      if (!this.all.hidden) this.drawAll();
    }

    hint() {
      const { texts } = this;
      return make("p", "pv-note", {}, this.maps ? texts.hint : texts.hintNoMaps);
    }

    describe(index) {
      const { text, probability, alternatives = [] } = this.model.words[index];
      const lines = [probabilityLine(text, probability, "pv-chosen", this.texts)];
      for (const other of alternatives) {
        lines.push(probabilityLine(other.text, other.probability, "", this.texts));
      }
      const looked = this.looked(index);
      if (looked) lines.push(make("p", "pv-note", {}, looked));
      return lines;
    }

    sentences(index) {
      const { text, probability, alternatives = [] } = this.model.words[index];
      const { texts } = this;
      const said = [texts.sentence(text, percent(probability, texts))];
      const others = alternatives.map(
        (other) => `${shownWord(other.text, texts)} ${percent(other.probability, texts)}`,
      );
      if (others.length) said.push(texts.runnersUp(others.join(texts.separator)));
      return [...said, this.looked(index)].filter(Boolean);
    }

    /** Where this word's map is strongest, as a sentence. */
    looked(index) {
      if (!this.maps) return "";
      const { texts, model } = this;
      const map = this.maps[index];
      if (model.kind === "occlusion") {
        if (map.largest <= 0) return texts.noFall;
        return texts.falls(placeOf(map, this.view, texts), fall(map.largest));
      }
      const even = 1 / (model.grid[0] * model.grid[1]);
      return texts.looked(
        placeOf(map, this.view, texts),
        percent(map.largest, texts),
        percent(even, texts),
      );
    }

    /** The picture once for each word, drawn when it is asked for. */
    drawAll() {
      if (!this.maps) return;
      if (!this.all.childElementCount) this.all.append(...this.maps.map((_, i) => this.makeSmall(i)));
      const canvases = this.all.querySelectorAll("canvas");
      this.maps.forEach((map, i) => {
        drawMap(canvases[i], map, this.view, { ...this.settings, width: DRAWN_WIDTH / 2 });
      });
    }

    makeSmall(index) {
      const { text, probability } = this.model.words[index];
      const { stage } = makeStage(this.options, "pv-stage pv-small pv-on", "");
      const value = make("small", "", {}, percent(probability, this.texts));
      return make("figure", "", {}, stage, make("figcaption", "", {}, text, " ", value));
    }
  }

  // -- the whole ----------------------------------------------------------------------------------

  /** The controls over all models of a viewer. */
  class Viewer {
    constructor(element, options) {
      this.element = element;
      this.stopListening = new AbortController();
      this.timer = 0;
      this.number = ++mounted;
      const texts = TEXTS[options.language] || TEXTS.en;
      this.settings = { texts, smooth: true, strength: 0.75, stop: () => this.pause() };
      const { signal } = this.stopListening;
      this.models = options.models.map((m) => new ModelView(m, options, this.settings, signal));
      this.root = make("div", "pictell-viewer", { lang: options.language === "zh" ? "zh-CN" : "en" });
      if (options.print === "picture") this.root.classList.add("pv-print-picture");
      const sides = make("div", "pv-models", {}, ...this.models.map((model) => model.element));
      sides.classList.toggle("pv-single", this.models.length === 1);
      this.root.append(...(this.hasMaps() ? [this.makeControls()] : []), sides);
      window.addEventListener("beforeprint", () => this.beforePrint(), { signal });
      element.replaceChildren(this.root);
    }

    hasMaps() {
      return this.models.some((model) => model.maps && model.maps.length);
    }

    makeControls() {
      const { texts } = this.settings;
      const playing = make("button", "pv-button", { type: "button" }, texts.play);
      this.playButton = playing;
      this.listen(playing, "click", () => (this.timer ? this.pause() : this.play()));
      const all = make("button", "pv-button", { type: "button", "aria-expanded": "false" }, texts.all);
      this.listen(all, "click", () => this.toggleAll(all));
      return make(
        "div",
        "pv-controls",
        { role: "group", "aria-label": texts.controls },
        playing,
        this.makeShapes(),
        this.makeStrength(),
        all,
        this.makeScale(),
      );
    }

    makeShapes() {
      const { texts } = this.settings;
      const shapes = make("span", "pv-shapes", { role: "group", "aria-label": texts.shape });
      const buttons = [true, false].map((smooth) => {
        const label = smooth ? texts.smooth : texts.cells;
        const pressed = `${smooth === this.settings.smooth}`;
        const button = make("button", "pv-button", { type: "button", "aria-pressed": pressed }, label);
        this.listen(button, "click", () => {
          buttons.forEach((other) => other.setAttribute("aria-pressed", `${other === button}`));
          this.set("smooth", smooth);
        });
        return button;
      });
      shapes.append(...buttons);
      return shapes;
    }

    makeStrength() {
      const slider = make("input", "pv-strength", { type: "range", min: "0", max: "100", step: "5" });
      slider.value = `${100 * this.settings.strength}`;
      this.listen(slider, "input", () => this.set("strength", slider.value / 100));
      return make("label", "pv-label", {}, this.settings.texts.strength, slider);
    }

    /** What the colours mean: from nothing to the strongest cell of the word's map. */
    makeScale() {
      const canvas = make("canvas", "pv-scale", { "aria-hidden": "true" });
      canvas.width = 64;
      canvas.height = 1;
      const context = canvas.getContext("2d");
      for (let x = 0; x < 64; x++) {
        context.fillStyle = `rgb(${colourOf(x / 63).map(Math.round).join(" ")})`;
        context.fillRect(x, 0, 1, 1);
      }
      return make("span", "pv-legend", { "aria-hidden": "true" }, "0", canvas, "max");
    }

    listen(target, name, action) {
      target.addEventListener(name, action, { signal: this.stopListening.signal });
    }

    set(name, value) {
      this.settings[name] = value;
      this.models.forEach((model) => model.show());
    }

    toggleAll(button) {
      const open = button.getAttribute("aria-expanded") !== "true";
      button.setAttribute("aria-expanded", `${open}`);
      for (const model of this.models) {
        model.all.hidden = !open;
        if (open) model.drawAll();
      }
    }

    beforePrint() {
      const wanted = !this.root.classList.contains("pv-print-picture");
      for (const model of this.models) if (wanted || !model.all.hidden) model.drawAll();
    }

    play() {
      const longest = Math.max(...this.models.map((model) => model.buttons.length));
      let word = 0;
      const next = () => {
        if (word >= longest) return this.pause();
        this.models.forEach((model) => model.play(word));
        word += 1;
        this.timer = window.setTimeout(next, PLAY_MILLISECONDS);
        return undefined;
      };
      this.playButton.textContent = this.settings.texts.pause;
      next();
    }

    pause() {
      if (!this.timer) return;
      window.clearTimeout(this.timer);
      this.timer = 0;
      this.playButton.textContent = this.settings.texts.play;
      this.models.forEach((model) => model.play(-1));
    }

    destroy() {
      this.pause();
      this.stopListening.abort();
      this.root.remove();
    }
  }

  globalThis.pictellViewer = {
    mount: (element, options) => {
      const viewer = new Viewer(element, options);
      return { destroy: () => viewer.destroy() };
    },
  };
})();

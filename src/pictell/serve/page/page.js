/* The page of `pictell serve`: pictures in, captions out, each picture in a request of its own, so
   that captions appear as they are made and the server works on what arrives together. */
"use strict";

(function () {
  const AT_ONCE = 4; // requests in flight: enough for the server to make batches of
  const RETRIES = 5;
  const MESSAGE_MILLISECONDS = 4000;
  const byId = (id) => document.getElementById(id);

  let texts = globalThis.pictellTexts.en;
  let language = "en";
  let server = null; // the answer of /v1/models
  let started = null; // a promise: the answer has come, or will not
  let cards = [];
  let waiting = [];
  let inFlight = 0;

  // -- small pieces -------------------------------------------------------------------------------

  function make(tag, className, attributes = {}, ...children) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  function button(text, label, action) {
    const element = make("button", "", { type: "button", "aria-label": label }, text);
    element.addEventListener("click", action);
    return element;
  }

  function say(message) {
    byId("status").textContent = message;
  }

  const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

  /** Put a text where people can paste it, also where a page may not write to the clipboard. */
  async function copy(text) {
    try {
      if (navigator.clipboard) await navigator.clipboard.writeText(text);
      else copyBySelection(text);
      say(texts.copied);
    } catch {
      say(texts.copyFailed);
    }
    setTimeout(showProgress, MESSAGE_MILLISECONDS);
  }

  /** The old way: a browser keeps its clipboard from pages that came without encryption. */
  function copyBySelection(text) {
    const area = make("textarea", "hidden", { "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) throw new Error("not copied");
  }

  // -- asking the server --------------------------------------------------------------------------

  /** An error that holds words for people. */
  class Told extends Error {}

  function formOf(card, { occlusion, models }) {
    const form = new FormData();
    form.append("pictures", card.file, card.file.name);
    for (const name of models) form.append("models", name);
    form.append("beam", byId("beam").value);
    form.append("max_length", byId("max-length").value);
    form.append("length_penalty", byId("length-penalty").value);
    form.append("detail", "maps");
    if (occlusion) form.append("occlusion", "true");
    if (card.needsPreview) form.append("preview", "true");
    return form;
  }

  /** One picture's answer; tries again while the server says that it is busy. */
  async function ask(card, options) {
    for (let attempt = 0; ; attempt++) {
      const response = await fetch("/v1/captions", { method: "POST", body: formOf(card, options) }).catch(
        () => {
          throw new Told(texts.unreachable);
        },
      );
      if (response.status === 503 && attempt < RETRIES) {
        const seconds = Number(response.headers.get("Retry-After")) || 1;
        card.showBusy(texts.retrying(seconds));
        await pause(seconds * (1 + Math.random() / 2)); // not all at the same moment
        continue;
      }
      const answer = await response.json().catch(() => ({}));
      if (response.ok) return answer.pictures[0];
      throw new Told(answer.error ? answer.error.message : texts.strange(response.status));
    }
  }

  // -- cards: one picture each --------------------------------------------------------------------

  class Card {
    constructor(file) {
      this.file = file;
      this.url = URL.createObjectURL(file);
      this.needsPreview = false;
      this.answer = null;
      this.error = "";
      this.viewer = null;
      this.occlusion = false;
      this.title = make("h3", "", {}, file.name);
      this.body = make("div", "card-body");
      this.actions = make("div", "card-actions");
      this.element = make("article", "card", {}, this.title, this.body, this.actions);
      this.showBusy(texts.waiting);
    }

    /** Where the browser cannot show a format, the server sends a picture that it can. */
    async look() {
      const probe = new Image();
      probe.src = this.url;
      this.needsPreview = await probe.decode().then(
        () => false,
        () => true,
      );
    }

    async run(occlusion = this.occlusion) {
      const models = chosenModels();
      if (!models.length) return this.fail(texts.noModel);
      if (this.file.size > server.limits.picture_bytes) return this.fail(this.sizeMessage());
      this.showBusy(occlusion ? texts.occluding : texts.working);
      try {
        await this.look();
        this.answer = await ask(this, { occlusion, models });
        this.occlusion = occlusion;
        this.error = "";
        this.show();
      } catch (error) {
        if (!(error instanceof Told)) throw error;
        this.fail(error.message);
      }
      return undefined;
    }

    sizeMessage() {
      const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
      return texts.tooLarge(
        this.file.name,
        megabytes(this.file.size),
        megabytes(server.limits.picture_bytes),
      );
    }

    fail(message) {
      this.answer = null;
      this.error = message;
      this.show();
    }

    empty() {
      if (this.viewer) this.viewer.destroy();
      this.viewer = null;
      this.body.replaceChildren();
      this.actions.replaceChildren();
    }

    showBusy(message) {
      this.empty();
      this.element.setAttribute("aria-busy", "true");
      const line = make("p", "busy", {}, message);
      this.body.append(make("img", "waiting-picture", { src: this.url, alt: "" }), line);
    }

    show() {
      this.empty();
      this.element.setAttribute("aria-busy", "false");
      if (this.error) this.showError();
      else if (this.answer) this.showAnswer();
      this.actions.append(this.action(texts.remove, () => removeCard(this)));
    }

    showError() {
      this.body.append(make("p", "error", { role: "alert" }, this.error));
    }

    showAnswer() {
      const { captions, width, height } = this.answer;
      const said = captions.map((caption) => caption.text).join(texts.joint);
      const place = make("div");
      this.body.append(place);
      this.viewer = globalThis.pictellViewer.mount(place, {
        picture: this.answer.preview || this.url,
        width,
        height,
        alt: texts.alt(this.file.name, said),
        language,
        captionLanguage: captionLanguage(captions),
        models: captions.map((caption) => ({ ...caption, name: caption.model, caption: caption.text })),
      });
      this.body.append(this.sureness(captions));
      this.actions.append(
        this.action(texts.copyText, () => copy(this.text())),
        this.action(texts.copyJson, () => copy(JSON.stringify(this.json(), null, 2))),
        this.lookButton(),
      );
    }

    /** The captions as lines to read; the viewer has their words as buttons. */
    sureness(captions) {
      const list = make("ul", "said");
      for (const caption of captions) {
        const value = texts.sureness(caption.log_probability.toFixed(2));
        const note = caption.ended ? value : `${value}, ${texts.cut}`;
        const text = make("span", "", { lang: languageTag(caption.model) }, caption.text);
        list.append(
          make("li", "", {}, make("b", "", {}, caption.model), " ", text, " ", make("small", "", {}, note)),
        );
      }
      return list;
    }

    lookButton() {
      const text = this.occlusion ? texts.attention : texts.occlusion;
      const look = this.action(text, () => enqueue([this], !this.occlusion));
      if (!this.occlusion) look.title = texts.occlusionHint;
      return look;
    }

    action(text, run) {
      return button(text, texts.named(text, this.file.name), run);
    }

    text() {
      const captions = this.answer ? this.answer.captions : [];
      return captions.map((caption) => `${this.file.name}\t${caption.model}\t${caption.text}`).join("\n");
    }

    /** What a program would want: no maps, no preview. */
    json() {
      if (!this.answer) return { file: this.file.name, error: this.error };
      const { file, width, height, captions } = this.answer;
      const plain = captions.map(({ model, text, log_probability, ended, words }) => {
        return { model, text, log_probability, ended, words };
      });
      return { file, width, height, captions: plain };
    }

    remove() {
      this.empty();
      this.element.remove();
      URL.revokeObjectURL(this.url);
    }
  }

  function describedModel(name) {
    return server.models.find((model) => model.name === name);
  }

  function languageTag(name) {
    return describedModel(name).language.startsWith("zh") ? "zh-CN" : "en";
  }

  /** The language of the captions, for screen readers, where it is the same for all. */
  function captionLanguage(captions) {
    const tags = new Set(captions.map((caption) => languageTag(caption.model)));
    return tags.size === 1 ? [...tags][0] : undefined;
  }

  // -- the queue ----------------------------------------------------------------------------------

  function enqueue(chosen, occlusion) {
    for (const card of chosen) {
      card.showBusy(texts.waiting);
      waiting.push({ card, occlusion });
    }
    work();
  }

  function work() {
    while (waiting.length && inFlight < AT_ONCE) {
      const { card, occlusion } = waiting.shift();
      inFlight += 1;
      card.run(occlusion).finally(() => {
        inFlight -= 1;
        showProgress();
        work();
      });
    }
    showProgress();
  }

  function showProgress() {
    byId("results-head").hidden = cards.length === 0;
    byId("again").hidden = cards.length === 0;
    if (!cards.length) return say("");
    const done = cards.filter((card) => card.answer).length;
    const failed = cards.filter((card) => card.error).length;
    return say(texts.done(done, cards.length, failed));
  }

  async function addFiles(files) {
    const pictures = [...files]; // now: the browser takes the list back after the event
    if (!pictures.length) return say(texts.noPicture);
    await started;
    if (!server) return say(texts.unreachable);
    const added = pictures.map((file) => new Card(file));
    cards.push(...added);
    byId("cards").append(...added.map((card) => card.element));
    return enqueue(added, false);
  }

  function removeCard(card) {
    const at = cards.indexOf(card);
    cards = cards.filter((other) => other !== card);
    waiting = waiting.filter((item) => item.card !== card);
    card.remove();
    showProgress();
    // The focus must not fall back to the top of the page.
    const next = cards[Math.min(at, cards.length - 1)];
    const target = next ? next.actions.lastElementChild : byId("pick");
    if (target) target.focus();
  }

  // -- options ------------------------------------------------------------------------------------

  function chosenModels() {
    return [...document.querySelectorAll("#models input:checked")].map((input) => input.value);
  }

  function showModels() {
    const choices = server.models.map((model) => {
      const input = make("input", "", { type: "checkbox", value: model.name });
      input.checked = true;
      const note = make("small", "", {}, `${model.decoder}, ${model.encoder}`);
      return make("label", "model", {}, input, make("span", "", {}, model.name, " ", note));
    });
    byId("models").append(...choices);
    byId("beam").max = server.limits.beam;
    byId("max-length").max = server.limits.max_length;
  }

  /** Empty fields mean the models' own values; they are shown where these agree. */
  function showDefaults() {
    const fields = { beam: "beam", "max-length": "max_length", "length-penalty": "length_penalty" };
    for (const [id, key] of Object.entries(fields)) {
      const values = new Set(server.models.map((model) => model.search[key]));
      byId(id).placeholder = texts.ownValue([...values].join(" / "));
    }
    const { picture_bytes, pixels } = server.limits;
    byId("limits").textContent = texts.limits(picture_bytes / 1e6, pixels / 1e6);
  }

  function setLanguage(chosen) {
    language = chosen;
    texts = globalThis.pictellTexts[chosen];
    document.documentElement.lang = chosen === "zh" ? "zh-CN" : "en";
    for (const element of document.querySelectorAll("[data-text]")) {
      element.textContent = texts[element.dataset.text];
    }
    if (server) showDefaults();
    for (const card of cards) if (card.answer || card.error) card.show();
    showProgress();
  }

  // -- the page -----------------------------------------------------------------------------------

  function listenForPictures() {
    const drop = byId("drop");
    byId("pick").addEventListener("click", () => byId("files").click());
    byId("files").addEventListener("change", (event) => {
      addFiles(event.target.files);
      event.target.value = ""; // the same file may be chosen again
    });
    const over = (event) => {
      event.preventDefault();
      drop.classList.add("over");
    };
    document.addEventListener("dragover", over);
    document.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) drop.classList.remove("over");
    });
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      addFiles(event.dataTransfer.files);
    });
    document.addEventListener("paste", (event) => {
      const typing = event.target instanceof HTMLInputElement && !event.clipboardData.files.length;
      if (!typing) addFiles(event.clipboardData.files);
    });
  }

  function listenForButtons() {
    byId("again").addEventListener("click", () => {
      if (byId("options").reportValidity()) enqueue(cards.filter((card) => !isWaiting(card)), false);
    });
    byId("options").addEventListener("submit", (event) => event.preventDefault());
    byId("clear").addEventListener("click", () => [...cards].forEach(removeCard));
    byId("copy-text").addEventListener("click", () => {
      copy(cards.map((card) => card.text()).filter(Boolean).join("\n"));
    });
    byId("copy-json").addEventListener("click", () => {
      copy(JSON.stringify(cards.map((card) => card.json()), null, 2));
    });
    byId("language").addEventListener("change", (event) => setLanguage(event.target.value));
  }

  function isWaiting(card) {
    return card.element.getAttribute("aria-busy") === "true";
  }

  async function start() {
    const wanted = navigator.language.startsWith("zh") ? "zh" : "en";
    byId("language").value = wanted;
    setLanguage(wanted);
    byId("curl").textContent = `curl -F pictures=@photo.jpg ${location.origin}/v1/captions`;
    listenForPictures();
    listenForButtons();
    try {
      server = await (await fetch("/v1/models")).json();
    } catch {
      return say(texts.unreachable);
    }
    showModels();
    return showDefaults();
  }

  started = start();
})();

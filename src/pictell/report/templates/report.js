// Put a viewer into each card that stands open, and into the others when they are opened.
"use strict";

(function () {
  const page = JSON.parse(document.getElementById("looks").textContent);

  function mount(details) {
    const place = details.querySelector(".viewer");
    if (place.dataset.mounted) return;
    place.dataset.mounted = "yes";
    const picture = details.parentElement.querySelector("img");
    const looks = page.looks[place.dataset.picture];
    pictellViewer.mount(place, {
      picture: picture.src,
      width: Number(picture.getAttribute("width")),
      height: Number(picture.getAttribute("height")),
      alt: picture.alt,
      language: page.language,
      captionLanguage: page.captionLanguage,
      models: place.dataset.models.split(" ").map((model) => looks[model]),
    });
  }

  for (const details of document.querySelectorAll("details.look")) {
    details.addEventListener("toggle", () => details.open && mount(details));
    if (details.open) mount(details);
  }
})();

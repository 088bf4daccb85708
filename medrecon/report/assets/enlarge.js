/* A slice that is clicked opens large, in a dialog that Escape or a click closes. */
(() => {
  "use strict";
  const dialog = document.getElementById("large");
  document.addEventListener("click", ({ target }) => {
    const button = target.closest("button.tile");
    if (button) {
      const shown = button.querySelector("img");
      const picture = shown.cloneNode();
      dialog.querySelector("img")?.remove();
      dialog.prepend(picture);
      dialog.querySelector("p").textContent = shown.alt;
      dialog.dataset.plane = button.closest(".strip").dataset.plane;
      dialog.showModal();
    } else if (dialog.open && dialog.contains(target)) {
      dialog.close();
    }
  });
})();

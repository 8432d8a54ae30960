// Django's lists of permissions and groups name the icons of their search fields, but say not that these are pictures.
"use strict";

window.addEventListener("load", () => {
  setTimeout(() => {
    for (const icon of document.querySelectorAll(".search-label-icon")) icon.setAttribute("role", "img");
  });
});

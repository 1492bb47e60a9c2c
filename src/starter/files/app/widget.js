const texts = await (await fetch("translations/en.json")).json();

for (const element of document.querySelectorAll("[data-text]")) {
  element.textContent = texts[element.dataset.text];
}
